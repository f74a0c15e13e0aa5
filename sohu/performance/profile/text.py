# SPDX-License-Identifier: Apache-2.0
"""A profile as text for a terminal: the step at a glance, then each layer class task by task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from device_model.timeline.schedule import Timeline
from sohu.performance.profile.model import Layers, Phase, Profile
from sohu.performance.profile.words import (
    GIB,
    digits,
    duration,
    micro,
    quantity,
    rests_on,
    setting,
    share,
    shares,
    spread,
    step,
    trust,
    verdict,
)
from sohu.terminal import console

BESIDE = 6
# Rows of the table of swept values; % stands for the step.
SWEPT: Mapping[str, Callable[[Phase, Timeline], str]] = {
    "%": lambda _, line: duration(line.seconds),
    "  tokens/s": lambda phase, line: digits(phase.rate(line)),
    "  MFU": lambda _, line: share(line.mfu, 1),
    "  waits for": lambda _, line: shares(line.waits(), line.seconds).split(",")[0],
}


def show(profile: Profile) -> None:
    """Print a profile."""
    _headline(profile)
    for phase in profile.phases:
        low = rests_on(profile, phase)
        console.say(f"{phase.name}: {phase.timeline.bottleneck()}{f' ({low})' if low else ''}")
    console.say(verdict(profile))
    if len(profile.swept) > 1:
        _sweep(profile)
    for phase in profile.phases:
        for part in phase.parts:
            _part(phase, part)
    for sentence in trust(profile):
        console.say(f"note: {sentence}")


def _headline(profile: Profile) -> None:
    heads = (profile.device.name, *(step(p) for p in profile.phases))
    columns = [column(profile, phase) for phase in profile.phases]
    rows = list(zip(row_names(profile), *columns, strict=True))
    console.table(f"{profile.name} on {setting(profile)}", heads, rows)


def row_names(profile: Profile) -> tuple[str, ...]:
    """Return what is told of a step at a glance."""
    return (
        "time of a step", "tokens/s of a sequence", _together(profile), "MFU", "main memory busy",
        "engines", "waits for", "peak memory",
    )  # fmt: skip


def column(profile: Profile, phase: Phase) -> tuple[str, ...]:
    """Return a step at a glance, a value for each of `row_names`."""
    lines, first = phase.timelines, phase.timeline
    limit = profile.device.memory_bytes
    engines = {k: v for k, v in first.engines().items() if k != "memory"}
    return (
        spread(lines, lambda t: t.seconds, duration),
        spread(lines, phase.user_rate, digits),
        spread(lines, phase.rate, digits),
        spread(lines, lambda t: t.mfu, lambda v: share(v, 1)),
        spread(lines, lambda t: t.bandwidth_use, lambda v: share(v, 1)),
        shares(engines, first.seconds),
        shares(first.waits(), first.seconds),
        f"{phase.memory.total / GIB:,.1f} GiB, {share(phase.memory.total, limit)}",
    )


def _sweep(profile: Profile) -> None:
    """Print the results at every swept value, a few values beside each other."""
    for start in range(0, len(profile.swept), BESIDE):
        some = range(start, min(start + BESIDE, len(profile.swept)))
        at = [", ".join(quantity(k, v) for k, v in profile.swept[n].items()) for n in some]
        heads = (", ".join(profile.swept[0]), *at)
        rows = [(name, *values) for name, values in swept_rows(profile, some)]
        console.table("at each value of what is not known", heads, rows)


def swept_rows(profile: Profile, some: Iterable[int]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the results at some of the swept values: a name and a text for each value."""
    chosen = tuple(some)
    return [
        (name.replace("%", phase.name), tuple(told(phase, phase.timelines[n]) for n in chosen))
        for phase in profile.phases
        for name, told in SWEPT.items()
    ]


def _part(phase: Phase, part: Layers) -> None:
    whole = phase.timeline.seconds
    total = part.count * part.seconds
    each = duration(part.seconds)
    counted = f"{part.count} × {each} = {duration(total)}" if part.count > 1 else each
    title = f"{phase.name}, {part.name}: {counted}, {share(total, whole)} of the step"
    rows = [
        (
            e.task.name,
            micro(e.seconds),
            share(e.total, whole),
            e.bound,
            short_choice(e.choice),
        )
        for e in part.entries
    ]
    heads = ("task", "µs", "of step", "bound by", "choice")
    console.table(title, heads, rows, left=(0, 3, 4))
    console.say(f"{part.name}: {phase.timeline.bottleneck(part.key)}")


def short_choice(choice: str) -> str:
    """Return a choice in fewer letters."""
    return choice.removeprefix("tile ").replace("x", "×").replace(" parts", "")


def _together(profile: Profile) -> str:
    chips = profile.chips
    return f"tokens/s of all {chips} chips" if chips > 1 else "tokens/s of the chip"
