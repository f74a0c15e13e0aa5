"""Positions, cache and attention: `rope_frequencies`, `rope`, `heads`, `merge`, `append`, `attention`."""

from __future__ import annotations

from dsl.ops.spec import OpSpec, Param, Role, Site, fact_help, is_float, no_traffic, same_dims
from dsl.symbolic import Dim, at_least, definition, equal, names, symbol, text
from dsl.types import DTYPES, Axis, TensorType


def _rope_frequencies(site: Site) -> tuple[TensorType, ...]:
    half = site.divide(site.dim("width"), 2, 1, "width")
    site.need(not equal(half, 0), 1, "width is 0", "width")
    return (TensorType(DTYPES["f32"], (Axis(half),)),)


def _rope(site: Site) -> tuple[TensorType, ...]:
    x = site.rank("x", 4, 1)
    site.need(is_float(x), 1, f"x is {x}", "x")
    site.need_shard(not x.axes[3].shards, 4, f"x is {x}", "x")
    freqs = site.rank("freqs", 1, 2)
    width, rotated = x.axes[3].dim, 2 * freqs.axes[0].dim
    smaller = isinstance(width, int) and isinstance(rotated, int) and rotated <= width
    shown = f"freqs rotate {text(rotated)} of {text(width)}"
    site.need(smaller or equal(width, rotated) or _unknown(width, rotated), 3, shown, "freqs")
    return (x,)


def _unknown(a: Dim, b: Dim) -> bool:
    """Tell whether two sizes are unrelated, so that their order is a matter of the config."""
    return not (isinstance(a, int) and isinstance(b, int)) and names(a).isdisjoint(names(b))


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
    kept, window = _ring(site, k.axes[2].dim), site.dim("window")
    if kept is not None:
        windowed = not equal(window, 0) and at_least(kept, window - 1) is True
        shown = f"the ring keeps {text(kept)} entries, the window is {text(window)}"
        site.need(windowed, 8, shown, "window")
    return (TensorType(q.dtype, (*q.axes[:3], v.axes[3])),)


def _attention_flops(site: Site, results: tuple[TensorType, ...]) -> Dim:
    q, k, v = site.type("q"), site.type("k"), site.type("v")
    rows = q.axes[0].local() * q.axes[1].local() * q.axes[2].local()
    return 2 * rows * k.axes[2].local() * (k.axes[3].local() + v.axes[3].local())


def _rotation_flops(site: Site, results: tuple[TensorType, ...]) -> Dim:
    return 3 * results[0].local_elements()


ROPE_FREQUENCIES = OpSpec(
    name="rope_frequencies",
    summary="The inverse frequencies of rotary positions, a table computed when the model is loaded.",
    params=(
        Param("width", Role.DIM),
        Param("theta", Role.FLOAT),
        Param("scaling", Role.CHOICE, "default", ("default", "linear", "llama3", "yarn")),
        Param("factor", Role.FLOAT, 1.0),
        Param("low_freq_factor", Role.FLOAT, 1.0),
        Param("high_freq_factor", Role.FLOAT, 1.0),
        Param("original_max_position_embeddings", Role.FLOAT, 0.0),
        Param("beta_fast", Role.FLOAT, 32.0),
        Param("beta_slow", Role.FLOAT, 1.0),
        Param("truncate", Role.BOOL, True),
    ),
    result="f32[width // 2]",
    constraints=("width is even and not 0",),
    semantics=(
        "f[j] = theta^(-2j / width), then per scaling: linear divides by factor; llama3 keeps wavelengths below "
        "original / high_freq_factor, divides those above original / low_freq_factor by factor, and interpolates "
        "between; yarn keeps j below the one that turns beta_fast times in original positions, divides those above the "
        "one that turns beta_slow times by factor, and interpolates between, the two bounds rounded outwards where "
        "truncate (transformers, modeling_rope_utils.py)"
    ),
    cost="0",
    example="freqs = rope_frequencies(E, theta=theta)",
    infer=_rope_frequencies,
    traffic=no_traffic,
)

ROPE = OpSpec(
    name="rope",
    summary="Rotate pairs of a head's coordinates by the token's position.",
    params=(
        Param("x"),
        Param("freqs"),
        Param("at", Role.CONTEXT),
        Param("scale", Role.FLOAT, 1.0),
        Param("pairing", Role.CHOICE, "half", ("half", "interleaved")),
    ),
    result="as x",
    constraints=(
        "x is float, with four axes, [B, N, S, E]",
        "freqs has one axis, [R // 2]",
        "R is not larger than E",
        "the head's own axis is not sharded",
    ),
    semantics=(
        "with p = at + s and angle p * freqs[j]: the pair (x[j], x[j + R/2]) (half) or (x[2j], x[2j + 1]) "
        "(interleaved) is rotated; cos and sin are multiplied by scale; coordinates from R on pass unchanged"
    ),
    cost="3 * elements(x)",
    example="q = rope(heads(matmul(h, wq), H), freqs, at=C)",
    infer=_rope,
    flops=_rotation_flops,
)

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
)

ATTENTION = OpSpec(
    name="attention",
    summary="Softmax attention of query heads over the cached and new keys, one fused unit.",
    params=(
        Param("q"),
        Param("k"),
        Param("v"),
        Param("sinks", default=None),
        Param("mask", Role.CHOICE, choices=("causal", "none")),
        Param("scale", Role.FLOAT, None),
        Param("window", Role.DIM, 0),
        Param("softcap", Role.FLOAT, 0.0),
    ),
    result="[B, H, S, Ev]",
    constraints=(
        "q, k and v have four axes",
        "q, k and v have the same float dtype",
        "q and k have the same batch and head width",
        "k and v have the same batch, heads and length",
        "the number of key heads divides the number of query heads",
        "batch and heads are sharded alike, or every chip holds the one key head; no other axis is sharded",
        "sinks have one entry a query head",
        "keys in a ring of n entries need a window of at most n + 1",
    ),
    semantics=(
        "with g = h * K // H and query position p = C + s: y[b, h, s, :] = sum over t of softmax_t(softcap(scale * "
        "q[b, h, s, :] . k[b, g, t, :])) v[b, g, t, :], over t <= p where the mask is causal and t > p - window where "
        "window > 0; scale defaults to E^-0.5; a sink adds one logit to the denominator"
    ),
    cost="2 * B * H * S * (C + S) * (E + Ev)",
    example='a = attention(q, append(keys, k), append(values, v), mask="causal")',
    infer=_attention,
    flops=_attention_flops,
)

SPECS = (ROPE_FREQUENCIES, ROPE, HEADS, MERGE, APPEND, ATTENTION)
