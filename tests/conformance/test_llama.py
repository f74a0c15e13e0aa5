# SPDX-License-Identifier: Apache-2.0
"""The farm's rows for Llama: random checkpoints of every variant that the family claims, by the rule, in every mode."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from porting.checkpoint.tensors import Checkpoint
from porting.config.reader import read_config
from porting.origin.resolve import resolve
from porting.planning.plan import plan
from porting.report.model import Case
from porting.verdict.feeding import MODES
from porting.verdict.validate import validate
from tests.checkpoints import tiny_llama

PLAIN = {"rope_type": "default", "rope_theta": 10000.0}
VARIANTS: dict[str, dict[str, object]] = {
    "llama3 rope, GQA, attention bias": {},
    "tied head, one head each": {
        "tie_word_embeddings": True,
        "attention_bias": False,
        "num_key_value_heads": 10,
        "rope_parameters": PLAIN,
    },
    "mlp bias, linear rope, one key head": {
        "mlp_bias": True,
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
    },
    "stored in f32": {"dtype": "float32"},
    "sharded files": {"max_shard_size": "20KB"},
}
NUMERICS = [pytest.param(n, marks=getattr(pytest.mark, n)) for n in ("f32", "bf16")]


def validated(directory: Path, numerics: str) -> tuple[Case, ...]:
    origin = resolve(str(directory))
    checkpoint = Checkpoint.open(directory)
    planned = plan(origin, read_config(directory), checkpoint)
    return validate(planned.graph, checkpoint, directory, numerics=(numerics,)).cases


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_port_follows_the_rule(variant: str, numerics: str, tmp_path: Path) -> None:
    cases = validated(tiny_llama(tmp_path / "model", **VARIANTS[variant]), numerics)
    assert {case.mode for case in cases} == {mode.name for mode in MODES}
    assert [case for case in cases if not case.passed] == []


@pytest.mark.f32
def test_old_and_new_layout_of_rope_keys_give_equal_ports(tmp_path: Path) -> None:
    new = tiny_llama(tmp_path / "new")
    old = tiny_llama(tmp_path / "old")
    raw = json.loads((old / "config.json").read_text())
    scaling = raw.pop("rope_parameters")
    raw["rope_theta"] = scaling.pop("rope_theta")
    raw["rope_scaling"] = scaling
    raw["torch_dtype"] = raw.pop("dtype")
    (old / "config.json").write_text(json.dumps(raw))

    def text(directory: Path) -> str:
        opened = Checkpoint.open(directory)
        spec = plan(resolve(str(directory)), read_config(directory), opened).spec
        return spec[spec.index("sohu 1.0") :]

    assert text(old) == text(new)
