# SPDX-License-Identifier: Apache-2.0
"""States that depend on the length of the sequence: a step has the bits of all tokens so far in one go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from device_model.engine.engine import Decision, Engine, Session
from device_model.numbers.numerics import Array
from device_model.program.renewal import Renewal
from device_model.weights.reading import ArrayReader
from dsl.diagnostics import Refused
from dsl.graph import Graph, Node
from dsl.types import DTYPES
from tests.device_model.graphs import SPAN, B, C, Flow, Llama, S, oracle, tensor

ORIGINAL, LENGTH = 12, 24
LONG = Llama(L=2, long=tuple(np.linspace(1.0, 9.0, 8)), original=float(ORIGINAL))
MODELS = {
    "longrope": LONG,
    "dynamic": Llama(L=2, growth=4.0, original=float(ORIGINAL)),
    "longrope in a ring": replace(LONG, window=7, ring=7),
    "dynamic in a ring": Llama(L=2, growth=4.0, original=float(ORIGINAL), window=7, ring=7),
}
SIZES = [[10, 1, 1, 1, 1, 1, 9], [7, 7, 7, 3], [12, 1, 11], [13, 11], [LENGTH]]


def engine(name: str, numerics: str = "f32", kernels: str = "fast") -> Engine:
    model = MODELS[name]
    return Engine(model.graph(), ArrayReader(model.weights()), numerics, kernels)  # type: ignore[arg-type]


def tokens(length: int = LENGTH, seed: int = 1) -> Array:
    return np.random.default_rng(seed).integers(0, Llama.V, length)


def pieces(row: Array, sizes: list[int]) -> Iterator[tuple[Array, Array]]:
    """Return each piece and all tokens up to its end."""
    ends = np.cumsum(sizes)
    for size, end in zip(sizes, ends.tolist(), strict=True):
        yield row[end - size : end], row[:end]


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_each_step_is_near_the_formulas_for_all_tokens_so_far(
    name: str, sizes: list[int], kernels: str
) -> None:
    model, session = MODELS[name], engine(name, "f32", kernels).session()
    for piece, so_far in pieces(tokens(), sizes):
        (got,) = session.step([piece])
        truth = oracle(model, model.weights(), so_far)[-len(piece) :]
        assert np.sqrt(np.mean((got - truth) ** 2) / np.mean(truth**2)) < 1e-6


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("numerics", ["f32", "bf16"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_each_step_has_the_bits_of_all_tokens_so_far(
    name: str, sizes: list[int], numerics: str, kernels: str
) -> None:
    device = engine(name, numerics, kernels)
    (session, last) = device.session(), device.session()
    for piece, so_far in pieces(tokens(), sizes):
        (got,), (end,) = session.step([piece]), last.step([piece], "last")
        (whole,) = device.session().step([so_far])
        assert np.array_equal(got, whole[-len(piece) :])
        assert np.array_equal(end, whole[-1:])
        assert session.lengths == (len(so_far),)


@pytest.mark.parametrize("name", MODELS)
def test_token_by_token(name: str) -> None:
    device = engine(name)
    session = device.session()
    for piece, so_far in pieces(tokens(), [1] * LENGTH):
        (whole,) = device.session().step([so_far])
        assert np.array_equal(session.step([piece])[0], whole[-1:])


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("name", MODELS)
def test_sequences_of_a_ragged_batch_cross_alone(name: str, kernels: str) -> None:
    device = engine(name, "bf16", kernels)
    counts = [(5, 11, 0, 20), (3, 1, 12, 0), (6, 1, 1, 2), (0, 0, 0, 0), (1, 1, 1, 1)]
    rows = [tokens(LENGTH, seed=b) for b in range(4)]
    session, ends = device.session(4), np.zeros(4, int)
    for step in counts:
        given = [row[end : end + n] for row, end, n in zip(rows, ends, step, strict=True)]
        ends += step
        got = session.step(given)
        for row, end, n, part in zip(rows, ends, step, got, strict=True):
            assert part.shape == (n, Llama.V)
            if n:
                (whole,) = device.session().step([row[:end]])
                assert np.array_equal(part, whole[-n:])
    assert session.lengths == tuple(ends)


def recurrent(growth: float) -> Graph:
    """Return a program with a rotation by length, states of fixed size and a layer that reads another's keys."""
    f = Flow()
    x = f.op("gather", (f.weight("embed", Llama.V, 8), f.input()), B, S, 8)
    x = f.op("causal_conv", (f.state(B, 8, 2), x, f.weight("taps", 8, 3)), B, S, 8)
    freqs = f.ops("rope_frequencies", (), (4,), width=8, theta=100.0)[0]
    h = f.op("heads", (x,), B, 1, S, 8, count=1)
    h = f.op("rope", (h, freqs), B, 1, S, 8, at=C, original=float(ORIGINAL), growth=growth)
    keys = f.state(B, 1, C, 8)
    k = f.op("append", (keys, h), B, 1, C + S, 8)
    a = f.op("attention", (h, k, k), B, 1, S, 8, mask="causal", scale=0.3)
    decay = f.op("matmul", (x, f.weight("decay", 1, 8)), B, S, 1, dtype=DTYPES["f32"])
    y = f.value(tensor("bf16", B, 1, S, 8))
    operands = ("state", "q", "k", "v", "decay")
    state = f.state(B, 1, 8, 8, dtype="f32")
    f.steps[-1].append(
        Node("linear_attention", (state, a, h, h, decay), (y,), {}, SPAN, operands=operands)
    )
    again = f.op("attention", (y, k, k), B, 1, S, 8, mask="causal", scale=0.3)
    f.output(f.op("merge", (again,), B, S, 8))
    return f.graph()


@pytest.mark.parametrize("kernels", ["fast", "reference"])
def test_states_of_fixed_size_begin_anew(kernels: str) -> None:
    g = np.random.default_rng(0)
    shapes = {"embed": (Llama.V, 8), "taps": (8, 3), "decay": (1, 8)}
    held = {name: g.normal(size=dims).astype(np.float32) for name, dims in shapes.items()}
    device = Engine(recurrent(3.0), ArrayReader(held), "bf16", kernels)  # type: ignore[arg-type]
    session = device.session()
    for piece, so_far in pieces(tokens(), [4, 8, 1, 1, 9, 1]):
        (whole,) = device.session().step([so_far])
        assert np.array_equal(session.step([piece])[0], whole[-len(piece) :])


@pytest.mark.parametrize("kernels", ["fast", "reference"])
def test_an_observer_sees_the_new_tokens(kernels: str) -> None:
    device, row = engine("longrope", "f32", kernels), tokens(15)
    seen: list[Array] = []
    session = device.session()
    session.step([row[:10]])
    session.step([row[10:]], "last", observe=lambda _, values: seen.append(values[0]))
    whole: list[Array] = []
    device.session().step([row], observe=lambda _, values: whole.append(values[0]))
    assert len(seen) == len(whole) == 2
    assert all(np.array_equal(a, b[10:]) for a, b in zip(seen, whole, strict=True))


def test_who_decides_is_asked_for_the_whole_sequence() -> None:
    f = Flow("f32")
    x = f.op("gather", (f.weight("embed", Llama.V, 8), f.input()), B, S, 8)
    choice, _ = f.ops("route", (x,), (B, S, 2), (B, S, 2), top=2, score="softmax")
    y = f.op("expert_matmul", (x, f.weight("up", 8, 8, 8), choice), B, S, 2, 8)
    x = f.op("combine", (y,), B, S, 8)
    freqs = f.ops("rope_frequencies", (), (4,), width=8, theta=100.0)[0]
    h = f.op("heads", (x,), B, 1, S, 8, count=1)
    h = f.op("rope", (h, freqs), B, 1, S, 8, at=C, original=float(ORIGINAL), growth=2.0)
    k = f.op("append", (f.state(B, 1, C, 8), h), B, 1, C + S, 8)
    a = f.op("attention", (h, k, k), B, 1, S, 8, mask="causal", scale=0.3)
    f.output(f.op("merge", (a,), B, S, 8))
    g = np.random.default_rng(0)
    held = {"embed": g.normal(size=(Llama.V, 8)), "up": g.normal(size=(8, 8, 8))}
    reader = ArrayReader({name: array.astype(np.float32) for name, array in held.items()})
    device, row, shown = Engine(f.graph(), reader, "f32"), tokens(14), list[list[int]]()

    def pinned(decision: Decision) -> Array:
        shown.append(decision.positions.tolist())
        return np.stack([decision.positions % 8, (decision.positions + 3) % 8], -1)

    (whole,) = device.session().step([row], decide=pinned)
    session = device.session()
    session.step([row[:11]])
    (got,) = session.step([row[11:]], decide=pinned)
    assert np.array_equal(got, whole[11:])
    assert shown == [list(range(14))] * 2


def test_what_a_session_keeps_of_its_tokens() -> None:
    """Tokens are copies, and are given up once no length can change anything."""
    device, row = engine("longrope"), tokens()
    session, given = device.session(), row[:ORIGINAL].copy()
    session.step([given])
    given[:] = 0
    (got,) = session.step([row[ORIGINAL:20]])
    (whole,) = device.session().step([row[:20]])
    assert np.array_equal(got, whole[ORIGINAL:])
    session.step([row[20:]])
    assert kept(session) == [0]
    growing = engine("dynamic").session()
    for piece, _ in pieces(row, [7, 7, 7, 3]):
        growing.step([piece])
    assert kept(growing) == [LENGTH]
    plain = Engine(Llama().graph(), ArrayReader(Llama().weights()), "f32").session()
    plain.step([row])
    assert kept(plain) == [0]


def kept(session: Session) -> list[int]:
    return [sum(map(len, parts)) for parts in session._history._pieces]


def test_a_refused_step_leaves_what_there_was() -> None:
    f = Flow("f32")
    ids = f.input()
    place = f.value(tensor("i32", B, S))
    f.steps[-1].append(Node("positions", (ids,), (place,), {"at": C}, SPAN, operands=("tokens",)))
    x = f.op("gather", (f.weight("places", 16, 8), place), B, S, 8)
    freqs = f.ops("rope_frequencies", (), (4,), width=8, theta=100.0)[0]
    h = f.op("heads", (x,), B, 1, S, 8, count=1)
    h = f.op("rope", (h, freqs), B, 1, S, 8, at=C, original=float(ORIGINAL), growth=2.0)
    k = f.op("append", (f.state(B, 1, C, 8), h), B, 1, C + S, 8)
    f.output(f.op("merge", (f.op("attention", (h, k, k), B, 1, S, 8, mask="causal"),), B, S, 8))
    table = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
    device, row = Engine(f.graph(), ArrayReader({"places": table}), "f32"), tokens(16)
    session = device.session()
    session.step([row[:10]])
    with pytest.raises(Refused, match=r"S605.*17 tokens"):
        session.step([tokens(7)])
    assert session.lengths == (10,)
    (whole,) = device.session().step([row])
    assert np.array_equal(session.step([row[10:]])[0], whole[10:])


def test_a_plan_says_at_which_lengths() -> None:
    plans = {name: engine(name).plan.renewals for name in ("longrope", "dynamic")}
    assert plans == {"longrope": (Renewal(12.0),), "dynamic": (Renewal(12.0, growing=True),)}
    assert Engine(Llama().graph(), ArrayReader(Llama().weights())).plan.renewals == ()


@pytest.mark.parametrize(
    ("before", "after", "once", "growing"),
    [
        (0, 20, False, False), (3, 12, False, False), (3, 13, True, True), (12, 13, True, True),
        (13, 14, False, True), (13, 13, False, False), (0, 12, False, False),
    ],
)  # fmt: skip
def test_when_it_is_due(before: int, after: int, once: bool, growing: bool) -> None:
    assert Renewal(12.0).is_due(before, after) == once
    assert Renewal(12.0, growing=True).is_due(before, after) == growing
