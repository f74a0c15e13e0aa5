"""Time of a matrix product [m, k] x [k, n]: tiles in waves over the units, beside main memory and the power limit.

Every tile shape and split of k is tried, as a library's heuristics would, and the quickest is taken. Which library is
not known here: a calibration is of one library on one chip. The activations were just made, so they are still on the
chip where they fit; the weights lie in main memory, unless a product so small is repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from device_model.cost.chip import Array, Chip, Number, overlapped

TILES = ((64, 64), (64, 128), (64, 256), (128, 64), (128, 128), (128, 256))
FINE_TILES = ((64, 96), (128, 96), (128, 160), (128, 192), (192, 128), (192, 192))
"""Shapes besides, of units that take operands of any width from memory that copies fill."""
SPLITS = (1, 2, 4, 8, 16, 32)
MOST_SPLIT = 1 << 18
"""Outputs of a tile times parts of k: larger tiles are split into fewer."""
STEP = 64
"""How much of k a tile takes at a time."""
CHOICES = tuple(
    (rows, columns, split)
    for rows, columns in TILES + FINE_TILES
    for split in SPLITS
    if rows * columns * split <= MOST_SPLIT
)
WIDE = 8192
"""FLOPs a cycle of a unit times bytes of an operand: units beyond are fed as much more, as they are built to be."""
PARTIAL_BYTES = 4
PARTIAL_TRIPS = 4
"""A partial sum of a split is written and read, at half the rate of the operands' loads."""
LEAST_SHARPNESS = 4.0
POWER_SHARPNESS = 12.0
TURNS = 8
"""Measured weights take turns with others, so that each finds but a share of the on-chip memory."""
EDGE = 5.0
"""How steeply the share of an operand that is found on the chip falls once it does not fit."""


@dataclass(frozen=True, slots=True)
class GemmParameters:
    """What a product's time has besides datasheet values; `compute` and `hidden` are assumed, the others are fitted."""

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
    """Bytes a cycle and unit from the on-chip memory, which all units share; more for units beyond `WIDE`."""
    latency: float
    """Cycles until main memory delivers."""
    split: float
    """Cycles to add up the partial sums of a split k, besides their bytes."""
    joule: float
    """Joules drawn for each joule that a FLOP itself takes, of which the chip's power limit allows so many a second."""
    sharpness: float
    """How well work and memory overlap: the exponent of their p-norm, 1 (not at all) or more."""
    settle: float
    """Cycles after which they overlap better: what is not hidden grows with the root of a longer time alone."""
    resident: float
    """Share of the on-chip memory that keeps operands from before."""
    hidden: float = 0.5
    """Share of the stores that other tiles' work hides, where copies run on their own; else none."""
    grain: float = 1.0
    """Scale of the menu of tiles: 1 for units that take 64 rows at least."""
    convert: float = 0.0
    """Bytes moved per element of the activations to bring them into the product's format before."""


def gemm_terms(
    m: Number, n: Number, k: Number, chip: Chip, p: GemmParameters, *,
    bytes_per_element: Number = 2.0, output_bytes: Number = 2.0, weight_bytes: Number | None = None,
    repeated: Number = 1.0,
) -> dict[str, Array]:  # fmt: skip
    """Return the parts of a product's time in seconds, and the tile and split that were chosen.

    `weight_bytes` is per element of the [k, n] operand, where it differs. `repeated` tells (1 or 0) whether small
    weights may be on the chip from the same product before, as where it is measured alone.
    """
    m, n, k = (np.asarray(d, np.float64) for d in (m, n, k))
    each = bytes_per_element if weight_bytes is None else weight_bytes
    rows, weights, stored = m * k * bytes_per_element, k * n * each, m * n * output_bytes
    store = stored / (chip.bandwidth * p.memory)
    work, choice = _work(m, n, k, chip, p, bytes_per_element)
    work = np.maximum(work, 2.0 * m * n * k / chip.peak) + store * (1.0 - p.hidden * chip.copies)
    feed = _feed(chip, p, bytes_per_element)
    memory = _memory(rows, weights, store, feed, chip, p, repeated)
    unhidden = _unhidden(work, memory, chip, p)
    # However much lies on the chip, no answer is quicker than main memory moves all of the bytes.
    bound = (rows + weights + stored) / chip.bandwidth - p.launch
    power = 2.0 * m * n * k * p.joule * chip.joule / chip.power
    chosen = np.asarray(CHOICES)[choice] * np.asarray((p.grain, p.grain, 1.0))
    return {
        "launch": np.asarray(p.launch),
        "convert": np.asarray(rows / bytes_per_element * p.convert / chip.bandwidth),
        "work": work,
        "memory": memory,
        "unhidden": unhidden,
        "roofline": np.maximum(bound - np.maximum(work, memory) - unhidden, 0.0),
        "power": np.asarray(power),
        "tile_rows": chosen[..., 0],
        "tile_columns": chosen[..., 1],
        "split": chosen[..., 2],
    }


def gemm_seconds(terms: dict[str, Array]) -> Array:
    """Return the time that the parts make together."""
    beside = np.maximum(terms["work"], terms["memory"]) + terms["unhidden"] + terms["roofline"]
    limited = overlapped(POWER_SHARPNESS, beside, terms["power"])
    return np.asarray(terms["launch"] + terms["convert"] + limited)


def _feed(chip: Chip, p: GemmParameters, operand: Number) -> Number:
    """Return the bytes/s that the on-chip memory gives all units."""
    width = chip.peak / (chip.units * chip.clock) * operand
    return p.feed * np.maximum(width / WIDE, 1.0) * chip.clock * chip.units


def _memory(
    rows: Array, weights: Array, store: Array, feed: Number, chip: Chip, p: GemmParameters,
    repeated: Number,
) -> Array:  # fmt: skip
    """Return the time of the operands' bytes: from main memory, or from the chip's own where they are still there."""
    share = p.resident * chip.onchip
    kept = np.clip(EDGE * (1.0 - rows / share), 0.0, 1.0)
    again = np.clip(EDGE * (1.0 - weights * TURNS / share), 0.0, 1.0) * repeated
    found = kept * rows + again * weights
    near = found / feed
    far = (rows + weights - found) / (chip.bandwidth * p.memory)
    return np.asarray(near + far + store + p.latency / chip.clock)


def _unhidden(work: Array, memory: Array, chip: Chip, p: GemmParameters) -> Array:
    """Return what the shorter of work and memory adds to the longer.

    Copies that run on their own get ahead, so that unevenness averages out over time; other units stay as uneven.
    """
    shorter, longer = np.minimum(work, memory), np.maximum(work, memory)
    settle = p.settle / chip.clock
    uneven = np.where(np.asarray(chip.copies) > 0, np.sqrt(settle / (shorter + settle)), 1.0)
    return np.asarray((overlapped(p.sharpness, work, memory) - longer) * uneven)


def _work(
    m: Array, n: Array, k: Array, chip: Chip, p: GemmParameters, operand: Number
) -> tuple[Array, NDArray[np.int64]]:
    """Return the units' time with the best tile and split, and its place among the choices."""
    times = _choices(m, n, k, chip, p, operand)
    best = np.array(next(times))
    choice = np.zeros(best.shape, np.int64)
    for number, time in enumerate(times, 1):
        np.copyto(choice, number, where=time < best)
        np.minimum(best, time, out=best)
    return best, choice


def _choices(
    m: Array, n: Array, k: Array, chip: Chip, p: GemmParameters, operand: Number
) -> Iterator[Array]:
    """Yield the units' time for every tile shape and split of k."""
    # A lightly loaded chip exceeds the clock of its datasheet's peak; the power limit sees to the others.
    unit = chip.peak / chip.units * np.maximum(chip.boost / chip.clock, 1.0)
    feed = _feed(chip, p, operand)
    fed = operand * STEP / (feed * chip.multicast)
    least = 2.0 * STEP * p.tile / unit
    fill = p.fill / chip.clock
    steps = {split: np.ceil(k / (STEP * split)) for split in SPLITS}
    loads = {split: count * (split * fed) for split, count in steps.items()}
    partial = PARTIAL_TRIPS * PARTIAL_BYTES * m * n / feed
    added = {split: partial * split + p.split / chip.clock for split in SPLITS}
    copies = np.asarray(chip.copies) > 0
    for (rows, columns), choices in groupby(CHOICES, key=lambda choice: choice[:2]):
        high, wide = rows * p.grain, columns * p.grain
        tiles = np.ceil(m / high) * np.ceil(n / wide)
        share, filled = tiles / chip.units, tiles * (high + wide)
        busy = 2.0 * STEP * high * wide / (unit * p.compute)
        step = overlapped(LEAST_SHARPNESS, busy, least)
        if (rows, columns) in FINE_TILES:
            step = np.where(copies, step, np.inf)
        for *_, split in choices:
            waves = np.ceil(share * split)
            time = np.maximum(waves * (steps[split] * step + fill), filled * loads[split])
            yield time + added[split] if split > 1 else time
