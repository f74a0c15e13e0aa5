# SPDX-License-Identifier: Apache-2.0
"""Whole programs: against float64 formulas, and every way of feeding tokens against every other."""

from collections.abc import Sequence

import numpy as np
import pytest

from device_model.engine.engine import Engine
from device_model.weights.reading import ArrayReader
from dsl.diagnostics import Refused
from dsl.graph import Node
from tests.device_model.graphs import SPAN, B, Flow, Llama, S, oracle, tensor

MODELS = {
    "llama": Llama(),
    "odd": Llama(D=37, F=29, H=6, K=3, E=10, V=51, pairing="interleaved", qk_norm=True),
    "window": Llama(window=9, softcap=2.5),
    "many heads": Llama(H=8, K=1, E=34, L=2),
    "f32 weights": Llama(dtype="f32"),
}
LENGTH = 33


def tokens(model: Llama, length: int = LENGTH, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, model.V, length)


def engine(model: Llama, numerics: str = "bf16", kernels: str = "fast", threads: int = 2) -> Engine:
    return Engine(model.graph(), ArrayReader(model.weights()), numerics, kernels, threads)


def fed(device: Engine, pieces: Sequence[np.ndarray]) -> np.ndarray:
    session = device.session()
    return np.concatenate([session.step([piece])[0] for piece in pieces])


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2)))


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("name", MODELS)
def test_f32_is_near_the_float64_formulas(name: str, kernels: str) -> None:
    model = MODELS[name]
    (logits,) = engine(model, "f32", kernels).session().step([tokens(model)])
    assert logits.dtype == np.float32
    assert relative(logits, oracle(model, model.weights(), tokens(model))) < 1e-6


@pytest.mark.parametrize("name", MODELS)
def test_bf16_is_as_near_as_its_rounding(name: str) -> None:
    model = MODELS[name]
    (logits,) = engine(model).session().step([tokens(model)])
    assert relative(logits, oracle(model, model.weights(), tokens(model))) < 0.04


@pytest.mark.parametrize("name", MODELS)
def test_bf16_fast_equals_its_reference(name: str) -> None:
    model = MODELS[name]
    (fast,) = engine(model).session().step([tokens(model)])
    (plain,) = engine(model, kernels="reference").session().step([tokens(model)])
    # Elementary functions differ in a last place of float32, which rarely crosses a bf16 boundary.
    assert np.mean(fast != plain) < 0.2
    assert relative(fast, plain) < 5e-3


@pytest.mark.parametrize("numerics", ["f32", "bf16"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("chunk", [1, 2, 5, 7, 16])
def test_chunks_have_the_bits_of_the_whole(name: str, numerics: str, chunk: int) -> None:
    model = MODELS[name]
    device, ids = engine(model, numerics), tokens(model)
    pieces = [ids[i : i + chunk] for i in range(0, len(ids), chunk)]
    assert np.array_equal(fed(device, pieces), fed(device, [ids]))


@pytest.mark.parametrize("numerics", ["f32", "bf16"])
@pytest.mark.parametrize("name", MODELS)
def test_a_ragged_batch_has_the_bits_of_its_sequences(name: str, numerics: str) -> None:
    model = MODELS[name]
    device = engine(model, numerics)
    rows = [tokens(model, length, seed=length) for length in (5, 1, 0, 33, 8, 2)]
    session = device.session(len(rows))
    first = session.step(rows)
    again = session.step(rows[::-1])
    for index, (row, more) in enumerate(zip(rows, rows[::-1], strict=True)):
        alone = fed(device, [np.concatenate([row, more])])
        assert np.array_equal(np.concatenate([first[index], again[index]]), alone)
    assert session.lengths == (7, 9, 33, 33, 9, 7)


@pytest.mark.parametrize("numerics", ["f32", "bf16"])
@pytest.mark.parametrize("threads", [1, 3, 4])
def test_threads_do_not_change_a_bit(numerics: str, threads: int) -> None:
    model = MODELS["llama"]
    one, ids = engine(model, numerics, threads=2), tokens(model)
    other = engine(model, numerics, threads=threads)
    assert np.array_equal(fed(one, [ids[:30], ids[30:]]), fed(other, [ids[:30], ids[30:]]))


@pytest.mark.parametrize("kernels", ["fast", "reference"])
def test_last_logits_are_the_last_of_all(kernels: str) -> None:
    model = MODELS["llama"]
    device = engine(model, kernels=kernels)
    rows = [tokens(model, 4), tokens(model, 0), tokens(model, 9)]
    every = device.session(3).step(rows)
    last = device.session(3).step(rows, logits="last")
    assert [len(row) for row in last] == [1, 0, 1]
    assert np.array_equal(last[0], every[0][-1:])
    assert np.array_equal(last[2], every[2][-1:])


def test_a_step_without_tokens_changes_nothing() -> None:
    model = MODELS["llama"]
    session = engine(model).session(2)
    empty = np.zeros(0, np.int64)
    assert [row.shape for row in session.step([empty, empty])] == [(0, model.V)] * 2
    assert session.lengths == (0, 0)


def test_a_wrong_number_of_rows_is_an_error() -> None:
    with pytest.raises(ValueError, match="1 rows for 2 sequences"):
        engine(MODELS["llama"]).session(2).step([np.zeros(1, np.int64)])


@pytest.mark.parametrize("kernels", ["fast", "reference"])
def test_layers_are_observed_in_order_and_do_not_disturb(kernels: str) -> None:
    model = MODELS["llama"]
    device, ids = engine(model, kernels=kernels), tokens(model, 6)
    seen: list[tuple[int, np.ndarray]] = []
    (watched,) = device.session().step([ids], observe=lambda i, x: seen.append((i, x[0])))
    assert [layer for layer, _ in seen] == [0, 1, 2]
    assert {(values.shape, values.dtype.name) for _, values in seen} == {((6, model.D), "float32")}
    assert np.array_equal(watched, fed(device, [ids]))


def test_observed_layers_are_those_of_a_shorter_model() -> None:
    long, ids = MODELS["llama"], tokens(MODELS["llama"], 6)
    short = Llama(L=1)
    seen: list[np.ndarray] = []
    engine(long, "f32").session().step([ids], observe=lambda i, x: seen.append(x[0]))
    only: list[np.ndarray] = []
    reader = ArrayReader(long.weights())
    Engine(short.graph(), reader, "f32").session().step(
        [ids], observe=lambda i, x: only.append(x[0])
    )
    assert np.array_equal(seen[0], only[0])


def test_layers_of_two_classes_run_in_the_order_of_their_indices() -> None:
    f = Flow()
    ids = f.input()
    x = f.op("gather", (f.weight("embed", 9, 4), ids), B, S, 4)
    kind = f.values[x].type
    bodies = []
    for op, layers in (("add", (0, 2)), ("multiply", (1,))):
        f.open()
        entering = f.value(kind)
        leaving = f.op(op, (entering, f.weight("{i}.w", 4)), B, S, 4)
        bodies.append((f.close(), entering, leaving, layers))
    f.output(f.repeat(tuple(bodies), x, kind))
    generator = np.random.default_rng(0)
    names = {"embed": (9, 4), "0.w": (4,), "1.w": (4,), "2.w": (4,)}
    w = {name: generator.normal(size=dims).astype(np.float32) for name, dims in names.items()}
    (out,) = Engine(f.graph(), ArrayReader(w), "f32").session().step([np.array([3, 5])])
    expected = (w["embed"][[3, 5]] + w["0.w"]) * w["1.w"] + w["2.w"]
    assert np.array_equal(out, expected)


def test_an_unbound_dimension_is_refused() -> None:
    f = Flow()
    ids = f.input()
    f.output(f.op("gather", (f.weight("embed", 9, 4), ids), B, S, S * 2))
    with pytest.raises(ValueError, match="bind the program first"):
        Engine(f.graph(), ArrayReader({"embed": np.zeros((9, 4), np.float32)}))


def test_a_weight_of_another_shape_is_refused() -> None:
    model = MODELS["llama"]
    weights = model.weights()
    weights["1.q"] = weights["1.q"][:-1]
    with pytest.raises(Refused, match=r"S562: .* declared"):
        Engine(model.graph(), ArrayReader(weights))


def test_unknown_numerics_are_refused() -> None:
    with pytest.raises(Refused, match=r"S601: .* no numerics `f31`"):
        engine(MODELS["llama"], "f31")


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("wrong", [-1, 10**5, 2**32 - 1, 2**40, -(2**63)])
def test_an_id_without_a_row_is_refused_before_anything_runs(wrong: int, kernels: str) -> None:
    model = MODELS["llama"]
    session = engine(model, kernels=kernels).session()
    with pytest.raises(Refused, match=f"S616: token {wrong} has no row"):
        session.step([np.array([1, wrong, 2])])
    with pytest.raises(Refused, match="S616"):
        session.step([np.array([model.V])])
    assert session.lengths == (0,)
    assert len(session.step([np.array([model.V - 1])])[0]) == 1


def test_ids_are_whole_numbers() -> None:
    with pytest.raises(TypeError, match="float64"):
        engine(MODELS["llama"]).session().step([np.array([1.0])])


@pytest.mark.parametrize("kernels", ["fast", "reference"])
def test_an_id_that_a_program_computes_reads_no_foreign_row(kernels: str) -> None:
    flow = Flow("f32")
    table = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    far = np.array([0, 1, -1, 2, 2**31 - 1], np.int32)
    stored = flow.weight("far", 5, dtype="i32")
    rows = flow.value(tensor("i32", B, S))
    flow.steps[-1].append(Node("gather", (stored, flow.input()), (rows,), {}, SPAN))
    flow.output(flow.op("gather", (flow.weight("table", 2, 2), rows), B, S, 2))
    reader = ArrayReader({"far": far, "table": table})
    (out,) = Engine(flow.graph(), reader, "f32", kernels).session().step([np.arange(5)])
    assert np.array_equal(out, [[1, 2], [3, 4], [0, 0], [0, 0], [0, 0]])
