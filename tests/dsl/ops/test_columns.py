# SPDX-License-Identifier: Apache-2.0
"""The facts about operations are columns of their rows, and lists of operations are made from them."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from dsl.ops import AREAS, OPS
from dsl.ops.spec import OpSpec, Role, Work
from tests.test_architecture import modules

each = pytest.mark.parametrize("spec", OPS.values(), ids=OPS.keys())

# Where a collection is a table with a row an operation, or names something else that is spelled alike.
TABLES = {
    f"device_model/kernels/{area}.py": "the kernel of each operation of an area"
    for area, specs in AREAS.items()
    if len(specs) > 2
} | {
    "device_model/collectives/program.py": "what schedules do, by the names of the literature",
    "device_model/machine/elf.py": "what compiled code may call of libm",
    "dsl/linking/static.py": "functions of numbers that a config gives",
    "farm/mutants/bugs.py": "the activation that each is mistaken for",
    "farm/mutants/config_flips.py": "words of configs",
    "farm/mutants/sharding_edits.py": "what is mistaken for another collective",
}


def named(node: ast.AST) -> set[str]:
    """Return the operations that a literal collection names as its elements or keys."""
    match node:
        case ast.Tuple(elts) | ast.List(elts) | ast.Set(elts):
            elements = list(elts)
        case ast.Dict(keys):
            elements = [key for key in keys if key is not None]
        case _:
            return set()
    return {e.value for e in elements if isinstance(e, ast.Constant) and e.value in OPS}


def lists_of_operations() -> Iterator[tuple[str, str]]:
    for module in modules():
        if module.name.startswith("dsl/ops/"):
            continue
        for node in ast.walk(module.tree):
            if len(named(node)) >= 3:
                yield module.name, f"{module.at(node)} lists {', '.join(sorted(named(node)))}"


def test_operations_are_listed_by_their_columns() -> None:
    assert [place for name, place in lists_of_operations() if name not in TABLES] == []


def test_every_table_by_name_is_there() -> None:
    assert {name for name, _ in lists_of_operations()} == set(TABLES)


def test_what_needs_the_sequence() -> None:
    # The head of a step runs for the last tokens alone; one of these in it would be wrong there.
    assert {name for name, spec in OPS.items() if spec.needs_sequence} == {
        "append", "attention", "causal_conv", "linear_attention", "position_scale", "positions", "read", "reuse",
        "rope", "sinusoids", "write",
    }  # fmt: skip


@each
def test_what_is_stored_is_a_parameter_of_an_operation_on_a_state(spec: OpSpec) -> None:
    if spec.stores:
        assert spec.params[spec.place(spec.stores)].name == spec.stores
        assert Role.STATE in {p.role for p in spec.params}


@each
def test_what_passes_computes_no_number_on_one_chip(spec: OpSpec) -> None:
    assert not spec.passes or spec.cost == "0" or spec.work is Work.COLLECTIVE


def test_formulas_price_what_is_named_so() -> None:
    assert {
        name: spec.work.value for name, spec in OPS.items() if spec.work is not Work.VECTOR
    } == {
        "matmul": "gemm",
        "head_matmul": "gemm",
        "attention": "attention",
        "expert_matmul": "moe",
        "all_reduce": "collective",
        "all_gather": "collective",
        "reduce_scatter": "collective",
        "dispatch": "collective",
        "collect": "collective",
    }
