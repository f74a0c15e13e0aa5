# SPDX-License-Identifier: Apache-2.0
"""Choices that are made elsewhere: shown as they are, kept without a trace, replaced as a router's bias would."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from device_model.engine.deciding import Decision
from device_model.engine.engine import Decide, Engine, Session
from device_model.kernels.routing import reference_route
from device_model.kernels.table import KERNELS
from device_model.numbers.catalogue import numerics_named
from device_model.numbers.numerics import Array
from device_model.program.call import Batch, Call
from device_model.weights.reading import ArrayReader
from dsl.graph import Attr, Graph
from dsl.ops import OPS
from dsl.types import DTYPES
from tests.device_model.graphs import B, C, Flow, S, tensor

V, D, X, T, L = 31, 16, 8, 3, 3
ROUTES: dict[str, dict[str, Attr]] = {
    "softmax": {"score": "softmax", "normalize": True, "scale": 1.5},
    "after": {"score": "softmax", "order": "after"},
    "least": {"score": "softmax", "normalize": True, "least": 0.9, "floor": 0.1},
    "roots": {"score": "sqrtsoftplus"},
    "groups": {"score": "sigmoid", "groups": 4, "top_groups": 2, "normalize": True, "scale": 2.5},
}
MIXER: dict[str, Attr] = {"score": "sparsemixer", "jitter": 0.1}
EVERY = {**ROUTES, "sparsemixer": MIXER}
GIVEN = (1, 4, 6)
FORCING = np.array([0.0 if e in GIVEN else -1000.0 for e in range(X)], np.float32)


def program(route: dict[str, Attr]) -> Graph:
    """Return layers of attention and experts; the last experts stand behind the layers."""
    f = Flow("f32")
    kind = tensor("f32", B, S, D)
    x = f.op("gather", (f.weight("embed", V, D), f.input()), B, S, D)
    f.open()
    entering = f.value(kind)
    heads = f.op("heads", (entering,), B, 2, S, D // 2, count=2)
    k = f.op("append", (f.state(B, 2, C, D // 2), heads), B, 2, C + S, D // 2)
    a = f.op("attention", (heads, k, k), B, 2, S, D // 2, mask="causal")
    h = f.op("add", (entering, f.op("merge", (a,), B, S, D)), B, S, D)
    leaving = f.op("add", (h, experts(f, h, "{i}.", route)), B, S, D)
    x = f.repeat(((f.close(), entering, leaving, tuple(range(L))),), x, kind)
    f.output(experts(f, x, "head.", route))
    return f.graph()


def experts(f: Flow, h: int, prefix: str, route: dict[str, Attr]) -> int:
    scores = f.op("matmul", (h, f.weight(prefix + "router", X, D)), B, S, X, dtype=DTYPES["f32"])
    mixes = route["score"] == "sparsemixer"
    inputs = (scores,) if mixes else (scores, f.weight(prefix + "bias", X))
    choice, share = f.ops("route", inputs, (B, S, T), (B, S, T), top=T, **route)
    up = f.op("expert_matmul", (h, f.weight(prefix + "up", X, D, D), choice), B, S, T, D)
    return f.op("combine", (f.op("silu", (up,), B, S, T, D), share), B, S, D)


def weights(bias: Array) -> dict[str, Array]:
    g = np.random.default_rng(0)
    made = {"embed": g.normal(size=(V, D))}
    for prefix in (*(f"{i}." for i in range(L)), "head."):
        made |= {prefix + "router": g.normal(size=(X, D)) / 2, prefix + "bias": bias}
        made[prefix + "up"] = g.normal(size=(X, D, D)) / 4
    return {name: array.astype(np.float32) for name, array in made.items()}


def engine(
    route: dict[str, Attr], numerics: str = "f32", kernels: str = "fast", bias: Array | None = None
) -> Engine:
    held = weights(np.linspace(-0.1, 0.1, X) if bias is None else bias)
    return Engine(program(route), ArrayReader(held), numerics, kernels)  # type: ignore[arg-type]


def tokens(length: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).integers(0, V, length)


def fed(session: Session, pieces: list[Array], decide: Decide | None) -> Array:
    return np.concatenate([session.step([piece], decide=decide)[0] for piece in pieces])


def shuffled(decision: Decision) -> Array:
    return decision.choice[:, ::-1]


def forced(decision: Decision) -> Array:
    return np.tile(np.array(GIVEN[::-1], np.int64), (len(decision.choice), 1))


def kept(decision: Decision) -> None:
    return None


@dataclass
class Watched:
    seen: list[Decision] = field(default_factory=list)

    def __call__(self, decision: Decision) -> None:
        self.seen.append(decision)


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("numerics", ["f32", "bf16"])
@pytest.mark.parametrize("name", EVERY)
def test_its_own_choice_changes_no_bit(name: str, numerics: str, kernels: str) -> None:
    device, ids = engine(EVERY[name], numerics, kernels), tokens(21)
    (plain,) = device.session().step([ids])
    for decide in (kept, shuffled):
        for size in (21, 4, 1):
            pieces = [ids[i : i + size] for i in range(0, len(ids), size)]
            assert np.array_equal(fed(device.session(), pieces, decide), plain)


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("numerics", ["f32", "bf16"])
@pytest.mark.parametrize("name", ROUTES)
def test_given_experts_are_those_of_a_bias(name: str, numerics: str, kernels: str) -> None:
    # Groups do not matter where the choice is given: the bias forces it in a program without them.
    ungrouped = {k: v for k, v in ROUTES[name].items() if k not in ("groups", "top_groups")}
    biased = engine(ungrouped, numerics, kernels, FORCING)
    device = engine(ROUTES[name], numerics, kernels, np.zeros(X))
    rows = [tokens(length, seed=length) for length in (5, 1, 0, 17)]
    wanted = biased.session(4).step(rows)
    (session, last) = device.session(4), device.session(4)
    got = session.step(rows, decide=forced)
    assert all(map(np.array_equal, got, wanted))
    ends = last.step(rows, "last", decide=forced)
    assert all(np.array_equal(a, b[-1:]) for a, b in zip(ends, wanted, strict=True))
    for row, whole in zip(rows, wanted, strict=True):
        pieces = [row[i : i + 2] for i in range(0, len(row), 2)]
        if pieces:
            assert np.array_equal(fed(device.session(), pieces, forced), whole)


@pytest.mark.parametrize("name", EVERY)
def test_compiled_choices_are_their_twins(name: str) -> None:
    fast, plain = (
        engine(EVERY[name], "f32", kernels).session().step([tokens(30)], decide=forced)[0]
        for kernels in ("fast", "reference")
    )
    assert np.abs(fast - plain).max() <= 2e-6 * np.abs(plain).max()


def test_shares_of_the_sparse_mixer_for_given_experts() -> None:
    # One choice after the other among the given, each beside all that are left, chosen or not.
    scores = np.random.default_rng(3).normal(size=(9, X)).astype(np.float32)
    given = np.random.default_rng(4).permuted(np.tile(np.arange(X), (9, 1)), axis=1)[:, :2]
    rows = Batch(*(np.zeros(0, np.int64) for _ in range(4)))
    attrs: dict[str, Attr] = {"top": 2, **MIXER}
    call = Call((scores, given), ("scores", "given"), attrs, rows, numerics_named("f32"))
    choice, share = reference_route(call)
    for s, named, chosen, shares in zip(scores.astype(float), given, choice, share, strict=True):
        order = sorted(named, key=lambda e: -s[e])
        assert list(chosen) == order
        left = list(range(X))
        for e, got in zip(order, shares, strict=True):
            near = [j for j in left if (s[e] - s[j]) / max(abs(s[j]), s[e]) <= 0.2]
            assert got == pytest.approx(1 / sum(np.exp(s[j] - s[e]) for j in near), rel=1e-5)
            left.remove(e)


@pytest.mark.parametrize("kernels", ["fast", "reference"])
def test_what_is_shown(kernels: str) -> None:
    device, watched = engine(ROUTES["after"], "f32", kernels, np.zeros(X)), Watched()
    rows = [tokens(2), tokens(0), tokens(3)]
    session = device.session(3)
    session.step(rows[::-1])
    session.step(rows, "last", decide=watched)
    assert [(d.number, d.layer) for d in watched.seen] == [(0, 0), (1, 1), (2, 2), (3, -1)]
    for d in watched.seen[:3]:
        assert d.sequences.tolist() == [0, 0, 2, 2, 2]
        assert d.positions.tolist() == [3, 4, 2, 3, 4]
    assert watched.seen[3].sequences.tolist() == [0, 2]
    assert watched.seen[3].positions.tolist() == [4, 4]
    for d in watched.seen:
        assert (d.scores.shape, d.scores.dtype.name) == ((len(d.positions), X), "float32")
        assert d.choice.dtype.name == "int32"
        assert np.array_equal(d.choice, np.argsort(-d.scores, axis=-1, kind="stable")[:, :T])


def test_some_tokens_of_one_layer() -> None:
    """A later layer sees what an earlier one was given; tokens before it are as they were."""
    device, ids = engine(ROUTES["softmax"]), tokens(12)

    def some(decision: Decision) -> Array | None:
        if decision.number != 1:
            return None
        answer = decision.choice.copy()
        answer[decision.positions == 7] = GIVEN
        return answer

    (plain,), (changed,) = (
        device.session().step([ids]), device.session().step([ids], decide=some)
    )  # fmt: skip
    assert np.array_equal(changed[:7], plain[:7])
    assert not np.array_equal(changed[7], plain[7])
    assert not np.array_equal(changed[8:], plain[8:])
    again = fed(device.session(), [ids[:5], ids[5:10], ids[10:]], some)
    assert np.array_equal(again, changed)


@pytest.mark.parametrize("kernels", ["fast", "reference"])
def test_a_session_goes_on_without_decisions(kernels: str) -> None:
    device, ids = engine(ROUTES["softmax"], "bf16", kernels), tokens(12)
    session = device.session()
    parts = [session.step([ids[:5]])[0], session.step([ids[5:9]], decide=shuffled)[0]]
    parts.append(session.step([ids[9:]])[0])
    assert np.array_equal(np.concatenate(parts), device.session().step([ids])[0])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.zeros((4, T + 1), np.int32), r"a choice of int32\[4, 4\] for int32\[4, 3\]"),
        (np.full((4, T), 0.5), r"a choice of float64\[4, 3\]"),
        (np.tile(np.array([0, 1, X]), (4, 1)), "a choice outside of 0 to 7"),
        (np.tile(np.array([0, -1, 2]), (4, 1)), "a choice outside of 0 to 7"),
        (np.tile(np.array([2, 1, 2]), (4, 1)), "one thing twice"),
    ],
)
def test_what_is_no_choice_is_an_error(answer: Array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        engine(ROUTES["softmax"]).session().step([tokens(4)], decide=lambda _: answer)


def test_what_chooses_is_a_column_and_its_kernels_know_a_given_choice() -> None:
    assert {name for name, spec in OPS.items() if spec.chooses} == {"route"}
    assert all(KERNELS[name].lower for name, spec in OPS.items() if spec.chooses)
