# SPDX-License-Identifier: Apache-2.0
"""Times for the rows of a table of shapes: the cost formulas with a chip's description and its calibration.

Columns are those of published measurements (gemm, attention, moe, collectives). A row that has no answer gets NaN and a
reason. Whole models and serving are composed elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_model.chips.chip import Device
from device_model.chips.peaks import operand_bits
from device_model.cost.attention import (
    Attention,
    DecodeParameters,
    PrefillParameters,
    attention_seconds,
    decode_terms,
    prefill_terms,
)
from device_model.cost.calibration import Calibration
from device_model.cost.chip import Array
from device_model.cost.collective import OPERATIONS, CollectiveParameters, collective
from device_model.cost.gemm import GemmParameters, Product, gemm_seconds, gemm_terms
from device_model.cost.moe import ExpertLayer, MoeParameters, moe_seconds, moe_terms
from device_model.cost.rates import rates
from dsl.diagnostics import refuse

Columns = Mapping[str, NDArray[Any]]
COLLECTIVES: Mapping[str, str] = {
    spelling: op for op in OPERATIONS for spelling in (op, op.replace("_", ""))
}
# Experts, choices and width of layers with a squared rectifier instead of a gate (Nemotron 3, `mlp_hidden_act` relu2);
# the published tables have no column for it.
UNGATED = ((128, 6, 2688), (512, 22, 2048))
FLOATS = ("half", "float16", "bfloat16", "bf16", "float", "f32")
LARGEST = 1e12
"""No size is larger: products of several stay far from what floats hold."""
BLOCK = 1 << 14
"""Rows at a time, whose arrays stay in a core's cache."""


@dataclass(slots=True)
class Prediction:
    """Seconds by row, NaN where there is no answer, and for those the reason and how many rows have it."""

    seconds: Array
    reasons: dict[str, int] = field(default_factory=dict)

    def refuse_rows(self, rows: NDArray[np.bool_], reason: str) -> None:
        """Give some rows no answer."""
        if rows.any():
            self.seconds = np.where(rows, np.nan, self.seconds)
            self.reasons[reason] = self.reasons.get(reason, 0) + int(rows.sum())


Rule = Callable[[Columns, Device, str, Calibration], Prediction]


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of table: the columns that times depend on (texts last), and the rule that answers."""

    numbers: tuple[str, ...]
    texts: tuple[str, ...]
    rule: Rule
    dtype: str = "bf16"


def numbers(columns: Columns, *names: str) -> tuple[Array, ...]:
    """Return columns as arrays of floats."""
    return tuple(np.asarray(columns[name], np.float64) for name in names)


def gemm_section(dtype: str) -> str:
    """Return which fitted parameters products in a format have."""
    return "gemm_bf16" if operand_bits(dtype) >= 16 else "gemm_fp8"


def _gemm(columns: Columns, device: Device, dtype: str, known: Calibration) -> Prediction:
    chip, p = rates(device, dtype), known.get(gemm_section(dtype), GemmParameters)
    size = operand_bits(dtype) / 8.0
    shape = Product(*numbers(columns, "m", "n", "k"), x_bytes=size, w_bytes=size)
    return Prediction(gemm_seconds(gemm_terms(shape, chip, p)))


HEADS = ("num_heads", "num_key_value_heads", "head_dim")
UNSEEN = 1e15
"""Tokens that no context has."""
WINDOW = "window_size"
"""A column that attention may have besides: the tokens that a query sees, 0 for all."""


def _window(columns: Columns) -> Array | None:
    """Return the window of each row, None where the table has none."""
    if WINDOW not in columns:
        return None
    given = as_numbers(columns[WINDOW], WINDOW)
    return np.where(given > 0, given, UNSEEN)


def _attention(columns: Columns, dtype: str) -> Attention:
    """Return the shapes of a table's rows."""
    sizes = numbers(columns, "batch_size", "isl", "step", *HEADS)
    return Attention(*sizes, element=operand_bits(dtype) / 8.0, window=_window(columns))


def _context(columns: Columns, device: Device, dtype: str, known: Calibration) -> Prediction:
    p = known.get("attention_prefill", PrefillParameters)
    terms = prefill_terms(_attention(columns, dtype), rates(device, dtype), p)
    return Prediction(attention_seconds(terms))


def _generation(columns: Columns, device: Device, dtype: str, known: Calibration) -> Prediction:
    p = known.get("attention_decode", DecodeParameters)
    terms = decode_terms(_attention(columns, dtype), rates(device, dtype), p)
    return Prediction(attention_seconds(terms))


def _moe(columns: Columns, device: Device, dtype: str, known: Calibration) -> Prediction:
    tokens, experts, top, hidden, inter, tp, ep = numbers(
        columns, "num_tokens", "num_experts", "topk", "hidden_size", "inter_size", "moe_tp_size",
        "moe_ep_size",
    )  # fmt: skip
    spread = np.asarray(columns["distribution"]).astype(str)
    names, which = np.unique(spread, return_inverse=True)
    skews = np.asarray([_skew(str(name)) for name in names])[which]
    p = known.get("moe_bf16", MoeParameters)
    layer = ExpertLayer(
        tokens, experts, top, hidden, inter, tp, ep, np.nan_to_num(skews),
        element=operand_bits(dtype) / 8.0, gated=_gated(experts, top, hidden),
    )  # fmt: skip
    outcome = Prediction(moe_seconds(moe_terms(layer, rates(device, dtype), p)))
    outcome.refuse_rows(np.isnan(skews), "the distribution is neither balanced nor power_law_<a>")
    return outcome


def _gated(experts: Array, top: Array, hidden: Array) -> NDArray[np.bool_]:
    """Tell which layouts have a gate: all but those of models whose public configs say otherwise."""
    layouts = np.stack([experts, top, hidden], axis=-1)
    plain = np.asarray(UNGATED, np.float64)
    gated: NDArray[np.bool_] = ~np.any(np.all(layouts[..., None, :] == plain, axis=-1), axis=-1)
    return gated


def _skew(name: str) -> float:
    """Return a distribution's exponent, 0 where it is balanced, NaN where it is not known."""
    if name == "balanced":
        return 0.0
    law, _, exponent = name.rpartition("_")
    try:
        value = float(exponent)
    except ValueError:
        return float("nan")
    return value if law == "power_law" and 0 < value < 4 else float("nan")


def _collective(columns: Columns, device: Device, dtype: str, known: Calibration) -> Prediction:
    size, chips = numbers(columns, "bytes", "num_gpus")
    ops = np.asarray(columns["op"]).astype(str)
    kinds = np.asarray(columns["dtype"]).astype(str) if "dtype" in columns else None
    chip = rates(device, "bf16")
    seconds = np.full(size.shape, np.nan)
    sums = "switch_reduces" in device.quantities
    floats = np.isin(kinds, FLOATS) if kinds is not None else np.full(size.shape, dtype in FLOATS)
    inside = chips <= (chip.domain if float(chip.link) > 0 else 1)
    beyond = (float(chip.link) > 0) & (float(chip.scaleout) > 0)
    reachable = inside | beyond
    for written in np.unique(ops):
        op = COLLECTIVES.get(str(written).lower())
        rows = (ops == written) & reachable
        if op in OPERATIONS and rows.any():
            p = known.get("collective", CollectiveParameters)
            seconds[rows], _ = collective(
                op, size[rows], chips[rows], chip, p, in_switch=floats[rows] & sums
            )
    outcome = Prediction(seconds)
    unknown = ~np.isin(np.char.lower(ops), list(COLLECTIVES))
    outcome.refuse_rows(unknown, f"the op is none of {', '.join(OPERATIONS)}")
    outcome.refuse_rows(~reachable & ~unknown, f"{device.name} has no links to so many chips")
    return outcome


TARGETS: Mapping[str, Target] = {
    "gemm": Target(("m", "n", "k"), (), _gemm),
    "attention_context": Target(("batch_size", "isl", "step", *HEADS), (), _context),
    "attention_generation": Target(("batch_size", "isl", "step", *HEADS), (), _generation),
    "moe": Target(
        (
            "num_tokens", "num_experts", "topk", "hidden_size", "inter_size", "moe_tp_size",
            "moe_ep_size",
        ),
        ("distribution",),
        _moe,
    ),
    "collective": Target(("bytes", "num_gpus"), ("op",), _collective),
}  # fmt: skip


def as_numbers(values: NDArray[Any], name: str) -> Array:
    """Return a column as floats, NaN where a cell is no number; raises `Refused` where none is."""
    if values.dtype.kind in "fiub":
        return np.asarray(values, np.float64)
    made = np.asarray([_as_number(str(v)) for v in values], np.float64)
    if len(made) and np.isnan(made).all():
        raise refuse("S610", f"the column {name} holds no numbers")
    return made


def _as_number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def predict(
    op: str, columns: Columns, device: Device, dtype: str, known: Calibration
) -> Prediction:
    """Return the times of a table's rows; raises `Refused` where columns are missing or hold no numbers."""
    target = TARGETS[op]
    missing = [c for c in (*target.numbers, *target.texts) if c not in columns]
    if missing:
        message = f"the table has no column {', '.join(missing)}"
        raise refuse("S610", message, help=f"it has {', '.join(columns)}")
    given = np.stack([as_numbers(columns[c], c) for c in target.numbers])
    least = np.asarray([[0.0] if c == "step" else [1.0] for c in target.numbers])
    bad = ~np.all((given >= least) & (given <= LARGEST), axis=0)
    safe: dict[str, NDArray[Any]] = dict(columns)
    for name, values in zip(target.numbers, given, strict=True):
        safe[name] = np.where(bad, 1.0, values)
    parts = [
        target.rule(
            {c: np.asarray(v)[i : i + BLOCK] for c, v in safe.items()}, device, dtype, known
        )
        for i in range(0, max(given.shape[1], 1), BLOCK)
    ]
    whole = Prediction(np.concatenate([p.seconds for p in parts]))
    for part in parts:
        for reason, count in part.reasons.items():
            whole.reasons[reason] = whole.reasons.get(reason, 0) + count
    whole.refuse_rows(bad, f"a size is missing, no number, below its least or above {LARGEST:.0e}")
    return whole
