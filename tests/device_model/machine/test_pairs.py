# SPDX-License-Identifier: Apache-2.0
"""The processor's products of pairs: the same bits with and without, whatever the numbers.

Where the processor lacks the instruction both sides are computed alike and the tests say little.
"""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from numba import njit

from device_model.engine.engine import Engine
from device_model.machine import paired, pairs, product
from device_model.numbers.numerics import Array
from device_model.weights.reading import ArrayReader, RandomReader, shapes_of
from dsl.graph import Graph, TensorRef, Transform
from dsl.inference.inference import infer
from dsl.types import DTYPES
from porting.planning.library import family_for
from tests.device_model.engine.test_determinism import CONFIG, LENGTH, VOCABULARY
from tests.device_model.graphs import SPAN, B, Flow, S
from tests.packing import assert_chunks_equal, tokens

ROWS = 75
SPREADS = (0, 3, 40, 100)
BOUNDARY = (-133, -127, -126, -113, -112, -64, -57, -56, 0, 31, 32, 33, 64, 127)
NOT_FINITE = (np.inf, -np.inf, np.nan)

_exponents = pairs.exponents.made
_clear = pairs.clear_seen.made
_pack = pairs.pack.made
_harmless = pairs.harmless.made
_has_pairs = pairs.has_pairs.made


def numbers(rows: int, k: int, spread: int, seed: int) -> Array:
    """Draw bfloat16 of either sign, up to 2^spread times as large or small as one, some of them zero."""
    generator = np.random.default_rng(seed)
    scale = 2.0 ** generator.integers(-spread, spread + 1, (rows, k))
    drawn = generator.normal(size=(rows, k)) * scale * (generator.random((rows, k)) > 0.05)
    return drawn.astype(ml_dtypes.bfloat16)


def graph(n: int, k: int, rows: int = ROWS, stored: str | None = None) -> Graph:
    f, source = Flow(), None
    if stored is not None:
        attrs = {"dtype": DTYPES[stored], "rows": 16, "columns": 16}
        parts = (TensorRef("w", SPAN), TensorRef("scales", SPAN))
        source = Transform("scaled", parts, attrs, SPAN)
    x = f.op("gather", (f.weight("table", rows, k), f.input()), B, S, k)
    w = f.weight("w", n, k, source=source)
    f.output(f.op("matmul", (x, w), B, S, n, dtype=DTYPES["f32"]))
    return f.graph()


def run(
    monkeypatch: pytest.MonkeyPatch, program: Graph, arrays: dict[str, Array], rows: int
) -> tuple[Array, Array, Array]:
    """Return the result with the instruction, without it, and by the reference."""
    out = []
    for switch, kernels in (("1", "fast"), ("0", "fast"), ("1", "reference")):
        monkeypatch.setenv(pairs.SWITCH, switch)
        engine = Engine(program, ArrayReader(arrays), "bf16", kernels, threads=2)
        out.append(engine.session().step([np.arange(rows)])[0])
    return out[0], out[1], out[2]


def equal(a: Array, b: Array) -> bool:
    """Tell whether results have the same bits, where any NaN is a NaN."""
    lacking = np.isnan(a) & np.isnan(b)
    return bool(np.all((a.view(np.uint32) == b.view(np.uint32)) | lacking))


def test_it_is_compiled_where_the_processor_has_it() -> None:
    facts = Path("/proc/cpuinfo")
    if not facts.is_file() or "avx512_bf16" not in facts.read_text().split():
        pytest.skip("this processor lacks it")
    made = paired.takes.made
    assert njit(lambda kind: made(1, 1, kind, 1))(1)
    assert not njit(lambda kind: made(0, 1, kind, 1))(1)


@pytest.mark.parametrize("k", [1, 7, 8, 15, 16, 17, 33, 300])
@pytest.mark.parametrize("rows", [7, 12, 13, ROWS])
def test_bits_are_those_of_the_twin(monkeypatch: pytest.MonkeyPatch, rows: int, k: int) -> None:
    for n in (1, 4, 9, 37, 70):
        arrays = {"table": numbers(ROWS, k, 3, k), "w": numbers(n, k, 3, n)}
        fast, plain, twin = run(monkeypatch, graph(n, k), arrays, rows)
        assert equal(fast, plain)
        assert equal(fast, twin)


@pytest.mark.parametrize("of_weights", SPREADS)
@pytest.mark.parametrize("of_rows", SPREADS)
def test_numbers_of_any_size(
    monkeypatch: pytest.MonkeyPatch, of_rows: int, of_weights: int
) -> None:
    arrays = {"table": numbers(ROWS, 50, of_rows, 1), "w": numbers(70, 50, of_weights, 2)}
    fast, plain, _ = run(monkeypatch, graph(70, 50), arrays, ROWS)
    assert equal(fast, plain)


@pytest.mark.parametrize("exponent", BOUNDARY)
def test_one_strange_number_among_rows_or_weights(
    monkeypatch: pytest.MonkeyPatch, exponent: int
) -> None:
    for name in ("table", "w"):
        for other in (0, -56, 32):
            arrays = {"table": numbers(ROWS, 40, 3, 1), "w": numbers(70, 40, 3, 2)}
            arrays[name][9, 33] = 2.0**exponent
            arrays["w" if name == "table" else "table"][:, 33] = 1.5 * 2.0**other
            fast, plain, _ = run(monkeypatch, graph(70, 40), arrays, ROWS)
            assert equal(fast, plain)


@pytest.mark.parametrize("strange", NOT_FINITE)
def test_what_is_not_finite(monkeypatch: pytest.MonkeyPatch, strange: float) -> None:
    for name in ("table", "w"):
        arrays = {"table": numbers(ROWS, 40, 3, 1), "w": numbers(70, 40, 3, 2)}
        arrays[name][9, 33] = strange
        fast, plain, twin = run(monkeypatch, graph(70, 40), arrays, ROWS)
        assert equal(fast, plain)
        assert equal(fast, twin)


def test_sums_that_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = np.full((ROWS, 40), 3e38).astype(ml_dtypes.bfloat16)
    largest[::2] = -largest[::2]
    arrays = {"table": largest, "w": largest[:9].copy()}
    fast, plain, _ = run(monkeypatch, graph(9, 40), arrays, ROWS)
    assert equal(fast, plain)
    assert np.isinf(fast).all()


@pytest.mark.parametrize("n", [3, 16, 45])
def test_packed_weights(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    k = 50
    generator = np.random.default_rng(n)
    arrays = {
        "table": numbers(ROWS, k, 3, 1),
        "w": generator.normal(size=(n, k)).astype(ml_dtypes.float8_e4m3fn),
        "scales": generator.random((-(-n // 16), -(-k // 16))).astype(np.float32),
    }
    fast, plain, twin = run(monkeypatch, graph(n, k, stored="f8e4m3"), arrays, ROWS)
    assert equal(fast, plain)
    assert equal(fast, twin)


@pytest.mark.parametrize("k", [3000, 15000, 25000])
def test_blocks_of_rows(monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    rows = 2 * paired.limit(k) + 3
    arrays = {"table": numbers(rows, k, 3, 1), "w": numbers(37, k, 3, 2)}
    fast, plain, _ = run(monkeypatch, graph(37, k, rows), arrays, rows)
    assert equal(fast, plain)


def test_a_model_in_chunks_with_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    program = family_for("LlamaForCausalLM")
    net = infer(program.family(), program.blocks, CONFIG).graph
    ids, engines = tokens(VOCABULARY, LENGTH), []
    for switch in ("1", "0"):
        monkeypatch.setenv(pairs.SWITCH, switch)
        engines.append(Engine(net, RandomReader(shapes_of(net), 5), "bf16"))
    (whole,) = engines[0].session().step([ids])
    for chunk in (7, 64, LENGTH):
        assert_chunks_equal(engines[1], ids, chunk, whole)


def test_scratch_is_as_large_as_it_is_laid_out() -> None:
    for k in (1, 16, 17, 576, 1536, 100000):
        rows, padded = paired.limit(k), -(-k // pairs.STEP) * pairs.STEP
        tiles = -(-rows // pairs.ROWS)
        blocks = 2 * padded * (paired.panel_columns(k) + tiles * pairs.ROWS)
        left = 16 * tiles + 6 * k * paired.WIDENED + 4 * k * pairs.ROWS
        rest = product.working_bytes(pairs.ROWS, k)
        need = paired.SUMS_BYTES + pairs.SEEN_BYTES + blocks + left + rest
        assert paired.scratch_bytes(k) >= need


@njit
def _is_there() -> bool:
    return _has_pairs()


def seen(*values: float) -> tuple[int, int]:
    """Return the exponents that packing sees of numbers."""
    if not _is_there():
        pytest.skip("this processor lacks it")
    source = np.array(values, np.float32).astype(ml_dtypes.bfloat16)
    target, sizes = np.zeros(64, np.uint16), np.zeros(32, np.uint16)

    @njit
    def pack(a: int, b: int, c: int, count: int) -> tuple[int, int]:
        _clear(c)
        _pack(a, count, b, 32, c)
        return _exponents(c)

    low, high = pack(source.ctypes.data, target.ctypes.data, sizes.ctypes.data, len(source))
    return int(low), int(high)


def test_exponents_of_what_is_packed() -> None:
    assert seen(0.0, -3.0, 0.25) == (-2, 1)
    assert seen(2.0**-126, 1.0) == (-126, 0)
    low, high = seen(1.0, 2.0**-127)
    assert low < -1000
    assert high == 0
    assert seen(1.0, np.inf)[1] > 1000
    assert seen(1.0, -np.nan)[1] > 1000
    low, high = seen(0.0)
    assert low > 127
    assert high == -127
    assert _harmless(-56, 0, -56, 64)
    assert not _harmless(-56, 0, -57, 0)
    assert not _harmless(0, 65, 0, 0)


@pytest.mark.parametrize(("vendor", "default"), [("AuthenticAMD", 1), ("GenuineIntel", 0), ("", 1)])
def test_the_instruction_is_used_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, vendor: str, default: int
) -> None:
    monkeypatch.setattr(pairs, "processor_facts", lambda: {"vendor_id": vendor})
    for switch, wanted in (("", default), ("0", 0), ("1", 1), ("2", default)):
        monkeypatch.setenv(pairs.SWITCH, switch)
        assert pairs.wanted() == wanted
