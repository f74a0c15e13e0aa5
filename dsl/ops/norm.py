# SPDX-License-Identifier: Apache-2.0
"""Normalisations over the last axis: `rms_norm`, `layer_norm`."""

from __future__ import annotations

from dsl.ops.spec import OpSpec, Param, Role, Site, is_float
from dsl.symbolic import Dim, equal
from dsl.types import TensorType


def _norm(site: Site) -> tuple[TensorType, ...]:
    x = site.type("x")
    site.need(x.rank >= 1 and is_float(x), 1, f"x is {x}", "x")
    last = x.axes[-1]
    for name in ("w", "b"):
        w = site.optional(name)
        if w is not None:
            shown = f"x is {x}, {name} is {w}"
            site.need(_fits(x, w) and is_float(w), 2, shown, name)
            site.need(w.dtype == x.dtype, 4, shown, name)
            alike = w.rank == 1 or w.axes[0].shards == x.axes[1].shards
            site.need_shard(alike and not w.axes[-1].shards, 3, shown, name)
    help_ = "gather the axis first, or normalise before it is split"
    site.need_shard(not last.shards, 3, f"x is {x}", "x", help_)
    return (x,)


def _fits(x: TensorType, w: TensorType) -> bool:
    """Tell whether weights have one row, or one for each head of x."""
    row = w.rank in (1, 2) and equal(w.axes[-1].dim, x.axes[-1].dim)
    return row and (w.rank == 1 or (x.rank == 4 and equal(w.axes[0].dim, x.axes[1].dim)))


def _flops(site: Site, results: tuple[TensorType, ...]) -> Dim:
    return 4 * results[0].local_elements()


_CONSTRAINTS = (
    "x is a float tensor with at least one axis",
    "weights have one axis, as long as the last axis of x, or [N, E], a row for each head of x[B, N, S, E]",
    "the last axis of x and the weights is not sharded, heads are sharded alike",
    "weights have the dtype of x",
)

RMS_NORM = OpSpec(
    name="rms_norm",
    summary="Divide by the root mean square over the last axis, then scale.",
    params=(
        Param("x"),
        Param("w", default=None),
        Param("eps", Role.FLOAT),
        Param("offset", Role.FLOAT, 0.0),
    ),
    result="as x",
    constraints=_CONSTRAINTS,
    semantics="y[..., d] = x[..., d] / sqrt(mean over d of x[..., d]^2 + eps) * (offset + w[d])",
    cost="4 * elements(x)",
    example="h = rms_norm(x, norm, eps=eps)",
    infer=_norm,
    flops=_flops,
    keeps_axes=True,
)

LAYER_NORM = OpSpec(
    name="layer_norm",
    summary="Subtract the mean and divide by the standard deviation over the last axis.",
    params=(
        Param("x"),
        Param("w", default=None),
        Param("b", default=None),
        Param("eps", Role.FLOAT),
    ),
    result="as x",
    constraints=_CONSTRAINTS,
    semantics="y[..., d] = (x[..., d] - mean) / sqrt(variance + eps) * w[d] + b[d]",
    cost="4 * elements(x)",
    example="h = layer_norm(x, norm, bias, eps=eps)",
    infer=_norm,
    flops=_flops,
    keeps_axes=True,
)

SPECS = (RMS_NORM, LAYER_NORM)
