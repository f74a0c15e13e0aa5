# SPDX-License-Identifier: Apache-2.0
"""Single operations: the compiled kernel against the reference, and the reference against float64 formulas."""

import math
from collections.abc import Callable
from importlib import import_module

import ml_dtypes
import numpy as np
import pytest

from device_model.engine.engine import Engine
from device_model.kernels.rotary import frequencies, tables
from device_model.kernels.table import KERNELS
from device_model.numbers.catalogue import numerics_named
from device_model.numbers.numerics import Array
from device_model.program.call import Batch, Call
from device_model.weights.reading import ArrayReader, RandomReader, shapes_of
from dsl.graph import Attr
from dsl.ops import AREAS, OPS
from dsl.types import DTYPES
from tests.device_model.graphs import B, Flow, S, operands

ROWS = (1, 2, 3, 5, 7, 64)
WIDTHS = (1, 7, 8, 33, 64, 130)


def test_every_operation_has_a_kernel() -> None:
    assert set(OPS) == set(KERNELS)


@pytest.mark.parametrize("area", AREAS)
def test_kernel_files_are_named_as_the_areas(area) -> None:
    module = import_module(f"device_model.kernels.{area}")
    assert sorted(module.KERNELS) == sorted(spec.name for spec in AREAS[area])
    assert all(KERNELS[op] is row for op, row in module.KERNELS.items())


def call(op: str, *inputs: Array, **attrs: Attr) -> tuple[Array, ...]:
    count = len(inputs[0])
    rows = Batch(
        np.zeros(count, np.int64), np.arange(count), np.array([0, count]), np.array([count])
    )
    return KERNELS[op].reference(
        Call(inputs, operands(op, len(inputs)), attrs, rows, numerics_named("f32"))
    )


def random(*shape: int, seed: int = 0, dtype: str = "float32") -> Array:
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return values.astype(ml_dtypes.bfloat16) if dtype == "bfloat16" else values


def both(op: str, rows: int, width: int, out: int, numerics: str, *weights: Array, **attrs: Attr):
    """Run one operation on table rows, by both kinds of kernels."""
    f = Flow()
    ids = f.input()
    arrays = {"table": random(rows, width, seed=rows * 1000 + width, dtype="bfloat16")}
    x = f.op("gather", (f.weight("table", rows, width), ids), B, S, width)
    inputs = [x]
    for number, array in enumerate(weights):
        arrays[f"w{number}"] = array
        inputs.append(f.weight(f"w{number}", *array.shape))
    f.output(f.op(op, tuple(inputs), B, S, out, **attrs))
    graph, reader = f.graph(), ArrayReader(arrays)
    results = [
        Engine(graph, reader, numerics, kernels, threads=2).session().step([np.arange(rows)])[0]
        for kernels in ("fast", "reference")
    ]
    return arrays["table"].astype(np.float64), *results


def near(a: Array, b: Array, tolerance: float) -> bool:
    size = float(np.abs(b).max(initial=1e-30))
    return bool(np.abs(a - b).max(initial=0.0) <= tolerance * size)


@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
@pytest.mark.parametrize("k", WIDTHS)
@pytest.mark.parametrize("rows", ROWS)
def test_matmul(rows: int, k: int, stored: str) -> None:
    for n in (1, 4, 9, 37):
        w = random(n, k, seed=n, dtype=stored)
        x, fast, plain = both("matmul", rows, k, n, "f32", w)
        truth = x @ w.astype(np.float64).T
        assert near(fast, truth, 2e-6 * math.sqrt(k))
        assert near(plain, truth, 2e-6 * math.sqrt(k))


@pytest.mark.parametrize("k", WIDTHS)
@pytest.mark.parametrize("rows", ROWS)
def test_matmul_of_bf16_has_the_declared_bits(rows: int, k: int) -> None:
    for n in (1, 4, 9, 37, 150):
        w = random(n, k, seed=n, dtype="bfloat16")
        _, fast, plain = both("matmul", rows, k, n, "bf16", w, dtype=DTYPES["f32"])
        assert np.array_equal(fast, plain)


@pytest.mark.parametrize("numerics", ["f32", "bf16"])
def test_a_row_of_a_matmul_does_not_depend_on_the_others(numerics: str) -> None:
    w = random(50, 1030, dtype="bfloat16")
    f = Flow()
    x = f.op("gather", (f.weight("table", 200, 1030), f.input()), B, S, 1030)
    f.output(f.op("matmul", (x, f.weight("w", 50, 1030)), B, S, 50, dtype=DTYPES["f32"]))
    reader = ArrayReader({"table": random(200, 1030, seed=5), "w": w})
    engine = Engine(f.graph(), reader, numerics)
    (whole,) = engine.session().step([np.arange(200)])
    for count in (1, 2, 3, 4, 6, 7, 13, 100):
        (part,) = engine.session().step([np.arange(count)])
        assert np.array_equal(part, whole[:count])


@pytest.mark.parametrize("width", WIDTHS)
def test_rms_norm(width: int) -> None:
    w = random(width, seed=3)
    for offset in (0.0, 1.0):
        x, fast, plain = both("rms_norm", 5, width, width, "f32", w, eps=1e-3, offset=offset)
        truth = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-3) * (offset + w)
        assert near(fast, truth, 1e-6)
        assert near(plain, truth, 1e-6)


@pytest.mark.parametrize("width", WIDTHS)
def test_layer_norm(width: int) -> None:
    w, b = random(width, seed=3), random(width, seed=4)
    x, fast, plain = both("layer_norm", 5, width, width, "f32", w, b, eps=1e-3)
    centred = x - x.mean(-1, keepdims=True)
    truth = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-3) * w + b
    assert near(fast, truth, 2e-6)
    assert near(plain, truth, 2e-6)


def test_norms_without_parameters() -> None:
    x, fast, plain = both("rms_norm", 5, 24, 24, "f32", eps=1e-6)
    truth = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)
    assert near(fast, truth, 1e-6)
    assert near(plain, truth, 1e-6)


FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "exp": np.exp,
    "softplus": lambda x: np.log1p(np.exp(x)),
    "quick_gelu": lambda x: x / (1 + np.exp(-1.702 * x)),
    "squared_relu": lambda x: np.maximum(x, 0) ** 2,
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "abs": np.abs,
}


@pytest.mark.parametrize("op", FUNCTIONS)
def test_activation_functions(op: str) -> None:
    x, fast, plain = both(op, 7, 300, 300, "f32")
    truth = FUNCTIONS[op](x)
    assert np.allclose(fast, truth, rtol=1e-6, atol=2e-7)
    assert np.allclose(plain, truth, rtol=1e-6, atol=2e-7)


def test_functions_at_the_ends_of_the_range() -> None:
    values = np.array([-np.inf, -1e4, -88, -0.0, 0, 88, 88.7, 1e4, np.inf, np.nan], np.float32)
    for op in ("silu", "sigmoid", "tanh", "exp", "softplus", "relu"):
        f = Flow()
        x = f.op("gather", (f.weight("t", len(values), 1), f.input()), B, S, 1)
        f.output(f.op(op, (x,), B, S, 1))
        graph, reader = f.graph(), ArrayReader({"t": values[:, None]})
        with np.errstate(invalid="ignore", over="ignore"):
            fast, plain = (
                Engine(graph, reader, "f32", kernels).session().step([np.arange(len(values))])
                for kernels in ("fast", "reference")
            )
        assert np.array_equal(np.isnan(fast[0]), np.isnan(plain[0])), op
        assert np.allclose(fast[0], plain[0], rtol=1e-5, atol=1e-37, equal_nan=True), op


ARITHMETIC = ["add", "subtract", "multiply", "divide", "maximum", "minimum"]


@pytest.mark.parametrize("op", ARITHMETIC)
def test_arithmetic_with_a_row(op: str) -> None:
    apply = getattr(np, op)
    w = random(40, seed=8) + 3
    x, fast, plain = both(op, 6, 40, 40, "f32", w)
    assert near(fast, apply(x, w.astype(np.float64)), 1e-6)
    assert np.array_equal(fast, plain)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("op", ARITHMETIC)
def test_arithmetic_with_a_literal(op: str, reverse: bool) -> None:
    x, fast, plain = both(op, 6, 40, 40, "f32", scalar=1.5, reverse=reverse)
    pair = (1.5, x) if reverse else (x, 1.5)
    assert near(fast, getattr(np, op)(*pair), 1e-6)
    assert np.array_equal(fast, plain)


def test_softcap() -> None:
    x, fast, plain = both("softcap", 6, 40, 40, "f32", cap=1.25)
    assert near(fast, 1.25 * np.tanh(x / 1.25), 1e-6)
    assert near(plain, 1.25 * np.tanh(x / 1.25), 1e-6)


def test_columns() -> None:
    f = Flow()
    x = f.op("gather", (f.weight("t", 5, 12), f.input()), B, S, 12)
    a, b, c = f.ops("split", (x,), (B, S, 3), (B, S, 7), (B, S, 2), sizes=(3, 7, 2))
    tail = f.op("slice", (b,), B, S, 4, start=3, stop=7)
    f.output(f.op("concat", (c, tail, a), B, S, 9))
    table = random(5, 12, dtype="bfloat16")
    expected = np.concatenate([table[:, 10:], table[:, 6:10], table[:, :3]], -1)
    graph, reader = f.graph(), ArrayReader({"t": table})
    for kernels in ("fast", "reference"):
        (out,) = Engine(graph, reader, "bf16", kernels).session().step([np.arange(5)])
        assert np.array_equal(out, expected.astype(np.float32))


def test_cast_to_f32_keeps_later_results_wide() -> None:
    f = Flow()
    x = f.op("gather", (f.weight("t", 5, 12), f.input()), B, S, 12)
    y = f.op("cast", (x,), B, S, 12, dtype=DTYPES["f32"])
    f.output(f.op("multiply", (y,), B, S, 12, scalar=1.001))
    table = random(5, 12, dtype="bfloat16")
    expected = table.astype(np.float32) * np.float32(1.001)
    graph, reader = f.graph(), ArrayReader({"t": table})
    for kernels in ("fast", "reference"):
        (out,) = Engine(graph, reader, "bf16", kernels).session().step([np.arange(5)])
        assert np.array_equal(out, expected)


def test_frequencies() -> None:
    plain = frequencies({"width": 16, "theta": 1e4})
    assert np.allclose(plain, [1e4 ** (-i / 8) for i in range(8)], rtol=1e-15)
    assert np.array_equal(
        frequencies({"width": 16, "theta": 1e4, "scaling": "linear", "factor": 4.0}), plain / 4
    )


def test_llama3_frequencies() -> None:
    attrs: dict[str, Attr] = {
        "width": 64, "theta": 5e5, "scaling": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    }  # fmt: skip
    expected = []
    for i in range(32):
        inverse = 5e5 ** (-2 * i / 64)
        turns = 8192 * inverse / (2 * math.pi)
        smooth = min(max((turns - 1) / 3, 0), 1)
        expected.append((1 - smooth) * inverse / 8 + smooth * inverse)
    assert np.allclose(frequencies(attrs), expected, rtol=1e-14)


@pytest.mark.parametrize("low", [4.0, 5.0])
@pytest.mark.filterwarnings("error")
def test_llama3_frequencies_without_a_middle(low: float) -> None:
    """As in transformers, which divides tensors by 0 there and takes none of the results."""
    attrs: dict[str, Attr] = {
        "width": 64, "theta": 5e5, "scaling": "llama3", "factor": 8.0, "low_freq_factor": low,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    }  # fmt: skip
    plain = frequencies({"width": 64, "theta": 5e5})
    expected = np.where(2 * math.pi / plain > 8192 / low, plain / 8, plain)
    assert np.array_equal(frequencies(attrs), expected)


def test_rotary_tables_are_exact_to_float32_at_large_positions() -> None:
    inverse = frequencies({"width": 64, "theta": 1e4})
    position = np.array([0, 1, 4095, 8191])
    cos, sin = tables(inverse, position, 1.0)
    for row, p in enumerate(position):
        for column, frequency in enumerate(inverse):
            assert cos[row, column] == np.float32(math.cos(p * frequency))
            assert sin[row, column] == np.float32(math.sin(p * frequency))


def test_route_breaks_ties_by_the_lowest_index() -> None:
    choice, share = call("route", np.array([[1, 3, 3, 0]], np.float32), top=2, normalize=True)
    assert choice.tolist() == [[1, 2]]
    assert np.allclose(share, 0.5)


def test_route_before_and_after() -> None:
    scores = random(5, 6)
    p = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    choice, share = call("route", scores, top=3, order="before", scale=2.0)
    order = np.argsort(-scores, axis=-1)[:, :3]
    assert np.array_equal(choice, order)
    assert np.allclose(share, 2 * np.take_along_axis(p, order, -1), rtol=1e-6)
    _, share = call("route", scores, top=3, order="after")
    chosen = np.exp(np.take_along_axis(scores, order, -1))
    assert np.allclose(share, chosen / chosen.sum(-1, keepdims=True), rtol=1e-6)


def test_route_ranks_with_a_bias_but_shares_without() -> None:
    scores = np.array([[0.0, 1.0, 2.0]], np.float32)
    bias = np.array([9.0, 0.0, 0.0], np.float32)
    choice, share = call("route", scores, bias, top=1, score="sigmoid")
    assert choice.tolist() == [[0]]
    assert np.allclose(share, 0.5)


def test_route_keeps_to_the_best_groups() -> None:
    scores = np.array([[5, 0, 4, 4, 1, 1]], np.float32)
    choice, _ = call("route", scores, top=2, groups=3, top_groups=1)
    assert choice.tolist() == [[0, 1]]
    biased, _ = call(
        "route", scores, np.zeros(6, np.float32), top=2, score="sigmoid", groups=3, top_groups=1
    )
    assert biased.tolist() == [[2, 3]]


def test_experts() -> None:
    x, w = random(4, 5), random(3, 7, 5, seed=2)
    choice = np.array([[0, 2], [1, 0], [2, 1], [2, 0]], np.int32)
    share = random(4, 2, seed=3)
    (y,) = call("expert_matmul", x, w, choice)
    (z,) = call("expert_matmul", y[..., :5].copy(), w, choice)
    (out,) = call("combine", y, share)
    for t in range(4):
        for e in range(2):
            assert np.allclose(y[t, e], w[choice[t, e]] @ x[t], atol=1e-5)
            assert np.allclose(z[t, e], w[choice[t, e]] @ y[t, e, :5], atol=1e-4)
        assert np.allclose(out[t], (share[t][:, None] * y[t]).sum(0), atol=1e-5)


def test_attention_sinks_and_open_masks() -> None:
    q, k, v = random(6, 4, 8), random(6, 2, 8, seed=1), random(6, 2, 5, seed=2)
    sinks = random(4, seed=3)
    for mask in ("causal", "none"):
        (out,) = call("attention", q, k, v, sinks, mask=mask, scale=0.3)
        for t in range(6):
            last = t + 1 if mask == "causal" else 6
            for h in range(4):
                e = np.exp(0.3 * k[:last, h // 2].astype(np.float64) @ q[t, h])
                truth = (e / (e.sum() + np.exp(float(sinks[h])))) @ v[:last, h // 2]
                assert np.allclose(out[t, h], truth, atol=1e-6)


def test_sums_in_a_format_that_the_device_lacks_are_refused() -> None:
    from dsl.diagnostics import Refused
    from dsl.inference.inference import infer
    from dsl.source import Source
    from dsl.text.parser import parse

    text = """sohu 1.0

family small for "Small" {
  config {
    D = 8
    V = 32
  }
  dims { B: batch, S: seq, C: context }
  mesh { tp }

  input tokens: i32[B, S]
  weight embed: bf16[V, D] from "embed"
  output logits: bf16[B, S, V] = matmul(gather(embed, tokens), embed, accumulate="%s")
}
"""
    for name, fits in (("f32", True), ("bf16", False)):
        graph = infer(parse(Source("small", text % name)).families[0], {}, None).graph
        assert graph is not None
        reader = RandomReader(shapes_of(graph))
        if fits:
            Engine(graph, reader)
            continue
        with pytest.raises(Refused, match="S604"):
            Engine(graph, reader)


def test_heads_of_experts_stand_beside_those_of_their_key() -> None:
    x = random(5, 2, 12)
    (heads,) = call("expert_heads", x, count=3)
    # As JetMoE has them, keys repeated as a whole for each expert: head t * K + k reads key k.
    theirs = x.reshape(5, 2 * 3, 4)
    for t in range(2):
        for k in range(3):
            assert np.array_equal(heads[:, k * 2 + t], theirs[:, t * 3 + k])
    (back,) = call("expert_merge", heads, chosen=2)
    assert np.array_equal(back, x)
