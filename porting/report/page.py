# SPDX-License-Identifier: Apache-2.0
"""The report of a port as one page for people: no script or style from elsewhere, every text from outside escaped.

It only shows. Numbers come from the report as they are; the layout lies in `templates/`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass

from dsl.diagnostics import Diagnostic, Severity, render
from porting.pages import frame
from porting.pages.highlight import highlight
from porting.report.model import Case, Formula, Memory, Report, Verdict
from porting.report.plots import layer_lines, plot_layers, plot_modes, series, usable

HEADLINES = {
    Verdict.PASS: "Pass",
    Verdict.FAIL: "Fail",
    Verdict.REFUSED: "Refused",
    Verdict.PLANNED: "Planned",
}
FORMULA_TITLES = {
    "weights_bytes": "Weights",
    "state_bytes": "State (KV cache)",
    "state_bytes_per_token": "State per further token",
    "activation_bytes": "Activations, peak",
    "peak_bytes": "Peak",
    "flops": "FLOPs",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """A number for the head of the page, with what it counts and a remark."""

    title: str
    value: str
    remark: str = ""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A config key and what became of it; `kind` is used, ignored or unread."""

    key: str
    kind: str
    value: str
    name: str = ""
    reason: str = ""
    origin: str = ""
    defaulted: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of the run with its share of the time, in percent."""

    name: str
    seconds: float
    share: float


def render_html(report: Report, spec_text: str) -> str:
    """Return the page that shows a report and the spec it is about."""
    values = {
        "report": report,
        "title": report.model.name or report.model.source,
        "headline": HEADLINES[report.verdict],
        "summary": summary(report),
        "facts": facts(report),
        "room_used": room_used,
        "row_numerics": _row_numerics(report),
        "plot_modes": plot_modes(report.validation.cases),
        "plot_layers": plot_layers(report.validation.layers),
        "has_reference": any(line.is_reference for line in layer_lines(report.validation.layers)),
        "formulas": [(_title(k), k, f, _amount(k, f)) for k, f in report.memory.formulas.items()],
        "keys": key_rows(report),
        "diagnostics": [(d, render(d), _anchor(d, spec_text)) for d in report.diagnostics],
        "is_error": lambda d: d.severity is Severity.ERROR,
        "spec_text": spec_text,
        "spec_lines": highlight(spec_text),
        "stages": stages(report),
    }
    filters: dict[str, Callable[..., object]] = {
        "error": error,
        "size": size,
        "number": number,
        "seconds": seconds,
        "series": series,
    }
    return frame.render(
        "porting.report", "report.html", values, filters=filters, script="report.js"
    )


def summary(report: Report) -> str:
    """Return the verdict in a sentence."""
    cases = report.validation.cases
    failed = [case for case in cases if not case.passed]
    errors = sum(d.severity is Severity.ERROR for d in report.diagnostics)
    match report.verdict:
        case Verdict.REFUSED:
            return f"The model is refused, for {_count(errors, 'reason')} listed under diagnostics."
        case Verdict.PLANNED:
            return "The model is planned: checked in every shape, and no weight was read."
    if not cases:
        return "The port was not compared with the original weights."
    apart = [case for case in report.validation.meshes if not case.same_bits]
    if apart and not failed:
        named = ", ".join(f"{case.mode} in {case.numerics}" for case in apart[:4])
        return f"On a mesh of {apart[0].mesh} the bits are not one chip's: {named}."
    if failed:
        named = ", ".join(f"{case.mode} in {case.numerics}" for case in failed[:4])
        more = f" and {len(failed) - 4} more" if len(failed) > 4 else ""
        return f"{len(failed)} of {_count(len(cases), 'case')} over the limit: {named}{more}."
    return f"All {_count(len(cases), 'case')} within the limit of the rule."


def facts(report: Report) -> list[Fact]:
    """Return the numbers that a reader looks for first."""
    shown = [_worst(report, numerics) for numerics in _numerics(report)]
    memory, tensors, keys = report.memory, report.tensors, report.config_keys
    if memory.weights_bytes is not None:
        shown.append(
            Fact("Weights", size(memory.weights_bytes), number(memory.weights_bytes) + " bytes")
        )
    if memory.state_bytes_per_token is not None:
        shown.append(_state(memory))
    if tensors.total or tensors.missing:
        shown.append(
            Fact(
                "Tensors", f"{number(len(tensors.consumed))} of {number(tensors.total)}", "consumed"
            )
        )
    read, total = len(keys.used), len(keys.used) + len(keys.ignored) + len(keys.unread)
    if total:
        shown.append(
            Fact(
                "Config keys",
                f"{read} of {total}",
                f"used, {len(keys.ignored)} ignored with a reason",
            )
        )
    if report.timing:
        shown.append(Fact("Time", seconds(sum(report.timing.values())), "all stages"))
    return shown


def _state(memory: Memory) -> Fact:
    """Return what a token adds to the state while windows fill, or what a sequence has where no token adds to it."""
    grown, per_token = memory.growth, memory.state_bytes_per_token or 0
    if grown is None:
        return Fact("State per token", size(per_token), number(per_token) + " bytes")
    if grown.first == 0 and grown.fixed:
        return Fact("State per sequence", size(grown.fixed), number(grown.fixed) + " bytes")
    return Fact("State per token", size(grown.first), grown.text())


def _row_numerics(report: Report) -> list[str]:
    return list(dict.fromkeys(name for row in report.validation.rows for name in row.errors))


def _numerics(report: Report) -> list[str]:
    return list(dict.fromkeys(case.numerics for case in report.validation.cases))


def _worst(report: Report, numerics: str) -> Fact:
    cases = [case for case in report.validation.cases if case.numerics == numerics]
    worst = max(cases, key=_badness)
    return Fact(f"Worst error, {numerics}", error(worst.error), f"limit {error(worst.limit)}")


def _badness(case: Case) -> float:
    used = room_used(case)
    return math.inf if used is None else used


def room_used(case: Case) -> float | None:
    """Return the error as a share of the limit, where both are numbers."""
    if not (math.isfinite(case.error) and usable(case.limit)):
        return None
    return case.error / case.limit


def key_rows(report: Report) -> list[KeyRow]:
    """Return every config key with what became of it: problems first, then as in the file."""
    keys = report.config_keys
    origins = {entry.key: entry.origin for entry in keys.normalised}
    rows = [KeyRow(key, "unread", "") for key in keys.unread]
    rows += [
        KeyRow(
            k.key,
            "used",
            _value(k.value),
            name=k.name,
            origin=origins.pop(k.key, ""),
            defaulted=k.defaulted,
        )
        for k in keys.used
    ]
    rows += [
        KeyRow(k.key, "ignored", _value(k.value), reason=k.reason, origin=origins.pop(k.key, ""))
        for k in keys.ignored
    ]
    left = [entry for entry in keys.normalised if entry.key in origins]
    return rows + [KeyRow(k.key, "normalised", _value(k.value), origin=k.origin) for k in left]


def stages(report: Report) -> list[Stage]:
    """Return the stages with their share of the time."""
    total = sum(report.timing.values()) or 1.0
    return [Stage(name, spent, 100 * spent / total) for name, spent in report.timing.items()]


def error(value: float | None) -> str:
    """Return an error as people read it: three digits and a power of ten."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "not finite"
    if value == 0 or 1e-3 <= abs(value) < 1e3:
        return f"{value:.3g}"
    digits, power = f"{value:.2e}".split("e")
    return f"{digits}e{int(power)}".replace("-", "\N{MINUS SIGN}")


def size(count: float | None) -> str:
    """Return a number of bytes in binary units."""
    if count is None:
        return "–"
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.2f} {unit}"


def number(value: float) -> str:
    """Return a number with its digits in groups."""
    plain = f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"
    return plain.replace(",", "\N{NARROW NO-BREAK SPACE}")


def seconds(value: float) -> str:
    """Return a duration."""
    if value < 0.1:
        return f"{1000 * value:.0f} ms"
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def _amount(name: str, formula: Formula) -> str:
    if formula.value is None or not math.isfinite(formula.value):
        return "–"
    return size(formula.value) if "bytes" in name else number(formula.value)


def _title(name: str) -> str:
    return FORMULA_TITLES.get(name, name.replace("_", " ").capitalize())


def _value(value: object) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False, default=str)


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _anchor(diagnostic: Diagnostic, spec_text: str) -> int | None:
    """Return the line of the shown spec that a diagnostic points to."""
    span = diagnostic.span
    if span is None or span.source.text != spec_text:
        return None
    return span.source.position(span.start)[0] + 1
