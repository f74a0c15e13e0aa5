# SPDX-License-Identifier: Apache-2.0
"""Numbers of a profile as people read them, and the sentences about a chip that every form of the profile repeats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from device_model.chips.chip import Device
from device_model.chips.peaks import peak_key
from device_model.memory.meshes import several
from device_model.memory.use import Logits
from device_model.timeline.schedule import Timeline
from sohu.performance.profile.model import Phase, Profile

GIB = 2**30
PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
# Quantities that are counts or ratios; the others have a unit.
UNITS: Mapping[str, str] = {
    "bf16_flops": "FLOP/s", "fp8_flops": "FLOP/s", "fp4_flops": "FLOP/s", "int8_flops": "op/s",
    "f32_flops": "FLOP/s", "vector_flops": "FLOP/s", "clock_hz": "Hz", "onchip_bytes": "B",
    "hbm_bytes": "B", "hbm_bw": "B/s", "link_bw": "B/s", "link_bw_each": "B/s",
    "scaleout_bw": "B/s", "tdp_w": "W", "idle_w": "W", "flop_joule": "J", "hbm_joule_per_byte": "J",
}  # fmt: skip

# What the time that a step waits for follows from; compute has the peak of its format besides.
BEHIND: Mapping[str, frozenset[str]] = {
    "compute": frozenset({"units", "clock_hz", "boost_hz"}),
    "memory": frozenset({"hbm_bw"}),
    "links": frozenset({"link_bw", "link_bw_each", "domain", "scaleout_bw", "multicast",
                        "link_overlap", "switch_reduces"}),
    "latency": frozenset(),
    "power": frozenset({"tdp_w", "idle_w", "flop_joule", "hbm_joule_per_byte"}),
}  # fmt: skip


def duration(seconds: float) -> str:
    """Return a time with three digits."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * factor >= 1:
            return f"{digits(seconds * factor)} {unit}"
    return f"{digits(seconds * 1e9)} ns"


def digits(value: float) -> str:
    """Return three digits, or all of those before the point."""
    size = abs(value)
    places = 0 if size >= 100 or size == 0 else 1 if size >= 10 else 2
    return f"{value:,.{places}f}"


def micro(seconds: float) -> str:
    """Return microseconds for a column of them."""
    return f"{seconds * 1e6:,.2f}"


def scaled(value: float, unit: str = "") -> str:
    """Return a number with a decimal prefix."""
    for factor, prefix in PREFIXES:
        if abs(value) >= factor:
            return f"{digits(value / factor)} {prefix}{unit}".rstrip()
    return f"{value:.3g} {unit}".rstrip()


def quantity(key: str, value: float) -> str:
    """Return a value of a chip with its unit."""
    return scaled(value, UNITS[key]) if key in UNITS else f"{value:,.6g}"


def share(part: float, whole: float) -> str:
    """Return a share in percent."""
    percent = 100 * part / whole if whole > 0 else 0.0
    if 0 < percent < 0.095:
        return f"{percent:.2f}%" if percent >= 0.005 else "<0.01%"
    return f"{percent:.1f}%" if percent < 9.95 else f"{percent:.0f}%"


def shares(parts: Mapping[str, float], whole: float) -> str:
    """Return shares of a whole, the largest first, without those that round to nothing."""
    kept = {k: v for k, v in parts.items() if whole > 0 and v / whole >= 5e-4}
    ordered = sorted(kept.items(), key=lambda item: -item[1])
    return ", ".join(f"{name}\N{NO-BREAK SPACE}{share(value, whole)}" for name, value in ordered)


def spread(
    lines: Iterable[Timeline], value: Callable[[Timeline], float], show: Callable[[float], str]
) -> str:
    """Return a value at all swept rates: one, or from the least to the most."""
    values = [value(line) for line in lines]
    low, high = show(min(values)), show(max(values))
    return low if low == high else f"{low} – {high}"


def step(phase: Phase) -> str:
    """Return what a step does."""
    new = f"{phase.new:,} new token" + ("s" if phase.new > 1 else "")
    cached = f" after {phase.context:,}" if phase.context else ""
    return f"{phase.name}, {new}{cached}"


def setting(profile: Profile) -> str:
    """Return the setting of a profile in a line."""
    mesh = ", ".join(f"{name} = {size}" for name, size in several(profile.mesh).items())
    batch = profile.phases[0].batch
    logits = "" if profile.logits is Logits.LAST else ", all logits"
    return f"{mesh or 'one chip'}, products in {profile.dtype}, batch {batch:,}{logits}"


def rests_on(profile: Profile, phase: Phase) -> str:
    """Return which values of low confidence stand behind what a phase waits for most, in words, or nothing."""
    kind = next(iter(phase.timeline.waits()), "latency")
    peak = {peak_key(profile.device, profile.dtype)} if kind == "compute" else set()
    low = [name for name in profile.uncertain if name in BEHIND[kind] | peak]
    if not low:
        return ""
    return f"rests on {', '.join(low)}: of low confidence"


def trust(profile: Profile) -> tuple[str, ...]:
    """Return sentences on what the numbers rest on: swept guesses, values of low confidence, the calibration."""
    sentences = []
    device = profile.device
    if len(profile.swept) > 1:
        keys = ", ".join(f"{key} ({swept_values(device, key)})" for key in profile.swept[0])
        first = ", ".join(quantity(k, v) for k, v in profile.swept[0].items())
        sentences.append(
            f"the chip's {keys} is not known: results are given over all of it, "
            f"task by task at {first}"
        )
    if profile.uncertain:
        names = ", ".join(profile.uncertain)
        sentences.append(
            f"{len(profile.uncertain)} of {len(device.quantities)} values of this chip are of "
            f"low confidence: {names}"
        )
    if device.note:
        sentences.append(device.note)
    if profile.uneven:
        sentences.append(
            "the mesh does not divide every size: times are of chips that all have as much, memory of the largest"
        )
    known = profile.calibration
    sentences.append(f"calibration {known.name}" + (f": {known.title}" if known.title else ""))
    return tuple(sentences)


def swept_values(device: Device, key: str) -> str:
    """Return the ends of a swept quantity."""
    values = device.quantity(key).values
    low, high = quantity(key, min(values)).split(" ", 1), quantity(key, max(values))
    same = len(low) == 2 and high.endswith(low[1])
    return f"{low[0] if same else ' '.join(low)} – {high}"


def verdict(profile: Profile) -> str:
    """Return whether the program fits, in a sentence."""
    limit = profile.device.memory_bytes
    most = max(profile.phases, key=lambda p: p.memory.total)
    room = f"{most.memory.total / GIB:,.1f} of {limit / GIB:,.1f} GiB"
    parts = (
        f"weights {most.memory.weights / GIB:,.1f}, state {most.memory.state / GIB:,.1f}, "
        f"activations {most.memory.activations / GIB:,.2f}"
    )
    if profile.fits:
        return f"fits: at most {room} of a chip, in {most.name} ({parts})"
    return (
        f"does not fit: {room} of a chip, in {most.name} ({parts}); the times are those of a chip "
        "that had the room; sohu fit names a mesh that would do"
    )
