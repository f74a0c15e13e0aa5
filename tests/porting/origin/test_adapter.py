# SPDX-License-Identifier: Apache-2.0
"""A base with a PEFT adapter: what is ported and judged is what PEFT's definition makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from device_model.engine.engine import Engine
from dsl.diagnostics import Refused
from porting.checkpoint.tensors import Checkpoint
from porting.config.reader import read_config
from porting.origin import hub
from porting.origin.resolve import Origin, OriginKind, resolve
from porting.original.reference import Reference
from porting.pipeline import Brought, port, validate_port
from porting.planning.plan import plan
from porting.report.model import Verdict
from tests.gguf_models import KINDS, write
from tests.peft_adapters import (
    DOWN,
    EMBED,
    FC,
    HEAD,
    NORM,
    PROJ,
    SIZES,
    Q,
    Tensors,
    V,
    adapter,
    delta,
    drawn,
    embedding,
    lengthened,
    lengths,
    linear,
    model,
)

TOKENS = np.random.default_rng(5).integers(3, 100, 24)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SOHU_CACHE", str(tmp_path / "cache"))


Weights = Callable[[Tensors], Tensors]
# The adapter's tensors, its settings, the base's, and the weights that the definition makes of the base's.
VARIANTS: dict[str, tuple[Tensors, dict[str, object], dict[str, object], Weights]] = {
    "plain": (
        linear(Q, 32, 32) | linear(DOWN, 32, 48),
        {"target_modules": ["q_proj", "down_proj"]},
        {},
        lambda w: {f"{Q}.weight": w[f"{Q}.weight"] + 2 * delta(32, 32),
                   f"{DOWN}.weight": w[f"{DOWN}.weight"] + 2 * delta(32, 48)},
    ),
    "rank stabilised": (
        linear(Q, 32, 32),
        {"use_rslora": True, "target_modules": ".*q_proj", "lora_dropout": 0.1},
        {},
        lambda w: {f"{Q}.weight": w[f"{Q}.weight"] + 6 / np.sqrt(3) * delta(32, 32)},
    ),
    "patterns": (
        linear(Q, 32, 32, 2) | linear(V, 16, 32),
        {"rank_pattern": {"0.self_attn.q_proj": 2}, "alpha_pattern": {r"^model.layers.\d+.self_attn.v_proj": 9}},
        {},
        lambda w: {f"{Q}.weight": w[f"{Q}.weight"] + 3 * delta(32, 32, 2),
                   f"{V}.weight": w[f"{V}.weight"] + 3 * delta(16, 32)},
    ),
    "dora": (
        linear(V, 16, 32) | {f"{V}.lora_magnitude_vector": lengths(16)},
        {"use_dora": True},
        {},
        lambda w: {f"{V}.weight": lengthened(w[f"{V}.weight"] + 2 * delta(16, 32), lengths(16))},
    ),
    "embedding": (
        embedding(101, 32) | {f"{EMBED}.base_layer.weight": np.zeros(0, np.float32)},
        {},
        {},
        lambda w: {f"{EMBED}.weight": w[f"{EMBED}.weight"] + 2 * delta(32, 101).T},
    ),
    "embedding that is tied": (
        embedding(101, 32),
        {},
        {"tie_word_embeddings": True},
        lambda w: {f"{EMBED}.weight": w[f"{EMBED}.weight"] + 2 * delta(32, 101).T,
                   f"{HEAD}.weight": w[f"{EMBED}.weight"]},
    ),
    "head that is tied": (
        linear(HEAD, 101, 32),
        {},
        {"tie_word_embeddings": True},
        lambda w: {f"{HEAD}.weight": w[f"{EMBED}.weight"] + 2 * delta(101, 32)},
    ),
    "modules of its own": (
        {f"{HEAD}.weight": drawn(101, 32), f"{NORM}.weight": lengths(32)},
        {"modules_to_save": ["lm_head", "input_layernorm"]},
        {"tie_word_embeddings": True},
        lambda w: {f"{HEAD}.weight": drawn(101, 32), f"{NORM}.weight": lengths(32)},
    ),
    "biases": (
        linear(Q, 32, 32) | {f"{Q}.base_layer.bias": drawn(32), f"{V}.bias": drawn(16)},
        {"bias": "all"},
        {},
        lambda w: {f"{Q}.weight": w[f"{Q}.weight"] + 2 * delta(32, 32), f"{Q}.bias": drawn(32), f"{V}.bias": drawn(16)},
    ),
    "gpt2": (
        linear(FC, 128, 32) | linear(PROJ, 32, 32),
        {"fan_in_fan_out": True},
        {"kind": "gpt2"},
        lambda w: {f"{FC}.weight": w[f"{FC}.weight"] + 2 * delta(128, 32).T,
                   f"{PROJ}.weight": w[f"{PROJ}.weight"] + 2 * delta(32, 32).T},
    ),
    "gpt2 with dora": (
        linear(FC, 128, 32) | {f"{FC}.lora_magnitude_vector.weight": lengths(128)},
        {"use_dora": True},
        {"kind": "gpt2"},
        lambda w: {f"{FC}.weight": lengthened(w[f"{FC}.weight"].T + 2 * delta(128, 32), lengths(128)).T},
    ),
}  # fmt: skip


def truth(base: Path, change: Weights) -> np.ndarray:
    """Return transformers' logits in float64 with the weights that the definition gives."""
    import torch
    import transformers

    made = transformers.AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float64, attn_implementation="eager", experts_implementation="eager"
    )
    state = {name: x.numpy().copy() for name, x in made.state_dict().items()}
    changed = change(state)
    for name, value in changed.items():
        module = made.get_submodule(name.rpartition(".")[0])
        parameter = torch.nn.Parameter(torch.from_numpy(np.array(value, np.float64)))
        setattr(module, name.rpartition(".")[2], parameter)
    with torch.no_grad():
        return made(input_ids=torch.from_numpy(TOKENS[None])).logits[0].numpy()


def relative(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.sqrt(np.mean((got - wanted) ** 2) / np.mean(wanted**2)))


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_a_port_and_its_judge_compute_what_the_definition_says(tmp_path, name):
    tensors, settings, base_settings, change = VARIANTS[name]
    base = model(tmp_path / "base", **base_settings)
    if name == "embedding":
        whole = load_file(base / "model.safetensors")
        tensors = tensors | {f"{EMBED}.base_layer.weight": whole[f"{EMBED}.weight"]}
    check(base, adapter(tmp_path / "adapter", tensors, **settings), change)


def check(base: Path, folder: Path, change: Weights) -> None:
    """Compare the port of a base and an adapter, and its judge, with the truth."""
    wanted = truth(base, change)
    assert relative(truth(base, lambda _: {}), wanted) > 1e-2
    compare(resolve(str(base), adapter=str(folder)), wanted)


def compare(origin: Origin, wanted: np.ndarray) -> None:
    checkpoint = Checkpoint.open(origin.directory)
    graph = plan(origin, read_config(origin.directory), checkpoint).graph
    got = Engine(graph, checkpoint, "f32").session().step([TOKENS])[0]
    assert relative(got, wanted) < 1e-5
    judge = Reference.load(origin.original, "float64").logits([TOKENS.tolist()])[0].logits
    assert relative(judge, wanted) < 1e-6


@pytest.mark.parametrize(
    ("kind", "names", "halves", "own"),
    [
        (
            "mixtral",
            ("w1", "w3", "w2"),
            "block_sparse_moe",
            {"attention_bias": None, "num_experts": None},
        ),
        (
            "qwen3_moe",
            ("gate_proj", "up_proj", "down_proj"),
            "mlp",
            {"moe_intermediate_size": 48, "num_local_experts": None},
        ),
    ],
)
def test_experts_of_an_older_transformers_are_changed_one_by_one(
    tmp_path, kind, names, halves, own
):
    sizes = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "head_dim": 8}
    base = model(tmp_path / "base", kind, **{**sizes, **own})
    stem = f"model.layers.1.{halves}.experts.2"
    gate, up, down = (f"{stem}.{name}" for name in names)
    tensors = linear(gate, 48, 32) | linear(up, 48, 32, 2) | linear(down, 32, 48)
    settings = {"rank_pattern": {names[1]: 2}}

    def change(weights: Tensors) -> Tensors:
        fused, narrow = (
            weights[f"model.layers.1.mlp.experts.{x}_proj"].copy() for x in ("gate_up", "down")
        )
        fused[2] += np.concatenate([2 * delta(48, 32), 3 * delta(48, 32, 2)])
        narrow[2] += 2 * delta(32, 48)
        at = "model.layers.1.mlp.experts"
        return {f"{at}.gate_up_proj": fused, f"{at}.down_proj": narrow}

    check(base, adapter(tmp_path / "a", tensors, **settings), change)


@pytest.mark.parametrize("module", ["model.language_model", "language_model.model"])
def test_an_adapter_of_a_text_model_inside_another_is_merged(tmp_path, module):
    import torch
    import transformers

    torch.manual_seed(5)
    text = transformers.AutoConfig.for_model("llama", **SIZES)
    seen = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "image_size": 16}
    vision = transformers.AutoConfig.for_model(
        "clip_vision_model", **seen, num_attention_heads=2, patch_size=8
    )
    config = transformers.LlavaConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), image_token_index=100
    )
    base = tmp_path / "base"
    transformers.LlavaForConditionalGeneration(config).save_pretrained(base)
    head = "lm_head" if module.startswith("model") else "language_model.lm_head"
    stem = f"{module}.layers.1.self_attn.q_proj"
    folder = adapter(tmp_path / "a", linear(stem, 32, 32) | linear(head, 101, 32))
    made = transformers.LlavaForConditionalGeneration.from_pretrained(
        base, dtype=torch.float64, attn_implementation="eager"
    )
    with torch.no_grad():
        own = made.get_submodule("model.language_model.layers.1.self_attn.q_proj")
        own.weight += torch.from_numpy(2 * delta(32, 32))
        made.lm_head.weight += torch.from_numpy(2 * delta(101, 32))
        wanted = made(input_ids=torch.from_numpy(TOKENS[None])).logits[0].numpy()
    compare(resolve(str(base), adapter=str(folder)), wanted)


def test_a_gguf_file_is_a_base_too(tmp_path):
    write(KINDS["llama"], tmp_path / "folder", tmp_path / "m.gguf", "Q8_0")
    folder = adapter(tmp_path / "a", linear(Q, 64, 64))
    name = f"{Q}.weight"
    origin = resolve(str(tmp_path / "m.gguf"), adapter=str(folder))
    compare(origin, truth(tmp_path / "folder", lambda w: {name: w[name] + 2 * delta(64, 64)}))


def test_what_does_not_change_is_kept_as_it_is_stored(tmp_path):
    base = model(tmp_path / "base")
    origin = resolve(str(base), adapter=str(adapter(tmp_path / "a", linear(Q, 32, 32))))
    one, other = Checkpoint.open(base), Checkpoint.open(origin.directory)
    assert set(one.tensors) == set(other.tensors)
    for name in set(one.tensors) - {f"{Q}.weight"}:
        np.testing.assert_array_equal(one.read(name), other.read(name))
    assert origin.kind is OriginKind.ADAPTED
    assert "1 weights have the LoRA adapter a added in float64" in origin.notes[0]


def test_a_model_of_16_bits_stays_one(tmp_path):
    import torch
    import transformers

    base = model(tmp_path / "base")
    made = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    made.save_pretrained(base)
    origin = resolve(str(base), adapter=str(adapter(tmp_path / "a", linear(Q, 32, 32))))
    config, checkpoint = read_config(origin.directory), Checkpoint.open(origin.directory)
    assert checkpoint.tensors[f"{Q}.weight"].dtype.name == "f32"
    assert checkpoint.tensors[f"{V}.weight"].dtype.name == "bf16"
    assert "bf16" in plan(origin, config, checkpoint).spec
    report, _ = port(str(base), out=tmp_path / "port", own=Brought(adapter=str(tmp_path / "a")))
    assert report.verdict is Verdict.PASS


def test_an_adapter_alone_is_ported_with_the_base_that_it_names_and_validated_again(tmp_path):
    base = model(tmp_path / "base")
    folder = adapter(tmp_path / "a", linear(Q, 32, 32), base_model_name_or_path=str(base))
    report, out = port(str(folder), out=tmp_path / "port")
    assert report.verdict is Verdict.PASS
    assert report.model.adapter == str(folder)
    assert report.model.source == str(base)
    assert "with the adapter a" in (out / "model.sohu").read_text()
    assert validate_port(out, numerics=("f32",)).verdict is Verdict.PASS
    weights = resolve(str(folder)).directory / "model.safetensors"
    tensors = load_file(weights)
    tensors[f"{Q}.weight"] += np.float32(1e-3)
    save_file(tensors, weights)
    assert validate_port(out, numerics=("f32",)).verdict is Verdict.FAIL


def test_an_adapter_beside_its_base_is_ported_where_both_are_named(tmp_path):
    base = model(tmp_path / "base")
    adapter(base, linear(Q, 32, 32), base_model_name_or_path=".")
    with pytest.raises(Refused, match="S529"):
        port(str(base), out=tmp_path / "port", plan_only=True)
    report, _ = port(str(base), out=tmp_path / "port", own=Brought(adapter=str(base)))
    assert report.verdict is Verdict.PASS


def test_a_changed_adapter_or_base_is_merged_anew(tmp_path):
    base = model(tmp_path / "base")
    folder = adapter(tmp_path / "a", linear(Q, 32, 32))
    first = resolve(str(base), adapter=str(folder)).directory
    assert resolve(str(base), adapter=str(folder)).directory == first
    adapter(folder, linear(Q, 32, 32), lora_alpha=7)
    second = resolve(str(base), adapter=str(folder)).directory
    save_file(load_file(base / "model.safetensors"), base / "model.safetensors")
    assert len({first, second, resolve(str(base), adapter=str(folder)).directory}) == 3


def test_the_tokenizer_is_the_adapters_where_it_has_one(tmp_path):
    base = model(tmp_path / "base")
    folder = adapter(tmp_path / "a", linear(Q, 32, 32))
    (base / "tokenizer.json").write_text("{}")
    assert (
        resolve(str(base), adapter=str(folder)).directory / "tokenizer.json"
    ).read_text() == "{}"
    (folder / "tokenizer.json").write_text('{"own": 1}')
    origin = resolve(str(base), adapter=str(folder))
    assert (origin.directory / "tokenizer.json").read_text() == '{"own": 1}'
    assert "the tokenizer is the adapter's" in origin.notes


def test_a_tokenizer_of_any_size_is_not_copied(tmp_path):
    base = model(tmp_path / "base")
    folder = adapter(tmp_path / "a", linear(Q, 32, 32))
    with (folder / "tokenizer.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(Refused, match=r"S514.*tokenizer\.json has 1,099,511,627,776 bytes"):
        resolve(str(base), adapter=str(folder))
    assert list((tmp_path / "cache" / "adapters").iterdir()) == []


def test_a_base_in_the_hubs_cache_is_used(tmp_path, monkeypatch):
    base = model(tmp_path / "base")
    monkeypatch.setattr(hub, "cached", lambda *_: hub.Snapshot(base, "c0ffee"))
    folder = adapter(tmp_path / "a", linear(Q, 32, 32), base_model_name_or_path="org/name")
    origin = resolve(str(folder))
    assert (origin.source, origin.revision) == ("org/name", "c0ffee")
