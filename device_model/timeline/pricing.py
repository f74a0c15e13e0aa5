"""The price of a task on a chip: seconds, the parts they come from, and what bounds them.

Formulas and parameters are those of the oracle, so that a program's time is made of what was scored on measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from device_model.cost.attention import (
    DecodeParameters,
    PrefillParameters,
    decode_terms,
    prefill_terms,
)
from device_model.cost.calibration import Calibration
from device_model.cost.chip import Array, Chip
from device_model.cost.collective import ALGORITHMS, CollectiveParameters, collective
from device_model.cost.gemm import GemmParameters, composed, gemm_terms
from device_model.cost.moe import MoeParameters, moe_seconds, moe_terms
from device_model.cost.oracle import gemm_section
from device_model.cost.rates import operand_bits, rates
from device_model.cost.vector import VectorParameters, vector_seconds, vector_terms
from device_model.device import Device
from device_model.timeline.tasks import Kind, Task

# What a term of a formula waits for.
COMPUTE, MEMORY, LINKS, LATENCY, POWER = "compute", "memory", "links", "latency", "power"
BOUNDS: Mapping[str, str] = {
    "launch": LATENCY, "scan": LATENCY, "setup": LATENCY, "split": LATENCY, "route": LATENCY,
    "latency": LATENCY, "work": COMPUTE, "compute": COMPUTE, "waves": COMPUTE, "memory": MEMORY,
    "convert": MEMORY, "cache write": MEMORY, "elementwise": MEMORY, "onchip": MEMORY,
    "power": POWER, "roofline": MEMORY, "links": LINKS, "store": MEMORY, "foreign": LATENCY,
    "unhidden": LATENCY,
}  # fmt: skip
ENGINES: Mapping[Kind, str] = {
    Kind.GEMM: "matmul",
    Kind.ATTENTION: "matmul",
    Kind.EXPERTS: "matmul",
    Kind.VECTOR: "vector",
    Kind.COLLECTIVE: "links",
}
FEW_TOKENS = 8
"""Up to so many new tokens a sequence the kernel of a decode step is taken."""


@dataclass(frozen=True, slots=True)
class Price:
    """Seconds of a task, its terms as the formula gives them, what bounds it, and what was chosen (tile, algorithm)."""

    seconds: float
    terms: Mapping[str, float]
    bound: str
    memory_seconds: float
    choice: str = ""


@dataclass(frozen=True)
class Prices:
    """Prices tasks for one chip, format and routing skew.

    `changes` replaces quantities of the chip, as a sweep does; `overlap` is the share of a collective that work hides.
    """

    device: Device
    dtype: str
    calibration: Calibration
    skew: float = 0.0
    changes: Mapping[str, float] | None = None

    @cached_property
    def chip(self) -> Chip:
        """Return the rates for the products' format."""
        return rates(self.device, self.dtype, self.changes)

    def quantity(self, key: str, default: float) -> float:
        """Return a value of the chip that may be absent."""
        if self.changes and key in self.changes:
            return self.changes[key]
        found = self.device.quantities.get(key)
        return default if found is None else found.value

    def of(self, task: Task) -> Price:
        """Return the price of a task."""
        rule: Callable[[Mapping[str, float]], Price] = {
            Kind.GEMM: self._gemm,
            Kind.ATTENTION: self._attention,
            Kind.EXPERTS: self._experts,
            Kind.COLLECTIVE: lambda sizes: self._collective(task.ops[0], sizes),
            Kind.VECTOR: lambda sizes: self._vector(sizes, task.flops),
        }[task.kind]
        return rule(task.sizes)

    def _gemm(self, s: Mapping[str, float]) -> Price:
        wide = s["w_bits"] > 16 or s["x_bits"] > 16
        dtype = "bf16" if wide else self.dtype
        operand = min(s["x_bits"], operand_bits(dtype)) / 8.0
        # A low precision stores its weights so; wider products keep what the checkpoint holds.
        weight = min(s["w_bits"], operand_bits(dtype)) / 8.0
        p = self.calibration.get(gemm_section(dtype), GemmParameters)
        if operand_bits(dtype) < 16:
            # Measured alone, a low-precision product launches its conversions too; inside of a program they are queued.
            p = replace(p, launch=self.calibration.get("gemm_bf16", GemmParameters).launch)
        chip = self.chip if dtype == self.dtype else rates(self.device, dtype, self.changes)
        terms = gemm_terms(
            s["m"], s["n"], s["k"], chip, p, bytes_per_element=operand, weight_bytes=weight,
            output_bytes=s["y_bits"] / 8.0,
        )  # fmt: skip
        seconds = composed(terms, p)
        tile = f"tile {int(terms['tile_rows'])}x{int(terms['tile_columns'])}"
        split = f", k in {int(terms['split'])} parts" if int(terms["split"]) > 1 else ""
        times = {k: v for k, v in terms.items() if k not in ("tile_rows", "tile_columns", "split")}
        return _price(seconds, times, tile + split)

    def _attention(self, s: Mapping[str, float]) -> Price:
        shape = (s["batch"], s["new"], s["context"], s["heads"], s["kv_heads"], s["head_dim"])
        window = s["window"] if np.isfinite(s["window"]) else None
        size = s["bits"] / 8.0
        chip = rates(self.device, "bf16", self.changes)
        if s["new"] <= FEW_TOKENS and s["context"] > 0:
            p = self.calibration.get("attention_decode", DecodeParameters)
            latent = s["value_dim"] if s["value_dim"] < s["head_dim"] else None
            # Other layers' caches were read since: nothing of this one is left on the chip.
            terms = decode_terms(
                *shape, chip, p, bytes_per_element=size, window=window, value_dim=latent, warm=0.0
            )
        else:
            q = self.calibration.get("attention_prefill", PrefillParameters)
            terms = prefill_terms(*shape, chip, q, bytes_per_element=size, window=window)
        return _price(np.asarray(sum(terms.values())), terms)

    def _experts(self, s: Mapping[str, float]) -> Price:
        p = self.calibration.get("moe_bf16", MoeParameters)
        shape = (
            s["tokens"], s["experts"], s["top_k"], s["hidden"], s["inter"], s["tp"], s["ep"],
            self.skew,
        )  # fmt: skip
        size = min(s["w_bits"], operand_bits(self.dtype)) / 8.0
        gated = bool(s["gated"])
        seconds = moe_seconds(*shape, self.chip, p, bytes_per_element=size, gated=gated)
        terms = moe_terms(*shape, self.chip, p, bytes_per_element=size, gated=gated)
        return _price(seconds, terms)

    def _collective(self, op: str, s: Mapping[str, float]) -> Price:
        if s["chips"] <= 1:
            return Price(0.0, {}, LINKS, 0.0, "one chip")
        p = self.calibration.get("collective", CollectiveParameters)
        seconds, index = collective(
            op, s["bytes"], s["chips"], self.chip, p,
            in_switch="switch_reduces" in self.device.quantities,
        )  # fmt: skip
        hidden = self.quantity("link_overlap", 0.0)
        whole = float(seconds)
        terms = {"links": whole, "hidden": -hidden * whole} if hidden else {"links": whole}
        return Price(whole * (1.0 - hidden), terms, LINKS, 0.0, ALGORITHMS[int(index)])

    def _vector(self, s: Mapping[str, float], flops: float) -> Price:
        p = self.calibration.get("vector", VectorParameters)
        rate = self.quantity("vector_flops", 0.0)
        if rate <= 0:
            rate = self.device.quantity("vector_flops").value
        args = (s["moved"], flops, rate, self.chip, p)
        return _price(vector_seconds(*args), vector_terms(*args))


def _price(seconds: Array, terms: Mapping[str, Array], choice: str = "") -> Price:
    """Return a price; its bound is what the largest group of terms waits for."""
    found = {name: float(np.asarray(value)) for name, value in terms.items()}
    waits: dict[str, float] = {}
    for name, value in found.items():
        kind = BOUNDS[name.rpartition(", ")[2]]
        waits[kind] = waits.get(kind, 0.0) + value
    bound = max(waits, key=lambda kind: waits[kind])
    total = float(np.asarray(seconds))
    return Price(total, found, bound, min(waits.get(MEMORY, 0.0), total), choice)
