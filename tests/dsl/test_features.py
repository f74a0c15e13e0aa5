# SPDX-License-Identifier: Apache-2.0
"""What later families need of the language, each proved by a small program in `specs/`."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from dsl.counting.footprint import footprint
from dsl.graph import Graph
from dsl.inference.inference import Checked, infer
from dsl.stored_tensors import tensors
from dsl.symbolic import evaluate, names
from dsl.text.formatter import format_file
from dsl.text.parser import parse
from porting.planning.library import load_program, read_source

SPECS = Path(__file__).parent / "specs"


def checked(name: str) -> Checked:
    program = load_program(SPECS / f"{name}.sohu")
    found = infer(program.family(), program.blocks, None)
    assert found.diagnostics == ()
    return found


def graph(name: str) -> Graph:
    found = checked(name).graph
    assert found is not None
    return found


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.sohu")), ids=lambda p: p.stem)
def test_specs_are_canonical(path: Path) -> None:
    source = read_source(path, path.name)
    assert format_file(parse(source)) == source.text


def test_entries_share_weights_and_arrays_of_states() -> None:
    entries = checked("encoder_decoder").entries
    assert list(entries) == ["encode", "decode"]
    assert [v.name for v in entries["encode"].inputs] == ["features"]
    assert [v.name for v in entries["decode"].inputs] == ["tokens"]
    keys = {e: g.arrays[0] for e, g in entries.items()}
    assert keys["encode"].name == keys["decode"].name == "memory_keys"
    # 2 arrays of 2 layers, [1, 3, 10, 8] in 2 bytes
    at = {"B": 1, "M": 10, "tp": 1, "S": 1, "C": 0}
    assert evaluate(footprint(entries["decode"]).state, at) == 2 * 2 * 3 * 10 * 8 * 2


def test_encoder_tokens_are_no_context_of_the_decoder() -> None:
    state = footprint(checked("encoder_decoder").entries["decode"]).state
    assert names(state) == {"B", "M", "tp"}


def test_layers_that_share_a_cache_add_no_state() -> None:
    made = graph("shared_caches")
    prints = footprint(made)
    at = {"B": 4, "C": 100, "tp": 1, "pp": 1, "dp": 2, "S": 1}
    # keys and values of 3 layers, for the 2 sequences that each half of the batch has
    assert evaluate(prints.state, at) == 2 * 3 * 3 * 8 * 100 * 2 * 2
    assert evaluate(prints.state_per_token, at) == 2 * 3 * 3 * 8 * 2
    repeat = next(s for s in made.body.steps if hasattr(s, "classes"))
    assert [c.layers for c in repeat.classes] == [(0, 1, 2), (3,), (4,)]


def test_batch_axis_divides_work_but_no_weights() -> None:
    prints = footprint(graph("shared_caches"))
    one = {"B": 4, "C": 100, "tp": 1, "pp": 1, "dp": 1, "S": 1}
    two = one | {"dp": 2}
    assert evaluate(prints.flops, two) * 2 == evaluate(prints.flops, one)
    assert evaluate(prints.weights, two) == evaluate(prints.weights, one)


def test_stages_share_layers_and_the_two_ends() -> None:
    made = graph("recurrent")
    assert "pp <= 6" in [o.text for o in made.obligations]
    prints = footprint(made)
    layers = prints.parts[1]
    one = {"B": 1, "C": 0, "tp": 1, "pp": 1, "S": 1}
    # The table is read at both ends, so the first stage has it and the last one too.
    table = evaluate(prints.parts[0].weights, one)
    held = 2 * table + 6 * evaluate(layers.weights, one)
    assert 3 * evaluate(prints.weights, one | {"pp": 3}) == held


def test_fixed_states_do_not_grow_with_the_context() -> None:
    prints = footprint(graph("recurrent"))
    assert prints.state_per_token == 0
    at = {"B": 3, "C": 1000, "tp": 1, "pp": 1, "S": 1}
    assert evaluate(prints.state, at) == 6 * 3 * (24 * 3 * 2 + 3 * 8 * 8 * 4)


def test_stored_formats_are_counted_as_stored() -> None:
    made = graph("quantised")
    weights = {w.name: w for w in made.body.weights}
    prints = footprint(made)
    at = {"tp": 1, "ep": 1}
    d, f, x, v = 256, 128, 4, 50
    dense = d * d + (d // 128) ** 2 * 4
    experts = 2 * x * f * d * Fraction(1, 2) + 2 * x * f * d // 32 + x * d * f * 2
    plain = v * d * 2 + 2 * d * d * 2 + x * d * 2
    assert evaluate(prints.weights, at) == dense + experts + plain
    refs = dict(tensors(weights["up"].source, -1))
    assert refs["gate_up_blocks"].shape == (x, 2 * f, d // 32, 16)
    assert refs["gate_up_scales"].shape == (x, 2 * f, d // 32)
    assert refs["gate_up_blocks"].region is not None
    assert [n for n, _ in tensors(weights["down"].source, -1)] == [
        f"experts.{e}.down" for e in range(4)
    ]
    assert next(r for _, r in tensors(weights["down"].source, -1)).shape == (f, d)
