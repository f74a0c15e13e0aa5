# SPDX-License-Identifier: Apache-2.0
"""`sohu cost` and `sohu fit`: formulas, values, limits, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from device_model.chips.chip import device
from device_model.memory.capacity import Capacity
from device_model.memory.use import MemoryFormulas, MemoryUse, phases
from dsl.counting.longest import LIMIT
from dsl.diagnostics import Refused
from dsl.graph import Graph
from dsl.inference.inference import infer
from porting.planning.library import family_for
from sohu.commands.cli import main
from tests.conftest import TESTS

# Sizes of a model of about eight billion parameters.
VALUES: dict[str, object] = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "vocab_size": 128256,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "rope_parameters.rope_theta": 500000.0,
    "dtype": "bf16",
}
TEXT = """sohu 1.0

family small for "Small" {
  config {
    D = 8
    V = 32
  }
  dims { B: batch, S: seq, C: context }
  mesh { tp }

  input tokens: i32[B, S]
  weight embed: bf16[V @tp, D] from "embed"
  x = all_reduce(gather(embed, tokens), tp)
  output logits: f32[B, S, V] = all_gather(matmul(x, embed, dtype="f32"), tp)
}
"""


def graph_of(**values: object) -> Graph:
    program = family_for("LlamaForCausalLM")
    graph = infer(program.family(), program.blocks, VALUES | values).graph
    assert graph is not None
    return graph


@pytest.fixture(scope="module")
def capacity() -> Capacity:
    return Capacity(MemoryFormulas(graph_of()))


def decode(capacity: Capacity, tp: int, batch: int, context: int) -> MemoryUse:
    return capacity.memory.use(phases({"tp": tp}, batch, 1, context)["decode"])


def most(capacity: Capacity, batch: int, length: int) -> int:
    """The bytes of the larger step with sequences of a length, new tokens included."""
    steps = phases({"tp": 1}, batch, 1, length - 1), phases({"tp": 1}, batch, 1, length)
    asked = steps[0]["decode"], steps[1]["prefill"]
    return max(int(capacity.memory.use(question).total) for question in asked)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "small.sohu"
    path.write_text(TEXT)
    return path


def test_load_is_the_sum_of_hand_computed_parts(capacity: Capacity) -> None:
    load = decode(capacity, 1, batch=3, context=1000)
    attention = 4096 * 4096 * 2 + 4096 * 1024 * 2
    layer = attention + 3 * 4096 * 14336 + 2 * 4096
    assert load.weights == 2 * (32 * layer + 2 * 128256 * 4096 + 4096)
    assert load.state == 32 * 2 * 8 * 128 * 2 * 3 * 1001


def test_mesh_divides_weights_and_state(capacity: Capacity) -> None:
    one, eight = decode(capacity, 1, 1, 4096), decode(capacity, 8, 1, 4096)
    assert eight.state * 8 == one.state
    assert one.weights / 8 < eight.weights < one.weights / 8 * 1.001  # norms are on every chip


@pytest.mark.parametrize("batch", [1, 7])
def test_the_largest_context_is_the_largest(capacity: Capacity, batch: int) -> None:
    chip = device("h100")
    found = capacity.fit(chip, {"tp": 1}, batch, 1, 4096)
    length = found.max_context
    assert length is not None
    assert most(capacity, batch, length) <= chip.memory_bytes < most(capacity, batch, length + 1)
    for context, largest in found.max_batch.items():
        assert largest is not None
        assert most(capacity, largest, context) <= chip.memory_bytes
        assert most(capacity, largest + 1, context) > chip.memory_bytes


def test_what_the_model_is_for_bounds_what_is_offered() -> None:
    graph = graph_of()
    limited = replace(graph, config={**graph.config, LIMIT: 5000})
    chip = device("h100")
    found = Capacity(MemoryFormulas(limited)).fit(chip, {}, 1, 1, 4096)
    free = Capacity(MemoryFormulas(graph)).fit(chip, {}, 1, 1, 4096)
    assert (found.max_context, found.memory_context) == (5000, free.max_context)
    assert list(found.max_batch) == [1024, 4096]
    assert found.beyond is None
    assert Capacity(MemoryFormulas(limited)).fit(chip, {}, 1, 1, 5000).beyond == 5001
    assert "the model's own limit" in found.context_text()
    assert "no limit of the model's own is known" in free.context_text()


def test_what_does_not_fit_names_the_part_and_the_mesh(capacity: Capacity) -> None:
    found = capacity.fit(device("h100"), {}, 64, 512, 32768)
    assert not found.fits
    assert (found.phase, found.largest) == ("decode", "state")
    assert found.mesh_needed == {"tp": 4, "pp": 1, "dp": 1}
    assert not capacity.fit(device("h100"), {"tp": 2}, 64, 512, 32768).fits
    assert capacity.fit(device("h100"), {"tp": 4}, 64, 512, 32768).fits


def test_a_sweep_has_all_its_values() -> None:
    bandwidth = device("sohu").quantity("hbm_bw")
    assert bandwidth.values == (4e12, 5e12, 6e12, 7e12, 8e12)
    assert bandwidth.confidence == "low"
    with pytest.raises(Refused, match="S603"):
        device("sohu").quantity("clock")


def test_cost_of_a_text_without_checkpoint(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", str(text), "--batch", "2", "--seq", "3", "--json"]) == 0
    total = json.loads(capsys.readouterr().out)["total"]
    assert total["weights"] == {"formula": "512/tp", "prefill": 512.0, "decode": 512.0}
    # one add an element of the collective, and 2 * V * D a token for the head
    assert total["flops"]["prefill"] == 2 * 3 * (8 + 2 * 32 * 8)
    assert total["parameters"]["formula"] == "256"


def test_cost_and_fit_show_tables(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", str(text)]) == 0
    assert "holds where tp <= 32" in capsys.readouterr().out
    assert main(["fit", str(text), "--device", "h100"]) == 0
    assert "verdict: fits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--device", "h999"], "S602"),
        (["--device", "h100", "--mesh", "tp=65"], "S305"),
        (["--device", "h100", "--mesh", "tp=x"], "S306"),
        (["--device", "h100", "--mesh", "pp=2"], "S303"),
        (["--device", "a100", "--numerics", "f8e4m3"], "S609"),
    ],
)
def test_unusable_devices_and_meshes_are_refused(
    arguments: list[str], code: str, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", str(text), *arguments]) == 2
    assert code in capsys.readouterr().err


def test_cost_in_an_unknown_format_is_refused(
    text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cost", str(text), "--numerics", "f9"]) == 2
    assert "S601" in capsys.readouterr().err


def test_generic_family_needs_values(capsys: pytest.CaptureFixture[str]) -> None:
    family = TESTS.parent / "model_zoo/families/llama.sohu"
    assert main(["cost", str(family)]) == 2
    assert "S405" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["cost"],
        ["fit", "--device", "h100"],
        ["profile", "--device", "h100"],
        ["sweep", "--device", "h100", "--vary", "batch=1,2"],
    ],
)
def test_sizes_that_a_load_does_not_name_are_refused(words, capsys):
    spec = TESTS / "dsl" / "specs" / "encoder_decoder.sohu"
    assert main([words[0], str(spec), *words[1:]]) == 2
    assert "S613" in capsys.readouterr().err
