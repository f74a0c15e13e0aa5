"""Descriptions of chips: capacities and rates, each value with its source and how far to trust it.

Read from one TOML table. What follows from them (fit, time) is computed elsewhere; nothing here is measured.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources

from dsl.diagnostics import did_you_mean, refuse

TABLE = "chips.toml"
# What people call a chip, where it is not the table's own name.
ALIASES: Mapping[str, str] = {
    "a100": "a100_sxm",
    "h100": "h100_sxm",
    "h200": "h200_sxm",
    "b200": "b200_sxm",
    "b300": "b300_sxm",
    "sohu": "sohu_like",
}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value of a chip; a sweep of guesses has several."""

    values: tuple[float, ...]
    source: str
    confidence: str


@dataclass(frozen=True, slots=True)
class Device:
    """A chip by name, with what is known of it.

    `numerics` names what it computes in, each with its own accumulator where it has one.
    """

    id: str
    name: str
    quantities: Mapping[str, Quantity]
    numerics: Mapping[str, str] = field(default_factory=dict)

    def quantity(self, key: str) -> Quantity:
        """Return a value; raises `Refused` where the chip's description does not have it."""
        found = self.quantities.get(key)
        if found is None:
            known = ", ".join(sorted(self.quantities))
            message = f"the description of {self.name} has no `{key}`"
            raise refuse("S603", message, help=f"it has {known}")
        return found

    @property
    def memory_bytes(self) -> int:
        """Return the bytes of the chip's main memory."""
        return int(self.quantity("hbm_bytes").values[0])


@lru_cache(maxsize=1)
def devices() -> Mapping[str, Device]:
    """Return every described chip by its id."""
    text = resources.files("device_model.devices").joinpath(TABLE).read_text(encoding="utf-8")
    return {key: _device(key, table) for key, table in tomllib.loads(text).items()}


def device(name: str) -> Device:
    """Return a chip by its id or what people call it; raises `Refused` for an unknown one."""
    known = devices()
    key = ALIASES.get(name.lower(), name.lower())
    if key not in known:
        names = [*known, *ALIASES]
        help_ = did_you_mean(name.lower(), names) or f"there are {', '.join(known)}"
        raise refuse("S602", f"there is no device `{name}`", help=help_)
    return known[key]


def _device(key: str, table: Mapping[str, object]) -> Device:
    quantities = {
        name: _quantity(value)
        for name, value in table.items()
        if isinstance(value, dict) and "value" in value
    }
    offered = table.get("numerics")
    numerics = {
        name: str(entry.get("accumulator", "")) if isinstance(entry, dict) else ""
        for name, entry in (offered.items() if isinstance(offered, dict) else ())
    }
    return Device(key, str(table.get("name", key)), quantities, numerics)


def _quantity(entry: Mapping[str, object]) -> Quantity:
    value = entry["value"]
    values = value if isinstance(value, list) else [value]
    numbers = tuple(float(v) for v in values if isinstance(v, (int, float)))
    return Quantity(numbers, str(entry["source"]), str(entry["confidence"]))
