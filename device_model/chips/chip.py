# SPDX-License-Identifier: Apache-2.0
"""Descriptions of chips: capacities and rates, each value with its source and how far to trust it.

One TOML file a chip, here or anyone's own, checked against a schema. What follows from them (fit, time) is computed
elsewhere; nothing here is measured.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from itertools import islice
from pathlib import Path

from dsl.diagnostics import Diagnostic, Refused, did_you_mean, refuse
from dsl.regular_file import read_regular

# What people call a chip, where it is not the file's own name.
ALIASES: Mapping[str, str] = {
    "a100": "a100_sxm",
    "h100": "h100_sxm",
    "h200": "h200_sxm",
    "b200": "b200_sxm",
    "b300": "b300_sxm",
    "sohu": "sohu_like",
    "cpu": "cpu_2core",
}
CONFIDENCE = ("high", "medium", "low")
# What a chip may be described by, and its unit.
QUANTITIES: Mapping[str, str] = {
    "bf16_flops": "FLOP/s, dense, a multiply-add counts 2",
    "fp8_flops": "FLOP/s",
    "fp4_flops": "FLOP/s",
    "int8_flops": "operations/s",
    "f32_flops": "FLOP/s of the matmul unit",
    "vector_flops": "FLOP/s in float32 outside of the matmul unit",
    "units": "multiprocessors, compute units or cores",
    "clock_hz": "cycles/s",
    "boost_hz": "cycles/s while power allows, where more than clock_hz",
    "multicast": "units that one load from on-chip memory serves",
    "tile_copies": "1 where copies of whole tiles between memories run on their own",
    "onchip_bytes": "bytes of the last memory on the chip",
    "hbm_bytes": "bytes of main memory",
    "hbm_bw": "bytes/s",
    "link_bw": "bytes/s sent inside of the scale-up domain, one direction, all links",
    "link_bw_each": "bytes/s of one link, one direction",
    "switch_reduces": "1 where the links' switch adds floats up itself",
    "link_overlap": "share of a collective's time that work beside it hides, at most 1",
    "scaleout_bw": "bytes/s outside of the domain, one direction",
    "domain": "chips in the scale-up domain",
    "tdp_w": "watts",
    "idle_w": "watts without work",
    "flop_joule": "joules a FLOP of the matmul unit",
    "hbm_joule_per_byte": "joules a byte of main memory",
    "utilisation": "share of the peak that is claimed",
}
LEAST, LARGEST = 1e-18, 1e24
"""Between these lies every quantity of a chip; formulas stay far from what floats hold."""
SHARES = ("link_overlap", "utilisation")
COUNTS = ("units", "domain", "multicast", *(name for name in QUANTITIES if name.endswith("_bytes")))
MAX_FILE = 16 * 2**10
MAX_FAULTS = 50
MAX_REASON = 160
MAX_BITS = 256
MAX_SWEEP = 64


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value of a chip; a sweep of guesses has several."""

    values: tuple[float, ...]
    source: str
    confidence: str

    @property
    def value(self) -> float:
        """Return the value, of a sweep the first."""
        return self.values[0]


@dataclass(frozen=True, slots=True)
class Device:
    """A chip by name, with what is known of it.

    `numerics` names what it computes in, each with its own accumulator where it has one; `calibration` the fitted
    parameters that its times are predicted with.
    """

    id: str
    name: str
    quantities: Mapping[str, Quantity]
    numerics: Mapping[str, str] = field(default_factory=dict)
    calibration: str = "ideal"
    note: str = ""

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
        return int(self.quantity("hbm_bytes").value)


@lru_cache(maxsize=1)
def device_ids() -> tuple[str, ...]:
    """Return the ids of all described chips."""
    folder = resources.files("device_model.chips").joinpath("descriptions")
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(n.removesuffix(".toml") for n in names if n.endswith(".toml")))


def devices() -> Mapping[str, Device]:
    """Return every described chip by its id."""
    return {key: device(key) for key in device_ids()}


def device(name: str) -> Device:
    """Return a chip by its id, what people call it, or the path of its description; raises `Refused`."""
    if name.endswith(".toml"):
        return _own(Path(name))
    key = ALIASES.get(name.lower(), name.lower())
    if key not in device_ids():
        names = [*device_ids(), *ALIASES]
        known = (
            f"there are {', '.join(device_ids())}, and files of your own: a path ending in .toml"
        )
        help_ = did_you_mean(name.lower(), names) or known
        raise refuse("S602", f"there is no device `{name}`", help=help_)
    return _known(key)


@lru_cache(maxsize=64)
def _known(key: str) -> Device:
    file = resources.files("device_model.chips").joinpath("descriptions", f"{key}.toml")
    return parse_device(key, file.read_text(encoding="utf-8"), f"{key}.toml")


def _own(path: Path) -> Device:
    try:
        text = read_regular(path, MAX_FILE).decode()
    except OSError as error:
        raise refuse("S608", f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise refuse("S608", f"{path} is not UTF-8 at byte {error.start}") from None
    return parse_device(path.stem, text, str(path))


def parse_device(id_: str, text: str, place: str) -> Device:
    """Return the chip that a TOML text describes; raises `Refused` with every fault of it."""
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # tomllib's own error, long numbers, deep nesting
        reason = str(error)[:MAX_REASON] or type(error).__name__
        raise refuse("S608", f"{place} is no TOML that is read: {reason}") from None
    faults = list(islice(_faults(table, place), MAX_FAULTS))
    faults += [
        Diagnostic("S608", f"`{key}` is missing, and a text", place=place)
        for key in ("name",)
        if not isinstance(table.get(key), str)
    ]
    if faults:
        raise Refused(tuple(faults))
    offered = table.get("numerics", {})
    return Device(
        id_,
        table["name"],
        {k: _quantity(v) for k, v in table.items() if k in QUANTITIES},
        {name: str(entry.get("accumulator", "")) for name, entry in offered.items()},
        str(table.get("calibration", "ideal")),
        str(table.get("note", "")),
    )


def _faults(table: Mapping[str, object], place: str) -> Iterator[Diagnostic]:
    for key, value in table.items():
        if fault := _fault(key, value, place):
            yield fault


def _fault(key: str, value: object, place: str) -> Diagnostic | None:
    """Return what is wrong with an entry, None where nothing is."""
    where = f"{place}: {key}"
    if key in ("name", "note", "calibration"):
        wrong = None if isinstance(value, str) else "is no text"
    elif key in QUANTITIES:
        wrong = _wrong(key, value)
    elif key == "numerics":
        tables = isinstance(value, dict) and all(isinstance(e, dict) for e in value.values())
        wrong = None if tables else "is no table of tables"
    elif isinstance(value, dict) and "value" not in value:
        wrong = None  # facts for people, such as what is claimed
    else:
        help_ = did_you_mean(key, QUANTITIES) or f"known are {', '.join(QUANTITIES)}"
        return Diagnostic("S608", f"`{key}` describes nothing known", place=where, help=help_)
    return Diagnostic("S608", f"`{key}` {wrong}", place=where) if wrong else None


def _wrong(key: str, value: object) -> str | None:
    """Return what is wrong with a quantity, None where nothing is."""
    if not isinstance(value, dict) or set(value) != {"value", "source", "confidence"}:
        return 'is not written as { value = …, source = "…", confidence = "…" }'
    found = value["value"]
    numbers = found if isinstance(found, list) else [found]
    if not 1 <= len(numbers) <= MAX_SWEEP:
        return f"has {len(numbers)} values; 1 to {MAX_SWEEP} are possible"
    for number in numbers:
        low, high = _range(key)
        real = isinstance(number, (int, float)) and not isinstance(number, bool)
        if real and number > 0:
            # Compared before anything is computed: an integer may be longer than any float.
            if low <= number <= high:
                continue
            return f"is {_number(number)}; {low:g} to {high:g} are possible"
        return f"is {_number(number)}; a value above zero is needed"
    if not isinstance(value["source"], str) or not value["source"].strip():
        return "has no source"
    if value["confidence"] not in CONFIDENCE:
        return f"has the confidence {value['confidence']!r}; it is one of {', '.join(CONFIDENCE)}"
    return None


def _number(value: object) -> str:
    """Return a value as a message shows it: Python refuses to write out very long integers."""
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        return f"a number of {value.bit_length():,} bits"
    return repr(value)[:MAX_REASON]


def _range(key: str) -> tuple[float, float]:
    """Return between which values a quantity lies."""
    if key in SHARES:
        return LEAST, 1.0
    return (1.0, LARGEST) if key in COUNTS else (LEAST, LARGEST)


def _quantity(entry: Mapping[str, object]) -> Quantity:
    value = entry["value"]
    values = value if isinstance(value, list) else [value]
    numbers = tuple(float(v) for v in values if isinstance(v, (int, float)))
    return Quantity(numbers, str(entry["source"]), str(entry["confidence"]))
