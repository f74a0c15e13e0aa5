# SPDX-License-Identifier: Apache-2.0
"""Mixtures of experts: compiled against plain, and the same bits however tokens are packed."""

import ml_dtypes
import numpy as np
import pytest

from device_model.engine.engine import Engine
from device_model.numbers.packed import Packed
from device_model.weights.reading import ArrayReader
from dsl.graph import Attr, Graph, TensorRef, Transform
from dsl.types import DTYPES
from tests.device_model.graphs import SPAN, B, Flow, S

V, D, F, X, T = 31, 24, 20, 8, 3
ROUTES: dict[str, dict[str, Attr]] = {
    "softmax": {"score": "softmax", "normalize": True},
    "after": {"score": "softmax", "order": "after"},
    "sigmoid in groups": {
        "score": "sigmoid", "groups": 4, "top_groups": 2, "normalize": True, "scale": 2.5,
    },
}  # fmt: skip
SCALED = {"dtype": DTYPES["f8e4m3"], "rows": 16, "columns": 16}


def mixture(route: dict[str, Attr], *, biased: bool, packed: bool) -> Graph:
    f = Flow()
    x = f.op("gather", (f.weight("embed", V, D), f.input()), B, S, D)
    scores = f.op("matmul", (x, f.weight("router", X, D)), B, S, X, dtype=DTYPES["f32"])
    inputs = (scores, f.weight("bias", X)) if biased else (scores,)
    choice, share = f.ops("route", inputs, (B, S, T), (B, S, T), top=T, **route)
    up = f.op("expert_matmul", (x, f.weight("up", X, F, D), choice), B, S, T, F)
    parts = (TensorRef("down8", SPAN), TensorRef("down_scale", SPAN))
    source = Transform("scaled", parts, SCALED, SPAN) if packed else None
    down = f.weight("down", X, D, F, source=source)
    y = f.op("expert_matmul", (f.op("silu", (up,), B, S, T, F), down, choice), B, S, T, D)
    f.output(f.op("combine", (y, share), B, S, D))
    return f.graph()


def weights() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    shapes = {"embed": (V, D), "router": (X, D), "bias": (X,), "up": (X, F, D), "down": (X, D, F)}
    made = {
        name: (generator.normal(size=dims) / dims[-1] ** 0.5).astype(ml_dtypes.bfloat16)
        for name, dims in shapes.items()
    }
    made["embed"] = generator.normal(size=(V, D)).astype(ml_dtypes.bfloat16)
    made["down8"] = made["down"].astype(ml_dtypes.float8_e4m3fn)
    made["down_scale"] = np.exp(generator.normal(size=(X, 2, 2))).astype(np.float32)
    return made


def engine(route: str, numerics: str, kernels: str = "fast", threads: int = 2, **options) -> Engine:
    given = {"biased": route.startswith("sigmoid"), "packed": False, **options}
    graph = mixture(ROUTES[route], **given)
    return Engine(graph, ArrayReader(weights()), numerics, kernels, threads)


def tokens(length: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, V, length)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("numerics", ["f32", "bf16"])
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("length", [1, 2, 40])
def test_compiled_experts_are_their_twins(
    length: int, route: str, numerics: str, packed: bool
) -> None:
    fast, plain = (
        engine(route, numerics, kernels, packed=packed).session().step([tokens(length)])[0]
        for kernels in ("fast", "reference")
    )
    tolerance = 1e-6 if numerics == "f32" else 2**-7
    assert np.abs(fast - plain).max() <= tolerance * np.abs(plain).max()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("route", ROUTES)
def test_bits_do_not_depend_on_the_other_tokens(route: str, threads: int, packed: bool) -> None:
    whole = engine(route, "bf16", threads=2, packed=packed)
    other = engine(route, "bf16", threads=threads, packed=packed)
    rows = [tokens(length, seed=length) for length in (5, 1, 0, 33, 8, 60)]
    batch = other.session(len(rows)).step(rows)
    for row, result in zip(rows, batch, strict=True):
        alone = whole.session().step([row])[0]
        assert np.array_equal(result, alone)
        for index, token in enumerate(row[:4]):
            (single,) = whole.session().step([np.array([token])])
            assert np.array_equal(result[index], single[0])


def test_experts_by_formula() -> None:
    w = {name: array.astype(np.float64) for name, array in weights().items()}
    ids = tokens(25)
    x = w["embed"][ids]
    scores = x @ w["router"].T
    p = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    (out,) = engine("softmax", "f32").session().step([ids])
    down = Packed(weights()["down8"], weights()["down_scale"], 16, 16)
    (packed,) = engine("softmax", "f32", packed=True).session().step([ids])
    for t in range(len(ids)):
        best = np.argsort(-p[t])[:T]
        share = p[t, best] / p[t, best].sum()
        up = [w["up"][e] @ x[t] for e in best]
        hidden = [u / (1 + np.exp(-u)) for u in up]
        truth = sum(s * w["down"][e] @ h for s, e, h in zip(share, best, hidden, strict=True))
        assert np.allclose(out[t], truth, atol=1e-5)
        wide = [down.part(int(e)).panel(0, D).astype(np.float64) for e in best]
        truth = sum(s * m @ h for s, m, h in zip(share, wide, hidden, strict=True))
        assert np.allclose(packed[t], truth, atol=1e-5 * np.abs(truth).max())


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_names_no_expert_picks_nothing(kernels: str, dtype: str) -> None:
    scores = np.random.default_rng(2).normal(size=(V, X)).astype(np.dtype(dtype))
    choice = np.random.default_rng(3).integers(0, X, (V, T)).astype(np.int32)
    choice[4], choice[5, 1] = -1, X
    f = Flow()
    ids = f.input()
    x = f.op("gather", (f.weight("scores", V, X), ids), B, S, X)
    chosen = f.op("gather", (f.weight("choice", V, T), ids), B, S, T)
    f.output(f.op("pick", (x, chosen), B, S, T))
    reader = ArrayReader({"scores": scores, "choice": choice})
    numerics = "f32" if dtype == "float32" else "bf16"
    picked = Engine(f.graph(), reader, numerics, kernels).session().step([np.arange(V)])[0]
    wanted = np.take_along_axis(scores, np.clip(choice, 0, X - 1), -1)
    wanted[4], wanted[5, 1] = 0, 0
    assert np.array_equal(picked, wanted.astype(np.float32))
