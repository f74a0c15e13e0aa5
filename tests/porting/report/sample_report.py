# SPDX-License-Identifier: Apache-2.0
"""A made-up report of a small port, with something in every part."""

from __future__ import annotations

import math

from dsl.diagnostics import Diagnostic, Severity
from dsl.source import Source, Span
from porting.report.model import (
    Case,
    ConfigKeys,
    Formula,
    IgnoredKey,
    LayerError,
    Memory,
    ModelInfo,
    NormalisedKey,
    Report,
    TensorAccount,
    UsedKey,
    Validation,
    Verdict,
)

SPEC = """sohu 1.0

# Ported from acme/tiny-llama-135m by sohu 0.1.0.
# Capital letters are dimensions, lower case are tensors and scalars.
family llama for "LlamaForCausalLM" {
  config {
    D     = 576      # hidden_size
    F     = 1536     # intermediate_size
    L     = 30       # num_hidden_layers
    V     = 49152    # vocab_size
    H     = 9        # num_attention_heads
    K     = 3        # num_key_value_heads
    E     = 64       # head_dim
    eps   = 1e-05    # rms_norm_eps
    theta = 100000.0 # rope_parameters.rope_theta
    tied  = true     # tie_word_embeddings

    require H % K == 0
    require E % 2 == 0
  }
  dims { B: batch, S: seq, C: context }
  mesh { tp }

  input tokens: i32[B, S]

  weight embed: bf16[V, D] from "model.embed_tokens.weight"
  x = gather(embed, tokens)

  repeat i < L carry x {
    weight norm1: bf16[D]          from "model.layers.{i}.input_layernorm.weight"
    weight wq:    bf16[H*E @tp, D] from "model.layers.{i}.self_attn.q_proj.weight"
    weight wk:    bf16[K*E @tp, D] from "model.layers.{i}.self_attn.k_proj.weight"
    weight wv:    bf16[K*E @tp, D] from "model.layers.{i}.self_attn.v_proj.weight"
    weight wo:    bf16[D, H*E @tp] from "model.layers.{i}.self_attn.o_proj.weight"
    state  keys:   bf16[B, K @tp, C, E]
    state  values: bf16[B, K @tp, C, E]

    h = rms_norm(x, norm1, eps=eps)
    q = rope(heads(matmul(h, wq), H), theta=theta, at=C)
    k = rope(heads(matmul(h, wk), K), theta=theta, at=C)
    v =      heads(matmul(h, wv), K)
    a = attention(q, append(keys, k), append(values, v), mask="causal")
    x = x + all_reduce(matmul(merge(a), wo), tp)
  }

  if tied {
    output logits: f32[B, S, V] = matmul(x, embed)
  } else {
    weight head: bf16[V, D] from "lm_head.weight"
    output logits: f32[B, S, V] = matmul(x, head)
  }
}
"""

MODES = ("prefill", "token by token", "chunks of 7", "ragged batch", "chunks of 16, batch 3")


def sample_report(verdict: Verdict = Verdict.PASS) -> Report:
    """Return the report; a verdict other than pass comes with what led to it."""
    if verdict is Verdict.REFUSED:
        return Report(verdict, ModelInfo("models/broken"), diagnostics=diagnostics())
    failed = verdict is Verdict.FAIL
    return Report(
        verdict,
        ModelInfo(
            source="acme/tiny-llama-135m",
            name="acme/tiny-llama-135m",
            revision="12fd25f77366fa6b3b4b768ec3050bf629380bac",
            architecture="LlamaForCausalLM",
            model_type="llama",
            family="model_zoo/families/llama.sohu",
        ),
        diagnostics=diagnostics()[1:] if failed else (),
        config_keys=config_keys(),
        tensors=tensors(complete=not failed),
        memory=memory(),
        validation=Validation() if verdict is Verdict.PLANNED else validation(failed=failed),
        timing={
            "read": 0.412,
            "check": 0.208,
            "plan": 0.031,
            "reference f64": 9.87,
            "reference bf16": 4.4,
            "device": 7.25,
            "compare": 0.9,
        },
        created_with={"python": "3.11.7", "sohu": "0.1.0", "numpy": "2.4.6", "torch": "2.13.0"},
    )


def validation(*, failed: bool) -> Validation:
    """Return comparisons in two numerics, one of them bad where asked."""
    cases = []
    for index, mode in enumerate(MODES):
        cases.append(
            Case(mode, "f32", 3.1e-7 * (1 + index / 9), 1e-5, True, 5.2e-7, top1=1.0, tokens=48)
        )
    for index, mode in enumerate(MODES):
        error = 0.0118 * (1 + index / 17)
        if failed and index == 2:
            cases.append(
                Case(mode, "bf16", 0.31, 1.2 * 0.0121, False, 0.0121, top1=0.84, tokens=48)
            )
        elif failed and index == 3:
            cases.append(Case(mode, "bf16", math.nan, 1.2 * 0.0121, False, 0.0121, tokens=48))
        else:
            cases.append(
                Case(mode, "bf16", error, 1.2 * 0.0121, True, 0.0121, top1=0.998, tokens=48)
            )
    layers = [LayerError("f32", i, 6e-8 * 1.06**i * (1 + i % 3 / 7)) for i in range(30)]
    layers += [
        LayerError("bf16", i, 0.0021 * 1.07**i * (1 + i % 4 / 9), 0.0023 * 1.07**i)
        for i in range(30)
    ]
    note = "48 tokens of a fixed text. Top-1 counts the positions that the error cannot tip."
    return Validation(tuple(cases), tuple(layers), (note,))


def memory() -> Memory:
    """Return formulas such as the footprint of a small Llama has."""
    at = {"B": 1, "S": 1, "C": 2048, "tp": 1}
    return Memory(
        weights_bytes=269_030_016,
        state_bytes_per_token=23_040,
        formulas={
            "weights_bytes": Formula(
                "2*V*D + L*(4*D + 4*D*H*E + 4*D*K*E + 6*D*F) + 2*D", 269030016
            ),
            "state_bytes": Formula("4*B*C*K*E*L", 47_185_920, at),
            "activation_bytes": Formula("4*B*S*V + 2*B*S*(2*D + 2*F)", 205_056, at),
            "flops": Formula("2*B*S*(D*V + L*(2*D*H*E + 2*D*K*E + 3*D*F))", 268_959_744.0, at),
        },
    )


def config_keys() -> ConfigKeys:
    """Return an account with keys of every kind but unread."""
    used = (
        ("hidden_size", "D", 576),
        ("intermediate_size", "F", 1536),
        ("num_hidden_layers", "L", 30),
        ("vocab_size", "V", 49152),
        ("num_attention_heads", "H", 9),
        ("num_key_value_heads", "K", 3),
        ("rms_norm_eps", "eps", 1e-05),
        ("rope_parameters.rope_theta", "theta", 100000.0),
        ("tie_word_embeddings", "tied", True),
        ("hidden_act", "act", "silu"),
        ("eos_token_id", "eos", [2, 0]),
    )
    ignored = (
        ("architectures", "chooses the family", ["LlamaForCausalLM"]),
        ("initializer_range", "matters in training only", 0.041666666666666664),
        ("max_position_embeddings", "a limit of training, not of the computation", 8192),
        ("transformers_version", "says who wrote the file", "4.42.3"),
        ("use_cache", "the device always keeps its state", True),
    )
    return ConfigKeys(
        used=tuple(UsedKey(*entry) for entry in used),
        ignored=tuple(IgnoredKey(*entry) for entry in ignored),
        normalised=(NormalisedKey("rope_parameters.rope_theta", "rope_theta", 100000.0),),
    )


def tensors(*, complete: bool) -> TensorAccount:
    """Return the tensors of a small Llama."""
    parts = ("input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "mlp.up_proj")
    names = [f"model.layers.{i}.{part}.weight" for i in range(30) for part in parts]
    names += ["model.embed_tokens.weight", "model.norm.weight"]
    unused = () if complete else ("model.layers.30.mlp.up_proj.weight",)
    missing = () if complete else ("model.layers.29.mlp.gate_proj.weight",)
    return TensorAccount(tuple(names), unused, missing)


def diagnostics() -> tuple[Diagnostic, ...]:
    """Return an error and a warning, one of them in the spec."""
    source = Source("model.sohu", SPEC)
    start = SPEC.index("matmul(merge(a), wo)")
    span = Span(source, start, start + len("matmul(merge(a), wo)"))
    return (
        Diagnostic(
            "S401",
            "config.json has a key that no family reads: `foo_factor` = 2.0",
            place="models/broken/config.json",
            help="did you mean `rope_scaling.factor`?",
        ),
        Diagnostic(
            "S203",
            "matmul contracts axes of different size",
            span=span,
            text="[B, S, H*E] contracts H*E",
            severity=Severity.WARNING,
            notes=("H*E is 576, D is 576: equal here, not in every llama",),
            constraint="matmul_c1",
        ),
    )
