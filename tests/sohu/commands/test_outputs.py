# SPDX-License-Identifier: Apache-2.0
"""What cannot be written is refused before anything is read or computed for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from porting.files.atomic import check_writable
from sohu.commands.arguments import FOLDERS, OUTPUTS
from sohu.commands.cli import main
from sohu.commands.described import arguments
from sohu.commands.parsing import described

WRITERS = (
    "run nothing.sohu --tokens nothing.npy --logits {}",
    "profile nothing.sohu --device h100 --html {}",
    "profile nothing.sohu --device h100 --trace {}",
    "sweep nothing.sohu --device h100 --vary batch=1,2 --out {}",
    "sweep nothing.sohu --device h100 --vary batch=1,2 --html {}",
    "predict nothing.csv --op gemm --device h100 --out {}",
    "calibrate nothing --out {}",
    "collective time nothing.sohu --bytes 1 --trace {}",
    "collective find all_gather --topology nothing --bytes 1 --out {}",
)


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "elsewhere.csv").symlink_to("folder/there.csv")


@pytest.mark.parametrize("line", WRITERS)
@pytest.mark.parametrize("out", ["folder", "file/out.csv", "elsewhere.csv"])
def test_it_is_said_before_the_input_is_looked_at(
    line: str, out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.format(out).split()) == 2
    said = capsys.readouterr().err
    assert f"error[S530]: cannot write `{out}`" in said


def test_what_can_be_written_is_no_fault(tmp_path: Path) -> None:
    for name in ("new", "file", "folder/new", "new/folder/new"):
        check_writable(tmp_path / name)
    assert not (tmp_path / "new").exists()


def test_every_output_is_known() -> None:
    outputs = {
        (command.name, action.dest)
        for command in described()
        for action in arguments(command.parser)
        if action.type is Path and action.metavar in {"OUT", "P", "L.npy", "PAGE", "X"}
    }
    assert {dest for name, dest in outputs if name not in FOLDERS} == set(OUTPUTS)
    assert {(line.split()[0], line.split()[-2].strip("-")) for line in WRITERS} == outputs
