# SPDX-License-Identifier: Apache-2.0
"""Heads, the growing cache and attention over it; what depends on positions alone is in `dsl.ops.position`."""

from __future__ import annotations

from dsl.ops.spec import OpSpec, Param, Role, Site, Work, fact_help, is_float, no_traffic, same_dims
from dsl.symbolic import Dim, at_least, definition, equal, symbol, text
from dsl.types import DTYPES, Axis, TensorType


def _heads(site: Site) -> tuple[TensorType, ...]:
    x = site.rank("x", 3, 1)
    count = site.dim("count")
    batch, seq, last = x.axes
    width = site.divide(last.dim, count, 2, "count")
    site.split_shards(last, count)
    return (TensorType(x.dtype, (batch, Axis(count, last.shards), seq, Axis(width)), x.partial),)


def _merge(site: Site) -> tuple[TensorType, ...]:
    x = site.rank("x", 4, 1)
    batch, count, seq, width = x.axes
    site.need_shard(not width.shards, 2, f"x is {x}", "x")
    return (
        TensorType(x.dtype, (batch, seq, Axis(count.dim * width.dim, count.shards)), x.partial),
    )


def _append(site: Site) -> tuple[TensorType, ...]:
    state, new = site.type("state"), site.type("new")
    at = _context_axis(site, state)
    site.need(new.rank == state.rank, 2, f"the state is {state}, new is {new}", "new")
    for i, (old, fresh) in enumerate(zip(state.axes, new.axes, strict=True)):
        want = symbol(site.seq) if i == at else old.dim
        site.need(equal(fresh.dim, want), 2, f"the state is {state}, new is {new}", "new")
        site.need_shard(fresh.shards == old.shards, 3, f"the state is {state}, new is {new}", "new")
    site.need(state.dtype == new.dtype, 4, f"the state is {state.dtype}, new is {new.dtype}", "new")
    grown = Axis(state.axes[at].dim + symbol(site.seq), state.axes[at].shards)
    return (TensorType(state.dtype, (*state.axes[:at], grown, *state.axes[at + 1 :])),)


def _append_traffic(site: Site, results: tuple[TensorType, ...]) -> Dim:
    return 2 * site.bytes("new")


def _context_axis(site: Site, state: TensorType) -> int:
    at = site.context_axis(state)
    site.need(at is not None, 1, f"the state is {state}", "state")
    return 0 if at is None else at


def _ring(site: Site, length: Dim) -> Dim | None:
    """Return how many entries a ring keeps, None where the keys hold the whole context."""
    made = definition(length - symbol(site.seq))
    return made.b if made is not None and made.function == "min" else None


def _attention(site: Site) -> tuple[TensorType, ...]:
    q, k, v = site.rank("q", 4, 1), site.rank("k", 4, 1), site.rank("v", 4, 1)
    site.need(is_float(q) and q.dtype == k.dtype == v.dtype, 2, f"{q}; {k}; {v}", "q")
    alike = equal(q.axes[3].dim, k.axes[3].dim) and equal(q.axes[0].dim, k.axes[0].dim)
    site.need(alike, 3, f"q is {q}, k is {k}", "k")
    site.need(same_dims(k.dims[:3], v.dims[:3]), 4, f"k is {k}, v is {v}", "v")
    shown = f"q has {text(q.axes[1].dim)} heads, k has {text(k.axes[1].dim)}"
    fact = fact_help(q.axes[1].dim, k.axes[1].dim)
    site.need(site.divides(q.axes[1].dim, k.axes[1].dim), 5, shown, "k", fact)
    same = q.axes[1].shards == k.axes[1].shards == v.axes[1].shards
    shared = equal(k.axes[1].dim, 1) and not (k.axes[1].shards or v.axes[1].shards)
    whole = not any(a.shards for t in (q, k, v) for a in t.axes[2:])
    whole = whole and q.axes[0].shards == k.axes[0].shards == v.axes[0].shards
    site.need_shard((same or shared) and whole, 6, f"q is {q}, k is {k}, v is {v}", "q")
    sinks = site.optional("sinks")
    if sinks is not None:
        fits = sinks.rank == 1 and equal(sinks.axes[0].dim, q.axes[1].dim)
        shown = f"sinks are {sinks}, q is {q}"
        site.need(fits, 7, shown, "sinks")
        site.need_shard(sinks.axes[0].shards == q.axes[1].shards, 6, shown, "sinks")
    _seen(site, k)
    slopes = site.optional("slopes")
    if slopes is not None:
        fits = slopes.rank == 1 and equal(slopes.axes[0].dim, q.axes[1].dim)
        shown = f"slopes are {slopes}, q is {q}"
        site.need(fits and slopes.dtype == DTYPES["f32"], 9, shown, "slopes")
        shards = slopes.axes[0].shards
        site.need_shard(not shards or shards == q.axes[1].shards, 6, shown, "slopes")
    bias = site.optional("bias")
    if bias is not None:
        shown = f"bias is {bias}, q is {q}"
        fits = bias.rank == 4 and same_dims(bias.dims[:3], q.dims[:3]) and bias.dtype == q.dtype
        site.need(fits and not equal(bias.dims[3], 0), 10, shown, "bias")
        split = [a.shards for a in bias.axes]
        alike = split == [*(a.shards for a in q.axes[:3]), ()]
        site.need_shard(alike, 6, shown, "bias")
    return (TensorType(q.dtype, (*q.axes[:3], v.axes[3])),)


def _seen(site: Site, k: TensorType) -> None:
    """Check that a ring still holds every key that a query can see."""
    kept = _ring(site, k.axes[2].dim)
    if kept is None:
        return
    spans = {name: site.dim(name) for name in ("window", "chunk")}
    bounded = any(
        not equal(span, 0) and at_least(kept, span - 1) is True for span in spans.values()
    )
    named = " and ".join(f"the {name} is {text(span)}" for name, span in spans.items())
    site.need(bounded, 8, f"the ring keeps {text(kept)} entries, {named}", "window")


def _attention_flops(site: Site, results: tuple[TensorType, ...]) -> Dim:
    q, k, v = site.type("q"), site.type("k"), site.type("v")
    rows = q.axes[0].local() * q.axes[1].local() * q.axes[2].local()
    return 2 * rows * k.axes[2].local() * (k.axes[3].local() + v.axes[3].local())


HEADS = OpSpec(
    name="heads",
    summary="Split the last axis into heads and put them before the sequence.",
    params=(Param("x"), Param("count", Role.DIM)),
    result="[B, count, S, E]",
    constraints=("x has three axes, [B, S, count * E]", "count divides the last axis"),
    semantics="y[b, n, s, e] = x[b, s, n * E + e]",
    cost="0",
    example="v = heads(matmul(h, wv), K)",
    infer=_heads,
    linear=True,
    traffic=no_traffic,
    in_place=True,
    passes=True,
)

MERGE = OpSpec(
    name="merge",
    summary="Put the heads of each token side by side; the inverse of `heads`.",
    params=(Param("x"),),
    result="[B, S, N * E]",
    constraints=("x has four axes, [B, N, S, E]", "the head's own axis is not sharded"),
    semantics="y[b, s, n * E + e] = x[b, n, s, e]",
    cost="0",
    example="a = merge(attention(q, k, v))",
    infer=_merge,
    linear=True,
    traffic=no_traffic,
    in_place=True,
    passes=True,
)

APPEND = OpSpec(
    name="append",
    summary="Write the new tokens' entries to a state and return old and new together.",
    params=(Param("state", Role.STATE), Param("new")),
    result="the state with S more along the context",
    constraints=(
        "the state has exactly one axis of the context size: C, or min(C, n) for a ring of n entries",
        "new agrees with the state on every other axis and has S there",
        "new is sharded as the state is",
        "new and the state have the same dtype",
    ),
    semantics=(
        "y[..., t, ...] = state[..., t, ...] for t < C, else new[..., t - C, ...]; y is the next state, of which a "
        "ring keeps the last n entries"
    ),
    cost="0",
    example="k = append(keys, k)",
    infer=_append,
    traffic=_append_traffic,
    in_place=True,
    stores="state",
    passes=True,
)

ATTENTION = OpSpec(
    name="attention",
    summary="Softmax attention of query heads over the cached and new keys, one fused unit.",
    params=(
        Param("q"),
        Param("k"),
        Param("v"),
        Param("sinks", default=None),
        Param("slopes", default=None),
        Param("bias", default=None),
        Param("mask", Role.CHOICE, choices=("causal", "none")),
        Param("scale", Role.FLOAT, None),
        Param("window", Role.DIM, 0),
        Param("softcap", Role.FLOAT, 0.0),
        Param("chunk", Role.DIM, 0),
    ),
    result="[B, H, S, Ev]",
    constraints=(
        "q, k and v have four axes",
        "q, k and v have the same float dtype",
        "q and k have the same batch and head width",
        "k and v have the same batch, heads and length",
        "the number of key heads divides the number of query heads",
        "batch and heads are sharded alike, or the one key head or all slopes are whole; no other axis is sharded",
        "sinks have one entry a query head",
        "keys in a ring of n entries need a window or a chunk of at most n + 1",
        "slopes are f32 and have one entry a query head",
        "bias has the dtype of q and is [B, H, S, R], with R at least 1",
    ),
    semantics=(
        "with g = h * K // H and query position p = C + s: y[b, h, s, :] = sum over t of softmax_t(softcap(scale * "
        "q[b, h, s, :] . k[b, g, t, :]) + slopes[h] * (t - p) + bias[b, h, s, p - t]) v[b, g, t, :], over t <= p where "
        "the mask is causal, t > p - window where window > 0, and t // chunk = p // chunk where chunk > 0; scale "
        "defaults to E^-0.5; bias counts where 0 <= p - t < R; a sink adds one logit to the denominator (masks as in "
        "transformers, masking_utils.py)"
    ),
    cost="2 * B * H * S * (C + S) * (E + Ev)",
    example='a = attention(q, append(keys, k), append(values, v), mask="causal")',
    infer=_attention,
    copies=("k", "v"),
    flops=_attention_flops,
    work=Work.ATTENTION,
    mixes=True,
    lengths=("window", "chunk"),
)

SPECS = (HEADS, MERGE, APPEND, ATTENTION)
