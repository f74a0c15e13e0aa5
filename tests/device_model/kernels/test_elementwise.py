# SPDX-License-Identifier: Apache-2.0
"""Functions of elements against torch and transformers, compiled against plain; repeated operands; sums of rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers.activations import ACT2FN

from device_model.engine.engine import Engine
from device_model.numbers.numerics import Array
from device_model.weights.reading import ArrayReader
from dsl.graph import Attr
from dsl.ops.activation import ACTIVATIONS
from tests.device_model.graphs import B, Flow, S

X = np.random.default_rng(0).normal(size=(6, 300)).astype(np.float32) * 3
SPECIAL = np.array([[-np.inf, -90.0, -0.0, 0.0, 1e-20, 90.0, np.inf, np.nan]], np.float32)


def run(
    build: Callable[[Flow, int], int], x: Array = X, numerics: str = "f32", **weights: Array
) -> list[Array]:
    """Run a program on the rows of a table with both kinds of kernels."""
    f = Flow(dtype="f32" if numerics == "f32" else "bf16")
    table = f.op("gather", (f.weight("table", *x.shape), f.input()), B, S, x.shape[1])
    f.output(build(f, table))
    graph, reader = f.graph(), ArrayReader({"table": x, **weights})
    return [
        Engine(graph, reader, numerics, kernels, threads=2).session().step([np.arange(len(x))])[0]
        for kernels in ("fast", "reference")
    ]


def one(op: str, x: Array = X, numerics: str = "f32", **attrs: Attr) -> list[Array]:
    return run(lambda f, t: f.op(op, (t,), B, S, x.shape[1], **attrs), x, numerics)


def double(function: Callable[[torch.Tensor], torch.Tensor], x: Array = X) -> Array:
    with torch.no_grad():
        return function(torch.from_numpy(x.astype(np.float64))).numpy()


def test_every_activation_of_transformers_is_known() -> None:
    # What has weights of its own is an operation of its own.
    assert set(ACT2FN) - {"xielu", "prelu"} == set(ACTIVATIONS) - {"gelu_tanh"}


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"gelu_tanh"}))
def test_activations_are_those_of_transformers(name: str) -> None:
    truth = double(ACT2FN[name])
    for result in one("activation", act=name):
        assert np.allclose(result, truth, rtol=2e-6, atol=5e-7)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations_round_to_neighbours(name: str) -> None:
    fast, plain = one("activation", numerics="bf16", act=name)
    assert np.allclose(fast, plain, rtol=2**-7, atol=2e-6)


@pytest.mark.parametrize("op", ["quick_gelu", "squared_relu", "mish", "abs", "sqrt", "rsqrt"])
def test_the_ends_of_the_range(op: str) -> None:
    with np.errstate(all="ignore"):
        fast, plain = one(op, SPECIAL)
    assert np.array_equal(np.isnan(fast), np.isnan(plain))
    assert np.allclose(fast, plain, rtol=1e-5, atol=1e-37, equal_nan=True)


@pytest.mark.parametrize(("op", "function"), [("sqrt", torch.sqrt), ("rsqrt", torch.rsqrt)])
def test_roots(op: str, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x = np.abs(X) + np.float32(0.01)
    fast, plain = one(op, x)
    assert np.allclose(fast, double(function, x), rtol=2e-7)
    assert np.allclose(plain, double(function, x), rtol=2e-7)


@pytest.mark.parametrize("bounds", [{"low": -1.0, "high": 0.7}, {"low": 0.5}, {"high": -0.5}])
def test_clamp(bounds: dict[str, float]) -> None:
    fast, plain = one("clamp", **bounds)
    truth = torch.clamp(torch.from_numpy(X), bounds.get("low"), bounds.get("high")).numpy()
    assert np.array_equal(fast, truth)
    assert np.array_equal(plain, truth)


def test_clamp_leaves_what_is_no_number() -> None:
    fast, plain = one("clamp", SPECIAL, low=-1.0, high=1.0)
    assert np.array_equal(fast, plain, equal_nan=True)
    assert np.isnan(fast[0, -1])


def test_leaky_relu() -> None:
    fast, plain = one("leaky_relu", slope=0.2)
    truth = double(lambda x: torch.nn.functional.leaky_relu(x, 0.2))
    assert np.allclose(fast, truth, rtol=1e-6)
    assert np.array_equal(fast, plain)


@pytest.mark.parametrize("numerics", ["f32", "bf16"])
def test_xielu(numerics: str) -> None:
    module = ACT2FN["xielu"].to(torch.float64)
    numbers = {
        "positive": module.alpha_p.detach().numpy(),
        "negative": module.alpha_n.detach().numpy(),
        "beta": module.beta.numpy(),
        "eps": module.eps.numpy(),
    }
    held = {name: np.asarray(value, np.float32) for name, value in numbers.items()}

    def build(f: Flow, x: int) -> int:
        places = (f.weight(name, *array.shape) for name, array in held.items())
        return f.op("xielu", (x, *places), B, S, X.shape[1])

    truth = double(module._xielu_python)
    tolerance = 1e-6 if numerics == "f32" else 2**-7
    x = X if numerics == "f32" else X.astype("bfloat16").astype(np.float32)
    truth = double(module._xielu_python, x)
    for result in run(build, x, numerics, **held):
        assert np.allclose(result, truth, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("op", ["add", "subtract", "multiply", "divide", "maximum", "minimum"])
@pytest.mark.parametrize("width", [1, 5, 300])
def test_one_number_a_row_repeats_over_the_last_axis(width: int, op: str, swapped: bool) -> None:
    x = np.ascontiguousarray(X[:, :width])

    def build(f: Flow, table: int) -> int:
        mean = f.op("mean", (table,), B, S, 1)
        return f.op(op, (mean, table) if swapped else (table, mean), B, S, width)

    fast, plain = run(build, x)
    mean = x.astype(np.float64).mean(-1, keepdims=True)
    truth = getattr(np, op)(*((mean, x) if swapped else (x, mean)))
    assert np.allclose(fast, truth, rtol=1e-4, atol=1e-5)
    assert np.array_equal(fast, plain)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_one_number_for_all_rows(shape: tuple[int, ...]) -> None:
    w = np.full(shape, 1.5, np.float32)
    fast, plain = run(
        lambda f, x: f.op("multiply", (x, f.weight("w", *shape)), B, S, X.shape[1]), w=w
    )
    assert np.array_equal(fast, X * np.float32(1.5))
    assert np.array_equal(fast, plain)


@pytest.mark.parametrize("numerics", ["f32", "bf16"])
@pytest.mark.parametrize("op", ["sum", "mean"])
@pytest.mark.parametrize("width", [1, 7, 8, 33, 300])
def test_sums_of_rows(width: int, op: str, numerics: str) -> None:
    x = np.ascontiguousarray(X[:, :width])
    fast, plain = run(lambda f, t: f.op(op, (t,), B, S, 1), x, numerics)
    truth = getattr(np, op)(x.astype(np.float64), -1, keepdims=True)
    tolerance = 1e-5 if numerics == "f32" else 0.02
    assert np.abs(fast - truth).max() <= tolerance * np.abs(x).sum(-1).max()
    assert np.array_equal(fast, plain)
