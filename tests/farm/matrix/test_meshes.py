# SPDX-License-Identifier: Apache-2.0
"""The farm's tier "mesh": what it runs, that it sees a difference of one bit, and what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from device_model.engine.engine import Engine
from device_model.mesh.engine import MeshEngine
from device_model.weights.reading import RandomReader, shapes_of
from dsl.graph import Graph
from farm.__main__ import main
from farm.matrix import meshes
from farm.matrix.mesh_status import line_of, mesh_markdown, summary, write_mesh_status
from farm.matrix.meshes import (
    DIFFERS,
    MESHES,
    MODES,
    QUICK_MESHES,
    QUICK_MODES,
    SAME,
    Compared,
    MeshResult,
    compare,
    difference,
    fed,
    mesh_cells,
    quantised,
)
from farm.matrix.registry import family_types
from tests.device_model.mesh.texts import small


def reader(graph: Graph, seed: int = 7) -> RandomReader:
    return RandomReader(shapes_of(graph), seed)


def bits(*values: float) -> list[np.ndarray]:
    return [np.array(values, np.float32).view(np.uint32)]


def test_every_covered_type_has_a_cell_and_so_has_what_is_quantised() -> None:
    cells = mesh_cells(quick=True)
    assert {cell.model_type for cell in cells} == set(family_types())
    published = [cell.published for cell in cells if cell.published]
    assert "openai--gpt-oss-20b" in published
    assert all(map(quantised, published))
    assert {cell.numerics for cell in cells} == {("f32",)}
    assert set(QUICK_MODES) < set(MODES)
    assert [cell.name for cell in mesh_cells(["llama"])] == ["llama"]


def test_the_rows_of_every_mode_are_dealt_to_two_copies_and_cross_each_tiny_window() -> None:
    for steps in MODES.values():
        assert len(steps[0]) % 2 == 0
        assert max(sum(row) for row in zip(*steps, strict=True)) > 13
    assert {axis for mesh in MESHES for axis in mesh} == {"tp", "ep", "pp", "dp"}
    assert {axis for mesh in QUICK_MESHES for axis in mesh} == {"tp", "ep", "pp", "dp"}


def test_a_difference_of_one_bit_or_of_a_sign_of_zero_is_told() -> None:
    assert difference(bits(1.0, 0.0), bits(1.0, 0.0)) == ""
    assert (
        difference(bits(1.0, 0.0), bits(np.nextafter(np.float32(1), np.float32(2)), 0.0))
        == "result 0: 1 of 2 elements"
    )
    assert difference(bits(1.0, 0.0), bits(1.0, -0.0)) == "result 0: 1 of 2 elements"
    assert "shape" in difference(bits(1.0), bits(1.0, 0.0))


def test_meshes_of_axes_that_a_program_has_are_compared() -> None:
    graph = small("mixtral-8x7b")
    wanted: tuple[Mapping[str, int], ...] = ({"tp": 3, "ep": 2}, {"none": 2})
    made = list(compare(graph, reader(graph), "f32", wanted, tuple(MODES)))
    assert [(each.mesh, each.mode, each.verdict) for each in made] == [
        ("tp=3,ep=2", mode, SAME) for mode in MODES
    ]


def test_a_mesh_with_other_weights_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = small("llama-3.1-8b")

    def other(graph: Graph, _reader: object, numerics: str, mesh: Mapping[str, int]) -> MeshEngine:
        return MeshEngine(graph, reader(graph, 8), numerics, mesh)

    monkeypatch.setattr(meshes, "MeshEngine", other)
    (made,) = compare(graph, reader(graph), "f32", ({"tp": 2},), ("whole",))
    assert made.verdict == DIFFERS
    assert "result 0" in made.problem
    assert "differs result 0" in made.line()


def test_modes_feed_the_same_tokens() -> None:
    graph = small("llama-3.1-8b")
    make = partial(fed, Engine(graph, reader(graph), "f32", threads=1))
    assert [part.shape[0] for part in make(((2, 1), (0, 3)))] == [2, 1, 0, 3]
    assert difference(make(MODES["ragged"]), make(MODES["ragged"])) == ""


def test_what_does_not_hold_is_on_the_page(tmp_path: Path) -> None:
    wrong = Compared("tp=2", "bf16", "whole", DIFFERS, "result 0: 1 of 2 elements")
    results = [
        MeshResult("llama", "llama", (Compared("tp=2", "f32", "whole", SAME), wrong), 0.5),
        MeshResult("gpt2", "gpt2", (Compared("tp=2", "f32", "whole", SAME),), 0.5),
    ]
    broken = {"opt": "ValueError: no"}
    assert summary(results, broken) == (
        "1 of 3 oracles have one chip's bits on every mesh: 2 of 3 comparisons"
    )
    assert line_of(results[0]).startswith("differs llama")
    page = write_mesh_status(results, broken, tmp_path).read_text(encoding="utf-8")
    assert page == mesh_markdown(results, broken)
    assert "| tp=2 | f32 | 2 | 2 | 2 |" in page
    assert "| llama | tp=2, bf16, whole: differs result 0: 1 of 2 elements |" in page
    assert "| opt | ValueError: no |" in page


def test_a_type_that_no_family_covers_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mesh", "--types", "nothing"]) == 2
    assert "no family covers nothing" in capsys.readouterr().err
