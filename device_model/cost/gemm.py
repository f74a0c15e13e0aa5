# SPDX-License-Identifier: Apache-2.0
"""Time of a matrix product [m, k] x [k, n]: tiles in waves over the units, beside main memory and the power limit.

Every tile shape and split of k is tried, as a library's heuristics would, and the quickest is taken. Which library is
not known here: a calibration is of one library on one chip. The activations were just made, so they are still on the
chip where they fit; the weights lie in main memory, unless a product so small is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from device_model.cost.chip import Array, Chip, Number, floats, overlapped

# What is not said to be fitted is assumed: `sohu calibrate` moves the fields of `GemmParameters` alone.
TILES = ((64, 64), (64, 128), (64, 256), (128, 64), (128, 128), (128, 256))
"""Rows and columns of the menu of tiles."""
FINE_TILES = ((64, 96), (128, 96), (128, 160), (128, 192), (192, 128), (192, 192))
"""Shapes besides, of units that take operands of any width from memory that copies fill."""
SPLITS = (1, 2, 4, 8, 16, 32)
"""Parts that k may be split into."""
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
"""Bytes of a partial sum."""
PARTIAL_TRIPS = 4
"""A partial sum of a split is written and read, at half the rate of the operands' loads."""
LEAST_SHARPNESS = 4.0
"""Exponent of the p-norm by which a tile's arithmetic and the least tile's time pass into each other."""
POWER_SHARPNESS = 12.0
"""The same of the time of a product and its time at the power limit: nearly their maximum."""
TURNS = 8
"""Measured weights take turns with others, so that each finds but a share of the on-chip memory."""
EDGE = 5.0
"""How steeply the share of an operand that is found on the chip falls once it does not fit."""


@dataclass(frozen=True, slots=True)
class Product:
    """The shape of a product [m, k] x [k, n] = [m, n]: elements along each axis, bytes of each matrix's elements."""

    m: Number
    """Rows of the activations."""
    n: Number
    """Columns of the weights."""
    k: Number
    """Contracted elements."""
    _: KW_ONLY
    x_bytes: Number = 2.0
    """Bytes of an element of the activations [m, k]; the matmul unit takes both operands so."""
    w_bytes: Number = 2.0
    """Bytes of an element of the weights [k, n] in memory."""
    y_bytes: Number = 2.0
    """Bytes of an element of the result [m, n]."""
    repeated: Number = 1.0
    """1 where small weights may be on the chip from the same product before, as where it is measured alone; else 0."""

    @property
    def flops(self) -> Number:
        """Return its FLOPs."""
        return 2.0 * self.m * self.n * self.k

    @property
    def x(self) -> Number:
        """Return the bytes of the activations."""
        return self.m * self.k * self.x_bytes

    @property
    def w(self) -> Number:
        """Return the bytes of the weights."""
        return self.k * self.n * self.w_bytes

    @property
    def y(self) -> Number:
        """Return the bytes of the result."""
        return self.m * self.n * self.y_bytes


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


def gemm_terms(shape: Product, chip: Chip, p: GemmParameters) -> dict[str, Array]:
    """Return the parts of a product's time in seconds, and the tile and split that were chosen."""
    s = floats(shape)
    work, choice = _work(s, chip, p)
    memory = _memory(s, chip, p)
    unhidden = _unhidden(work, memory, chip, p)
    chosen = np.asarray(CHOICES)[choice] * np.asarray((p.grain, p.grain, 1.0))
    # However much lies on the chip, no answer is quicker than main memory moves all of the bytes.
    bound = (s.x + s.w + s.y) / chip.bandwidth - p.launch
    return {
        "launch": np.asarray(p.launch),
        "convert": np.asarray(s.x / s.x_bytes * p.convert / chip.bandwidth),
        "work": work,
        "memory": memory,
        "unhidden": unhidden,
        "roofline": np.maximum(bound - np.maximum(work, memory) - unhidden, 0.0),
        # The joules of the FLOPs, with what the chip draws besides (fitted), at the watts of its data sheet.
        "power": np.asarray(s.flops * p.joule * chip.joule / chip.power),
        "tile_rows": chosen[..., 0],
        "tile_columns": chosen[..., 1],
        "split": chosen[..., 2],
    }


def gemm_seconds(terms: dict[str, Array]) -> Array:
    """Return the time that the parts make together."""
    beside = np.maximum(terms["work"], terms["memory"]) + terms["unhidden"] + terms["roofline"]
    limited = overlapped(POWER_SHARPNESS, beside, terms["power"])
    return np.asarray(terms["launch"] + terms["convert"] + limited)


def _work(s: Product, chip: Chip, p: GemmParameters) -> tuple[Array, NDArray[np.int64]]:
    """Return the units' time with the best tile and split, and its place among the choices."""
    times = _choices(s, chip, p)
    best = np.array(next(times))
    choice = np.zeros(best.shape, np.int64)
    for number, time in enumerate(times, 1):
        np.copyto(choice, number, where=time < best)
        np.minimum(best, time, out=best)
    # Stores wait for the tiles, but for the share that others hide where copies run on their own (assumed: `hidden`).
    stores = _store(s, chip, p) * (1.0 - p.hidden * chip.copies)
    return np.maximum(best, s.flops / chip.peak) + stores, choice


def _choices(s: Product, chip: Chip, p: GemmParameters) -> Iterator[Array]:
    """Yield the units' time for every tile shape and split of k."""
    # Tiles: how many there are, and how long a unit takes for one step of one.
    step_of = _tile_step(chip, p)
    steps = {split: np.ceil(s.k / (STEP * split)) for split in SPLITS}
    # Waves: rounds of tiles over the units, each with its first loads and last stores (fitted: `fill`).
    fill = p.fill / chip.clock
    # All tiles together take their operands from the on-chip memory no faster than it feeds (fitted: `feed`).
    fed = s.x_bytes * STEP / (_feed(s, chip, p) * chip.multicast)
    loads = {split: count * (split * fed) for split, count in steps.items()}
    added = _added(s, chip, p)
    for tile, choices in groupby(CHOICES, key=lambda choice: choice[:2]):
        high, wide = tile[0] * p.grain, tile[1] * p.grain
        tiles = np.ceil(s.m / high) * np.ceil(s.n / wide)
        share, edges = tiles / chip.units, tiles * (high + wide)
        step = step_of(tile)
        for *_, split in choices:
            waves = np.ceil(share * split)
            time = np.maximum(waves * (steps[split] * step + fill), edges * loads[split])
            yield time + added[split] if split > 1 else time


def _tile_step(chip: Chip, p: GemmParameters) -> Callable[[tuple[int, int]], Array]:
    """Return what gives a unit's seconds for `STEP` of k of a tile."""
    # A lightly loaded chip exceeds the clock of its datasheet's peak; the power limit sees to the others.
    unit = chip.peak / chip.units * np.maximum(chip.boost / chip.clock, 1.0)
    # A tile below so many outputs (fitted: `tile`) does not keep a unit busy.
    least = 2.0 * STEP * p.tile / unit
    copies = np.asarray(chip.copies) > 0

    def step(tile: tuple[int, int]) -> Array:
        busy = 2.0 * STEP * (tile[0] * p.grain) * (tile[1] * p.grain) / (unit * p.compute)
        taken = overlapped(LEAST_SHARPNESS, busy, least)
        return np.where(copies, taken, np.inf) if tile in FINE_TILES else taken

    return step


def _added(s: Product, chip: Chip, p: GemmParameters) -> dict[int, Number]:
    """Return by split the seconds to add up its partial sums: their bytes, and some besides (fitted: `split`)."""
    partial = PARTIAL_TRIPS * PARTIAL_BYTES * s.m * s.n / _feed(s, chip, p)
    return {split: partial * split + p.split / chip.clock for split in SPLITS}


def _feed(s: Product, chip: Chip, p: GemmParameters) -> Number:
    """Return the bytes/s that the on-chip memory gives all units."""
    width = chip.peak / (chip.units * chip.clock) * s.x_bytes
    feed: Number = p.feed * np.maximum(width / WIDE, 1.0) * chip.clock * chip.units
    return feed


def _store(s: Product, chip: Chip, p: GemmParameters) -> Number:
    """Return the seconds that main memory takes for the result, at the share of its rate that is reached (fitted)."""
    return s.y / (chip.bandwidth * p.memory)


def _memory(s: Product, chip: Chip, p: GemmParameters) -> Array:
    """Return the time of the operands' bytes: from main memory, or from the chip's own where they are still there."""
    # On the chip: the activations were just made; of the weights what their last turn left (fitted: `resident`).
    x, w, share = s.x, s.w, p.resident * chip.onchip
    kept = np.clip(EDGE * (1.0 - x / share), 0.0, 1.0)
    again = np.clip(EDGE * (1.0 - w * TURNS / share), 0.0, 1.0) * s.repeated
    held = kept * x + again * w
    near = held / _feed(s, chip, p)
    # From main memory: the rest, the result, and the wait for the first byte (fitted: `memory`, `latency`).
    far = (x + w - held) / (chip.bandwidth * p.memory)
    return np.asarray(near + far + _store(s, chip, p) + p.latency / chip.clock)


def _unhidden(work: Array, memory: Array, chip: Chip, p: GemmParameters) -> Array:
    """Return what the shorter of work and memory adds to the longer.

    Copies that run on their own get ahead, so that unevenness averages out over time; other units stay as uneven.
    """
    shorter, longer = np.minimum(work, memory), np.maximum(work, memory)
    settle = p.settle / chip.clock
    uneven = np.where(np.asarray(chip.copies) > 0, np.sqrt(settle / (shorter + settle)), 1.0)
    return np.asarray((overlapped(p.sharpness, work, memory) - longer) * uneven)
