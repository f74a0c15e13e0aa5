# SPDX-License-Identifier: Apache-2.0
"""A text that somebody edited is never lost: what `port` refuses to write over, and what it may."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from porting.pipeline import read_port
from sohu.commands.cli import port_main
from tests.checkpoints import tiny_llama


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture
def out(checkpoint: Path, tmp_path: Path) -> Path:
    assert plan(checkpoint, tmp_path / "port") == 0
    return tmp_path / "port"


def plan(checkpoint: Path, out: Path, *options: str) -> int:
    return port_main([str(checkpoint), "--plan", "--out", str(out), *options])


def edited(out: Path) -> None:
    with (out / "model.sohu").open("a") as text:
        text.write("# mine\n")


def without_report(out: Path) -> None:
    edited(out)
    (out / "report.json").unlink()


def without_digest(out: Path) -> None:
    edited(out)
    report = json.loads((out / "report.json").read_text())
    (out / "report.json").write_text(json.dumps(report | {"text_sha256": None}))


def broken_report(out: Path) -> None:
    edited(out)
    (out / "report.json").write_text("{")


def foreign(out: Path) -> None:
    (out / "report.json").unlink()
    (out / "model.sohu").write_text("precious\n")


def a_link(out: Path) -> None:
    (out / "model.sohu").rename(out / "elsewhere.sohu")
    (out / "model.sohu").symlink_to("elsewhere.sohu")


def a_pipe(out: Path) -> None:
    (out / "model.sohu").unlink()
    os.mkfifo(out / "model.sohu")


KEPT = (edited, without_report, without_digest, broken_report, foreign, a_link, a_pipe)


@pytest.mark.parametrize("change", KEPT)
def test_an_edited_or_unknown_text_stays(
    change: Callable[[Path], None],
    checkpoint: Path,
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(out)
    before = state(out)
    assert plan(checkpoint, out) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert "error[S557]" in shown
    assert "--force" in shown
    assert "--out" in shown
    assert state(out) == before


def state(out: Path) -> dict[str, object]:
    return {p.name: p.read_bytes() if p.is_file() else p.lstat().st_mode for p in out.iterdir()}


def test_force_writes_over_an_edit(checkpoint: Path, out: Path) -> None:
    written = (out / "model.sohu").read_text()
    edited(out)
    assert read_port(out).edited
    assert plan(checkpoint, out, "--force") == 0
    assert (out / "model.sohu").read_text() == written
    assert not read_port(out).edited


def test_what_port_wrote_it_may_replace(checkpoint: Path, out: Path) -> None:
    """Another model or another version of ours makes another text; that loses nobody's work."""
    assert plan(checkpoint, out) == 0
    text = (out / "model.sohu").read_text()
    other = tiny_llama(out.parent / "other", rms_norm_eps=1e-3)
    assert plan(other, out) == 0
    assert (out / "model.sohu").read_text() != text


def test_the_same_text_needs_no_report(checkpoint: Path, out: Path) -> None:
    (out / "report.json").unlink()
    assert plan(checkpoint, out) == 0
    assert json.loads((out / "report.json").read_text())["text_sha256"]
