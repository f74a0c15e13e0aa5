# SPDX-License-Identifier: Apache-2.0
"""State of fixed size and what runs over it: `read`, `write`, `causal_conv`, `linear_attention`.

The growing cache of attention is `append`, in `dsl.ops.attention`.
"""

from __future__ import annotations

from dsl.ops.spec import OpSpec, Param, Role, Site, is_float, no_traffic, same_dims
from dsl.symbolic import Dim, equal, symbol
from dsl.types import Axis, TensorType


def _fixed(site: Site, number: int) -> TensorType:
    state = site.type("state")
    holds = not any(site.is_context(axis.dim) for axis in state.axes)
    site.need(holds, number, f"the state is {state}", "state")
    return state


def _read(site: Site) -> tuple[TensorType, ...]:
    return (_fixed(site, 1),)


def _write(site: Site) -> tuple[TensorType, ...]:
    state, new = _fixed(site, 1), site.type("new")
    shown = f"the state is {state}, new is {new}"
    fits = same_dims(state.dims, new.dims) and state.dtype == new.dtype
    site.need(fits, 2, shown, "new")
    site.need_shard(
        all(a.shards == b.shards for a, b in zip(state.axes, new.axes, strict=True)),
        3,
        shown,
        "new",
    )
    return (new,)


def _reuse(site: Site) -> tuple[TensorType, ...]:
    state = site.type("state")
    at = site.context_axis(state)
    site.need(at is not None, 1, f"the state is {state}", "state")
    place = 0 if at is None else at
    grown = Axis(state.axes[place].dim + symbol(site.seq), state.axes[place].shards)
    return (TensorType(state.dtype, (*state.axes[:place], grown, *state.axes[place + 1 :])),)


def _causal_conv(site: Site) -> tuple[TensorType, ...]:
    state, x, w = _fixed(site, 1), site.rank("x", 3, 2), site.rank("w", 2, 3)
    batch = state.rank == 3 and equal(state.axes[0].dim, x.axes[0].dim)
    site.need(batch, 4, f"the state is {state}, x is {x}", "state")
    channels, taps = w.axes
    fits = equal(x.axes[2].dim, channels.dim) and equal(state.axes[1].dim, channels.dim)
    site.need(fits, 5, f"the state is {state}, x is {x}, w is {w}", "w")
    site.need(equal(state.axes[2].dim, taps.dim - 1), 6, f"the state is {state}, w is {w}", "state")
    same = state.dtype == x.dtype == w.dtype and is_float(x)
    site.need(same, 7, f"the state is {state}, x is {x}, w is {w}", "x")
    alike = x.axes[2].shards == channels.shards == state.axes[1].shards
    alike = alike and x.axes[0].shards == state.axes[0].shards
    alike = alike and not (x.axes[1].shards or taps.shards or state.axes[2].shards)
    site.need_shard(alike, 8, f"the state is {state}, x is {x}, w is {w}", "w")
    return (x,)


def _conv_flops(site: Site, results: tuple[TensorType, ...]) -> Dim:
    return 2 * results[0].local_elements() * site.type("w").axes[1].dim


def _linear_attention(site: Site) -> tuple[TensorType, ...]:
    state = _fixed(site, 1)
    q, k, v = site.rank("q", 4, 2), site.rank("k", 4, 2), site.rank("v", 4, 2)
    site.need(is_float(q) and q.dtype == k.dtype == v.dtype, 2, f"{q}; {k}; {v}", "q")
    decay = site.rank("decay", 3, 3)
    site.need(same_dims(q.dims, k.dims), 4, f"q is {q}, k is {k}", "k")
    site.need(same_dims(k.dims[:3], v.dims[:3]), 5, f"k is {k}, v is {v}", "v")
    wanted_decay = (q.dims[0], q.dims[2], q.dims[1])
    site.need(same_dims(decay.dims, wanted_decay), 6, f"decay is {decay}, q is {q}", "decay")
    wanted = (q.dims[0], q.dims[1], k.dims[3], v.dims[3])
    site.need(
        same_dims(state.dims, wanted), 7, f"the state is {state}, k is {k}, v is {v}", "state"
    )
    heads = [tuple(a.shards for a in t.axes[:2]) for t in (state, q, k, v)]
    heads.append((decay.axes[0].shards, decay.axes[2].shards))
    whole = not any(a.shards for t in (state, q, k, v) for a in t.axes[2:])
    whole = whole and not decay.axes[1].shards
    site.need_shard(
        whole and all(h == heads[0] for h in heads), 8, f"q is {q}, the state is {state}", "q"
    )
    return (TensorType(q.dtype, (*q.axes[:3], v.axes[3])),)


def _linear_flops(site: Site, results: tuple[TensorType, ...]) -> Dim:
    return 5 * results[0].local_elements() * site.type("k").axes[3].dim


READ = OpSpec(
    name="read",
    summary="Give the value of a state of fixed size as the previous step left it.",
    params=(Param("state", Role.STATE_READ),),
    result="as the state",
    constraints=("the state has no axis of the context size",),
    semantics="y = state",
    cost="0",
    example="h = read(memory)",
    infer=_read,
    in_place=True,
    passes=True,
)

WRITE = OpSpec(
    name="write",
    summary="Replace the value of a state of fixed size, and return it.",
    params=(Param("state", Role.STATE), Param("new")),
    result="as new",
    constraints=(
        "the state has no axis of the context size",
        "new has the dtype and shape of the state",
        "new is sharded as the state is",
    ),
    semantics="y = new; the next step reads new",
    cost="0",
    example="h = write(memory, h)",
    infer=_write,
    in_place=True,
    stores="new",
    passes=True,
)

REUSE = OpSpec(
    name="reuse",
    summary="Give a growing state as an earlier layer of this step has extended it.",
    params=(Param("state", Role.STATE_READ),),
    result="the state with S more along the context",
    constraints=("the state has exactly one axis of the context size",),
    semantics="y = what append returned for this state in this step",
    cost="0",
    example="k = reuse(keys[source[i]])",
    infer=_reuse,
    traffic=no_traffic,
    in_place=True,
    passes=True,
)

CAUSAL_CONV = OpSpec(
    name="causal_conv",
    summary="Convolve each channel over the last tokens, with the tokens before this step in a state.",
    params=(Param("state", Role.STATE), Param("x"), Param("w")),
    result="as x",
    constraints=(
        "the state has no axis of the context size",
        "x has three axes, [B, S, D]",
        "w has two axes, [D, W]",
        "the state has three axes, [B, D, W - 1]",
        "x, w and the state have the same number of channels",
        "the state holds W - 1 tokens",
        "x, w and the state have the same float dtype",
        "batch and channels are sharded alike, and no other axis is sharded",
    ),
    semantics=(
        "with z the state followed by x along the sequence: "
        "y[b, s, d] = sum over j < W of w[d, j] * z[b, d, s + j]; the next state is the last W - 1 tokens of z"
    ),
    cost="2 * elements(x) * W",
    example="x = causal_conv(conv, x, taps)",
    infer=_causal_conv,
    flops=_conv_flops,
    mixes=True,
    keeps_axes=True,
)

LINEAR_ATTENTION = OpSpec(
    name="linear_attention",
    summary="Attention without softmax as a recurrence: a decaying sum of outer products, read by queries.",
    params=(Param("state", Role.STATE), Param("q"), Param("k"), Param("v"), Param("decay")),
    result="[B, H, S, Ev]",
    constraints=(
        "the state has no axis of the context size",
        "q, k and v have four axes and the same float dtype",
        "decay has three axes, [B, S, H]",
        "q and k have the same shape",
        "k and v have the same batch, heads and length",
        "decay has one entry a head and token",
        "the state is [B, H, E, Ev]",
        "batch and heads are sharded alike, and no other axis is sharded",
    ),
    semantics=(
        "for s in order: m[b, h] = exp(decay[b, s, h]) * m[b, h] + outer(k[b, h, s], v[b, h, s]); y[b, h, s] = "
        "q[b, h, s] . m[b, h]; m begins as the state and ends as the next state"
    ),
    cost="5 * B * H * S * E * Ev",
    example="y = linear_attention(memory, q, k, v, decay)",
    infer=_linear_attention,
    flops=_linear_flops,
    mixes=True,
)

SPECS = (READ, WRITE, REUSE, CAUSAL_CONV, LINEAR_ATTENTION)
