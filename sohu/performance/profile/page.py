# SPDX-License-Identifier: Apache-2.0
"""A profile as one page for people: no script, nothing from elsewhere, every text from outside escaped.

It only shows. The layout lies in `templates/`, its colours and types in the style of the port report.
"""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from device_model.chips.chip import QUANTITIES
from device_model.timeline.schedule import WAITS
from porting.pages import frame
from sohu.performance.profile.model import Layers, Phase, Profile
from sohu.performance.profile.plots import bars, memory, roofline
from sohu.performance.profile.text import column, row_names, short_choice, swept_rows
from sohu.performance.profile.words import (
    digits,
    duration,
    micro,
    quantity,
    rests_on,
    scaled,
    setting,
    share,
    spread,
    step,
    trust,
    verdict,
)


@dataclass(frozen=True, slots=True)
class Fact:
    """A number for the head of the page, with what it counts and a remark."""

    title: str
    value: str
    remark: str


@dataclass(frozen=True, slots=True)
class Task:
    """A row of the table of tasks."""

    name: str
    inside: str
    micro: str
    share: str
    flops: str
    bytes: str
    bound: str
    choice: str


@dataclass(frozen=True, slots=True)
class LayerTable:
    """A layer class with its tasks."""

    name: str
    words: str
    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """A step as the page shows it."""

    name: str
    title: str
    bottleneck: str
    rests_on: str
    waits: tuple[tuple[str, float], ...]
    rows: tuple[tuple[str, str], ...]
    roofline: Markup
    bars: Markup
    memory: Markup
    parts: tuple[LayerTable, ...]


def render_page(profile: Profile) -> str:
    """Return the page that shows a profile."""
    values = {
        "profile": profile,
        "chips": f"{profile.chips} × " if profile.chips > 1 else "",
        "verdict": _sentence(verdict(profile).partition(": ")[2]),
        "setting": setting(profile),
        "facts": [fact for phase in profile.phases for fact in _facts(profile, phase)],
        "phases": [_shown(profile, phase) for phase in profile.phases],
        "bounds": list(WAITS.items()),
        "notes": [_sentence(note) for note in trust(profile)],
        "swept": _swept(profile),
        "chip": _chip(profile),
    }
    return frame.render("sohu.performance.profile", "profile.html", values, styles=("profile.css",))


def _facts(profile: Profile, phase: Phase) -> list[Fact]:
    lines = phase.timelines
    of = "all chips" if profile.chips > 1 else "the chip"
    return [
        Fact(
            f"{phase.name.capitalize()}, a step",
            spread(lines, lambda t: t.seconds, duration),
            f"MFU {spread(lines, lambda t: t.mfu, lambda v: share(v, 1))}",
        ),
        Fact(
            f"{phase.name.capitalize()}, tokens/s",
            spread(lines, phase.rate, digits),
            f"{of}; {spread(lines, phase.user_rate, digits)} a sequence",
        ),
    ]


def _shown(profile: Profile, phase: Phase) -> Shown:
    line = phase.timeline
    return Shown(
        phase.name,
        _sentence(step(phase)),
        line.bottleneck(),
        rests_on(profile, phase),
        tuple((name, part / line.seconds) for name, part in line.waits().items() if part > 0),
        tuple(zip(row_names(profile), column(profile, phase), strict=True)),
        roofline(profile, phase),
        bars(phase),
        memory(phase),
        tuple(_part(phase, part) for part in phase.parts),
    )


def _part(phase: Phase, part: Layers) -> LayerTable:
    whole = phase.timeline.seconds
    total = part.count * part.seconds
    each = f"{part.count} × {duration(part.seconds)} = " if part.count > 1 else ""
    words = (
        f"{each}{duration(total)}, {share(total, whole)} of the step; "
        f"{phase.timeline.bottleneck(part.key)}"
    )
    tasks = tuple(
        Task(
            e.task.name,
            e.task.path[0] if e.task.path else "",
            micro(e.seconds),
            share(e.total, whole),
            scaled(e.flops),
            scaled(e.bytes, "B"),
            e.bound,
            short_choice(e.choice),
        )
        for e in part.entries
    )
    return LayerTable(part.name, words, tasks)


def _swept(profile: Profile) -> dict[str, object] | None:
    if len(profile.swept) < 2:
        return None
    heads = [", ".join(quantity(k, v) for k, v in at.items()) for at in profile.swept]
    return {"heads": heads, "rows": swept_rows(profile, range(len(profile.swept)))}


def _chip(profile: Profile) -> list[dict[str, str]]:
    return [
        {
            "key": key,
            "meaning": QUANTITIES.get(key, ""),
            "value": ", ".join(quantity(key, value) for value in known.values),
            "confidence": known.confidence,
            "source": known.source,
        }
        for key, known in profile.device.quantities.items()
    ]


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]
