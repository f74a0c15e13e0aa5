# SPDX-License-Identifier: Apache-2.0
"""The price of a task on a chip: seconds, the terms they come from, and what bounds them.

Formulas and parameters are those of the oracle, so that a program's time is made of what was scored on measurements.
Sizes of a task and quantities of the chip are numbers or arrays over points: all points are priced at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
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
from device_model.cost.chip import Array, Chip, Number
from device_model.cost.collective import ALGORITHMS, EXCHANGES, CollectiveParameters, collective
from device_model.cost.gemm import GemmParameters, Product, gemm_seconds, gemm_terms
from device_model.cost.moe import ExpertLayer, MoeParameters, moe_seconds, moe_terms
from device_model.cost.oracle import gemm_section
from device_model.cost.rates import rates
from device_model.cost.vector import VectorParameters, vector_seconds, vector_terms
from device_model.timeline.kinds import (
    AttentionSizes,
    CollectiveSizes,
    ExpertSizes,
    Kind,
    ProductSizes,
    VectorSizes,
)
from device_model.timeline.places import Spread, spread
from device_model.timeline.tasks import Task
from dsl.diagnostics import refuse

# What a term of a formula waits for.
COMPUTE, MEMORY, LINKS, LATENCY, POWER = "compute", "memory", "links", "latency", "power"
BOUNDS: Mapping[str, str] = {
    "launch": LATENCY, "scan": LATENCY, "setup": LATENCY, "split": LATENCY, "route": LATENCY,
    "latency": COMPUTE, "work": COMPUTE, "compute": COMPUTE, "waves": COMPUTE, "memory": MEMORY,
    "convert": MEMORY, "cache write": MEMORY, "elementwise": MEMORY, "onchip": MEMORY,
    "power": POWER, "roofline": MEMORY, "links": LINKS, "store": MEMORY, "foreign": LATENCY,
    "unhidden": LATENCY, "hidden": LINKS,
}  # fmt: skip
ENGINES: Mapping[Kind, str] = {
    Kind.GEMM: "matmul",
    Kind.ATTENTION: "matmul",
    Kind.EXPERTS: "matmul",
    Kind.VECTOR: "vector",
    Kind.COLLECTIVE: "links",
}
EXPERTS_STREAM = frozenset({"memory", "store", "elementwise"})
"""Terms of an expert layer that are bytes at a share of main memory's bandwidth."""
CHOSEN = ("tile_rows", "tile_columns", "split")
ALONE = ALGORITHMS.index("none")
FEW_TOKENS = 8
"""Up to so many new tokens a sequence the kernel of a decode step is taken."""


@dataclass(frozen=True, slots=True)
class Price:
    """What one layer's task costs at every point: its seconds, and the terms of the formula that they come from."""

    seconds: Array
    terms: Mapping[str, Array]
    moved: Number
    """Bytes of main memory that the seconds stand for."""
    chosen: Mapping[str, Array] = field(default_factory=dict)
    """By name the indices or sizes that the formula chose: a tile and a split, an algorithm."""

    def waits(self) -> dict[str, Array]:
        """Return the terms summed up by what they wait for."""
        waits: dict[str, Array] = {}
        for name, value in self.terms.items():
            kind = BOUNDS[name.rpartition(", ")[2]]
            waits[kind] = waits[kind] + value if kind in waits else np.asarray(value)
        return waits


@dataclass(frozen=True)
class Prices:
    """Prices tasks for one chip, format and routing skew.

    `changes` replaces quantities of the chip, as a sweep does.
    """

    device: Device
    dtype: str
    calibration: Calibration
    skew: Number = 0.0
    changes: Mapping[str, Number] | None = None

    @cached_property
    def chip(self) -> Chip:
        """Return the rates for the products' format."""
        return rates(self.device, self.dtype, self.changes)

    def quantity(self, key: str, default: float) -> Number:
        """Return a value of the chip that may be absent."""
        if self.changes and key in self.changes:
            return self.changes[key]
        known = self.device.quantities.get(key)
        return default if known is None else known.value

    def of(self, task: Task) -> Price:
        """Return the price of a task; arrays where its sizes or the chip's quantities are."""
        match task.sizes:
            case ProductSizes() as sizes:
                return self._product(sizes)
            case AttentionSizes() as sizes:
                return self._attention(sizes, task.bytes)
            case ExpertSizes() as sizes:
                return self._experts(sizes)
            case CollectiveSizes() as sizes:
                op = task.ops[0]
                return self._collective(EXCHANGES.get(op, op), sizes)
            case VectorSizes() as sizes:
                return self._vector(sizes, task.flops)

    def _product(self, s: ProductSizes) -> Price:
        dtype = product_format(s, self.dtype)
        p = self.calibration.get(gemm_section(dtype), GemmParameters)
        if operand_bits(dtype) < 16:
            # Measured alone, a low-precision product launches its conversions too; inside of a program they are queued.
            p = replace(p, launch=self.calibration.get("gemm_bf16", GemmParameters).launch)
        chip = self.chip if dtype == self.dtype else rates(self.device, dtype, self.changes)
        shape = Product(
            s.m, s.n, s.k, x_bytes=min(s.x_bits, operand_bits(dtype)) / 8.0,
            w_bytes=element_bytes(s.w_bits, dtype), y_bytes=s.y_bits / 8.0, repeated=0.0,
        )  # fmt: skip
        terms = gemm_terms(shape, chip, p)
        times = {name: v for name, v in terms.items() if name not in CHOSEN}
        chosen = {name: terms[name] for name in CHOSEN}
        return Price(gemm_seconds(terms), times, shape.x + shape.w + shape.y, chosen)

    def _attention(self, s: AttentionSizes, moved: Number) -> Price:
        if not s.causal and np.any(np.asarray(s.new) > 1):
            message = "no formula prices attention without a causal mask over several new tokens"
            raise refuse("S609", message)
        chip = rates(self.device, "bf16", self.changes)
        window = s.window if np.all(np.isfinite(s.window)) else None
        shape = Attention(
            s.batch, s.new, s.context, s.heads, s.kv_heads, s.head_dim,
            element=s.bits / 8.0, window=window,
        )  # fmt: skip
        few = decodes(s)
        either: list[dict[str, Array]] = []
        if few.any():
            p = self.calibration.get("attention_decode", DecodeParameters)
            latent = replace(shape, value_dim=s.value_dim if s.latent else None)
            # Other layers' caches were read since: nothing of this one is left on the chip.
            either.append(decode_terms(latent, chip, p, warm=0.0))
        if not few.all():
            q = self.calibration.get("attention_prefill", PrefillParameters)
            either.append(prefill_terms(shape, chip, q))
        terms = either[0] if len(either) == 1 else _either(few, *either)
        return Price(attention_seconds(terms), terms, moved)

    def _experts(self, s: ExpertSizes) -> Price:
        p = self.calibration.get("moe_bf16", MoeParameters)
        layer = ExpertLayer(
            s.tokens, s.experts, s.top_k, s.hidden, s.inter, s.tp, s.ep, self.skew,
            element=element_bytes(s.w_bits, self.dtype), gated=s.gated,
        )  # fmt: skip
        terms = moe_terms(layer, self.chip, p)
        streamed: Any = sum(
            t for name, t in terms.items() if name.rpartition(", ")[2] in EXPERTS_STREAM
        )
        moved = streamed * p.stream * np.asarray(self.chip.bandwidth)
        return Price(moe_seconds(terms), terms, moved)

    def _collective(self, op: str, s: CollectiveSizes) -> Price:
        if np.all(np.asarray(s.chips) <= 1):
            alone = {"algorithm": np.asarray(ALONE)}
            return Price(np.zeros(()), {"links": np.zeros(())}, 0.0, alone)
        p = self.calibration.get("collective", CollectiveParameters)
        place = spread(s.spans, self.chip.domain)
        if s.neighbours:
            seconds, index = self._sends(op, s, place, p)
        else:
            seconds, index = collective(
                op, s.bytes, s.chips, self.chip, p,
                in_switch=np.asarray(self.quantity("switch_reduces", 0.0)) > 0,
                inside=place.inside, domains=place.domains,
            )  # fmt: skip
        hidden = np.asarray(self.quantity("link_overlap", 0.0))
        terms = {"links": seconds}
        if hidden.any():
            terms["hidden"] = -hidden * seconds
        chosen: dict[str, Array] = {"algorithm": np.asarray(index, np.float64)}
        chosen["domains"] = place.domains
        return Price(seconds * (1.0 - hidden), terms, 0.0, chosen)

    def _sends(
        self, op: str, s: CollectiveSizes, place: Spread, p: CollectiveParameters
    ) -> tuple[Array, NDArray[np.int64]]:
        """Return the seconds of a send in the mean: one leaves each domain but the last."""
        near, index = collective(op, s.bytes, s.chips, self.chip, p, inside=s.chips, domains=1.0)
        leave = place.domains - 1.0
        if not leave.any():
            return near, index
        far, _ = collective(op, s.bytes, s.chips, self.chip, p, inside=1.0, domains=2.0)
        stages = np.maximum(np.asarray(s.spans[0].size, np.float64), 2.0)
        return near + (far - near) * leave / (stages - 1.0), index

    def _vector(self, s: VectorSizes, flops: Number) -> Price:
        p = self.calibration.get("vector", VectorParameters)
        rate = np.asarray(self.quantity("vector_flops", 0.0))
        if not rate.all():
            rate = np.asarray(self.device.quantity("vector_flops").value)
        terms = vector_terms(s.moved, flops, rate, self.chip, p)
        return Price(vector_seconds(terms, p), terms, s.moved)


def product_format(s: ProductSizes, dtype: str) -> str:
    """Return the format that a product computes in: operands wider than 16 bits are rounded to bf16, no less."""
    wide = bool(np.all(np.asarray(s.w_bits) > 16)) or s.x_bits > 16
    return "bf16" if wide else dtype


def decodes(s: AttentionSizes) -> NDArray[np.bool_]:
    """Tell where attention takes the kernel of a decode step: few new tokens after cached ones."""
    return np.asarray((np.asarray(s.new) <= FEW_TOKENS) & (np.asarray(s.context) > 0))


def element_bytes(stored: Number, dtype: str) -> Number:
    """Return the bytes of a weight's element: a low precision stores it so, others keep the bits as they are stored."""
    size: Number = np.minimum(stored, operand_bits(dtype)) / 8.0
    return size


def _either(
    first: NDArray[np.bool_], a: Mapping[str, Array], b: Mapping[str, Array]
) -> dict[str, Array]:
    """Return the terms of one formula at some points and those of another one elsewhere."""
    names = dict.fromkeys((*a, *b))
    return {n: np.where(first, a.get(n, 0.0), b.get(n, 0.0)) for n in names}


def choice_words(chosen: Mapping[str, float]) -> str:
    """Return in words what was chosen for a task at one point."""
    if "algorithm" in chosen:
        index = int(chosen["algorithm"])
        if index == ALONE:
            return "one chip"
        domains = int(chosen.get("domains", 1))
        return ALGORITHMS[index] + (f" over {domains} domains" if domains > 1 else "")
    if "split" in chosen:
        tile = f"tile {int(chosen['tile_rows'])}x{int(chosen['tile_columns'])}"
        split = int(chosen["split"])
        return f"{tile}, k in {split} parts" if split > 1 else tile
    return ""
