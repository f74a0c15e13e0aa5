# SPDX-License-Identifier: Apache-2.0
"""`sohu collective`: what it says, what it writes, and what it does not take; other commands know such texts too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import sohu
from sohu.commands.cli import main

RING = "sohu 1.0\n\ntopology r {\n  ring 4\n  link 90 GB/s, 1 us\n}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ring.sohu").write_text(RING)
    return tmp_path


def _asked(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, object]]:
    status = main([*line.split(), "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_a_schedule_is_made_checked_and_timed(folder, capsys):
    made = "collective template ring --op all_gather --topology ring.sohu --out g.sohu"
    status, data = _asked(made, capsys)
    assert (status, data["sends"], data["peak"]) == (0, 24, 8)
    status, data = _asked("collective check g.sohu", capsys)
    assert (status, data["verdict"]) == (0, "pass")
    status, data = _asked("collective time g.sohu --bytes 7.2e6", capsys)
    assert data["collectives"][0]["seconds"] == pytest.approx(3 * (1e-6 + 1e-5))


def test_a_trace_has_a_slice_for_each_send_and_link(folder, capsys):
    proto = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    wrote = "collective template direct --op all_gather --out d.sohu --topology"
    assert main([*wrote.split(), "switch 3; link 9 GB/s, 1 us"]) == 0
    timed = "collective time d.sohu --bytes 9e6 --trace d.trace"
    assert main(timed.split()) == 0
    trace = proto.Trace()
    trace.ParseFromString((folder / "d.trace").read_bytes())
    begun = [p for p in trace.packet if p.track_event.type == 1]
    names = {p.track_descriptor.name for p in trace.packet if p.track_descriptor.name}
    assert len(begun) == 12
    assert names == {f"{i} -> s0" for i in range(3)} | {f"s0 -> {i}" for i in range(3)}


def test_other_commands_know_schedules(folder, capsys):
    wrong = RING + "\ncollective broadcast over r chunks 1 { step { 0 -> 2: c0 } }\n"
    (folder / "wrong.sohu").write_text(wrong)
    assert main(["check", "ring.sohu"]) == 0
    assert "topology r" in capsys.readouterr().out
    assert main(["check", "wrong.sohu"]) == 2
    assert "S623" in capsys.readouterr().err
    assert [d.code for d in sohu.check(wrong)] == ["S623"]
    assert main(["fmt", "--check", "wrong.sohu"]) == 1
    assert main(["fmt", "wrong.sohu"]) == 0
    assert (folder / "wrong.sohu").read_text().endswith("step {\n    0 -> 2: c0\n  }\n}\n")


def test_long_schedules_are_read_by_all(folder, capsys):
    send = "    0 -> 1: c0\n"
    head = RING + "\ncollective broadcast over r chunks 1 {\n  step {\n"
    (folder / "long.sohu").write_text(head + send * 80_000 + "  }\n}\n")
    for command in ("check", "collective check"):
        assert main([*command.split(), "long.sohu"]) == 2
        assert "S625" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("collective time ring.sohu", "S111", "needs `--bytes`"),
        ("collective template ring --op all_gather", "S111", "needs `--topology`"),
        ("collective template ring --topology ring.sohu", "S111", "needs `--op`"),
        (
            "collective template rung --topology ring.sohu --op all_gather",
            "S629",
            "unknown template",
        ),
        ("collective template ring --topology none.sohu --op all_gather", "S108", "no such file"),
        ("collective check none.sohu", "S108", "no such file"),
        ("collective check .", "S108", "directory"),
        ("collective make ring.sohu", "S111", "make"),
        ("collective time ring.sohu --bytes nan", "S111", "nan"),
        (
            "collective template ring --topology ring.sohu --op all_gather --pieces 99999",
            "S629",
            "pieces",
        ),
    ],
)
def test_what_is_asked_in_vain_is_said(folder, capsys, line, code, words):
    assert main(line.split()) == 2
    said = capsys.readouterr().err
    assert code in said
    assert words in said


def test_schedules_beyond_the_limit_are_refused(folder, capsys, monkeypatch):
    monkeypatch.setattr("porting.planning.library.MAX_SCHEDULE", 10)
    assert main(["collective", "check", "ring.sohu"]) == 2
    assert "S106" in capsys.readouterr().err
