"""A profile as text for a terminal: the step at a glance, then each layer class task by task."""

from __future__ import annotations

from device_model.timeline.schedule import Timeline
from porting.commands import console
from porting.profile.model import Layers, Phase, Profile
from porting.profile.words import (
    GIB,
    digits,
    duration,
    micro,
    quantity,
    setting,
    share,
    shares,
    spread,
    step,
    trust,
    verdict,
)


def show(profile: Profile) -> None:
    """Print a profile."""
    _headline(profile)
    for phase in profile.phases:
        print(f"{phase.name}: {phase.timeline.bottleneck()}")
    print(verdict(profile))
    if len(profile.swept) > 1:
        _sweep(profile)
    for phase in profile.phases:
        for part in phase.parts:
            _part(phase, part)
    for sentence in trust(profile):
        print(f"note: {sentence}")


def _headline(profile: Profile) -> None:
    heads = (profile.device.name, *(step(p) for p in profile.phases))
    names = (
        "time of a step", "tokens/s of a sequence", f"tokens/s of all {profile.chips} chips", "MFU",
        "main memory busy", "engines", "waits for", "peak memory",
    )  # fmt: skip
    columns = [_column(profile, phase) for phase in profile.phases]
    rows = list(zip(names, *columns, strict=True))
    console.table(f"{profile.name} on {setting(profile)}", heads, rows)


def _column(profile: Profile, phase: Phase) -> tuple[str, ...]:
    lines, first = phase.timelines, phase.timeline
    engines = {k: v for k, v in first.engines().items() if k != "memory"}
    return (
        spread(lines, lambda t: t.seconds, duration),
        spread(lines, phase.user_rate, digits),
        spread(lines, phase.rate, digits),
        spread(lines, lambda t: t.mfu, lambda v: share(v, 1)),
        spread(lines, lambda t: t.bandwidth_use, lambda v: share(v, 1)),
        shares(engines, first.seconds),
        shares(first.waits(), first.seconds),
        f"{phase.memory.peak / GIB:,.1f} GiB, "
        f"{share(phase.memory.peak, profile.device.memory_bytes)}",
    )


def _sweep(profile: Profile) -> None:
    heads = [*profile.swept[0]]
    for phase in profile.phases:
        heads += [f"{phase.name}", "tokens/s", "MFU", "waits for"]
    rows = []
    for number, changes in enumerate(profile.swept):
        row = [quantity(key, value) for key, value in changes.items()]
        for phase in profile.phases:
            row += _swept(phase, phase.timelines[number])
        rows.append(row)
    console.table("over the values that are not known", heads, rows)


def _swept(phase: Phase, line: Timeline) -> tuple[str, ...]:
    waits = shares(line.waits(), line.seconds).split(",")[0]
    return duration(line.seconds), digits(phase.rate(line)), share(line.mfu, 1), waits


def _part(phase: Phase, part: Layers) -> None:
    whole = phase.timeline.seconds
    total = part.count * part.seconds
    each = duration(part.seconds)
    counted = f"{part.count} × {each} = {duration(total)}" if part.count > 1 else each
    title = f"{phase.name}, {part.name}: {counted}, {share(total, whole)} of the step"
    rows = [
        (
            e.task.name,
            e.task.path[0] if e.task.path else "",
            micro(e.seconds),
            share(e.total, whole),
            e.price.bound,
            e.price.choice,
        )
        for e in part.entries
    ]
    heads = ("task", "in", "µs", "of step", "bound by", "choice")
    console.table(title, heads, rows, left=(0, 1, 4, 5))
    print(f"{part.name}: {phase.timeline.bottleneck(part.key)}")
