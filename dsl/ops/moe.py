# SPDX-License-Identifier: Apache-2.0
"""Mixture of experts: `route`, `expert_matmul`, `combine`.

The expert axis may be sharded; the axis of a token's choices is then owned by the chips that hold the chosen experts.
"""

from __future__ import annotations

from dsl.ops.linear import ACCUMULATE
from dsl.ops.spec import OpSpec, Param, Role, Site, Work, is_float, local_bytes, same_dims
from dsl.symbolic import Dim, at_least, equal, opaque, ratio, text
from dsl.types import DTYPES, Axis, Kind, TensorType


def _route(site: Site) -> tuple[TensorType, ...]:
    scores = site.rank("scores", 3, 1)
    site.need(is_float(scores), 1, f"scores are {scores}", "scores")
    batch, seq, experts = scores.axes
    site.need_shard(not experts.shards, 2, f"scores are {scores}", "scores")
    bias = site.optional("bias")
    if bias is not None:
        fits = bias.rank == 1 and equal(bias.axes[0].dim, experts.dim)
        shown = f"scores are {scores}, bias is {bias}"
        site.need(fits, 3, shown, "bias")
        site.need_shard(not bias.axes[0].shards, 2, shown, "bias")
    top = site.dim("top")
    impossible = equal(top, 0) or at_least(top, experts.dim + 1)
    site.need(not impossible, 4, f"top is {text(top)} of {text(experts.dim)}", "top")
    groups, kept = site.dim("groups"), site.dim("top_groups")
    shown = f"{text(groups)} groups of {text(experts.dim)} experts, {text(kept)} of them chosen"
    site.need(site.divides(experts.dim, groups), 5, shown, "groups")
    site.need(not at_least(kept, groups + 1), 6, shown, "top_groups")
    best = site.dim("group_best")
    site.need(not at_least(best, 3), 7, f"group_best is {text(best)}", "group_best")
    mixer = site.attrs.get("score") == "sparsemixer"
    plain = bias is None and equal(groups, 1) and site.attrs.get("order") == "before"
    site.need(not mixer or plain, 8, "sparsemixer chooses one expert after the other", "score")
    axes = (batch, seq, Axis(top))
    return TensorType(DTYPES["i32"], axes), TensorType(scores.dtype, axes)


def _pick(site: Site) -> tuple[TensorType, ...]:
    scores, choice = site.rank("scores", 3, 1), site.rank("choice", 3, 2)
    site.need(choice.dtype.kind is Kind.INTEGER, 2, f"choice is {choice}", "choice")
    shown = f"scores are {scores}, choice is {choice}"
    site.need(same_dims(scores.dims[:2], choice.dims[:2]), 3, shown, "choice")
    whole = not (scores.axes[2].shards or choice.axes[2].shards)
    alike = [a.shards for a in scores.axes[:2]] == [a.shards for a in choice.axes[:2]]
    site.need_shard(whole and alike, 4, shown, "choice")
    return (TensorType(scores.dtype, choice.axes),)


def _within(site: Site) -> tuple[TensorType, ...]:
    share, choice = site.rank("share", 3, 1), site.rank("choice", 3, 1)
    shown = f"share is {share}, choice is {choice}"
    site.need(choice.dtype.kind is Kind.INTEGER and is_float(share), 1, shown, "choice")
    site.need(same_dims(share.dims, choice.dims), 2, shown, "choice")
    site.need_shard(share.axes == choice.axes, 2, shown, "choice")
    start, stop = site.dim("start"), site.dim("stop")
    site.need(not at_least(start, stop), 3, f"[{text(start)}, {text(stop)})", "stop")
    return (share,)


def _expert_matmul(site: Site) -> tuple[TensorType, ...]:
    x, w, choice = site.type("x"), site.rank("w", 3, 2), site.rank("choice", 3, 3)
    site.need(x.rank in (3, 4) and is_float(x), 1, f"x is {x}", "x")
    site.need(choice.dtype.kind is Kind.INTEGER, 3, f"choice is {choice}", "choice")
    experts, out, contracted = w.axes
    last = x.axes[-1]
    shown = f"x is {x}, w is {w}"
    site.need(equal(last.dim, contracted.dim), 4, shown, "w")
    site.need(x.dtype == w.dtype, 5, shown, "w")
    site.need_shard(last.shards == contracted.shards, 6, shown, "w")
    chosen = Axis(choice.axes[2].dim, experts.shards)
    common = x.rank - 1
    tokens = [a.shards for a in x.axes[:2]] == [a.shards for a in choice.axes[:2]]
    site.need_shard(tokens, 8, f"x is {x}, choice is {choice}", "x")
    agree = same_dims(x.dims[:common], choice.dims[:common])
    site.need(agree, 7, f"x is {x}, choice is {choice}", "x")
    if x.rank == 4:
        owned = f"x is {x}; the experts are sharded on {', '.join(experts.shards) or 'nothing'}"
        site.need_shard(x.axes[2].shards == chosen.shards, 8, owned, "w")
    axes = (choice.axes[0], choice.axes[1], chosen, out)
    made = TensorType(x.dtype, axes, frozenset(last.shards))
    _expert_extras(site, w, choice, made)
    return (made,)


def _expert_extras(site: Site, w: TensorType, choice: TensorType, made: TensorType) -> None:
    """Check the share and the bias of an expert product."""
    share, bias = site.optional("share"), site.optional("bias")
    if share is not None:
        shown = f"share is {share}, choice is {choice}"
        fits = is_float(share) and same_dims(share.dims, choice.dims)
        site.need(fits, 9, shown, "share")
        site.need_shard(share.axes == choice.axes and not share.partial, 9, shown, "share")
    if bias is not None:
        shown = f"bias is {bias}, w is {w}"
        fits = bias.rank == 2 and same_dims(bias.dims, w.dims[:2]) and bias.dtype == w.dtype
        site.need(fits, 10, shown, "bias")
        complete = bias.axes == w.axes[:2] and not made.partial
        site.need_shard(complete, 10, shown, "bias", "add it to the complete sum")


def _expert_flops(site: Site, results: tuple[TensorType, ...]) -> Dim:
    return 2 * results[0].local_elements() * site.type("w").axes[2].local()


def _expert_traffic(site: Site, results: tuple[TensorType, ...]) -> Dim:
    """Return the bytes moved when tokens choose different experts: at most one expert's weights a choice."""
    w, choice = site.type("w"), site.type("choice")
    experts = w.axes[0].dim
    touched = opaque("min", choice.elements(), experts)
    weights = ratio(site.bytes("w") * touched, experts)
    return weights + site.bytes("x") + site.bytes("choice") + local_bytes(results[0])


def _combine(site: Site) -> tuple[TensorType, ...]:
    y = site.rank("y", 4, 1)
    partial = y.partial | set(y.axes[2].shards)
    made = TensorType(y.dtype, (y.axes[0], y.axes[1], y.axes[3]), frozenset(partial))
    if site.optional("share") is None:
        return (made,)
    share = site.rank("share", 3, 2)
    shown = f"y is {y}, share is {share}"
    site.need(same_dims(y.dims[:3], share.dims), 3, shown, "share")
    tokens = [a.shards for a in y.axes[:2]] == [a.shards for a in share.axes[:2]]
    site.need_shard(tokens, 3, shown, "share")
    kept = share.dtype in (y.dtype, DTYPES["f32"])
    site.need(kept, 4, f"y is {y}, share is {share}", "share")
    site.need_shard(not share.partial, 5, f"share is {share}", "share")
    return (made,)


def _combine_flops(site: Site, results: tuple[TensorType, ...]) -> Dim:
    return 2 * site.type("y").local_elements()


ROUTE = OpSpec(
    name="route",
    summary="Choose the experts of each token and their shares.",
    params=(
        Param("scores"),
        Param("bias", default=None),
        Param("top", Role.DIM),
        Param("score", Role.CHOICE, choices=("softmax", "sigmoid", "sqrtsoftplus", "sparsemixer")),
        Param("order", Role.CHOICE, "before", ("before", "after")),
        Param("normalize", Role.BOOL, False),
        Param("scale", Role.FLOAT, 1.0),
        Param("groups", Role.DIM, 1),
        Param("top_groups", Role.DIM, 1),
        Param("group_best", Role.DIM, 0),
        Param("floor", Role.FLOAT, 1e-20),
        Param("least", Role.FLOAT, 0.0),
        Param("jitter", Role.FLOAT, 0.0),
    ),
    result="i32[B, S, top], [B, S, top]",
    constraints=(
        "scores are float, with three axes, [B, S, X]",
        "the expert axis of scores and bias is not sharded",
        "the bias has one entry an expert",
        "top lies between 1 and X",
        "the number of groups divides X",
        "top_groups is not larger than groups",
        "a group counts by its best one or two",
        "sparsemixer has neither bias nor groups, and its order is before",
    ),
    semantics=(
        "p = score(scores) (before) or the raw scores (after); choice = indices of the top largest p + bias, lowest "
        "index first among equals, from the top_groups best groups where groups > 1 (a group counts by the sum of its "
        "group_best best p + bias, 0 for two where there is a bias and one elsewhere); share = p[choice] (or the "
        "score of the chosen alone, after), divided by max(its sum, least) + floor where normalize, times scale. "
        "sqrtsoftplus is sqrt(log(1 + exp(s))). sparsemixer (arXiv:2409.12136) chooses one expert after the other, "
        "the largest score m of those left, with the share that a softmax gives it over those left where "
        "(m - s) / max(|s|, m) <= 2 * jitter"
    ),
    cost="0",
    example='choice, share = route(matmul(h, router), top=T, score="softmax")',
    infer=_route,
    chooses=True,
)

EXPERT_MATMUL = OpSpec(
    name="expert_matmul",
    summary="Multiply each token by the weights of the experts chosen for it.",
    params=(
        Param("x"),
        Param("w"),
        Param("choice"),
        Param("share", default=None),
        Param("bias", default=None),
        ACCUMULATE,
    ),
    result="[B, S, T, N]",
    constraints=(
        "x is float, [B, S, K] or [B, S, T, K]",
        "w has three axes, [X, N, K]",
        "choice is integer, with three axes, [B, S, T]",
        "the last axes of x and w have the same size",
        "x and w have the same dtype",
        "the contracted axes are sharded alike",
        "x and choice agree on B and S, and on T where x has it",
        "x and choice are sharded alike on B and S, and where x has T it is owned as the experts are sharded",
        "share is float and complete, with the axes of choice",
        "bias has the first two axes of w, and no sum is partial",
    ),
    semantics=(
        "y[b, s, t, n] = share[b, s, t] * sum over k of x[b, s, (t,) k] * w[choice[b, s, t], n, k] + bias[choice[b, s, "
        "t], n], without the factor or the term that is absent; 0 where choice names no expert of w"
    ),
    cost="2 * B * S * T * N * K",
    example="m = silu(expert_matmul(x, gate, choice)) * expert_matmul(x, up, choice)",
    infer=_expert_matmul,
    flops=_expert_flops,
    traffic=_expert_traffic,
    work=Work.EXPERTS,
)

COMBINE = OpSpec(
    name="combine",
    summary="Add the results of a token's experts, weighted by their shares.",
    params=(Param("y"), Param("share", default=None)),
    result="[B, S, D]",
    constraints=(
        "y has four axes, [B, S, T, D]",
        "share has three axes, [B, S, T]",
        "y and share agree on B, S and T, and are sharded alike on B and S",
        "share has the dtype of y, or f32",
        "share is complete",
    ),
    semantics=(
        "z[b, s, d] = sum over t of share[b, s, t] * y[b, s, t, d], in order of t, or, where a mesh axis splits the "
        "experts, as a tree over these; a share that is absent is 1"
    ),
    cost="2 * B * S * T * D",
    example="x = x + all_reduce(combine(expert_matmul(m, down, choice), share), tp, ep)",
    infer=_combine,
    flops=_combine_flops,
    linear=True,
)

PICK = OpSpec(
    name="pick",
    summary="The scores of experts that were chosen already.",
    params=(Param("scores"), Param("choice")),
    result="[B, S, T]",
    constraints=(
        "scores have three axes, [B, S, X]",
        "choice is integer, with three axes, [B, S, T]",
        "scores and choice agree on B and S",
        "the last axes are not sharded, the others alike",
    ),
    semantics="y[b, s, t] = scores[b, s, choice[b, s, t]]",
    cost="0",
    example="share = pick(scores, gather(table, tokens))",
    infer=_pick,
)

WITHIN = OpSpec(
    name="within",
    summary="Keep the shares of a range of experts.",
    params=(
        Param("share"), Param("choice"), Param("start", Role.DIM), Param("stop", Role.DIM),
    ),
    result="as share",
    constraints=(
        "share is float and choice integer, with three axes, [B, S, T]",
        "share and choice have the same axes",
        "start < stop",
    ),
    semantics="y[b, s, t] = share[b, s, t] where start <= choice[b, s, t] < stop, else 0",
    cost="0",
    example="kept = x * sum(within(share, choice, X, X + Z))",
    infer=_within,
    keeps_axes=True,
)  # fmt: skip

SPECS = (ROUTE, EXPERT_MATMUL, COMBINE, PICK, WITHIN)
