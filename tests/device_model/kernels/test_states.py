# SPDX-License-Identifier: Apache-2.0
"""States: of fixed size, and rings that keep the end of the context."""

from collections.abc import Sequence

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_model.engine.engine import Engine
from device_model.engine.states import Cache
from device_model.numbers.numerics import STORAGE
from device_model.program.call import Batch
from device_model.program.places import StateRef
from device_model.weights.reading import ArrayReader
from dsl.counting.footprint import footprint
from dsl.graph import Graph
from dsl.symbolic import evaluate
from dsl.types import DTYPES
from tests.device_model.graphs import B, C, Flow, Llama, S

V, D, H, E, EV, W = 23, 22, 3, 5, 7, 4
LENGTH = 29


def recurrent(dtype: str = "bf16", memory: str = "f32") -> Graph:
    """A convolution, then a recurrence whose queries, keys, values and decays come from it."""
    f = Flow(dtype)
    f.config["dtype"] = DTYPES[dtype]
    x = f.op("gather", (f.weight("embed", V, D), f.input()), B, S, D)
    line = f.state(B, D, W - 1)
    x = f.op("causal_conv", (line, x, f.weight("taps", D, W)), B, S, D)
    q, k, v = (
        f.op("heads", (f.op("matmul", (x, f.weight(name, H * n, D)), B, S, H * n),), B, H, S, n)
        for name, n in (("q", E), ("k", E), ("v", EV))
    )
    decay = f.op("matmul", (x, f.weight("decay", H, D)), B, H, S)
    y = f.op("linear_attention", (f.state(B, H, E, EV, dtype=memory), q, k, v, decay), B, H, S, EV)
    f.output(f.op("merge", (y,), B, S, H * EV))
    return f.graph()


def arrays(dtype: str) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(3)
    shapes = {"embed": (V, D), "taps": (D, W), "q": (H * E, D), "k": (H * E, D), "v": (H * EV, D)}
    made = {name: generator.normal(size=dims) / dims[-1] ** 0.5 for name, dims in shapes.items()}
    made["decay"] = -np.abs(generator.normal(size=(H, D))) / D
    return {name: array.astype(STORAGE[dtype]) for name, array in made.items()}


def oracle(tokens: np.ndarray) -> np.ndarray:
    """The recurrence by its formula in float64."""
    w = {name: array.astype(np.float64) for name, array in arrays("f32").items()}
    x = w["embed"][tokens]
    padded = np.concatenate([np.zeros((W - 1, D)), x])
    x = sum(padded[j : j + len(x)] * w["taps"][:, j] for j in range(W))
    q, k, v = ((x @ w[n].T).reshape(len(x), H, -1) for n in "qkv")
    decay = np.exp(x @ w["decay"].T)
    memory, out = np.zeros((H, E, EV)), []
    for t in range(len(x)):
        memory = decay[t][:, None, None] * memory + k[t][:, :, None] * v[t][:, None]
        out.append(np.einsum("he,hev->hv", q[t], memory).ravel())
    return np.array(out)


def tokens(length: int = LENGTH, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, V, length)


def fed(device: Engine, pieces: Sequence[np.ndarray]) -> np.ndarray:
    session = device.session()
    return np.concatenate([session.step([piece])[0] for piece in pieces])


@pytest.mark.parametrize("kernels", ["fast", "reference"])
def test_the_recurrence_is_near_its_formula(kernels: str) -> None:
    device = Engine(recurrent("f32"), ArrayReader(arrays("f32")), "f32", kernels)
    out, truth = fed(device, [tokens()]), oracle(tokens())
    assert np.abs(out - truth).max() < 2e-6 * np.abs(truth).max()


@pytest.mark.parametrize("memory", ["f32", "bf16"])
@pytest.mark.parametrize("numerics", ["f32", "bf16"])
def test_the_compiled_recurrence_is_its_twin(numerics: str, memory: str) -> None:
    graph, reader = recurrent("bf16", memory), ArrayReader(arrays("bf16"))
    fast, plain = (
        fed(Engine(graph, reader, numerics, kernels), [tokens()])
        for kernels in ("fast", "reference")
    )
    assert np.abs(fast - plain).max() <= 2**-8 * np.abs(plain).max()
    # Only the exponential differs, by a last place of float32.
    assert np.mean(fast != plain) < (0.05 if numerics == "bf16" else 1.0)


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("memory", ["f32", "bf16"])
@pytest.mark.parametrize("numerics", ["f32", "bf16"])
@pytest.mark.parametrize("chunk", [1, 2, 3, 7])
def test_chunks_have_the_bits_of_the_whole(
    numerics: str, memory: str, chunk: int, kernels: str
) -> None:
    graph = recurrent("bf16", memory)
    device, ids = Engine(graph, ArrayReader(arrays("bf16")), numerics, kernels), tokens()
    pieces = [ids[i : i + chunk] for i in range(0, len(ids), chunk)]
    assert np.array_equal(fed(device, pieces), fed(device, [ids]))


@pytest.mark.parametrize("numerics", ["f32", "bf16"])
def test_a_ragged_batch_has_the_bits_of_its_sequences(numerics: str) -> None:
    device = Engine(recurrent(), ArrayReader(arrays("bf16")), numerics)
    rows = [tokens(length, seed=length) for length in (5, 1, 0, 33, 8, 2)]
    session = device.session(len(rows))
    first, again = session.step(rows), session.step(rows[::-1])
    for index, (row, more) in enumerate(zip(rows, rows[::-1], strict=True)):
        alone = fed(device, [np.concatenate([row, more])])
        assert np.array_equal(np.concatenate([first[index], again[index]]), alone)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_do_not_change_a_bit(threads: int) -> None:
    graph, reader = recurrent(), ArrayReader(arrays("bf16"))
    one, other = Engine(graph, reader, threads=2), Engine(graph, reader, threads=threads)
    assert np.array_equal(fed(one, [tokens()]), fed(other, [tokens()]))


@pytest.mark.parametrize("kernels", ["fast", "reference"])
def test_read_and_write_are_per_sequence_and_skip_absent_ones(kernels: str) -> None:
    f = Flow("f32")
    ids = f.input()
    count = f.state(B, 3)
    f.op("write", (count, f.op("add", (f.op("read", (count,), B, 3),), B, 3, scalar=1.0)), B, 3)
    f.output(f.op("gather", (f.weight("embed", 4, 2), ids), B, S, 2))
    embed = np.arange(8, dtype=np.float32).reshape(4, 2)
    device = Engine(f.graph(), ArrayReader({"embed": embed}), "f32", kernels)
    session = device.session(3)
    absent, two = np.zeros(0, np.int64), np.array([1, 3])
    for rows in ([two, absent, two], [two, absent, absent], [two, two, absent]):
        assert np.array_equal(session.step(rows)[0], embed[two])
    kept = session.cache.context(session.cache.states[0])
    assert [array.tolist() for array in kept] == [[3.0] * 3, [1.0] * 3, [1.0] * 3]


RING = 9
WINDOWED = {"whole": Llama(window=RING + 1), "ring": Llama(window=RING + 1, ring=RING)}


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("numerics", ["f32", "bf16"])
@pytest.mark.parametrize("chunk", [1, 2, 7, 40, 200])
def test_a_ring_has_the_bits_of_the_whole_context(chunk: int, numerics: str, kernels: str) -> None:
    ids = np.random.default_rng(0).integers(
        0, WINDOWED["whole"].V, 40 if kernels != "fast" else 200
    )
    results = []
    for model in WINDOWED.values():
        device = Engine(model.graph(), ArrayReader(model.weights()), numerics, kernels)
        results.append(fed(device, [ids[i : i + chunk] for i in range(0, len(ids), chunk)]))
    assert np.array_equal(*results)


def test_a_ring_keeps_what_its_type_says_and_its_memory_is_bounded() -> None:
    model = WINDOWED["ring"]
    device = Engine(model.graph(), ArrayReader(model.weights()))
    session = device.session(2)
    formula = footprint(model.graph()).state
    entry = 2 * model.L * model.K * model.E * 2
    for count in (1, 5, 40, 1, 1, 300, *[1] * 20):
        session.step([np.zeros(count, np.int64), np.zeros(0, np.int64)])
        length = session.lengths[0]
        assert session.cache.kept_bytes == evaluate(formula, {"B": 1, "C": length})
    assert session.cache.kept_bytes == RING * entry
    # One more entry than the ring's in each sequence, for the token of the next step.
    assert session.cache.bytes == 2 * (RING + 1) * entry


@given(st.integers(1, 20), st.lists(st.integers(0, 30), min_size=1, max_size=30), st.integers(1, 3))
def test_a_ring_holds_the_last_tokens(ring: int, counts: list[int], heads: int) -> None:
    state = StateRef(0, (heads,), (2,), np.dtype(np.float32), ring=ring)
    cache = Cache([state], 1)
    everything = np.zeros((0, heads, 2), np.float32)
    for count in counts:
        length = int(cache.lengths[0])
        cache.extend(np.array([count]))
        new = np.random.default_rng(length).normal(size=(count, heads, 2)).astype(np.float32)
        position = np.arange(length, length + count)
        rows = Batch(np.zeros(count, np.int64), position, np.array([0, count]), cache.lengths)
        cache.append(state, new, rows)
        everything = np.concatenate([everything, new])
        (kept,) = cache.context(state)
        needed = min(len(everything), ring + count)
        assert kept.shape[1] >= needed
        assert np.array_equal(
            kept[:, kept.shape[1] - needed :], everything[len(everything) - needed :].swapaxes(0, 1)
        )


def test_bfloat16_memory_is_stored_as_declared() -> None:
    device = Engine(recurrent("bf16", "bf16"), ArrayReader(arrays("bf16")))
    kept = [state.dtype for state in device.plan.states]
    assert kept == [np.dtype(ml_dtypes.bfloat16)] * 2
    wider = Engine(recurrent("bf16", "f32"), ArrayReader(arrays("bf16")))
    assert wider.plan.states[1].dtype == np.dtype(np.float32)


@pytest.mark.parametrize("kernels", ["fast", "reference"])
def test_values_may_be_columns_of_the_keys(kernels: str) -> None:
    f = Flow("f32")
    ids = f.input()
    x = f.op("heads", (f.op("gather", (f.weight("keys", V, 6), ids), B, S, 6),), B, 1, S, 6)
    q = f.op("heads", (f.op("gather", (f.weight("queries", V, 24), ids), B, S, 24),), B, 4, S, 6)
    k = f.op("append", (f.state(B, 1, C, 6), x), B, 1, C + S, 6)
    v = f.op("slice", (k,), B, 1, C + S, 4, start=1, stop=5)
    a = f.op("attention", (q, k, v), B, 4, S, 4, mask="causal", scale=0.4)
    f.output(f.op("merge", (a,), B, S, 16))
    generator = np.random.default_rng(0)
    w = {"keys": generator.normal(size=(V, 6)), "queries": generator.normal(size=(V, 24))}
    stored = {name: array.astype(np.float32) for name, array in w.items()}
    out = fed(
        Engine(f.graph(), ArrayReader(stored), "f32", kernels), [tokens()[:20], tokens()[20:]]
    )
    keys, queries = stored["keys"][tokens()], stored["queries"][tokens()].reshape(-1, 4, 6)
    for t in range(LENGTH):
        for h in range(4):
            p = np.exp(0.4 * keys[: t + 1].astype(np.float64) @ queries[t, h])
            truth = (p / p.sum()) @ keys[: t + 1, 1:5]
            assert np.allclose(out[t, 4 * h : 4 * h + 4], truth, atol=1e-6)
