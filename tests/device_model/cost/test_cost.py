# SPDX-License-Identifier: Apache-2.0
"""Laws of every cost formula: never below the speed of light, not slower on a better chip, arrays as numbers."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from device_model.chips.chip import device
from device_model.cost.attention import (
    Attention,
    DecodeParameters,
    PrefillParameters,
    attention_seconds,
    decode_terms,
    prefill_terms,
    visible_pairs,
)
from device_model.cost.calibration import calibration_named
from device_model.cost.chip import Array, Chip, Number, overlapped
from device_model.cost.collective import (
    ALGORITHMS,
    OPERATIONS,
    CollectiveParameters,
    collective,
)
from device_model.cost.gemm import GemmParameters, Product, gemm_seconds, gemm_terms
from device_model.cost.moe import ExpertLayer, MoeParameters, moe_seconds, moe_terms, routing
from device_model.cost.rates import rates
from device_model.cost.vector import VectorParameters, vector_seconds, vector_terms

KNOWN = calibration_named("h100")
GEMM = KNOWN.get("gemm_bf16", GemmParameters)
PREFILL = KNOWN.get("attention_prefill", PrefillParameters)
DECODE = KNOWN.get("attention_decode", DecodeParameters)
MOE = KNOWN.get("moe_bf16", MoeParameters)
LINKS = KNOWN.get("collective", CollectiveParameters)
VECTOR = KNOWN.get("vector", VectorParameters)
H100 = rates(device("h100"), "bf16")
SLACK = 1 + 1e-9
UNTIMED = settings(deadline=None)

size = st.integers(1, 70000).map(float)
few = st.integers(1, 300).map(float)
heads = st.sampled_from([1.0, 2.0, 4.0, 8.0])
chips = st.integers(1, 64).map(float)
Price = Callable[[Chip], float]


def better(chip: Chip) -> list[Chip]:
    """Return chips that are better in one way each; more units bring their part of the peak along."""
    return [
        replace(chip, peak=chip.peak * 1.7),
        replace(chip, bandwidth=chip.bandwidth * 1.7),
        replace(chip, units=chip.units * 2, peak=chip.peak * 2),
        replace(chip, link=chip.link * 1.7),
        replace(chip, scaleout=chip.scaleout * 1.7),
        replace(chip, power=chip.power * 1.7),
    ]


def never_slower_on_a_better_chip(price: Price) -> None:
    base = price(H100)
    assert np.isfinite(base)
    assert base >= 0
    for chip in better(H100):
        assert price(chip) <= base * SLACK


def product(m: Number, n: Number, k: Number, chip: Chip) -> Array:
    return gemm_seconds(gemm_terms(Product(m, n, k), chip, GEMM))


@UNTIMED
@given(size, size, size)
def test_products(m: float, n: float, k: float) -> None:
    seconds = float(product(m, n, k, H100))
    moved = 2 * (m * k + k * n + m * n)
    assert seconds * SLACK >= max(2 * m * n * k / H100.peak, moved / H100.bandwidth)
    never_slower_on_a_better_chip(lambda chip: float(product(m, n, k, chip)))


@UNTIMED
@given(
    few, few, st.integers(0, 9000).map(float), heads, heads, st.sampled_from([64.0, 128.0, 256.0])
)
def test_prefill(b: float, new: float, context: float, kv: float, group: float, e: float) -> None:
    shape = Attention(b, new, context, kv * group, kv, e)

    def price(chip: Chip) -> float:
        return float(attention_seconds(prefill_terms(shape, chip, PREFILL)))

    flops = 4 * e * kv * group * b * float(visible_pairs(new, context))
    assert price(H100) * SLACK >= flops / H100.peak
    never_slower_on_a_better_chip(price)


@UNTIMED
@given(few, st.integers(1, 200000).map(float), heads, heads, st.sampled_from([64.0, 128.0, 256.0]))
def test_decode(b: float, context: float, kv: float, group: float, e: float) -> None:
    shape = Attention(b, 1.0, context, kv * group, kv, e)

    def price(chip: Chip) -> float:
        return float(attention_seconds(decode_terms(shape, chip, DECODE, warm=0.0)))

    cache = 4 * b * kv * (context + 1) * e
    assert price(H100) * SLACK >= cache / H100.bandwidth
    never_slower_on_a_better_chip(price)


def test_visible_pairs_are_those_of_a_mask() -> None:
    for new, context, window in ((1, 0, None), (5, 3, None), (7, 2, 4), (3, 9, 2), (6, 0, 20)):
        rows, columns = np.arange(context, context + new)[:, None], np.arange(context + new)[None]
        mask = columns <= rows
        if window is not None:
            mask &= columns > rows - window
        assert float(visible_pairs(new, context, window)) == mask.sum()


@UNTIMED
@given(
    st.integers(1, 20000).map(float),
    st.sampled_from([(8.0, 2.0), (128.0, 8.0), (256.0, 8.0), (64.0, 1.0)]),
    st.sampled_from([1.0, 2.0, 8.0]),
    st.sampled_from([1.0, 2.0, 8.0]),
    st.sampled_from([0.0, 1.01, 1.2]),
)
def test_experts(
    tokens: float, layout: tuple[float, float], tp: float, ep: float, skew: float
) -> None:
    experts, top = layout
    hidden, inter = 4096.0, 2048.0
    layer = ExpertLayer(tokens, experts, top, hidden, inter, tp, ep, skew)
    found = routing(tokens, experts, top, ep, skew)

    def price(chip: Chip) -> float:
        return float(moe_seconds(moe_terms(layer, chip, MOE)))

    flops = 6 * float(found.pairs()) * hidden * inter / tp
    weights = 6 * float(found.hit()) * hidden * inter / tp
    assert price(H100) * SLACK >= max(flops / H100.peak, weights / H100.bandwidth)
    assert float(found.hit()) <= experts / ep + 1e-9
    never_slower_on_a_better_chip(price)


@UNTIMED
@given(st.sampled_from(OPERATIONS), st.integers(1, 1 << 30).map(float), chips, st.booleans())
def test_collectives(op: str, bytes_: float, count: float, switch: bool) -> None:
    def price(chip: Chip) -> float:
        return float(collective(op, bytes_, count, chip, LINKS, in_switch=switch)[0])

    least = bytes_ * (count - 1) / count / H100.link
    assert price(H100) * SLACK >= least
    assert (price(H100) == 0) == (count == 1)
    never_slower_on_a_better_chip(price)


def test_the_algorithm_of_a_collective_is_recorded() -> None:
    _, index = collective("all_reduce", np.asarray([1e3, 1e9]), 8.0, H100, LINKS, in_switch=True)
    assert [ALGORITHMS[i] for i in index][1] == "in-switch"
    _, index = collective("all_gather", np.asarray([1e9]), 1.0, H100, LINKS)
    assert ALGORITHMS[int(index[0])] == "none"


@UNTIMED
@given(size, size)
def test_passes(moved: float, flops: float) -> None:
    def price(chip: Chip) -> float:
        return float(vector_seconds(vector_terms(moved, flops, 6e13, chip, VECTOR), VECTOR))

    assert price(H100) * SLACK >= moved / H100.bandwidth
    never_slower_on_a_better_chip(price)


def test_arrays_give_what_numbers_give_over_shapes_and_over_chips() -> None:
    m = np.asarray([1.0, 100.0, 4096.0])
    whole = product(m, 4096.0, 4096.0, H100)
    assert whole.tolist() == [float(product(x, 4096.0, 4096.0, H100)) for x in m]
    bandwidth = np.asarray([1e12, 2e12])
    many = product(64.0, 4096.0, 4096.0, replace(H100, bandwidth=bandwidth))
    each = [replace(H100, bandwidth=float(b)) for b in bandwidth]
    assert many.tolist() == [float(product(64.0, 4096.0, 4096.0, c)) for c in each]


@UNTIMED
@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=4), st.floats(1, 64))
def test_what_overlaps_takes_at_least_the_longest_and_at_most_the_sum(
    times: list[float], sharpness: float
) -> None:
    found = float(overlapped(sharpness, *times))
    assert max(times) <= found * SLACK + 1e-300
    assert found <= sum(times) * SLACK
