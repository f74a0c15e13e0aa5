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

from dataclasses import dataclass

import numpy as np

from device_model.cost.chip import Array, Chip, Number, overlapped

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


def _floats(*numbers: Number) -> tuple[Array, ...]:
    return tuple(np.asarray(number, np.float64) for number in numbers)


def visible_pairs(new: Number, context: Number, window: Number | None = None) -> Array:
    """Return how many (query, key) pairs a sequence has: causal among the new tokens, clipped by a window."""
    new, context = _floats(new, context)
    if window is None:
        return new * (context + (new + 1) / 2)
    growing = np.clip(window - context, 0.0, new)
    return growing * (context + (growing + 1) / 2) + (new - growing) * window


def _span(new: Array, context: Array, window: Number | None) -> Array:
    """Return the cached tokens that `new` neighbouring queries see together."""
    return context + new if window is None else np.minimum(context, window - 1.0) + new


def _roofline(flops: Array, moved: Array, chip: Chip, terms: dict[str, Array]) -> dict[str, Array]:
    """Return the terms, lifted to the speed of light where they are below."""
    floor = np.maximum(flops / np.asarray(chip.peak), moved / np.asarray(chip.bandwidth))
    return {**terms, "roofline": np.maximum(floor - sum(terms.values()), 0.0)}


def _cached_tiles(
    count: Array, tokens: Array, tile: Array, context: Array, window: Number | None
) -> Array:
    """Return the cached tiles that a head's `count` query tiles visit, which end `tokens` apart.

    A tile of the cache that one ends in counts whole; so does the one that a window begins in, half the time.
    """
    rounding = np.maximum(0.0, 1 - tokens / tile) / 2
    whole = count * np.maximum((context + tokens * (count + 1) / 2) / tile + rounding, 1.0)
    if window is None:
        return whole
    clip = window + np.maximum(tokens, 1.0) - 1
    rising = np.clip(np.floor((clip - context) / tokens), 0.0, count)
    growing = rising * ((context + tokens * (rising + 1) / 2) / tile + rounding)
    clipped = growing + (count - rising) * (clip / tile + rounding + 0.5)
    return np.asarray(np.minimum(np.maximum(clipped, count), whole))


def prefill_terms(
    batch: Number,
    new: Number,
    context: Number,
    heads: Number,
    kv_heads: Number,
    head_dim: Number,
    chip: Chip,
    p: PrefillParameters,
    *,
    bytes_per_element: Number = 2,
    window: Number | None = None,
) -> dict[str, Array]:
    """Return the parts of the time of a prefill, in seconds, which add up."""
    batch, new, context, heads, kv_heads, head_dim = _floats(
        batch, new, context, heads, kv_heads, head_dim
    )
    size, units = np.asarray(bytes_per_element, np.float64), np.asarray(chip.units, np.float64)
    wide = head_dim > WIDEST
    rows = np.floor(p.tile) * np.minimum(1.0, WIDEST / head_dim)
    group = heads / kv_heads
    count = np.ceil(new * group / rows)
    tail = np.minimum(new, np.maximum(rows / group, 1.0))
    last = np.ceil(_span(tail, context + new - tail, window) / rows)
    cached = np.where(count > 1, _cached_tiles(count, rows / group, rows, context, window), last)
    rate = np.asarray(chip.peak) / units * p.matmul * np.where(wide, p.wide, 1.0)
    step = rows * rows * (4 * head_dim + p.exponential) / rate

    tiles = batch * kv_heads * count
    setup = tiles * p.setup / units
    compute = batch * kv_heads * cached * step / units
    even = setup + compute
    # The longest tiles start first, so the last wave is one of short tiles.
    waves = even + (np.ceil(tiles / units) - tiles / units) * (p.setup + step)
    whole = np.maximum(waves, p.setup + last * step)
    parts = np.clip(units / tiles, 1.0, last)
    split = np.maximum(even, p.setup + last / parts * step)
    chosen = split + p.merge < whole

    bandwidth = np.asarray(chip.bandwidth) * p.memory
    written = 4 * batch * new * kv_heads * np.maximum(head_dim * size, ROW)
    seen = _span(new, context, window)
    moved = 2 * batch * (new * heads + kv_heads * seen) * head_dim * size
    terms = {
        "launch": p.launch + np.where(new > 1, p.masked, 0.0),
        "scan": p.scan * batch,
        "setup": setup,
        "compute": compute,
        "waves": np.where(chosen, split, whole) - even,
        "split": np.where(chosen, p.merge, 0.0),
        "memory": moved / bandwidth,
        "cache write": written / bandwidth,
    }
    flops = 4 * head_dim * heads * batch * visible_pairs(new, context, window)
    return _roofline(flops, moved, chip, terms)


def decode_terms(
    batch: Number,
    new: Number,
    context: Number,
    heads: Number,
    kv_heads: Number,
    head_dim: Number,
    chip: Chip,
    p: DecodeParameters,
    *,
    bytes_per_element: Number = 2,
    window: Number | None = None,
    value_dim: Number | None = None,
    warm: Number = 1.0,
) -> dict[str, Array]:
    """Return the parts of the time of a decode step, in seconds, which add up; `memory` is what stays exposed.

    `value_dim`: keys are a latent, read once, and this much of them the values. `warm` scales on-chip hits.
    """
    batch, new, context, heads, kv_heads, head_dim = _floats(
        batch, new, context, heads, kv_heads, head_dim
    )
    size, units = np.asarray(bytes_per_element, np.float64), np.asarray(chip.units, np.float64)
    # A latent's values are a part of its keys: no second read, and kernels made for it.
    values = head_dim if value_dim is None else np.asarray(value_dim, np.float64)
    wide = (head_dim > WIDEST) & (value_dim is None)
    rows = np.floor(p.tile) * np.minimum(1.0, WIDEST / values)
    seen = _span(new, context, window)
    length = np.ceil(seen / np.floor(p.tile))
    step = (
        rows
        * np.floor(p.tile)
        * 2
        * (head_dim + values)
        / (np.asarray(chip.peak) / units * p.matmul)
    )
    work = batch * kv_heads * np.ceil(new * heads / kv_heads / rows)

    cache = batch * kv_heads * seen * (head_dim if value_dim is not None else 2 * head_dim) * size
    moved = cache + batch * new * heads * (head_dim + values) * size
    capacity = np.maximum(np.asarray(chip.onchip) * p.resident, 1.0)
    # A cache that is read in a circle starts to evict itself at the capacity and keeps nothing at twice that.
    hits = np.clip(2 - cache / capacity, 0.0, 1.0) * np.asarray(warm)
    stream = moved / np.asarray(chip.bandwidth) * (hits / p.hit + 1 - hits)
    scan = p.scan * np.minimum(batch, PLANNED)

    whole = np.ceil(work / units) * (p.setup + length * step)
    parts = np.clip(units / work, 1.0, np.minimum(length, p.splits))
    split = np.maximum(1.0, work * parts / units) * (p.setup + length / parts * step)
    chosen = overlapped(SHARPNESS, split, stream) + p.merge < overlapped(SHARPNESS, whole, stream)

    segments = np.where(batch <= PLANNED, float(SEGMENTS), 1.0)
    depth = work * segments / units
    fallback = (
        depth * (p.program + scan)
        + np.maximum(depth, 1.0) * np.maximum(length / segments, 1.0) * step
    )

    busy = np.where(wide, fallback, np.where(chosen, split, whole))
    setup = np.where(wide, depth * (p.program + scan), work / units * p.setup)
    compute = np.minimum(work / units * length * step, busy - np.minimum(setup, busy))
    terms = {
        "launch": np.asarray(p.launch, np.float64),
        "scan": scan,
        "setup": setup,
        "compute": compute,
        "waves": busy - setup - compute,
        "split": np.where(chosen & ~wide, p.merge, 0.0),
        "memory": overlapped(SHARPNESS, busy, stream) - busy,
    }
    flops = 2 * (head_dim + values) * heads * batch * visible_pairs(new, context, window)
    return _roofline(flops, moved, chip, terms)


def attention_seconds(terms: dict[str, Array]) -> Array:
    """Return the time that the parts of either kind make together: their sum."""
    return np.asarray(sum(terms.values()), np.float64)
