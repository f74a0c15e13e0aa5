# SPDX-License-Identifier: Apache-2.0
"""Time of attention on a chip: prefill (many new tokens a sequence, causal) and decode (few new tokens, a long cache).

Prefill deals tiles of query rows to the units, the longest first: rows of a key-value head's queries, packed, against
tiles of as many cached tokens. A score costs its two matmuls and an exponential, which does not shrink with the head
dimension. New keys and values are written to the cache, read back, and moved along with queries and outputs.
Decode deals one tile of queries a key-value head; when units would idle, the cache is split among them and the parts
are merged. The cache streams beside the arithmetic, from memory or, as far as it stays there, from on-chip memory.
Heads too wide for a unit's registers (`WIDEST`) run on a fallback kernel with a fixed number of segments.

Times hold for one call with all sequences alike, the keys and values in the chip's own dtype, and (unless `warm` is 0)
a cache that the call before left on the chip. Not modelled: ragged batches, pages smaller than a tile, power limits,
projections and rotations.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np
from numpy.typing import NDArray

from device_model.cost.chip import Array, Chip, Number, floats, overlapped

# What is not said to be fitted is assumed: `sohu calibrate` moves the fields of the parameters alone.
WIDEST = 256
"""Widest head whose accumulators, for a whole tile of queries in 32 bits, fit the registers of a unit."""
SEGMENTS = 16
"""Parts into which the fallback kernel cuts every sequence."""
PLANNED = 512
"""Sequences up to which a batch is planned: looked up one by one, and segmented in the fallback kernel."""
ROW = 256
"""Bytes that the write of one token of one head to the cache moves at least."""
SHARPNESS = 2.0
"""Exponent of the norm by which decode's arithmetic and stream hide each other; stands for a memory efficiency too."""


@dataclass(frozen=True, slots=True)
class Attention:
    """The shape of causal attention: sequences that are alike, each with new tokens after cached ones."""

    batch: Number
    """Sequences."""
    new: Number
    """New tokens of each."""
    context: Number
    """Tokens of each that were cached before."""
    heads: Number
    """Query heads."""
    kv_heads: Number
    """Key-value heads."""
    head_dim: Number
    """Elements of a query or key, and of a value where `value_dim` does not say otherwise."""
    _: KW_ONLY
    element: Number = 2.0
    """Bytes of an element of the cache."""
    window: Number | None = None
    """Tokens that a query sees, itself included; None for all."""
    value_dim: Number | None = None
    """Where keys are a latent, read once: how many of its elements are the values."""

    @property
    def seen(self) -> Number:
        """Return the tokens of a sequence that its new ones see together, themselves included."""
        return _span(self.new, self.context, self.window)

    @property
    def values(self) -> Number:
        """Return the elements of a value."""
        return self.head_dim if self.value_dim is None else self.value_dim

    @property
    def pairs(self) -> Array:
        """Return the (query, key) pairs of a sequence."""
        return visible_pairs(self.new, self.context, self.window)


@dataclass(frozen=True, slots=True)
class _Tiling:
    """How attention is dealt to the units, in tiles and in seconds of one unit."""

    tiles: Number
    """Tiles of queries of all sequences and heads."""
    per_unit: Number
    """The same for each unit, not rounded."""
    longest: Number
    """Tiles of the cache that the longest of them visits."""
    step: Number
    """Seconds of a unit for one tile of queries on one tile of the cache."""


@dataclass(frozen=True, slots=True)
class PrefillParameters:
    """How well a chip prefills; nothing here depends on the head layout."""

    launch: float
    """Seconds of all kernels of a call before any work."""
    masked: float
    """Seconds that a call with more than one new token a sequence adds: the kernel with the causal mask."""
    setup: float
    """Seconds a unit spends around a tile: first loads, last stores, normalisation."""
    scan: float
    """Seconds per sequence to look up its place in the batch."""
    merge: float
    """Seconds to merge the parts of a split cache."""
    tile: float
    """Query rows, and cached tokens, of a tile."""
    matmul: float
    """Share of the peak that a unit reaches inside of a tile."""
    exponential: float
    """FLOPs that the matmul unit forgoes per score, for its exponential and bookkeeping."""
    wide: float
    """Speed of a tile of the fallback kernel relative to the usual one."""
    memory: float
    """Share of the bandwidth that is reached."""


@dataclass(frozen=True, slots=True)
class DecodeParameters:
    """How well a chip decodes; nothing here depends on the head layout."""

    launch: float
    """Seconds of all kernels of a call before any work."""
    setup: float
    """Seconds a unit spends around a part of the cache: first loads, last stores, normalisation."""
    scan: float
    """Seconds per sequence to look up its place in the batch."""
    merge: float
    """Seconds to merge the parts of a split cache."""
    splits: float
    """Parts at most into which a key-value head's cache is split."""
    tile: float
    """Query rows, padded, and cached tokens of a tile."""
    matmul: float
    """Share of the peak that a unit reaches inside of a tile."""
    hit: float
    """Bandwidth of on-chip memory relative to that of main memory."""
    resident: float
    """Share of on-chip memory that holds a cache from one call to the next."""
    program: float
    """Seconds of a unit that a segment of the fallback kernel takes whatever its length."""


def visible_pairs(new: Number, context: Number, window: Number | None = None) -> Array:
    """Return how many (query, key) pairs a sequence has: causal among the new tokens, clipped by a window."""
    new, context = np.asarray(new, np.float64), np.asarray(context, np.float64)
    if window is None:
        return new * (context + (new + 1) / 2)
    growing = np.clip(window - context, 0.0, new)
    return growing * (context + (growing + 1) / 2) + (new - growing) * window


def _span(new: Number, context: Number, window: Number | None) -> Number:
    """Return the cached tokens that `new` neighbouring queries see together."""
    if window is None:
        return context + new
    seen: Number = np.minimum(context, window - 1.0) + new
    return seen


def _cached_tiles(
    count: Number, tokens: Number, tile: Number, context: Number, window: Number | None
) -> Array:
    """Return the cached tiles that a head's `count` query tiles visit, which end `tokens` apart.

    A tile of the cache that one ends in counts whole; so does the one that a window begins in, half the time.
    """
    rounding = np.maximum(0.0, 1 - tokens / tile) / 2
    whole = count * np.maximum((context + tokens * (count + 1) / 2) / tile + rounding, 1.0)
    if window is None:
        return np.asarray(whole)
    clip = window + np.maximum(tokens, 1.0) - 1
    rising = np.clip(np.floor((clip - context) / tokens), 0.0, count)
    growing = rising * ((context + tokens * (rising + 1) / 2) / tile + rounding)
    clipped = growing + (count - rising) * (clip / tile + rounding + 0.5)
    return np.asarray(np.minimum(np.maximum(clipped, count), whole))


def prefill_terms(shape: Attention, chip: Chip, p: PrefillParameters) -> dict[str, Array]:
    """Return the parts of the time of a prefill, in seconds, which add up."""
    s = floats(shape)
    tiling, visits = _prefill_tiles(s, chip, p)
    setup = tiling.tiles * p.setup / chip.units
    compute = s.batch * s.kv_heads * visits * tiling.step / chip.units
    busy, chosen = _prefill_waves(tiling, setup + compute, chip, p)
    # Queries and results, keys and values once each, at the share of main memory that is reached (fitted: `memory`).
    moved = 2 * s.batch * (s.new * s.heads + s.kv_heads * s.seen) * s.head_dim * s.element
    written = 4 * s.batch * s.new * s.kv_heads * np.maximum(s.head_dim * s.element, ROW)
    bandwidth = np.asarray(chip.bandwidth) * p.memory
    terms = {
        # Seconds of starting, of the mask and of each sequence (fitted: `launch`, `masked`, `scan`).
        "launch": p.launch + np.where(s.new > 1, p.masked, 0.0),
        "scan": np.asarray(p.scan * s.batch),
        "setup": np.asarray(setup),
        "compute": np.asarray(compute),
        "waves": np.asarray(busy - (setup + compute)),
        "split": np.where(chosen, p.merge, 0.0),
        "memory": np.asarray(moved / bandwidth),
        "cache write": np.asarray(written / bandwidth),
    }
    return _roofline(4 * s.head_dim * s.heads * s.batch * s.pairs, moved, chip, terms)


def _prefill_tiles(s: Attention, chip: Chip, p: PrefillParameters) -> tuple[_Tiling, Array]:
    """Return how a prefill is dealt out, and the tiles of the cache that one head of one sequence visits."""
    # Rows of a tile (fitted: `tile`): queries of a group's heads, fewer where they are too wide for the registers.
    rows = np.floor(p.tile) * np.minimum(1.0, WIDEST / s.head_dim)
    group = s.heads / s.kv_heads
    count = np.ceil(s.new * group / rows)
    # The last tile of queries is the longest: it sees the whole cache before it.
    tail = np.minimum(s.new, np.maximum(rows / group, 1.0))
    last = np.ceil(_span(tail, s.context + s.new - tail, s.window) / rows)
    visits = np.where(
        count > 1, _cached_tiles(count, rows / group, rows, s.context, s.window), last
    )
    # A step: two matmuls and an exponential a score (fitted: `matmul`, `exponential`; `wide` of the fallback kernel).
    rate = chip.peak / chip.units * p.matmul * np.where(s.head_dim > WIDEST, p.wide, 1.0)
    step = rows * rows * (4 * s.head_dim + p.exponential) / rate
    tiles = s.batch * s.kv_heads * count
    return _Tiling(tiles, tiles / chip.units, last, step), visits


def _prefill_waves(
    t: _Tiling, even: Number, chip: Chip, p: PrefillParameters
) -> tuple[Array, NDArray[np.bool_]]:
    """Return the time of the busiest unit and where the cache is split; `even` is the mean of all units."""
    # The longest tiles start first, so the last wave is one of short tiles.
    waves = even + (np.ceil(t.per_unit) - t.per_unit) * (p.setup + t.step)
    whole = np.maximum(waves, p.setup + t.longest * t.step)
    # Split: units that would idle take parts of the cache, which are merged (fitted: `merge`).
    parts = np.clip(chip.units / t.tiles, 1.0, t.longest)
    split = np.maximum(even, p.setup + t.longest / parts * t.step)
    chosen = np.asarray(split + p.merge < whole)
    return np.where(chosen, split, whole), chosen


def decode_terms(
    shape: Attention, chip: Chip, p: DecodeParameters, *, warm: Number = 1.0
) -> dict[str, Array]:
    """Return the parts of the time of a decode step, in seconds, which add up; `memory` is what stays exposed.

    `warm` scales the hits of a cache that the call before left on the chip.
    """
    s = floats(shape)
    tiling = _decode_tiles(s, chip, p)
    stream, moved = _stream(s, chip, p, warm)
    scan = p.scan * np.minimum(s.batch, PLANNED)
    busy, chosen = _decode_waves(tiling, stream, chip, p)
    setup = tiling.per_unit * p.setup
    # A latent has kernels made for it; other heads too wide for the registers run on the fallback.
    wide = (s.head_dim > WIDEST) & (s.value_dim is None)
    slow, slow_setup = _fallback(s, tiling, scan, chip, p)
    busy, setup = np.where(wide, slow, busy), np.where(wide, slow_setup, setup)
    compute = np.minimum(
        tiling.per_unit * tiling.longest * tiling.step, busy - np.minimum(setup, busy)
    )
    terms = {
        "launch": np.asarray(p.launch, np.float64),
        "scan": scan,
        "setup": setup,
        "compute": compute,
        "waves": busy - setup - compute,
        "split": np.where(chosen & ~wide, p.merge, 0.0),
        "memory": overlapped(SHARPNESS, busy, stream) - busy,
    }
    flops = 2 * (s.head_dim + s.values) * s.heads * s.batch * s.pairs
    return _roofline(flops, moved, chip, terms)


def _decode_tiles(s: Attention, chip: Chip, p: DecodeParameters) -> _Tiling:
    """Return how a decode step is dealt out: a tile of queries a key-value head (fitted: `tile`, `matmul`)."""
    rows = np.floor(p.tile) * np.minimum(1.0, WIDEST / s.values)
    rate = chip.peak / chip.units * p.matmul
    step = rows * np.floor(p.tile) * 2 * (s.head_dim + s.values) / rate
    tiles = s.batch * s.kv_heads * np.ceil(s.new * s.heads / s.kv_heads / rows)
    return _Tiling(tiles, tiles / chip.units, np.ceil(s.seen / np.floor(p.tile)), step)


def _stream(s: Attention, chip: Chip, p: DecodeParameters, warm: Number) -> tuple[Number, Number]:
    """Return the seconds of the cache, queries and results through memory, and their bytes."""
    # A latent's values are a part of its keys: no second read.
    wide = s.head_dim if s.value_dim is not None else 2 * s.head_dim
    cache = s.batch * s.kv_heads * s.seen * wide * s.element
    moved = cache + s.batch * s.new * s.heads * (s.head_dim + s.values) * s.element
    # A cache that is read in a circle starts to evict itself at the capacity (fitted: `resident`) and keeps nothing at
    # twice that; what it keeps comes faster (fitted: `hit`).
    capacity = np.maximum(np.asarray(chip.onchip) * p.resident, 1.0)
    hits = np.clip(2 - cache / capacity, 0.0, 1.0) * np.asarray(warm)
    return moved / chip.bandwidth * (hits / p.hit + 1 - hits), moved


def _decode_waves(
    t: _Tiling, stream: Number, chip: Chip, p: DecodeParameters
) -> tuple[Array, NDArray[np.bool_]]:
    """Return the time of the busiest unit and where the cache is split, which is judged beside the stream."""
    # Whole: a wave of units works off the cache, tile by tile (fitted: `setup`).
    whole = np.ceil(t.per_unit) * (p.setup + t.longest * t.step)
    # Split: units that would idle take parts of the cache, which are merged (fitted: `splits`, `merge`).
    parts = np.clip(chip.units / t.tiles, 1.0, np.minimum(t.longest, p.splits))
    split = np.maximum(1.0, t.tiles * parts / chip.units) * (p.setup + t.longest / parts * t.step)
    chosen = np.asarray(
        overlapped(SHARPNESS, split, stream) + p.merge < overlapped(SHARPNESS, whole, stream)
    )
    return np.where(chosen, split, whole), chosen


def _fallback(
    s: Attention, t: _Tiling, scan: Number, chip: Chip, p: DecodeParameters
) -> tuple[Number, Number]:
    """Return the time of the busiest unit on the fallback kernel, and what of it is setup (fitted: `program`)."""
    segments = np.where(s.batch <= PLANNED, float(SEGMENTS), 1.0)
    depth = t.tiles * segments / chip.units
    setup = depth * (p.program + scan)
    work = np.maximum(depth, 1.0) * np.maximum(t.longest / segments, 1.0) * t.step
    return setup + work, setup


def attention_seconds(terms: dict[str, Array]) -> Array:
    """Return the time that the parts of either kind make together: their sum."""
    return np.asarray(sum(terms.values()), np.float64)


def _roofline(
    flops: Number, moved: Number, chip: Chip, terms: dict[str, Array]
) -> dict[str, Array]:
    """Return the terms, lifted to the speed of light where they are below."""
    floor = np.maximum(flops / np.asarray(chip.peak), moved / np.asarray(chip.bandwidth))
    return {**terms, "roofline": np.maximum(floor - sum(terms.values()), 0.0)}
