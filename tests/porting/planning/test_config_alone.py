# SPDX-License-Identifier: Apache-2.0
"""A model is planned from its config alone as it is from its headers, and says that there were none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dsl.diagnostics import Refused
from farm.oracles.tiny import tiny
from porting import pipeline
from porting.config.reader import parse_config
from porting.origin.resolve import OriginKind, resolve
from porting.planning.bound import bound_graph
from porting.planning.config_alone import LeftOut
from porting.planning.opening import open_to_plan
from porting.planning.plan import Plan, plan
from porting.report.model import Verdict
from sohu.commands.cli import main

BLOCK = 8
TYPES = ("llama", "gpt_oss", "deepseek_v3")
FP8 = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic"}
KEPT = ["lm_head", "model.layers.1.self_attn", "re:.*layers\\.2.*"]


def planned(model: Path) -> Plan:
    origin = resolve(str(model))
    return plan(origin, *open_to_plan(origin))


def program(made: Plan) -> list[str]:
    """Return a port's text without its head, which names the model's place."""
    return [line for line in made.spec.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("model_type", TYPES)
def test_the_config_gives_the_program_that_the_headers_give(model_type, tmp_path):
    folder = tiny(tmp_path / "whole", model_type)
    whole = planned(folder)
    shutil.copy(folder / "config.json", tmp_path / "published.json")
    alone = planned(tmp_path / "published.json")
    assert program(alone) == program(whole)
    assert alone.tensors.total == 0
    assert "config alone" in alone.notes[0]
    assert not any("config alone" in note for note in whole.notes)


@pytest.mark.parametrize(
    ("model_type", "sizes"), [("llama", {}), ("qwen3_moe", {"moe_intermediate_size": 32})]
)
def test_what_is_stored_in_fp8_follows_from_the_config(model_type, sizes, tmp_path):
    folder = tiny(tmp_path / "whole", model_type, **sizes)
    said = FP8 | {"weight_block_size": [BLOCK, BLOCK], "modules_to_not_convert": KEPT}
    config = json.loads((folder / "config.json").read_text()) | {"quantization_config": said}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        kept = weight.ndim != 2 or any(
            part in name for part in ("embed", "lm_head", "mlp.gate.", "1.self_attn", "layers.2.")
        )
        tensors[name] = weight if kept else weight.to(torch.float8_e4m3fn)
        if not kept:
            blocks = [-(-size // BLOCK) for size in weight.shape]
            tensors[f"{name}_scale_inv"] = torch.ones(blocks)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    whole = planned(folder)
    (folder / "model.safetensors").unlink()
    alone = planned(folder)
    assert "scaled(" in alone.spec
    assert program(alone) == program(whole)


@pytest.mark.parametrize(
    ("left_out", "tensor", "expected"),
    [
        ("lm_head", "lm_head.weight", True),
        ("mlp.gate", "model.layers.3.mlp.gate.weight", True),
        ("mlp.gate", "model.layers.3.mlp.gate_proj.weight", False),
        ("model.layers.1", "model.layers.1.mlp.up_proj.weight", True),
        ("model.layers.1", "model.layers.11.mlp.up_proj.weight", False),
        ("model.layers.1*", "model.layers.11.mlp.up_proj.weight", True),
        ("re:.*self_attn.*", "model.layers.1.self_attn.q_proj.weight", True),
        ("re:.*gate$", "model.layers.1.mlp.gate.weight", True),
        (r"re:.*mlp\.(gate|up|gate_up)_proj.*", "model.layers.0.mlp.up_proj.weight", True),
        (r"re:.*mlp\.(gate|up|gate_up)_proj.*", "model.layers.0.mlp.down_proj.weight", False),
        ("re:(a|b)+", "aaaa.weight", False),
        ("*a*a*a*a*a*", "aaaaaaaa.weight", False),
    ],
)
def test_modules_are_left_out_by_path_by_part_and_by_pattern(left_out, tensor, expected):
    section = {"quant_method": "fp8", "ignore": [left_out]}
    raw = {"architectures": ["A"], "model_type": "a", "quantization_config": section}
    config = parse_config(json.dumps(raw).encode())
    assert LeftOut.of(config).has(tensor) == expected


def test_a_data_type_that_no_key_names_is_assumed_and_said(tmp_path):
    folder = tiny(tmp_path, "llama")
    config = json.loads((folder / "config.json").read_text())
    for name in ("dtype", "torch_dtype"):
        config.pop(name, None)
    (tmp_path / "other.json").write_text(json.dumps(config))
    assert any("bf16 is assumed" in note for note in planned(tmp_path / "other.json").notes)
    (tmp_path / "other.json").write_text(json.dumps(config | {"torch_dtype": "float32"}))
    alone = planned(tmp_path / "other.json")
    assert not any("assumed" in note for note in alone.notes)
    assert "f32[97 @tp, 48]" in alone.spec or 'dtype = "f32"' in alone.spec


def test_a_plan_without_weights_is_written_and_never_runs(tmp_path):
    folder = tiny(tmp_path / "model", "llama")
    (folder / "model.safetensors").unlink()
    report, out = pipeline.port(str(folder / "config.json"), out=tmp_path / "p", plan_only=True)
    assert report.verdict is Verdict.PLANNED
    assert report.model.source == str((folder / "config.json").resolve())
    with pytest.raises(Refused) as caught:
        pipeline.validate_port(out)
    assert caught.value.diagnostics[0].code == "S566"
    with pytest.raises(Refused) as caught:
        pipeline.port(str(folder / "config.json"), out=tmp_path / "q")
    assert caught.value.diagnostics[0].code == "S566"
    assert not (tmp_path / "q").exists()
    with pytest.raises(Refused) as caught:
        pipeline.port(str(folder), out=tmp_path / "q")
    assert caught.value.diagnostics[0].code == "S520"


def test_commands_that_ask_what_a_model_costs_take_its_config(tmp_path, capsys):
    folder = tiny(tmp_path / "model", "llama")
    (folder / "model.safetensors").unlink()
    on = ["--device", "h100"]
    asked = (["fit", *on], ["cost"], ["profile", *on], ["sweep", *on, "--vary", "batch=1,2"])
    for path in (folder / "config.json", folder):
        for command, *more in asked:
            assert main([command, str(path), *more, "--json"]) == 0
            shown = capsys.readouterr()
            assert json.loads(shown.out)
            assert "note: planned from the config alone" in shown.err


def test_a_port_in_a_models_folder_is_what_counts(tmp_path):
    folder = tiny(tmp_path, "llama")
    pipeline.port(str(folder), out=folder, plan_only=True)
    text = (folder / "model.sohu").read_text()
    (folder / "model.sohu").write_text(text.replace("family llama", "family mine"))
    assert bound_graph(folder).family == "mine"


@pytest.mark.parametrize(
    ("model", "kind", "expected"),
    [
        ("Qwen2.5-7B/config.json", OriginKind.CONFIG, "Qwen2.5-7B"),
        ("Qwen2.5-7B", OriginKind.DIRECTORY, "Qwen2.5-7B"),
        ("llama.json", OriginKind.CONFIG, "llama"),
        ("a/b@main", OriginKind.HUB, "a--b"),
    ],
)
def test_where_a_port_goes_that_names_no_folder(model, kind, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("Qwen2.5-7B").mkdir()
    assert pipeline.default_out(model, kind) == Path("ports") / expected
