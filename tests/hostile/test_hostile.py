# SPDX-License-Identifier: Apache-2.0
"""No input of a seed is a fault of ours: each is answered or refused, within limits, and prints nothing raw.

`SOHU_HOSTILE=2000 SOHU_HOSTILE_SEED=7` runs more and others (`tox -e hostile`).
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.hostile.generator import KINDS, Input, inputs
from tests.hostile.guard import faults
from tests.hostile.odd_files import OUTSIDE, READERS, things
from tests.sohu.commands.doing import does

ALL = "SOHU_HOSTILE" in os.environ
SOME = 41
"""Without it every so many of the files that are none: no divisor of how many things there are."""
COUNT = int(os.environ.get("SOHU_HOSTILE", "70"))
SEED = int(os.environ.get("SOHU_HOSTILE_SEED", "1"))


def test_no_input_is_a_fault_of_ours(case: Path) -> None:
    batch = tuple(inputs(SEED, COUNT, case))
    wrong = faults(batch, case)
    told = [f"{number} {batch[number].name} {batch[number].arguments}: {x}" for number, x in wrong.items()]  # fmt: skip
    assert not told, "\n".join(told)


def test_whatever_stands_in_a_files_place_is_no_fault_of_ours(case: Path) -> None:
    batch = [
        Input(f"{path} {thing!r:.80}", {path: thing}, arguments)
        for path, arguments in READERS
        for thing in things(path, case)
    ][:: 1 if ALL else SOME]
    wrong = faults(batch, case)
    assert not wrong, "\n".join(f"{batch[number].name}: {x}" for number, x in wrong.items())


def test_the_valid_case_is_read(case: Path) -> None:
    run = ("run", "{case}/p", "--tokens", "{case}/t.npy", "--logits", "{case}/l.npy")
    assert faults((Input("valid", {}, run), Input("valid", {}, ("check", "{case}/x.sohu"))), case) == {}  # fmt: skip


def test_a_fault_is_seen(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_options: object) -> int:
        raise ValueError("ours")

    does(monkeypatch, "check", broken)
    assert "exit 70" in faults((Input("fault", {}, ("check", "x")),), case)[0]


@pytest.mark.parametrize(
    "action",
    [
        lambda outside: outside.read_text(),
        lambda outside: outside.write_text("ours"),
        lambda outside: outside.unlink(),
        lambda outside: outside.with_name("new").mkdir(),
        lambda outside: subprocess.run(["/bin/true"], check=True),
        lambda outside: socket.getaddrinfo("localhost", 80),
        lambda outside: b"x" * 2**29,
    ],
    ids=["read", "write", "remove", "make", "start", "look up", "fill memory"],
)
def test_what_no_input_may_do_is_seen(
    case: Path, monkeypatch: pytest.MonkeyPatch, action: Callable[[Path], object]
) -> None:
    outside = case.parent / OUTSIDE

    def broken(_options: object) -> int:
        with suppress(PermissionError):
            action(outside)
        return 0

    does(monkeypatch, "check", broken)
    assert faults((Input("leaves", {}, ("check", "x")),), case)
    assert outside.read_text() == "somebody else's"


def test_inputs_depend_on_the_seed_alone(case: Path) -> None:
    count = 20 * len(KINDS)
    assert tuple(inputs(3, count, case)) == tuple(inputs(3, count, case))
    assert tuple(inputs(3, count, case)) != tuple(inputs(4, count, case))
