# SPDX-License-Identifier: Apache-2.0
"""Time of one rank's expert layer: two grouped matmuls, the routing before and the reduction behind them.

Tokens are dealt to experts as the routing says: round robin, or loads drawn from a power law with the most loaded rank
as ours. Each expert that is hit reads its weights and pads its tokens to whole tiles; the menu of tiles is that of the
measured kernel and follows from the number of tokens. Ranks see all tokens and keep what their experts take.

Expectations replace draws: a load is integrated over the law, so a single unlucky batch is not predicted. The gate's
matmul, shared experts, and the exchange between ranks are other operations. Kernels tuned for one shape are not known.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np
from numpy.typing import NDArray

from device_model.cost.chip import Array, Chip, Number, floats, overlapped

# What is not said to be fitted is the measured kernel's, or assumed: `sohu calibrate` moves `MoeParameters` alone.
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
SHARPNESS = 3.0  # how well the bounds of a matmul overlap: the exponent of their p-norm
NODES = 48  # of the integration over loads


@dataclass(frozen=True, slots=True)
class ExpertLayer:
    """The shape of one rank's expert layer."""

    tokens: Number
    """Tokens that choose experts; every rank sees all of them."""
    experts: Number
    """Experts on all ranks."""
    top_k: Number
    """Experts that a token chooses."""
    hidden: Number
    """Elements of a token."""
    inter: Number
    """Elements between the two matmuls of an expert, all its shards together."""
    tp: Number
    """Shards of an expert."""
    ep: Number
    """Ranks that experts are dealt to."""
    skew: Number
    """Exponent of the power law of loads; 0 where they are even."""
    _: KW_ONLY
    element: Number = 2.0
    """Bytes of an element, of weights and activations alike."""
    gated: bool | NDArray[np.bool_] = True
    """Whether the first matmul has a second half, which gates it."""

    @property
    def width(self) -> Number:
        """Return the elements between the matmuls in one shard."""
        return self.inter / self.tp

    @property
    def first_width(self) -> Number:
        """Return the columns of the first matmul in one shard, the gate's too."""
        return np.where(self.gated, 2.0, 1.0) * self.width

    @property
    def choices(self) -> Number:
        """Return how many (token, expert) there are on all ranks."""
        return self.tokens * self.top_k


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
    whole, fraction = _in_turn(t, e / k, local)
    dealt = np.concatenate([whole, whole + 1], axis=-1)
    drawn = _drawn(t, t * k / e, ranks, local, a)
    loads = np.concatenate([drawn, dealt], axis=-1)
    even = np.concatenate([np.zeros_like(drawn), 1.0 - fraction, fraction], axis=-1)
    uneven = np.concatenate([np.full_like(drawn, 1.0 / NODES), np.zeros_like(dealt)], axis=-1)
    return Routing(local[..., 0], loads, np.where(a > 0, uneven, even))


def _in_turn(t: Array, stride: Array, local: Array) -> tuple[Array, Array]:
    """Return the tokens that every expert gets in turn, and the share of the experts that get one more."""
    # Expert x takes the tokens that are x modulo the stride, so rank 0 gets the remainder first.
    whole = np.floor(t / stride)
    rest = t - whole * stride
    spread = np.where(
        whole > 0, np.minimum(local, rest), np.ceil(np.minimum(local, stride) * rest / stride)
    )
    return whole, np.where(local < stride, spread / local, rest / stride)


def _drawn(t: Array, mean: Array, ranks: Array, local: Array, exponent: Array) -> Array:
    """Return the tokens of the most loaded rank's experts at the nodes of the law of loads."""
    # The most loaded of the ranks: its experts lean to the high end of the law, a single one is the maximum of all.
    even_u = (np.arange(NODES) + 0.5) / NODES
    u = even_u ** (1.0 / ranks ** (local**-CROWDING))
    total = np.mean(_law(even_u, t, mean, exponent), axis=-1, keepdims=True)
    drawn = np.minimum(np.rint(_law(u, t, mean, exponent) / total * mean), t)
    # What rounding loses goes to idle experts, what the cap of one choice a token loses to those with room.
    lost = np.maximum(mean - np.mean(drawn, axis=-1, keepdims=True), 0.0)
    idle = np.mean(drawn < 1, axis=-1, keepdims=True)
    room = np.maximum(np.mean(t - drawn, axis=-1, keepdims=True), 1e-9)
    woken = (drawn < 1) * lost / np.maximum(idle, 1.0 / NODES)
    given = np.where(lost <= idle, woken, (t - drawn) * lost / room)
    return np.asarray(np.minimum(drawn + given, t))


def _law(u: Array, tokens: Array, mean: Array, exponent: Array) -> Array:
    """Return quantiles of the density x^-exponent: long-tailed where experts have more than one token each."""
    low = np.where(mean > 1.0, 1.0, 0.01)
    high = np.where(mean > 1.0, np.maximum(0.8 * tokens, 1.001), 2.0)
    b = 1.0 - exponent
    b = np.where(np.abs(b) < 1e-6, 1e-6, b)
    return np.asarray(((high**b - low**b) * u + low**b) ** (1.0 / b), np.float64)


@dataclass(frozen=True, slots=True)
class _Tiles:
    """How a rank's rows are cut into tiles, alike for both matmuls."""

    routing: Routing
    rows: Array
    """Rows of a tile."""
    columns: Array
    depth: Array
    """Elements of k that a tile takes at a time."""
    group: Array
    """Neighbouring tiles that share a pass over the weights."""
    foreign: Array
    """Tiles of other ranks' experts, along the rows."""


def moe_terms(layer: ExpertLayer, chip: Chip, p: MoeParameters) -> dict[str, Array]:
    """Return seconds by term: fixed, routing, elementwise, and "first"/"second" matmul by what bounds it."""
    s = _broadcast(layer)
    tiles = _tiles(s)
    # Rows of the activation and of the sum are there for every choice; those of other ranks' experts are zeroed.
    foreign = np.maximum(s.choices - tiles.routing.pairs(), 0.0)
    # Gated: both halves read, one written. Else two kernels, such as a rectifier and a square, read and write.
    passes = np.where(s.gated, 3.0, 4.0)
    moved = s.choices * (passes * s.width + s.hidden) + s.tokens * s.hidden
    moved = moved + foreign * (s.first_width + s.hidden)
    kernels = np.where((s.choices * SPARSE <= s.experts) & (s.ep == 1), KERNELS, KERNELS + SORTING)
    # Rows of the second matmul that are no multiple of what loads as a vector are slow (fitted: `ragged`).
    slow = np.where(s.width % ALIGNED == 0, 1.0, p.ragged)
    first = _matmul(tiles, s.first_width, s.hidden, s.element, 1.0, chip, p)
    second = _matmul(tiles, s.hidden, s.width, s.element, slow, chip, p)
    return {
        # Each kernel's start, each choice's way to its expert (fitted: `launch`, `route`).
        "launch": np.asarray(p.launch * kernels),
        "route": np.asarray(s.choices * p.route),
        "elementwise": np.asarray(moved * s.element / (p.stream * chip.bandwidth)),
        **{f"first, {name}": seconds for name, seconds in first.items()},
        **{f"second, {name}": seconds for name, seconds in second.items()},
    }


def _broadcast(layer: ExpertLayer) -> ExpertLayer:
    """Return a layer whose sizes are arrays of one shape, but for the bytes of an element and the gate."""
    s = floats(layer)
    names = ("tokens", "experts", "top_k", "hidden", "inter", "tp", "ep", "skew")
    together = np.broadcast_arrays(*(getattr(s, name) for name in names))
    return ExpertLayer(*together, element=s.element, gated=s.gated)


def _tiles(s: ExpertLayer) -> _Tiles:
    """Return the tiles of the most loaded rank: the kernel's menu, by the number of tokens."""
    t = np.asarray(s.tokens)
    received = routing(t, s.experts, s.top_k, s.ep, s.skew)
    rows = np.select([t <= most for most, _ in TILE_ROWS], [float(tile) for _, tile in TILE_ROWS])
    narrow = t <= NARROW_TOKENS
    crowded = np.floor(t / received.experts) > GROUP_TOKENS
    # Tiles of other ranks' experts are launched too, and only write zeros.
    everyone = routing(t, s.experts, s.top_k, np.ones_like(t), s.skew)
    return _Tiles(
        received,
        rows,
        columns=np.where(narrow, 64.0, 128.0),
        depth=np.where(narrow, 128.0, 64.0),
        group=np.where(crowded, float(GROUP_TILES), 1.0),
        foreign=np.maximum(everyone.tiles(rows) - received.tiles(rows), 0.0),
    )


def _matmul(
    t: _Tiles, n: Number, k: Number, element: Number, slow: Number, chip: Chip, p: MoeParameters
) -> dict[str, Array]:
    """Return the terms of one grouped matmul [tokens, k] x [k, n] over the local experts."""
    # Tiles: each expert that is hit pads its rows to whole ones.
    across, steps = np.ceil(n / t.columns), np.ceil(k / t.depth)
    row_tiles = t.routing.tiles(t.rows)
    tiles = row_tiles * across
    # Waves: a unit holds two tiles at once; each waits for its operands step by step, and for its edges (fitted:
    # `turn`, `tile`; `zero` of a foreign one).
    units = np.asarray(chip.units, np.float64)
    resident = np.maximum(tiles / (RESIDENT * units), 1.0)
    step = p.turn * (t.rows + t.columns) / 128.0
    edges = p.tile * (1.0 + t.rows * t.columns / MIDDLE_TILE)
    # Arithmetic at a share of the peak, memory at a share of its bandwidth (fitted: `compute`, `stream`).
    flops = 2.0 * t.rows * t.columns * steps * t.depth
    peak = p.compute * chip.peak / units
    rate = p.stream * np.asarray(chip.bandwidth, np.float64)
    return {
        "compute": slow * np.maximum(tiles / units, 1.0) * flops / peak,
        "memory": _weights(t, row_tiles, n * k * element, chip) / rate,
        "latency": slow * resident * (steps * step + edges),
        # Results leave when a tile's pipeline is empty, so these bytes hide behind nothing.
        "store": t.routing.pairs() * n * element / rate,
        "foreign": t.foreign * across / (RESIDENT * units) * p.zero,
    }


def _weights(t: _Tiles, row_tiles: Array, each: Number, chip: Chip) -> Array:
    """Return the bytes of weights that a matmul reads, of so many bytes an expert."""
    hit = t.routing.hit()
    # The next tile of an expert finds what stayed on the chip of its weights; the rest is read again.
    passes = np.maximum(row_tiles / np.maximum(hit, 1e-9) / t.group, 1.0)
    again = 1.0 - np.minimum(1.0, chip.onchip / each)
    return np.asarray(hit * each * (1.0 + (passes - 1.0) * again))


def moe_seconds(terms: dict[str, Array]) -> Array:
    """Return the time that the parts make together: the bounds of a matmul overlap, its neighbours do not."""
    total = terms["launch"] + terms["route"] + terms["elementwise"]
    for matmul in ("first", "second"):
        bounds = (terms[f"{matmul}, {bound}"] for bound in ("compute", "memory", "latency"))
        total = total + overlapped(SHARPNESS, *bounds)
        total = total + terms[f"{matmul}, store"] + terms[f"{matmul}, foreign"]
    return np.asarray(total, np.float64)
