# SPDX-License-Identifier: Apache-2.0
"""Routing and experts against the modules of transformers: how each kind of mixture is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoConfig
from transformers.models.cohere2_moe.modeling_cohere2_moe import Cohere2MoeTopKRouter
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2TopkRouter
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter
from transformers.models.deepseek_v4.modeling_deepseek_v4 import DeepseekV4TopKRouter
from transformers.models.ernie4_5_moe.modeling_ernie4_5_moe import Ernie4_5_MoeTopKRouter
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssMLP
from transformers.models.granitemoe.modeling_granitemoe import GraniteMoeTopKRouter
from transformers.models.lfm2_moe.modeling_lfm2_moe import Lfm2MoeTopKRouter
from transformers.models.llama4.modeling_llama4 import Llama4TextMoe
from transformers.models.longcat_flash.modeling_longcat_flash import LongcatFlashMoE
from transformers.models.mistral4.modeling_mistral4 import Mistral4TopkRouter
from transformers.models.nemotron_h.modeling_nemotron_h import NemotronHExperts
from transformers.models.phimoe.modeling_phimoe import sparsemixer
from transformers.models.qwen2_moe.modeling_qwen2_moe import Qwen2MoeSparseMoeBlock

from device_model.engine.engine import Engine
from device_model.numbers.numerics import Array
from device_model.weights.reading import ArrayReader
from dsl.inference.inference import infer
from porting.planning.library import load_program

D, F, X, T = 24, 20, 8, 3
ROWS = np.random.default_rng(5).normal(size=(40, D)).astype(np.float32)
CONFIG = SimpleNamespace(
    hidden_size=D,
    num_experts_per_tok=T,
    num_experts=X,
    num_local_experts=X,
    norm_topk_prob=True,
    routed_scaling_factor=2.5,
    n_group=4,
    topk_group=2,
    topk_method="group_limited_greedy",
    moe_norm_min=1e-12,
    use_expert_bias=True,
    expert_selection_fn="sigmoid",
    scoring_func="sqrtsoftplus",
)


def run(folder: Path, body: str, held: Mapping[str, Array], width: str = "D") -> list[Array]:
    """Run statements on the rows of a table; they see `h`, bind `y`, and may call the library's mixtures."""
    path = folder / "test.sohu"
    path.write_text(f"""sohu 1.0
use "blocks/moe.sohu"
family test for "Test" {{
  config {{ D = {D} _F = {F} X = {X} _T = {T} N = {len(ROWS)} }}
  dims {{ B: batch, S: seq, C: context }}
  mesh {{ tp, ep }}
  input tokens: i32[B, S]
  weight table: f32[N, D] from "table"
  h = gather(table, tokens)
  {body}
  output out: f32[B, S, {width}] = y
}}""")
    program = load_program(path)
    found = infer(program.family(), program.blocks, None, held)
    assert [d.message for d in found.diagnostics] == []
    assert found.graph is not None
    reader = ArrayReader({"table": ROWS, **held})
    return [
        Engine(found.graph, reader, "f32", kernels, threads=2)
        .session()
        .step([np.arange(len(ROWS))])[0]
        for kernels in ("fast", "reference")
    ]


def filled(module: torch.nn.Module) -> torch.nn.Module:
    """Return a module in float64 with random weights and buffers."""
    torch.manual_seed(3)
    for tensor in (*module.parameters(), *module.buffers()):
        torch.nn.init.normal_(tensor.data, std=0.3)
    return module.double().eval()


def arrays(module: torch.nn.Module) -> dict[str, Array]:
    tensors = (*module.named_parameters(), *module.named_buffers())
    return {name: t.detach().numpy().astype(np.float32) for name, t in tensors}


def near(results: list[Array], truth: torch.Tensor) -> bool:
    wide = truth.detach().numpy().reshape(results[0].shape)
    return all(np.allclose(r, wide, rtol=2e-5, atol=2e-6) for r in results)


ROUTERS: dict[str, tuple[Callable[..., torch.nn.Module], str]] = {
    "group_limited_greedy": (
        DeepseekV2TopkRouter,
        'top=_T, score="softmax", groups=4, top_groups=2, scale=2.5',
    ),
    "noaux_tc": (
        DeepseekV3TopkRouter,
        'b, top=_T, score="sigmoid", groups=4, top_groups=2, normalize=true, scale=2.5',
    ),
    "softmax in groups by two": (
        Mistral4TopkRouter,
        'top=_T, score="softmax", groups=4, top_groups=2, group_best=2, normalize=true, scale=2.5',
    ),
    "sqrtsoftplus": (
        DeepseekV4TopKRouter,
        'b, top=_T, score="sqrtsoftplus", normalize=true, scale=2.5',
    ),
    "ernie": (
        Ernie4_5_MoeTopKRouter,
        'b, top=_T, score="softmax", normalize=true, floor=0.0, least=1e-12',
    ),
    "softmax after": (GraniteMoeTopKRouter, 'top=_T, score="softmax", order="after"'),
    "sigmoid after": (
        Cohere2MoeTopKRouter,
        'top=_T, score="sigmoid", order="after", normalize=true, floor=0.0',
    ),
    "lfm2": (
        Lfm2MoeTopKRouter,
        'b, top=_T, score="sigmoid", normalize=true, floor=1e-6, scale=2.5',
    ),
}


@pytest.mark.parametrize("name", ROUTERS)
def test_routers(name: str, tmp_path: Path) -> None:
    make, call = ROUTERS[name]
    module = filled(make(CONFIG))
    x = torch.from_numpy(ROWS.astype(np.float64))
    bias = torch.randn(X, dtype=torch.float64) * 0.2
    if name == "lfm2":
        _, share, choice = module(x, bias)
    else:
        _, share, choice = module(x)
        own = [t for n, t in module.named_buffers() if "bias" in n]
        own += [t for n, t in module.named_parameters() if "bias" in n]
        bias = own[0].detach().reshape(X) if own else bias
    dense = torch.zeros(len(ROWS), X, dtype=torch.float64).scatter_(1, choice, share.double())
    held = {
        "w": module.weight.detach().numpy().astype(np.float32),
        "eye": np.eye(X, dtype=np.float32),
        "b": bias.numpy().astype(np.float32),
    }
    taken = 'weight b: f32[X] from "b"' if call.startswith("b,") else ""
    body = f"""weight w: f32[X, D] from "w"
    weight eye: f32[X, X] from "eye"
    {taken}
    choice, share = route(matmul(h, w), {call})
    y = combine(gather(eye, choice), share)"""
    assert near(run(tmp_path, body, held, "X"), dense)


@pytest.mark.parametrize("jitter", [0.01, 0.3])
def test_sparsemixer(jitter: float, tmp_path: Path) -> None:
    w = np.random.default_rng(1).normal(size=(X, D)).astype(np.float32)
    scores = torch.from_numpy(ROWS.astype(np.float64) @ w.T.astype(np.float64))
    share, choice = sparsemixer(scores, jitter, False)
    dense = torch.zeros(len(ROWS), X, dtype=torch.float64).scatter_(1, choice, share)
    body = f"""weight w: f32[X, D] from "w"
    weight eye: f32[X, X] from "eye"
    choice, share = route(matmul(h, w), top=2, score="sparsemixer", jitter={jitter})
    y = combine(gather(eye, choice), share)"""
    assert near(run(tmp_path, body, {"w": w, "eye": np.eye(X, dtype=np.float32)}, "X"), dense)


def split(held: dict[str, Array], prefix: str) -> dict[str, Array]:
    """Return the tensors of packed experts one by one, as checkpoints have them."""
    both, down = held[f"{prefix}.gate_up_proj"], held[f"{prefix}.down_proj"]
    made = {}
    for e in range(len(down)):
        made[f"{prefix}.{e}.gate_proj.weight"] = np.ascontiguousarray(both[e, :F])
        made[f"{prefix}.{e}.up_proj.weight"] = np.ascontiguousarray(both[e, F:])
        made[f"{prefix}.{e}.down_proj.weight"] = np.ascontiguousarray(down[e])
    return made


@pytest.mark.parametrize("layout", ["each", "packed by name", "packed"])
def test_gated_experts_beside_a_gated_shared_one(layout: str, tmp_path: Path) -> None:
    config = AutoConfig.for_model(
        "qwen2_moe", hidden_size=D, num_experts=X, num_experts_per_tok=T, moe_intermediate_size=F,
        shared_expert_intermediate_size=F, norm_topk_prob=True, hidden_act="gelu_pytorch_tanh",
    )  # fmt: skip
    config._experts_implementation = "eager"
    module = filled(Qwen2MoeSparseMoeBlock(config))
    held = arrays(module)
    if layout == "each":
        held |= split(held, "experts")
        del held["experts.gate_up_proj"], held["experts.down_proj"]
    named = 'layout="packed"' if layout == "packed" else 'layout="each"'
    body = f"""weight w: f32[X, D] from "gate.weight"
    choice, share = route(matmul(h, w), top=_T, score="softmax", normalize=true)
    y = gated_experts(
      "experts", h, choice, share, X=X, F=_F, act="gelu_pytorch_tanh", {named}
    ) + gated_shared_expert("shared_expert", "shared_expert_gate", h, F=_F, act="gelu_pytorch_tanh")"""
    truth = module(torch.from_numpy(ROWS.astype(np.float64))[None])
    assert near(run(tmp_path, body, held), truth)


def test_shares_before_experts_stored_by_columns(tmp_path: Path) -> None:
    config = AutoConfig.for_model(
        "llama4_text", hidden_size=D, num_local_experts=X, num_experts_per_tok=T,
        intermediate_size=F, intermediate_size_mlp=F,
    )  # fmt: skip
    module = filled(Llama4TextMoe(config))
    body = """weight w: f32[X, D] from "router.weight"
    choice, share = route(matmul(h, w), top=_T, score="sigmoid", order="after")
    y = gated_experts(
      "experts", h, choice, share, X=X, F=_F, layout="columns", before=true
    ) + gated_mlp("shared_expert", h, F=_F)"""
    truth, _ = module(torch.from_numpy(ROWS.astype(np.float64))[None])
    assert near(run(tmp_path, body, arrays(module)), truth)


def test_clamped_experts_with_biases(tmp_path: Path) -> None:
    config = AutoConfig.for_model(
        "gpt_oss", hidden_size=D, num_local_experts=X, num_experts_per_tok=T, intermediate_size=F,
        swiglu_limit=0.8,
    )  # fmt: skip
    config._experts_implementation = "eager"
    module = filled(GptOssMLP(config))
    body = """weight w: f32[X, D] from "router.weight"
    weight b: f32[X] from "router.bias"
    choice, share = route(matmul(h, w) + b, top=_T, score="softmax", order="after")
    y = clamped_experts("experts", h, choice, share, X=X, F=_F, limit=0.8)"""
    truth, _ = module(torch.from_numpy(ROWS.astype(np.float64))[None])
    assert near(run(tmp_path, body, arrays(module)), truth)


def test_experts_that_do_nothing_keep_their_share(tmp_path: Path) -> None:
    config = AutoConfig.for_model(
        "longcat_flash", hidden_size=D, n_routed_experts=X, zero_expert_num=3, moe_topk=T,
        expert_ffn_hidden_size=F, num_experts_per_tok=T, routed_scaling_factor=2.0,
    )  # fmt: skip
    config._experts_implementation = "eager"
    module = filled(LongcatFlashMoE(config))
    held = arrays(module)
    held |= split(held, "experts")
    body = """weight w: f32[X + 3, D] from "router.classifier.weight"
    weight b: f32[X + 3] from "router.e_score_correction_bias"
    choice, share = route(matmul(h, w), b, top=_T, score="softmax", scale=2.0)
    y = gated_experts("experts", h, choice, share, X=X, F=_F)
    y = y + h * sum(within(share, choice, X, X + 3))"""
    truth = module(torch.from_numpy(ROWS.astype(np.float64))[None])
    assert near(run(tmp_path, body, held), truth)


def test_a_scale_of_each_expert(tmp_path: Path) -> None:
    generator = np.random.default_rng(4)
    held = {
        "w": generator.normal(size=(X, D)).astype(np.float32),
        "scale": generator.normal(size=X).astype(np.float32),
        "eye": np.eye(X, dtype=np.float32),
    }
    body = """weight w: f32[X, D] from "w"
    weight eye: f32[X, X] from "eye"
    weight scale: f32[X] from "scale"
    choice, share = route(matmul(h, w), top=_T, score="softmax", normalize=true)
    y = combine(gather(eye, choice), share * gather(scale, choice))"""
    # As in Gemma 4: shares of one, then a factor for each expert.
    scores = torch.softmax(torch.from_numpy(ROWS @ held["w"].T).double(), -1)
    share, choice = scores.topk(T)
    share = share / share.sum(-1, keepdim=True) * torch.from_numpy(held["scale"])[choice]
    dense = torch.zeros(len(ROWS), X, dtype=torch.float64).scatter_(1, choice, share)
    assert near(run(tmp_path, body, held, "X"), dense)


def test_plain_experts_and_scores_of_a_given_choice(tmp_path: Path) -> None:
    config = AutoConfig.for_model(
        "nemotron_h", hidden_size=D, n_routed_experts=X, num_experts_per_tok=T,
        moe_intermediate_size=F, mlp_hidden_act="relu2",
    )  # fmt: skip
    config._experts_implementation = "eager"
    module = filled(NemotronHExperts(config))
    x = torch.from_numpy(ROWS.astype(np.float64))
    w = np.random.default_rng(2).normal(size=(X, D)).astype(np.float32)
    ids = np.random.default_rng(3).permuted(np.tile(np.arange(X), (len(ROWS), 1)), axis=1)[:, :T]
    scores = torch.sigmoid(x @ torch.from_numpy(w.T.astype(np.float64)))
    share = scores.gather(1, torch.from_numpy(ids))
    held = arrays(module) | {"w": w, "ids": ids.astype(np.int32)}
    body = """weight w: f32[X, D] from "w"
    weight ids: i32[N, _T] from "ids"
    choice = gather(ids, tokens)
    share = pick(sigmoid(matmul(h, w)), choice)
    y = plain_experts("", h, choice, share, X=X, F=_F, act="relu2")"""
    held |= {f".{name}": held[name] for name in ("up_proj", "down_proj")}
    assert near(run(tmp_path, body, held), module(x, torch.from_numpy(ids), share))
