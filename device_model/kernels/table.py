"""The table of kernels: one row per operation of the language.

Adding an operation is adding a row. Nothing registers itself.
"""

from __future__ import annotations

from device_model.kernels import (
    activations,
    attention,
    collective,
    elementwise,
    layout,
    linear,
    moe,
    norm,
    position,
    recurrent,
    reduction,
    rotary,
    routing,
)
from device_model.program.kernel import Kernel

KERNELS: dict[str, Kernel] = {
    "gather": linear.GATHER,
    "matmul": linear.MATMUL,
    "head_matmul": linear.HEAD_MATMUL,
    "rms_norm": norm.RMS_NORM,
    "layer_norm": norm.LAYER_NORM,
    "positions": position.POSITIONS,
    "sinusoids": position.SINUSOIDS,
    "alibi_slopes": position.ALIBI_SLOPES,
    "position_scale": position.POSITION_SCALE,
    "rope_frequencies": rotary.ROPE_FREQUENCIES,
    "rope": layout.ROPE,
    "heads": layout.HEADS,
    "merge": layout.MERGE,
    "split": layout.SPLIT,
    "slice": layout.SLICE,
    "concat": layout.CONCAT,
    "column": layout.COLUMN,
    "expert_heads": layout.EXPERT_HEADS,
    "expert_merge": layout.EXPERT_MERGE,
    "append": layout.APPEND,
    "reuse": layout.REUSE,
    "attention": attention.ATTENTION,
    **elementwise.ARITHMETIC,
    **activations.FUNCTIONS,
    **activations.NUMBERED,
    "sum": reduction.SUM,
    "mean": reduction.MEAN,
    "cast": elementwise.CAST,
    "all_reduce": collective.ALONE,
    "all_gather": collective.ALONE,
    "reduce_scatter": collective.ALONE,
    "shard": collective.ALONE,
    "read": recurrent.READ,
    "write": recurrent.WRITE,
    "causal_conv": recurrent.CAUSAL_CONV,
    "linear_attention": recurrent.LINEAR_ATTENTION,
    "route": routing.ROUTE,
    "expert_matmul": moe.EXPERT_MATMUL,
    "combine": moe.COMBINE,
    "pick": routing.PICK,
    "within": routing.WITHIN,
}
