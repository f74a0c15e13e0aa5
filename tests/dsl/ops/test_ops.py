# SPDX-License-Identifier: Apache-2.0
"""The table of operations as a whole: every constraint and every result type has its test, every row reads well."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from dsl.ops import AREAS, OPS
from dsl.ops.spec import OpSpec
from tests.conftest import TESTS

HERE = Path(__file__).parent
ROWS = [pytest.param(spec, id=spec.name) for spec in OPS.values()]


def names_of_tests(area: str) -> set[str]:
    """Return the names of the tests of one area."""
    tree = ast.parse((HERE / f"test_ops_{area}.py").read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("area", AREAS)
def test_every_constraint_has_a_test(area: str) -> None:
    wanted = {f"test_{s.name}_c{n}" for s in AREAS[area] for n, _ in enumerate(s.constraints, 1)}
    numbered = {name for name in names_of_tests(area) if re.search(r"_c\d+$", name)}
    assert numbered == wanted


@pytest.mark.parametrize("area", AREAS)
def test_every_operation_has_a_test_of_its_type(area: str) -> None:
    assert {f"test_{s.name}_type" for s in AREAS[area]} <= names_of_tests(area)


@pytest.mark.parametrize("spec", ROWS)
def test_a_row_says_what_it_is(spec: OpSpec) -> None:
    assert re.fullmatch(r"[a-z][a-z_]*", spec.name)
    assert spec.summary.endswith(".")
    assert spec.semantics
    assert spec.cost
    assert spec.result
    assert all(not c.endswith(".") for c in spec.constraints)


@pytest.mark.parametrize("spec", ROWS)
def test_parameters_are_named_once_and_variadic_ones_come_last(spec: OpSpec) -> None:
    names = [p.name for p in spec.params]
    assert len(set(names)) == len(names)
    assert all(not p.variadic for p in spec.params[:-1])


def test_no_constraint_is_numbered_beyond_its_row() -> None:
    for area, specs in AREAS.items():
        text = (TESTS.parent / "dsl" / "ops" / f"{area}.py").read_text(encoding="utf-8")
        numbers = [int(n) for n in re.findall(r"site\.(?:need\w*|rank)\(.*?, (\d)[,)]", text)]
        assert max(numbers, default=1) <= max(len(s.constraints) for s in specs)
