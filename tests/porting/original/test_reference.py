# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from dsl.diagnostics import Refused
from porting.checkpoint.tensors import Checkpoint
from porting.config.reader import read_config
from porting.original import float64
from porting.original.reference import Reference
from tests.checkpoints import TINY_LLAMA, tiny_llama
from tests.porting.original.llama_oracle import forward, rotary_frequencies

ROWS = [[5, 9, 1, 44, 96, 17, 3], [7], list(range(60))]
PLAIN = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}


def oracle(folder, row):
    checkpoint = Checkpoint.open(folder)
    weights = {name: checkpoint.read(name) for name in checkpoint.tensors}
    return forward(weights, read_config(folder).values, row)


def relative(actual, expected):
    return np.sqrt(((actual - expected) ** 2).mean() / (expected**2).mean())


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.mark.parametrize(
    "overrides",
    [{}, PLAIN, {"tie_word_embeddings": True, "attention_bias": False, "mlp_bias": True}],
    ids=["llama3", "plain", "tied"],
)
def test_float64_equals_an_independent_forward_pass(tmp_path, overrides):
    folder = tiny_llama(tmp_path, **overrides)
    outputs = Reference.load(folder, "float64").logits(ROWS, hidden=True)
    for row, output in zip(ROWS, outputs, strict=True):
        logits, layers = oracle(folder, row)
        assert output.logits.dtype == np.float64
        assert relative(output.logits, logits) < 2e-14
        assert len(output.hidden) == 3
        for ours, expected in zip(output.hidden, layers, strict=True):
            assert ours.dtype == np.float64
            assert relative(ours, expected) < 2e-14


@pytest.mark.parametrize("overrides", [{}, PLAIN], ids=["llama3", "plain"])
def test_rotary_tables_are_those_of_float64(tmp_path, overrides):
    folder = tiny_llama(tmp_path, head_dim=64, num_attention_heads=4, **overrides)
    (found,) = Reference.load(folder, "float64").rotary_frequencies()
    expected = rotary_frequencies(read_config(folder).values, 64)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=2e-15, atol=0)
    single = Reference.load(folder, "float32").rotary_frequencies()[0]
    assert abs(single / expected - 1).max() > 1e-9


def test_no_operation_of_the_float64_reference_gives_a_smaller_float(llama):
    import torch

    reference = Reference.load(llama, "float64")
    with float64.watch(torch) as found:
        reference.logits(ROWS, hidden=True)
    assert found == set()


def test_the_watch_sees_the_casts_that_are_lifted(llama):
    import torch

    reference = Reference.load(llama, "float32")
    with float64.watch(torch) as found, torch.no_grad():
        reference._model.double()(input_ids=torch.tensor([[1, 2]]), use_cache=False)
    assert any("gives float32" in name for name in found)


def test_a_reference_that_is_not_float64_is_refused(llama, monkeypatch):
    from contextlib import nullcontext

    monkeypatch.setattr(float64, "everywhere", lambda _: nullcontext())
    with pytest.raises(Refused, match="not float64 in") as caught:
        Reference.load(llama, "float64")
    assert caught.value.diagnostics[0].code == "S552"


def test_the_default_dtype_is_restored(llama):
    import torch

    Reference.load(llama, "float64").logits([[1]])
    assert torch.get_default_dtype() is torch.float32
    assert torch.ones(1).float().dtype is torch.float32


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_lower_precisions_equal_plain_transformers(llama, precision):
    import torch
    from transformers import AutoModelForCausalLM

    dtype = getattr(torch, precision)
    model = AutoModelForCausalLM.from_pretrained(llama, dtype=dtype, attn_implementation="eager")
    with torch.no_grad():
        expected = model(torch.tensor([ROWS[0]])).logits[0].float().numpy()
    (output,) = Reference.load(llama, precision).logits(ROWS[:1])
    np.testing.assert_array_equal(output.logits, expected)
    assert output.hidden == ()
    assert output.logits.dtype == np.float32


def test_errors_are_ordered_by_precision(llama):
    truth, single, half = (
        Reference.load(llama, precision).logits(ROWS[:1])[0].logits
        for precision in ("float64", "float32", "bfloat16")
    )
    assert 1e-9 < relative(single, truth) < 1e-5 < relative(half, truth) < 0.1


def test_hidden_states_are_taken_before_the_final_norm(llama):
    (output,) = Reference.load(llama, "float64").logits(ROWS[:1], hidden=True)
    checkpoint = Checkpoint.open(llama)
    last = output.hidden[-1]
    normed = last / np.sqrt((last**2).mean(-1, keepdims=True) + 1e-5)
    normed = normed * checkpoint.read("model.norm.weight").astype(np.float64)
    logits = normed @ checkpoint.read("lm_head.weight").astype(np.float64).T
    assert relative(output.logits, logits) < 1e-13


def test_shards_are_read(llama, tmp_path):
    folder = tiny_llama(tmp_path, max_shard_size="20KB")
    assert len(Checkpoint.open(folder).files) > 1
    (sharded,) = Reference.load(folder, "float32").logits(ROWS[:1])
    (whole,) = Reference.load(llama, "float32").logits(ROWS[:1])
    np.testing.assert_array_equal(sharded.logits, whole.logits)


def test_an_old_layout_is_read_alike(llama, tmp_path):
    folder = tiny_llama(tmp_path)
    raw = json.loads((folder / "config.json").read_text())
    rope = raw.pop("rope_parameters")
    raw |= {
        "rope_theta": rope.pop("rope_theta"),
        "rope_scaling": rope,
        "torch_dtype": raw.pop("dtype"),
    }
    (folder / "config.json").write_text(json.dumps(raw))
    (old,) = Reference.load(folder, "float64").logits(ROWS[:1])
    (new,) = Reference.load(llama, "float64").logits(ROWS[:1])
    np.testing.assert_array_equal(old.logits, new.logits)


def test_keys_that_choose_code_are_overruled(tmp_path):
    folder = tiny_llama(tmp_path)
    raw = json.loads((folder / "config.json").read_text())
    raw |= {
        "_attn_implementation": "evil/kernel",
        "_attn_implementation_internal": "evil/kernel",
        "attn_implementation": "evil/kernel",
        "experts_implementation": "evil/kernel",
        "_experts_implementation": "evil/kernel",
        "auto_map": {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config"},
    }
    (folder / "config.json").write_text(json.dumps(raw))
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    model = Reference.load(folder, "float32")._model
    assert type(model).__module__ == "transformers.models.llama.modeling_llama"
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_act", "nonesuch"),
        ("intermediate_size", 57),
        ("intermediate_size", "large"),
        ("num_hidden_layers", 4),
        ("num_hidden_layers", 2**40),
        ("num_hidden_layers", None),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path, key, value):
    folder = tiny_llama(tmp_path)
    raw = json.loads((folder / "config.json").read_text()) | {key: value}
    (folder / "config.json").write_text(json.dumps(raw))
    with pytest.raises(Refused) as caught:
        Reference.load(folder, "float32")
    assert [d.code for d in caught.value.diagnostics] == ["S551"]
    assert len(str(caught.value)) < 400


def test_importing_the_module_imports_no_torch():
    code = "import sys, porting.original.reference, porting.origin.resolve; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_missing_libraries_are_named_with_the_way_to_install_them(llama, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(Refused, match="transformers is not installed") as caught:
        Reference.load(llama, "float32")
    assert caught.value.diagnostics[0].code == "S517"
    assert caught.value.diagnostics[0].help == "pip install 'sohu[reference]'"


def test_a_library_that_cannot_be_loaded_gives_its_reason(llama, monkeypatch, tmp_path):
    broken = tmp_path / "transformers.py"
    broken.write_text("raise ImportError('libcublas.so.12: cannot open shared object file')")
    monkeypatch.delitem(sys.modules, "transformers", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Refused, match=r"cannot be loaded: libcublas\.so\.12") as caught:
        Reference.load(llama, "float32")
    assert caught.value.diagnostics[0].code == "S550"


def test_the_dimensions_of_the_tiny_model_are_distinct():
    sizes = [value for value in TINY_LLAMA.values() if type(value) is int and value > 2]
    sizes += [TINY_LLAMA["num_attention_heads"] * TINY_LLAMA["head_dim"]]
    assert len(set(sizes)) == len(sizes)
