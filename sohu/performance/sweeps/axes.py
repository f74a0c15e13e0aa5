# SPDX-License-Identifier: Apache-2.0
"""What a sweep varies, as people write it: `hbm_bw=4e12:8e12:9`, `batch=1:256:x2`, `tp=1,2,4,8`, `link_bw=x1,x2,x4`.

Turns it into a design of the device model, or says what is wrong with every entry at once. Evaluates nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, log

from device_model.chips.chip import QUANTITIES, Device
from device_model.chips.peaks import peak_key
from device_model.memory.meshes import MAX_CHIPS
from device_model.timeline.design import LOAD, MAX_POINTS, NUMERICS, WHOLE, Design, read_by
from dsl.diagnostics import Diagnostic, Refused, did_you_mean, refuse
from dsl.graph import Graph
from dsl.whole_numbers import whole_number

CODE = "S612"
FORMS = "write values as 1,2,4, evenly as 4e12:8e12:9, doubling as 1:256:x2, or in times of the device's own as x1,x2"
ZERO = frozenset({"context", "skew", "host", "link_overlap", "switch_reduces"})
"""Names that may be zero."""
AT_MOST: Mapping[str, float] = {"link_overlap": 1.0, "switch_reduces": 1.0, "skew": 8.0}
MAX_LOAD = 10**9
MILLI = 1e-3


def parse_design(
    graph: Graph, device: Device, given: Mapping[str, float], numerics: str, vary: Sequence[str]
) -> Design:
    """Return the design of what is given once and what is varied; raises `Refused` with every fault.

    Guesses that the device's description spreads over several values are varied too.
    """
    entries, faults = _entries(vary)
    formats = _numerics(entries.pop(NUMERICS, numerics), device, faults)
    read = read_by(device, formats)
    known = {*LOAD, *graph.mesh, *read}
    numbers: dict[str, tuple[float, ...]] = {n: (float(value),) for n, value in given.items()}
    for name, text in entries.items():
        place = f"--vary {name}={text}"[:80]
        if name not in known:
            faults.append(_unknown(name, place, known))
            continue
        try:
            numbers[name] = _checked(name, _values(name, text, device), graph)
        except ValueError as error:
            faults.append(Diagnostic(CODE, str(error), place=place, help=FORMS))
    if faults:
        raise Refused(tuple(faults))
    for name in sorted(read - set(numbers)):
        guesses = device.quantities.get(name)
        if guesses is not None and len(guesses.values) > 1:
            numbers[name] = guesses.values
    design = Design(_host_in_seconds(numbers), formats)
    _check(design)
    return design


def _check(design: Design) -> None:
    """Refuse a design that is too large, or does not say of its requests what it must."""
    if design.points > MAX_POINTS:
        axes = ", ".join(f"{name} {len(design.numbers[name]):,}" for name in design.varied)
        message = f"{design.points:,} points; {MAX_POINTS:,} are possible"
        raise refuse(CODE, message, place="--vary", help=f"take fewer values of {axes}")
    for name in ("answer", "prompts"):
        if name in design.numbers and max(design.numbers["seq"]) < 2:
            message = f"`{name}` is about requests with a prompt, and there is none"
            raise refuse(CODE, message, place="--vary", help="give its length: --seq 2048")


def _entries(vary: Sequence[str]) -> tuple[dict[str, str], list[Diagnostic]]:
    entries: dict[str, str] = {}
    faults = []
    for text in vary:
        name, sign, values = (part.strip() for part in text.partition("="))
        if not (name and sign and values):
            fault = f"`{text[:80]}` is not NAME=VALUES"
            faults.append(Diagnostic(CODE, fault, place="--vary", help=FORMS))
        elif name in entries:
            faults.append(Diagnostic(CODE, f"`{name}` is varied twice", place="--vary"))
        else:
            entries[name] = values
    return entries, faults


def _numerics(text: str, device: Device, faults: list[Diagnostic]) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",")]
    kept = tuple(dict.fromkeys(names))
    if len(kept) < len(names) or "" in kept:
        fault = f"`{text[:80]}` names a format twice, or none"
        faults.append(Diagnostic(CODE, fault, place=f"--vary {NUMERICS}"))
    for name in kept:
        if name:
            try:
                peak_key(device, name)
            except Refused as refused:
                faults += refused.diagnostics
    if faults:
        raise Refused(tuple(faults))
    return kept


def _unknown(name: str, place: str, known: set[str]) -> Diagnostic:
    if name in QUANTITIES:
        message = f"`{name}` changes nothing here: no time, memory or energy depends on it"
        return Diagnostic(CODE, message, place=place)
    help_ = did_you_mean(name, known) or f"there are {', '.join(sorted(known))}, {NUMERICS}"
    return Diagnostic(CODE, f"there is no `{name[:80]}` to vary", place=place, help=help_)


def _values(name: str, text: str, device: Device) -> list[float]:
    """Return the values that a text lists; raises `ValueError` with what is wrong."""
    values: list[float] = []
    for part in (p.strip() for p in text.split(",")):
        if not part:
            raise ValueError("a value is missing between commas")
        values += _range(part, name, device) if ":" in part else [_number(part, name, device)]
        if len(values) > MAX_POINTS:
            raise ValueError(f"more than {MAX_POINTS:,} values")
    return values


def _number(text: str, name: str, device: Device) -> float:
    if not text.startswith("x"):
        return _plain(text)
    own = device.quantities.get(name)
    if own is None:
        raise ValueError(f"`{text}` is in times of the device's own `{name}`, which it has not")
    return _plain(text[1:]) * own.value


def _plain(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"`{text[:40]}` is no number") from None
    if not isfinite(value):
        raise ValueError(f"`{text[:40]}` is not finite")
    return value


def _range(text: str, name: str, device: Device) -> list[float]:
    parts = text.split(":")
    if len(parts) != 3:
        raise ValueError(f"`{text[:40]}` is not FIRST:LAST:COUNT or FIRST:LAST:xFACTOR")
    first, last = (_number(end, name, device) for end in parts[:2])
    if parts[2].startswith("x"):
        return _geometric(first, last, _plain(parts[2][1:]))
    count = whole_number(parts[2], MAX_POINTS)
    if count is None or count < 2:
        raise ValueError(f"`{parts[2][:40]}` is no count of values from 2 to {MAX_POINTS:,}")
    step = (last - first) / (count - 1)
    return [*(first + i * step for i in range(count - 1)), last]


def _geometric(first: float, last: float, factor: float) -> list[float]:
    if not (0 < first <= last and factor > 1):
        raise ValueError("a factor above 1 leads from a value above zero to a larger one")
    count = int((log(last) - log(first)) / log(factor) * (1 + 1e-12) + 1e-9) + 1
    if count > MAX_POINTS:
        raise ValueError(f"more than {MAX_POINTS:,} values")
    return [first * factor**i for i in range(count)]


def _checked(name: str, values: list[float], graph: Graph) -> tuple[float, ...]:
    whole = name in WHOLE or name in graph.mesh
    most = MAX_CHIPS if name in graph.mesh else MAX_LOAD if whole else AT_MOST.get(name, 1e30)
    for value in values:
        if whole and value != int(value):
            raise ValueError(f"`{name}` counts something, and {value:g} is no whole number")
        if value < 0 or (value == 0 and name not in ZERO):
            least = "zero or more" if name in ZERO else "above zero"
            raise ValueError(f"`{name}` is {least}, not {value:g}")
        if value > most:
            raise ValueError(f"`{name}` is at most {most:g}, not {value:g}")
    if len(set(values)) < len(values):
        raise ValueError(f"a value of `{name}` stands twice")
    return tuple(values)


def _host_in_seconds(numbers: Mapping[str, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
    return {k: tuple(MILLI * v for v in vs) if k == "host" else vs for k, vs in numbers.items()}
