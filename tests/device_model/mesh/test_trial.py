# SPDX-License-Identifier: Apache-2.0
"""Seeds of faults over simulated wires: right tokens or a word; and a broken link layer does not pass."""

from __future__ import annotations

import pytest

from device_model.mesh import frames, link, mailbox, simulation
from device_model.mesh.drill import SIZES, Drill, chosen
from device_model.mesh.fabric import driven
from device_model.mesh.faults import Faults, Injector, planned
from device_model.mesh.frames import FrameKind, LinkFrame
from device_model.mesh.threads import ThreadFabric, run_ranks
from device_model.mesh.trial import Verdict, tried, truth

SEEDS = range(150)


def wrong(seeds: range) -> list[Verdict]:
    return [verdict for verdict in map(tried, seeds) if verdict.wrong]


def test_seeds_go_as_they_must_and_show_every_fault():
    verdicts = [tried(seed) for seed in SEEDS]
    assert [v for v in verdicts if v.wrong] == []
    assert {(v.fault, v.codes) for v in verdicts} >= {
        ("frames", ()), ("mismatch", ("S640",)), ("crash", ("S643",)),
    }  # fmt: skip


def test_a_seed_is_the_same_whenever_it_is_tried():
    assert [tried(seed) for seed in range(12)] == [tried(seed) for seed in range(12)]


def test_a_link_without_checksum_is_caught(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(frames.zlib, "crc32", lambda data, start=0: 0)
    assert wrong(range(40)) != []


def test_a_link_that_does_not_send_again_is_caught(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(link.Link, "_again", lambda self, now: None)
    monkeypatch.setattr(simulation, "EVENTS", 5000)
    monkeypatch.setattr(link.Link, "due", lambda self: self._pulse_due)
    assert wrong(range(3)) != []


def test_meetings_without_a_comparison_are_caught(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mailbox.Head, "meets", lambda self, other: True)
    assert wrong(range(10)) != []


@pytest.mark.parametrize("size", SIZES)
def test_a_drill_has_the_same_tokens_on_every_mesh(size: int):
    fabric = ThreadFabric(range(size))

    def does(rank: int) -> tuple[int, ...]:
        drill, tokens = Drill(1, rank, size), [3]
        for step in range(3):
            logits = driven(drill.step(tokens[step:]), rank, step, fabric)
            tokens.append(chosen(logits))
        return tuple(tokens[1:])

    made = run_ranks(fabric, range(size), does)
    assert set(made.values()) == {truth()}


def test_the_fate_of_a_frame_is_of_its_seed_link_and_number():
    data = [frames.encoded(LinkFrame(FrameKind.DATA, 0, 1, n, 0, b"x" * 9)) for n in range(200)]
    plan = Faults(7, planned(7, 2, 2).rates)
    one, other = Injector(plan), Injector(plan)
    fates = [one.fate(0, 1, d) for d in data]
    assert [other.fate(0, 1, d) for d in reversed(data)] == fates[::-1]
    assert [Injector(plan).fate(1, 0, d) for d in data] != fates
    assert [one.fate(0, 1, d) for d in data] != fates  # sent again, it meets another fate
    kinds = {len(fate) for fate in fates}
    assert kinds >= {0, 1}
