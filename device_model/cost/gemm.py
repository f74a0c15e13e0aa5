"""Time of a matrix product [m, k] x [k, n]: tiles in waves over the units, beside main memory and the power limit.

Every tile shape and split of k is tried, as a library's heuristics would, and the quickest is taken. Which library, and
where operands lie before, is not known here: a calibration is of one library on one chip, with operands in main memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_model.cost.chip import Array, Chip, Number, overlapped

TILES = ((64, 64), (64, 128), (128, 64), (128, 128), (64, 256), (256, 64), (128, 256), (256, 128))
SPLITS = (1, 2, 4, 8, 16, 32)
STEP = 64
"""How much of k a tile takes at a time."""
PARTIAL_BYTES = 4
PARTIAL_TRIPS = 2
"""A partial sum of a split is written once and read once."""
FEED_SHARPNESS = 4.0
POWER_SHARPNESS = 3.0


@dataclass(frozen=True, slots=True)
class GemmParameters:
    """What a product's time has besides datasheet values; `feed` is a documented rate, the others are fitted."""

    compute: float
    """Share of the peak that a unit reaches within a tile, at most 1."""
    memory: float
    """Share of main memory's bandwidth that is reached, at most 1."""
    launch: float
    """Seconds before and after the work."""
    fill: float
    """Cycles of a wave outside of its inner loop: first loads, last stores."""
    tile: float
    """Outputs that a unit computes in the time of fewer: the least tile that keeps it busy."""
    feed: float
    """Bytes a cycle from the on-chip memory to a unit."""
    latency: float
    """Cycles until main memory delivers."""
    split: float
    """Cycles to add up the partial sums of a split k, besides their bytes."""
    joule: float
    """Joules of a FLOP, of which the chip's power limit allows so many a second."""
    sharpness: float
    """How well work and memory overlap: the exponent of their p-norm, 1 (not at all) or more."""
    convert: float = 0.0
    """Bytes moved per element of the activations to bring them into the product's format before."""


def gemm_terms(
    m: Number, n: Number, k: Number, chip: Chip, p: GemmParameters, *,
    bytes_per_element: Number = 2.0, output_bytes: Number = 2.0, weight_bytes: Number | None = None,
) -> dict[str, Array]:  # fmt: skip
    """Return the parts of a product's time in seconds, and the tile and split that were chosen.

    `weight_bytes` is per element of the [k, n] operand, where it differs.
    """
    m, n, k = (np.asarray(d, np.float64) for d in (m, n, k))
    each = bytes_per_element if weight_bytes is None else weight_bytes
    moved = m * k * bytes_per_element + k * n * each + m * n * output_bytes
    memory = moved / (chip.bandwidth * p.memory) + p.latency / chip.clock
    work, choice = _work(m, n, k, chip, p, bytes_per_element)
    power = 2.0 * m * n * k * p.joule / chip.power
    count = len(SPLITS)
    return {
        "launch": np.asarray(p.launch),
        "convert": np.asarray(m * k * p.convert / chip.bandwidth),
        "work": work,
        "memory": np.asarray(memory),
        "power": np.asarray(power),
        "tile_rows": np.asarray([t[0] for t in TILES])[choice // count],
        "tile_columns": np.asarray([t[1] for t in TILES])[choice // count],
        "split": np.asarray(SPLITS)[choice % count],
    }


def gemm_seconds(
    m: Number, n: Number, k: Number, chip: Chip, p: GemmParameters, *,
    bytes_per_element: Number = 2.0, output_bytes: Number = 2.0, weight_bytes: Number | None = None,
) -> Array:  # fmt: skip
    """Return the seconds of products, any argument an array."""
    terms = gemm_terms(
        m, n, k, chip, p, bytes_per_element=bytes_per_element, output_bytes=output_bytes,
        weight_bytes=weight_bytes,
    )  # fmt: skip
    return composed(terms, p)


def composed(terms: dict[str, Array], p: GemmParameters) -> Array:
    """Return the time that the parts make together."""
    busy = overlapped(POWER_SHARPNESS, terms["work"], terms["power"])
    beside = overlapped(p.sharpness, busy, terms["memory"])
    return np.asarray(terms["launch"] + terms["convert"] + beside)


def _work(
    m: Array, n: Array, k: Array, chip: Chip, p: GemmParameters, operand: Number
) -> tuple[Array, NDArray[np.int64]]:
    """Return the units' time with the best tile and split, and its number."""
    best: Array | None = None
    choice: NDArray[np.int64] = np.zeros((), np.int64)
    for number, time in enumerate(_choices(m, n, k, chip, p, operand)):
        if best is None:
            best = np.asarray(time)
            continue
        choice = np.asarray(np.where(time < best, number, choice), np.int64)
        best = np.minimum(best, time)
    if best is None:
        raise AssertionError("no tile shapes")
    return best, choice


def _choices(
    m: Array, n: Array, k: Array, chip: Chip, p: GemmParameters, operand: Number
) -> Iterator[Array]:
    """Yield the units' time for every tile shape and split of k."""
    unit = chip.peak / chip.units
    feed = p.feed * chip.clock * chip.multicast
    least = 2.0 * STEP * p.tile / unit
    fill = p.fill / chip.clock
    steps = [np.ceil(k / (STEP * split)) for split in SPLITS]
    partial = PARTIAL_TRIPS * PARTIAL_BYTES * m * n / (p.feed * chip.clock * chip.units)
    for rows, columns in TILES:
        tiles = np.ceil(m / rows) * np.ceil(n / columns) / chip.units
        step = overlapped(
            FEED_SHARPNESS,
            2.0 * STEP * rows * columns / (unit * p.compute),
            (rows + columns) * operand * STEP / feed,
            least,
        )
        for split, count in zip(SPLITS, steps, strict=True):
            time = np.ceil(tiles * split) * (count * step + fill)
            added = partial * split + p.split / chip.clock if split > 1 else 0.0
            yield np.asarray(time + added)
