# SPDX-License-Identifier: Apache-2.0
"""`--mesh … --nodes N`: the bits of one chip from processes with faulty links; and what cannot be on nodes."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from dsl.message_codes import MESSAGE_CODES
from sohu.api.model import load
from sohu.commands import options
from sohu.commands.beginning import begin
from sohu.commands.cli import main
from sohu.commands.on_nodes import _smaller
from sohu.nodes.driver import TRIES

WEIGHTS = ("--weights", "random:7", "--numerics", "f32")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nodes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        path = folder / begin("begun")
    text = path.read_text()
    for large, small in (
        ("32000", "64"),
        ("688", "96"),
        ("= 256", "= 64"),
        ("L     = 4", "L     = 2"),
    ):
        text = text.replace(large, small)
    path.write_text(text.replace("E     = 32", "E     = 8"))
    np.save(folder / "t.npy", np.arange(10).reshape(2, 5))
    return path


def run(program: Path, name: str, *options: str) -> int:
    tokens, logits = program.with_name("t.npy"), program.with_name(name)
    files = ("--tokens", str(tokens), "--logits", str(logits))
    return main(["run", str(program), *WEIGHTS, *files, "--chunk", "2", *options])


def test_nodes_with_faulty_links_have_the_bits_of_one_chip(program: Path):
    assert run(program, "one.npy") == 0
    assert run(program, "nodes.npy", "--mesh", "tp=4", "--nodes", "2", "--faults", "4") == 0
    one, nodes = (program.with_name(name).read_bytes() for name in ("one.npy", "nodes.npy"))
    assert one == nodes


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--mesh", "tp=2", "--address"], "--address without nodes"),
        (["--faults", "0", "--reshard"], "--faults, --reshard without nodes"),
        (["--mesh", "tp=2", "--nodes", "3"], "3 nodes for 2 chips"),
        (["--mesh", "tp=99", "--nodes", "3"], "S305"),
        (["--mesh", "xp=2", "--nodes", "2"], "S303"),
        (["--nodes", "2"], "2 nodes for 1 chips"),
    ],
)
def test_what_cannot_be_on_nodes_is_refused(program, capsys, options, says):
    assert run(program, "no.npy", *options) == 2
    assert says in capsys.readouterr().err
    assert not program.with_name("no.npy").exists()


def test_a_smaller_mesh_is_a_legal_one(program: Path):
    meshes = _smaller(load(program).graph, {"tp": 4})
    assert [dict(mesh) for mesh in meshes] == [{"tp": 4}, {"tp": 2}, {"tp": 1}]


def test_the_page_names_what_there_is():
    page = (Path(__file__).parents[3] / "docs" / "nodes.md").read_text()
    assert set(re.findall(r"S\d{3}", page)) <= set(MESSAGE_CODES)
    lines = [line for line in page.splitlines() if line.startswith(("$ sohu run", "$ sohu gen"))]
    parsers = {"run": argparse.ArgumentParser(), "generate": argparse.ArgumentParser()}
    options.run(parsers["run"])
    options.generate(parsers["generate"])
    for line in lines:
        _, _, command, *words = shlex.split(line)
        parsers[command].parse_args(words)
    assert (len(lines), TRIES) == (4, 4)
    assert "ends four times in a row" in page
