"""Time of one rank's expert layer: two grouped matmuls, the routing before and the reduction behind them.

Tokens are dealt to experts as the routing says: round robin, or loads drawn from a power law with the most loaded rank
as ours. Each expert that is hit reads its weights and pads its tokens to whole tiles; the menu of tiles is that of the
measured kernel and follows from the number of tokens. Ranks see all tokens and keep what their experts take.

Expectations replace draws: a load is integrated over the law, so a single unlucky batch is not predicted. The gate's
matmul, shared experts, and the exchange between ranks are other operations. Kernels tuned for one shape are not known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_model.cost.chip import Array, Chip, Number, overlapped

TILE_ROWS = ((32, 16), (96, 32), (512, 64), (np.inf, 128))
"""The kernel's menu: up to so many tokens, tiles of so many rows."""
NARROW_TOKENS = 64  # up to here tiles are 64 columns wide and 128 deep, above 128 wide and 64 deep
GROUP_TOKENS = 128  # above so many tokens per local expert, neighbouring tiles share a pass over the weights ...
GROUP_TILES = 16  # ... of so many
RESIDENT = 2  # tiles that a unit holds at once, by the size of their pipelines
MIDDLE_TILE = 64.0 * 128.0
ALIGNED = 16  # elements: rows of another multiple are not loaded as vectors
KERNELS = 5  # choice, two matmuls, activation, sum
SORTING = 3  # counting, sorting and mapping tokens
SPARSE = 4  # with fewer choices than experts by this factor, tokens are not sorted
CROWDING = 0.45  # how the largest of n-expert ranks leans to high loads; from draws of the law, not from times
SHARPNESS = 3.0
NODES = 48  # of the integration over loads


@dataclass(frozen=True, slots=True)
class MoeParameters:
    """Fitted constants of an expert layer's kernels."""

    launch: float
    """Seconds to start one kernel."""
    route: float
    """Seconds to route, sort and place one token at one expert."""
    compute: float
    """Share of the peak in a tile's matmul."""
    stream: float
    """Share of the memory's bandwidth."""
    turn: float
    """Seconds that a tile waits for one step of its operands, at 128 rows and columns together."""
    tile: float
    """Seconds to begin a tile, and as many to end one of 64 x 128."""
    zero: float
    """Seconds to write the zeros of one tile of another rank's expert."""
    ragged: float
    """Time of a second matmul whose rows are not aligned, in times of an aligned one."""


@dataclass(frozen=True, slots=True)
class Routing:
    """What the local experts of the rank receive, in expectation."""

    experts: Array
    """Local experts."""
    loads: Array
    """Tokens of a local expert, along the last axis the cases of the distribution."""
    weights: Array
    """Probability of each case."""

    def hit(self) -> Array:
        """Return how many local experts receive a token."""
        return self._sum(np.minimum(self.loads, 1.0))

    def pairs(self) -> Array:
        """Return how many (token, local expert) there are."""
        return self._sum(self.loads)

    def tiles(self, rows: Array) -> Array:
        """Return how many tiles of so many rows the tokens fill, each expert its own."""
        full = np.ceil(np.maximum(self.loads, 1.0) / rows[..., None] - 1e-9)
        return self._sum(np.minimum(self.loads, 1.0) * full)

    def _sum(self, values: Array) -> Array:
        return np.asarray(self.experts * np.sum(self.weights * values, axis=-1), np.float64)


def routing(tokens: Number, experts: Number, top_k: Number, ep: Number, skew: Number) -> Routing:
    """Return the loads of the most loaded of `ep` ranks; a skew of 0 deals tokens in turn, above it is the exponent."""
    t, e, k, ranks, a = np.broadcast_arrays(
        *(np.asarray(v, np.float64)[..., None] for v in (tokens, experts, top_k, ep, skew))
    )
    local = np.maximum(e / ranks, 1.0)
    # In turn: expert x takes the tokens that are x modulo the stride, so rank 0 gets the remainder first.
    stride = e / k
    whole = np.floor(t / stride)
    rest = t - whole * stride
    spread = np.where(
        whole > 0, np.minimum(local, rest), np.ceil(np.minimum(local, stride) * rest / stride)
    )
    fraction = np.where(local < stride, spread / local, rest / stride)
    dealt = np.concatenate([whole, whole + 1], axis=-1)
    # The most loaded of the ranks: its experts lean to the high end of the law, a single one is the maximum of all.
    mean = t * k / e
    even_u = (np.arange(NODES) + 0.5) / NODES
    u = even_u ** (1.0 / ranks ** (local**-CROWDING))
    total = np.mean(_law(even_u, t, mean, a), axis=-1, keepdims=True)
    drawn = np.minimum(np.rint(_law(u, t, mean, a) / total * mean), t)
    # What rounding loses goes to idle experts, what the cap of one choice a token loses to those with room.
    lost = np.maximum(mean - np.mean(drawn, axis=-1, keepdims=True), 0.0)
    idle = np.mean(drawn < 1, axis=-1, keepdims=True)
    room = np.maximum(np.mean(t - drawn, axis=-1, keepdims=True), 1e-9)
    woken = (drawn < 1) * lost / np.maximum(idle, 1.0 / NODES)
    drawn = np.minimum(drawn + np.where(lost <= idle, woken, (t - drawn) * lost / room), t)
    loads = np.concatenate([drawn, dealt], axis=-1)
    even = np.concatenate([np.zeros_like(u), 1.0 - fraction, fraction], axis=-1)
    uneven = np.concatenate([np.full_like(u, 1.0 / NODES), np.zeros_like(dealt)], axis=-1)
    return Routing(local[..., 0], loads, np.where(a > 0, uneven, even))


def _law(u: Array, tokens: Array, mean: Array, exponent: Array) -> Array:
    """Return quantiles of the density x^-exponent: long-tailed where experts have more than one token each."""
    low = np.where(mean > 1.0, 1.0, 0.01)
    high = np.where(mean > 1.0, np.maximum(0.8 * tokens, 1.001), 2.0)
    b = 1.0 - exponent
    b = np.where(np.abs(b) < 1e-6, 1e-6, b)
    return np.asarray(((high**b - low**b) * u + low**b) ** (1.0 / b), np.float64)


def _matmul(
    r: Routing,
    foreign: Array,
    rows: Array,
    narrow: NDArray[np.bool_],
    group: Array,
    n: Array,
    k: Array,
    size: float,
    slow: Array,
    chip: Chip,
    p: MoeParameters,
) -> dict[str, Array]:
    """Return the terms of one grouped matmul [tokens, k] x [k, n] over the local experts."""
    columns, depth = np.where(narrow, 64.0, 128.0), np.where(narrow, 128.0, 64.0)
    across, steps = np.ceil(n / columns), np.ceil(k / depth)
    row_tiles, hit = r.tiles(rows), r.hit()
    tiles = row_tiles * across
    units = np.asarray(chip.units, np.float64)
    busy = np.maximum(tiles / units, 1.0)
    flops = 2.0 * rows * columns * steps * depth
    rate = p.stream * np.asarray(chip.bandwidth, np.float64)
    weights = n * k * size
    # The next tile of an expert finds what stayed on the chip of its weights; the rest is read again.
    passes = np.maximum(row_tiles / np.maximum(hit, 1e-9) / group, 1.0)
    again = 1.0 - np.minimum(1.0, chip.onchip / weights)
    data = hit * weights * (1.0 + (passes - 1.0) * again)
    step = p.turn * (rows + columns) / 128.0
    edges = p.tile * (1.0 + rows * columns / MIDDLE_TILE)
    return {
        "compute": slow * busy * flops / (p.compute * chip.peak / units),
        "memory": data / rate,
        "latency": slow * np.maximum(tiles / (RESIDENT * units), 1.0) * (steps * step + edges),
        # Results leave when a tile's pipeline is empty, so these bytes hide behind nothing.
        "store": r.pairs() * n * size / rate,
        "foreign": foreign * across / (RESIDENT * units) * p.zero,
    }


def moe_terms(
    tokens: Number,
    experts: Number,
    top_k: Number,
    hidden: Number,
    inter: Number,
    tp: Number,
    ep: Number,
    skew: Number,
    chip: Chip,
    p: MoeParameters,
    *,
    bytes_per_element: float = 2.0,
    gated: bool | NDArray[np.bool_] = True,
) -> dict[str, Array]:
    """Return seconds by term: fixed, routing, elementwise, and "first"/"second" matmul by what bounds it."""
    t, e, k, d, f, shards, ranks, a = (
        np.asarray(v, np.float64)
        for v in np.broadcast_arrays(tokens, experts, top_k, hidden, inter, tp, ep, skew)
    )
    r = routing(t, e, k, ranks, a)
    rows = np.select([t <= most for most, _ in TILE_ROWS], [float(tile) for _, tile in TILE_ROWS])
    narrow = t <= NARROW_TOKENS
    group = np.where(np.floor(t / r.experts) > GROUP_TOKENS, float(GROUP_TILES), 1.0)
    width = f / shards
    halves = np.where(gated, 2.0, 1.0)
    # Gated: both halves read, one written. Else two kernels, such as a rectifier and a square, read and write.
    passes = np.where(gated, 3.0, 4.0)
    slow = np.where(width % ALIGNED == 0, 1.0, p.ragged)
    # Tiles of other ranks' experts are launched too, and only write zeros.
    zeroed = np.maximum(routing(t, e, k, np.ones_like(t), a).tiles(rows) - r.tiles(rows), 0.0)
    first = _matmul(
        r,
        zeroed,
        rows,
        narrow,
        group,
        halves * width,
        d,
        bytes_per_element,
        np.ones_like(t),
        chip,
        p,
    )
    second = _matmul(r, zeroed, rows, narrow, group, d, width, bytes_per_element, slow, chip, p)
    # Rows of the activation and of the sum are there for every choice; those of other ranks' experts are zeroed.
    choices = t * k
    foreign = np.maximum(choices - r.pairs(), 0.0)
    moved = choices * (passes * width + d) + t * d + foreign * (halves * width + d)
    terms = {
        "launch": p.launch
        * np.where((choices * SPARSE <= e) & (ranks == 1), KERNELS, KERNELS + SORTING),
        "route": choices * p.route,
        "elementwise": moved * bytes_per_element / (p.stream * chip.bandwidth),
    }
    terms |= {f"first, {name}": seconds for name, seconds in first.items()}
    terms |= {f"second, {name}": seconds for name, seconds in second.items()}
    return terms


def moe_seconds(terms: dict[str, Array]) -> Array:
    """Return the time that the parts make together: the bounds of a matmul overlap, its neighbours do not."""
    total = terms["launch"] + terms["route"] + terms["elementwise"]
    for matmul in ("first", "second"):
        bounds = (terms[f"{matmul}, {bound}"] for bound in ("compute", "memory", "latency"))
        total = total + overlapped(SHARPNESS, *bounds)
        total = total + terms[f"{matmul}, store"] + terms[f"{matmul}, foreign"]
    return np.asarray(total, np.float64)
