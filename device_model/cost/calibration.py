# SPDX-License-Identifier: Apache-2.0
"""Fitted parameters of the cost formulas by chip family, as they lie in `device_model/chips/calibration/`.

A family may stand on another one and replace parameters of it. Fitting is `sohu calibrate`'s work; no
default here hides a missing value.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from functools import lru_cache
from importlib import resources
from math import isfinite
from typing import Any, TypeGuard, TypeVar

from device_model.chips.chip import Device
from device_model.cost.attention import DecodeParameters, PrefillParameters
from device_model.cost.collective import CollectiveParameters
from device_model.cost.gemm import GemmParameters
from device_model.cost.host import HostParameters
from device_model.cost.moe import MoeParameters
from device_model.cost.vector import VectorParameters
from dsl.diagnostics import refuse

Parameters = (
    GemmParameters
    | PrefillParameters
    | DecodeParameters
    | MoeParameters
    | CollectiveParameters
    | VectorParameters
    | HostParameters
)
Wanted = TypeVar("Wanted")
SECTIONS: Mapping[str, type[Parameters]] = {
    "gemm_bf16": GemmParameters,
    "gemm_fp8": GemmParameters,
    "attention_prefill": PrefillParameters,
    "attention_decode": DecodeParameters,
    "moe_bf16": MoeParameters,
    "collective": CollectiveParameters,
    "vector": VectorParameters,
}
MAX_DEPTH = 4


@dataclass(frozen=True, slots=True)
class Section:
    """The parameters of one formula, and where they come from: data, rows, groups, errors, the family they are of."""

    parameters: Parameters
    fitted: Mapping[str, object]
    family: str


@dataclass(frozen=True, slots=True)
class Calibration:
    """All fitted parameters of a family of chips, and the host's constants of serving frameworks."""

    name: str
    title: str
    sections: Mapping[str, Section]
    serving: Mapping[str, Section]

    def get(self, section: str, kind: type[Wanted]) -> Wanted:
        """Return the parameters of one formula; raises `Refused` where the family has none."""
        own = self.sections.get(section)
        if own is None or not isinstance(own.parameters, kind):
            known = ", ".join(self.sections) or "nothing"
            message = f"the calibration `{self.name}` has no `{section}`"
            raise refuse("S611", message, help=f"it has {known}")
        return own.parameters


def host_of(known: Calibration, framework: str) -> HostParameters:
    """Return the constants of a serving framework; raises `Refused` where the calibration has none."""
    own = known.serving.get(framework)
    if own is None or not isinstance(own.parameters, HostParameters):
        message = f"no constants for the backend {framework!r}"
        help_ = f"known are {', '.join(known.serving) or 'none'}"
        raise refuse("S611", message, help=help_)
    return own.parameters


def calibration(device: Device) -> Calibration:
    """Return the calibration that a chip's times are predicted with."""
    return calibration_named(device.calibration)


@lru_cache(maxsize=16)
def calibration_named(name: str) -> Calibration:
    """Return a calibration; raises `Refused` for an unknown or faulty one."""
    return _read(name, 0)


def _read(name: str, depth: int) -> Calibration:
    folder = resources.files("device_model.chips").joinpath("calibration")
    known = sorted(
        e.name.removesuffix(".toml") for e in folder.iterdir() if e.name.endswith(".toml")
    )
    if name not in known or depth > MAX_DEPTH:
        raise refuse(
            "S611", f"there is no calibration `{name}`", help=f"there are {', '.join(known)}"
        )
    table = tomllib.loads(folder.joinpath(f"{name}.toml").read_text(encoding="utf-8"))
    base = table.get("base")
    inherited = _read(str(base), depth + 1) if base else Calibration(name, "", {}, {})
    own = {
        key: _section(name, key, table[key], inherited.sections.get(key), kind)
        for key, kind in SECTIONS.items()
        if key in table
    }
    serving = {
        framework: _section(
            name, f"serving.{framework}", table["serving"][framework],
            inherited.serving.get(framework), HostParameters,
        )
        for framework in table.get("serving", {})
    }  # fmt: skip
    title = str(table.get("name", name))
    return Calibration(name, title, {**inherited.sections, **own}, {**inherited.serving, **serving})


def _section(
    name: str, key: str, table: Mapping[str, object], inherited: Section | None,
    kind: type[Parameters],
) -> Section:  # fmt: skip
    before = asdict(inherited.parameters) if inherited else {}
    parameters = build(kind, {**before, **table}, f"{name}.toml, {key}")
    fitted = table.get("fitted", {})
    return Section(parameters, fitted if isinstance(fitted, dict) else {}, name)


def build(kind: type[Wanted], table: Mapping[str, object], place: str) -> Wanted:
    """Return the parameters of a table; raises `Refused` where one is missing, unknown or no number."""
    declared: Any = kind
    known = {f.name: f for f in fields(declared)}
    values: dict[str, float] = {}
    for key, value in table.items():
        if key == "fitted":
            continue
        number = float(value) if _is_number(value) else float("nan")
        if key not in known or not isfinite(number):
            raise refuse("S611", f"`{key}` is no parameter with a number", place=place)
        values[key] = number
    missing = [n for n, f in known.items() if n not in values and f.default is MISSING]
    if missing:
        raise refuse("S611", f"{', '.join(missing)} missing", place=place)
    return kind(**values)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
