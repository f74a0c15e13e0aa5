# SPDX-License-Identifier: Apache-2.0
"""How the time of a task came about: its sizes, the terms of the formula, the chip's rates, the fitted parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from device_model.chips.chip import Quantity
from device_model.cost.calibration import Section
from device_model.cost.collective import LIBRARY, CollectiveParameters, collective_terms
from device_model.timeline.kinds import CollectiveSizes, named
from device_model.timeline.places import Spread, spread
from device_model.timeline.pricing import Prices
from device_model.timeline.schedule import WAITS, Entry
from device_model.timeline.tasks import BETWEEN, Task
from dsl.diagnostics import did_you_mean, refuse
from sohu.performance.profile.formulas import (
    FORMULAS,
    SIZES,
    Formula,
    parameter_words,
    quantities_of,
    section_of,
)
from sohu.performance.profile.model import Phase, Profile
from sohu.performance.profile.words import duration, quantity, scaled, share, step, trust
from sohu.terminal import console


@dataclass(frozen=True, slots=True)
class Explained:
    """A task of a phase with all that its price is made of; `menu` are the collectives that it was chosen from."""

    phase: Phase
    where: str
    entry: Entry
    name: str
    section: Section
    formula: Formula
    quantities: Mapping[str, Quantity]
    menu: Mapping[str, float]

    @property
    def terms(self) -> Iterator[tuple[str, float, str]]:
        """Yield each term with its seconds and what it is."""
        for name, seconds in self.entry.terms.items():
            yield name, seconds, self.formula.terms[name]


def explained(profile: Profile, wanted: str) -> tuple[Explained, ...]:
    """Return the tasks whose name or operations contain a text, alike ones once a step; raises `Refused`."""
    tasks = []
    for phase in profile.phases:
        seen: list[tuple[object, ...]] = []
        for part in phase.parts:
            for entry in part.entries:
                names = (entry.task.name, *entry.task.ops)
                key = (entry.task.name, entry.task.sizes, entry.task.flops, entry.seconds)
                if key in seen or not any(wanted.lower() in name.lower() for name in names):
                    continue
                seen.append(key)
                tasks.append(_explained(profile, phase, part.name, entry))
    if not tasks:
        names = tuple(
            dict.fromkeys(e.task.name for p in profile.phases for e in p.timeline.entries)
        )
        help_ = did_you_mean(wanted, names) or f"there are {', '.join(names)}"
        raise refuse("S615", f"no task is called `{wanted}`", place="--explain", help=help_)
    return tuple(tasks)


def _explained(profile: Profile, phase: Phase, where: str, entry: Entry) -> Explained:
    task = entry.task
    name = section_of(task, profile.dtype)
    keys = quantities_of(name, task, profile.dtype)
    known = {k: q for k in keys if (q := profile.device.quantities.get(k)) is not None}
    section = profile.calibration.sections[name]
    menu = _menu(phase.timeline.prices, task)
    return Explained(phase, where, entry, name, section, FORMULAS[name], known, menu)


def _menu(prices: Prices, task: Task) -> Mapping[str, float]:
    """Return the seconds of each algorithm and protocol of a collective's library, the quickest first."""
    sizes = task.sizes
    if not isinstance(sizes, CollectiveSizes) or sizes.chips <= 1:
        return {}
    parameters = prices.calibration.get("collective", CollectiveParameters)
    switch = "switch_reduces" in prices.device.quantities
    place = spread(sizes.spans, prices.chip.domain)
    if sizes.neighbours:  # a send within a domain; the others are dearer
        place = Spread(np.asarray(sizes.chips), np.ones(()))
    terms = collective_terms(
        task.ops[0], sizes.bytes, sizes.chips, prices.chip, parameters, in_switch=switch,
        inside=place.inside, domains=place.domains,
    )  # fmt: skip
    menu = {k: float(v) for k, v in terms.items() if k.split(",")[0] in LIBRARY}
    usable = {k: v for k, v in menu.items() if v != float("inf")}
    return dict(sorted(usable.items(), key=lambda item: item[1]))


def fitted_words(section: Section) -> str:
    """Return what parameters were fitted on, in a line."""
    if not section.fitted:
        return f"of {section.family}; no record of a fit"
    facts = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in section.fitted.items())
    return f"of {section.family}; fitted: {facts}"


def show_explained(profile: Profile, tasks: tuple[Explained, ...]) -> None:
    """Print tasks, a blank line after each, and what all numbers rest on."""
    for task in tasks:
        console.say("\n".join(lines(task)), end="\n\n")
    for sentence in trust(profile):
        console.say(f"note: {sentence}")


def lines(answer: Explained) -> Iterator[str]:
    """Yield the lines about a task."""
    yield from _task_lines(answer)
    yield from _time_lines(answer)
    yield "  the chip:"
    swept = answer.phase.timeline.prices.changes or {}
    for key, value in answer.quantities.items():
        at = quantity(key, float(swept.get(key, value.value)))
        yield f"    {key} = {at} ({value.confidence} confidence: {value.source})"
    yield f"  parameters {fitted_words(answer.section)}"
    meanings = parameter_words(answer.name)
    for name, number in asdict(answer.section.parameters).items():
        yield f"    {name} = {number:.4g}: {meanings[name]}"


def _task_lines(answer: Explained) -> Iterator[str]:
    """Yield what a task is, and its part of the step."""
    entry, phase = answer.entry, answer.phase
    task = entry.task
    inside = f", in {' / '.join(task.path)}" if task.path else ""
    yield f"{task.name}: {step(phase)}, {answer.where}{inside}"
    one = "send" if entry.stage == BETWEEN else "layer"
    layers = f" a {one}, {duration(entry.total)} in {entry.layers} {one}s"
    every = layers if entry.layers > 1 else ""
    part = share(entry.total, phase.timeline.seconds)
    yield (
        f"  {duration(entry.seconds)}{every}, {part} of the step; bound by {WAITS[entry.bound]}"
        + (f"; {entry.choice}" if entry.choice else "")
    )
    yield f"  operations: {', '.join(task.ops)}"
    if entry.place:
        yield f"  place: {entry.place}"
    yield f"  sizes on one chip: {_sizes(named(task.sizes))}"
    intensity = f", {entry.flops / entry.bytes:,.3g} FLOP a byte" if entry.bytes else ""
    yield f"  {scaled(entry.flops, 'FLOP')}, {scaled(entry.bytes, 'B')} as the operations move{intensity}"


def _time_lines(answer: Explained) -> Iterator[str]:
    """Yield the formula with its terms, and what it chose from."""
    entry = answer.entry
    yield f"  {answer.name}: {answer.formula.composition}"
    for name, seconds, words in answer.terms:
        yield f"    {duration(seconds):>9}  {name}: {words}"
    if entry.seconds != entry.alone:
        yield f"    {duration(entry.seconds):>9}  in the layer: its launch is that of the next layer's first pass"
    for name, seconds in answer.menu.items():
        yield f"    {duration(seconds):>9}  {name}"


def _sizes(sizes: Mapping[str, float]) -> str:
    known = {k: v for k, v in sizes.items() if v != float("inf")}
    return ", ".join(
        f"{name} = {value:,.10g}" + (f" ({SIZES[name]})" if name in SIZES else "")
        for name, value in known.items()
    )
