# SPDX-License-Identifier: Apache-2.0
"""The report of a port: what was ported, what was checked, and with which result; and the names of its files.

Everything here is data that other stages computed. Judging belongs to validation, the page for people to `page`.
"""

from __future__ import annotations

import json
import math
import platform
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib import metadata

from device_model.memory.use import MemoryUse
from dsl.counting.growth import Grown
from dsl.diagnostics import Diagnostic

SCHEMA = "sohu.report/1"
SPEC_NAME, JSON_NAME, HTML_NAME = "model.sohu", "report.json", "report.html"
FILES = (SPEC_NAME, JSON_NAME, HTML_NAME)
PACKAGES = ("sohu", "numpy", "numba", "sympy", "safetensors", "torch", "transformers")


class Verdict(Enum):
    """What became of a port."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    REFUSED = "refused"
    PLANNED = "planned"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Where a model comes from and what it is."""

    source: str
    architecture: str = ""
    model_type: str = ""
    revision: str = ""
    name: str = ""
    family: str = ""
    adapter: str = ""

    def to_dict(self) -> dict[str, object]:
        """Return the model as JSON data; what is not known is null."""
        return {
            "name": self.name or None,
            "source": self.source,
            "revision": self.revision or None,
            "architecture": self.architecture or None,
            "model_type": self.model_type or None,
            "family": self.family or None,
            "adapter": self.adapter or None,
        }


@dataclass(frozen=True, slots=True)
class UsedKey:
    """A config key that the family reads, the name it gets there, and its value, which may be the family's default."""

    key: str
    name: str
    value: object
    defaulted: bool = False


@dataclass(frozen=True, slots=True)
class IgnoredKey:
    """A config key that cannot change what is computed, and why."""

    key: str
    reason: str
    value: object = None


@dataclass(frozen=True, slots=True)
class NormalisedKey:
    """A key of the family's spelling, and the key of the file that it was read from."""

    key: str
    origin: str
    value: object = None


@dataclass(frozen=True, slots=True)
class ConfigKeys:
    """Every key of `config.json` and what became of it."""

    used: tuple[UsedKey, ...] = ()
    ignored: tuple[IgnoredKey, ...] = ()
    unread: tuple[str, ...] = ()
    normalised: tuple[NormalisedKey, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return the account as JSON data."""
        return {
            "used": [
                {"key": k.key, "name": k.name, "value": k.value, "default": k.defaulted}
                for k in self.used
            ],
            "ignored": [{"key": k.key, "reason": k.reason, "value": k.value} for k in self.ignored],
            "unread": list(self.unread),
            "normalised": [
                {"key": k.key, "origin": k.origin, "value": k.value} for k in self.normalised
            ],
        }


@dataclass(frozen=True, slots=True)
class TensorAccount:
    """Every tensor of the checkpoint and what became of it, by name."""

    consumed: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    left: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Tensors that are left for a reason, by that reason."""

    @property
    def total(self) -> int:
        """Return the number of tensors in the checkpoint."""
        return len(self.consumed) + len(self.unused) + sum(map(len, self.left.values()))

    def patterns(self) -> dict[str, int]:
        """Return how many consumed tensors share each name, numbers left out."""
        return dict(Counter(re.sub(r"(?<=\.)\d+(?=\.)", "*", name) for name in self.consumed))

    def to_dict(self) -> dict[str, object]:
        """Return the account as JSON data."""
        return {
            "total": self.total,
            "consumed": len(self.consumed),
            "unused": list(self.unused),
            "missing": list(self.missing),
            "left": [
                {"reason": reason, "count": len(names), "tensors": list(names)}
                for reason, names in self.left.items()
            ],
            "patterns": [{"name": name, "count": n} for name, n in self.patterns().items()],
        }


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula over the dimensions, and its value where these are as in `at`."""

    formula: str
    value: float | None = None
    at: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Return the formula as JSON data."""
        return {"formula": self.formula, "value": self.value, "at": dict(self.at)}


@dataclass(frozen=True, slots=True)
class Memory:
    """The bytes that a port needs: `formulas` is keyed by what is counted (`weights_bytes`, …).

    `growth` says how the state of a sequence grows, `uses` what one chip holds by step where products compute in
    `numerics`, for one sequence and the context that `sohu fit` asks about.
    """

    weights_bytes: int | None = None
    state_bytes_per_token: int | None = None
    formulas: Mapping[str, Formula] = field(default_factory=dict)
    growth: Grown | None = None
    numerics: str = ""
    uses: Mapping[str, MemoryUse] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Return the memory as JSON data."""
        return {
            "weights_bytes": self.weights_bytes,
            "state_bytes_per_token": self.state_bytes_per_token,
            "state_growth": None if self.growth is None else self.growth.as_dict(),
            "numerics": self.numerics or None,
            "steps": {name: use.as_dict() for name, use in self.uses.items()},
            "formulas": {name: formula.to_dict() for name, formula in self.formulas.items()},
        }


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison of logits, by the rule; errors are relative to the float64 truth.

    `error` is what the rule judges, against `limit`: in f32 the root mean square, below it the geometric mean of the
    positions' root mean squares, beside `reference`, the original's own. `top1` is the share of positions where both
    prefer the same token; `pcc` is Pearson's correlation, shown because others judge by it. `tokens` were fed in this
    mode; a mode of `same_bits` as prefill stands for all positions that prefill was judged on.
    """

    mode: str
    numerics: str
    error: float
    limit: float
    passed: bool
    reference: float | None = None
    rmse: float | None = None
    reference_rmse: float | None = None
    top1: float | None = None
    pcc: float | None = None
    tokens: int = 0
    same_bits: bool | None = None

    def to_dict(self) -> dict[str, object]:
        """Return the case as JSON data."""
        return {
            "mode": self.mode,
            "numerics": self.numerics,
            "error": self.error,
            "reference": self.reference,
            "limit": self.limit,
            "rmse": self.rmse,
            "reference_rmse": self.reference_rmse,
            "top1": self.top1,
            "pcc": self.pcc,
            "tokens": self.tokens,
            "same_bits": self.same_bits,
            "pass": self.passed,
        }


@dataclass(frozen=True, slots=True)
class JudgedRow:
    """A row that was judged: its errors by numerics, in f32 as such, below in parts of the original's own."""

    name: str
    tokens: int
    errors: Mapping[str, float]

    def to_dict(self) -> dict[str, object]:
        """Return the row as JSON data."""
        return {"name": self.name, "tokens": self.tokens, "errors": dict(self.errors)}


@dataclass(frozen=True, slots=True)
class CrossedLength:
    """A length at which something switches, and what crossed it; empty where nothing did."""

    length: int
    what: str
    crossed: str

    def to_dict(self) -> dict[str, object]:
        """Return the length as JSON data."""
        return {"length": self.length, "what": self.what, "crossed": self.crossed or None}


@dataclass(frozen=True, slots=True)
class MeshCase:
    """A mode on the chips of a mesh beside one chip: whether the bits are the same, or where they first are not."""

    mesh: str
    numerics: str
    mode: str
    tokens: int
    differs: str = ""

    @property
    def same_bits(self) -> bool:
        """Tell whether the mesh gave one chip's bits."""
        return not self.differs

    def to_dict(self) -> dict[str, object]:
        """Return the comparison as JSON data."""
        return {
            "mesh": self.mesh,
            "numerics": self.numerics,
            "mode": self.mode,
            "tokens": self.tokens,
            "same_bits": self.same_bits,
            "differs": self.differs or None,
        }


@dataclass(frozen=True, slots=True)
class Pin:
    """A token whose choice was near a tie in the truth; `differed` where the port would have chosen otherwise."""

    row: str
    position: int
    layer: int
    differed: bool

    def to_dict(self) -> dict[str, object]:
        """Return the pin as JSON data."""
        return {"row": self.row, "position": self.position, "layer": self.layer}


@dataclass(frozen=True, slots=True)
class Pins:
    """Choices of experts that were judged as the truth has them: how many of all, and some that would have differed."""

    numerics: str
    decisions: int
    close: int
    differed: int
    listed: tuple[Pin, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return the pins as JSON data."""
        return {
            "numerics": self.numerics,
            "decisions": self.decisions,
            "close": self.close,
            "differed": self.differed,
            "listed": [pin.to_dict() for pin in self.listed],
        }


@dataclass(frozen=True, slots=True)
class LayerError:
    """The error of the values that leave a layer, relative to the float64 truth."""

    numerics: str
    layer: int
    relative_rmse: float
    reference_relative_rmse: float | None = None

    def to_dict(self) -> dict[str, object]:
        """Return the error as JSON data."""
        return {
            "numerics": self.numerics,
            "layer": self.layer,
            "relative_rmse": self.relative_rmse,
            "reference_relative_rmse": self.reference_relative_rmse,
        }


@dataclass(frozen=True, slots=True)
class Validation:
    """All comparisons with the reference, on which rows and across which lengths; `text` holds notes for the reader."""

    cases: tuple[Case, ...] = ()
    layers: tuple[LayerError, ...] = ()
    text: tuple[str, ...] = ()
    rows: tuple[JudgedRow, ...] = ()
    lengths: tuple[CrossedLength, ...] = ()
    pins: tuple[Pins, ...] = ()
    meshes: tuple[MeshCase, ...] = ()
    rule: str = ""
    original: str = ""
    """Who computed the truth: `transformers`, or what the user called a reference of theirs."""

    @property
    def tokens(self) -> int:
        """Return the number of positions that were judged."""
        return sum(row.tokens for row in self.rows)

    def to_dict(self) -> dict[str, object]:
        """Return the comparisons as JSON data."""
        return {
            "cases": [case.to_dict() for case in self.cases],
            "layers": [layer.to_dict() for layer in self.layers],
            "text": list(self.text),
            "rule": self.rule,
            "original": self.original or None,
            "tokens": self.tokens,
            "rows": [row.to_dict() for row in self.rows],
            "lengths": [length.to_dict() for length in self.lengths],
            "pins": [pins.to_dict() for pins in self.pins],
            "meshes": [case.to_dict() for case in self.meshes],
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All that is known about a port; `timing` is in seconds per stage, in the order they ran."""

    verdict: Verdict
    model: ModelInfo
    diagnostics: tuple[Diagnostic, ...] = ()
    config_keys: ConfigKeys = ConfigKeys()
    tensors: TensorAccount = TensorAccount()
    memory: Memory = Memory()
    validation: Validation = Validation()
    timing: Mapping[str, float] = field(default_factory=dict)
    created_with: Mapping[str, str] = field(default_factory=dict)
    text_sha256: str = ""
    """The digest of the text that is written beside the report; an edit is told by it."""

    def to_dict(self) -> dict[str, object]:
        """Return the report as JSON data; numbers that JSON does not have become null."""
        data = {
            "schema": SCHEMA,
            "verdict": self.verdict.value,
            "model": self.model.to_dict(),
            "diagnostics": [d.as_dict() for d in self.diagnostics],
            "config_keys": self.config_keys.to_dict(),
            "tensors": self.tensors.to_dict(),
            "memory": self.memory.to_dict(),
            "validation": self.validation.to_dict(),
            "timing": {stage: round(seconds, 3) for stage, seconds in self.timing.items()},
            "created_with": dict(self.created_with),
            "text_sha256": self.text_sha256 or None,
        }
        return {key: _finite(value) for key, value in data.items()}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on, as installed."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def to_json(report: Report) -> str:
    """Return the text of `report.json`."""
    return json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: object) -> object:
    """Return JSON data with null for the floats that JSON cannot hold."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
        case _:
            return value
