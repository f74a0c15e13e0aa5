# SPDX-License-Identifier: Apache-2.0
"""What came of a sweep: its front, its best points by value, and how numbers are written for people.

Numbers come from the space of designs as they are; layout is the command's and the page's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_model.chips.chip import QUANTITIES, Device
from device_model.timeline.design import NUMERICS
from device_model.timeline.design_space import DesignSpace
from device_model.timeline.pareto import pareto_front, thinned

USER, CHIP = "tokens_per_s_user", "tokens_per_s_chip"
GIVEN = ("seq", "context", "answer", "skew", "host")
"""Names of a load that users bring: points of different ones answer different questions. The batch is a choice."""
SHOWN_FRONT = 12
FEW = 40
"""Up to so many points all of them are shown."""
MAX_SERIES = 6
# How the answers are headed and written: (column, head, factor, digits after the point).
ANSWERS = (
    ("step_s", "step\nms", 1e3, 3),
    (USER, "tokens/s\na user", 1.0, 1),
    (CHIP, "tokens/s\na chip", 1.0, 0),
    ("bound", "held up\nby", 1.0, 0),
    ("prefill_s", "prefill\nms", 1e3, 1),
    ("prefill_tokens_per_s_chip", "prefill tokens/s a chip", 1.0, 0),
    ("prefill_bound", "prefill held up by", 1.0, 0),
    ("in_out_tokens_per_s", "tokens/s\nin + out", 1.0, 0),
    ("out_tokens_per_s", "tokens/s\nout", 1.0, 0),
    ("joules_per_token", "J\na token", 1.0, 3),
    ("memory_bytes", "GB\na chip", 1e-9, 1),
)  # fmt: skip
ONE_DOES = {"have": "has", "do": "does", "hide": "hides"}
PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True, slots=True)
class Best:
    """The best usable points with one value of a name."""

    value: str
    usable: int
    points: int
    user: float
    chip: float


@dataclass(frozen=True)
class Sweep:
    """A space of designs with the names of what was asked: the program, the chip, and how long the answer took."""

    name: str
    device: Device
    space: DesignSpace
    seconds: float

    @cached_property
    def columns(self) -> Mapping[str, NDArray[Any]]:
        """Return the columns of the space."""
        return self.space.columns

    @cached_property
    def usable(self) -> NDArray[np.bool_]:
        """Return which points are possible."""
        return self.space.usable

    @cached_property
    def front(self) -> list[int]:
        """Return the points that no usable one of their load beats in tokens/s a user and a chip, load by load.

        Of a load the slowest user comes first.
        """
        return pareto_front(self.columns[USER], self.columns[CHIP], self.usable, self.load_of)

    def fronts(self, among: NDArray[np.bool_]) -> list[list[int]]:
        """Return the front of some of the points, one for each load that has usable ones."""
        rows = pareto_front(
            self.columns[USER], self.columns[CHIP], among & self.usable, self.load_of
        )
        lines: dict[int, list[int]] = {}
        for row in rows:
            lines.setdefault(int(self.load_of[row]), []).append(row)
        return list(lines.values())

    @property
    def loads(self) -> tuple[str, ...]:
        """Return the varied names that nobody chooses, those of the load and the chip's own guesses.

        Each combination of their values has a front of its own.
        """
        return tuple(name for name in self.names if name in GIVEN or self._guessed(name))

    def _guessed(self, name: str) -> bool:
        known = self.device.quantities.get(name)
        return known is not None and len(known.values) > 1 and known.values == self.values(name)

    @cached_property
    def load_of(self) -> NDArray[np.int64]:
        """Return the number of each point's load."""
        numbers = np.zeros(self.space.points, np.int64)
        for name in self.loads:
            values = np.asarray(self.values(name), np.float64)
            order = np.argsort(values)
            at = order[np.searchsorted(values[order], self.columns[name])]
            numbers = numbers * len(values) + at
        return numbers

    def by_load(self) -> Iterator[dict[str, object]]:
        """Yield what there is of each load: its values, its points, how many are usable and on its front."""
        _, first, load = np.unique(self.load_of, return_index=True, return_inverse=True)
        on_front = np.zeros(self.space.points, bool)
        on_front[self.front] = True
        for number, row in enumerate(first):
            own = load == number
            yield {
                **{name: _json(self.columns[name][row]) for name in self.loads},
                "points": int(own.sum()),
                "usable": int((own & self.usable).sum()),
                "front": int((own & on_front).sum()),
            }

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names that take several values."""
        formats = (NUMERICS,) if len(self.space.design.numerics) > 1 else ()
        return (*self.space.design.varied, *formats)

    @property
    def fixed(self) -> tuple[tuple[str, str], ...]:
        """Return the names with one value, and that value."""
        design = self.space.design
        numbers = [(n, shown(n, v[0])) for n, v in design.numbers.items() if len(v) == 1]
        formats = [(NUMERICS, design.numerics[0])] if len(design.numerics) == 1 else []
        return (*numbers, *formats)

    @property
    def shown(self) -> list[int]:
        """Return the rows that a table shows: all of a few points, else the front, thinned."""
        if self.whole:
            return list(range(self.space.points))
        return thinned(self.front, SHOWN_FRONT)

    @property
    def whole(self) -> bool:
        """Tell whether the table shows every point."""
        return self.space.points <= FEW

    @cached_property
    def heads(self) -> tuple[str, ...]:
        """Return the heads of a table of points."""
        answers = [head for column, head, _, _ in ANSWERS if column in self.columns]
        return (*self.names, *answers, *(("",) if self.whole else ()))

    def row(self, index: int) -> tuple[str, ...]:
        """Return a point as a row of that table; what is not usable says so, what is on the front has a mark."""
        names = [shown(n, self.columns[n][index]) for n in self.names]
        answers = [
            _answer(self.columns[column][index], factor, digits)
            for column, _, factor, digits in ANSWERS
            if column in self.columns
        ]
        return (*names, *answers, *((self._mark(index),) if self.whole else ()))

    def _mark(self, index: int) -> str:
        if not self.columns["divides"][index]:
            return "does not divide"
        if not self.columns["fits"][index]:
            return "does not fit"
        if not self.columns["overlaps"][index]:
            return "hides too much"
        return "front" if index in self.front else ""

    @cached_property
    def reasons(self) -> Mapping[str, int]:
        """Return why points are not usable, and how many are not; the mesh is asked first, then memory, then links."""
        fits, divides, overlaps = (self.columns[n] for n in ("fits", "divides", "overlaps"))
        counts = {
            "have sizes that the mesh does not divide": ~divides,
            "do not fit the memory": divides & ~fits,
            "hide more of the links' time than other work lasts": divides & fits & ~overlaps,
        }
        return {reason: int(rows.sum()) for reason, rows in counts.items() if rows.any()}

    @property
    def summary(self) -> str:
        """Return how many points are usable, and why others are not, in a sentence."""
        whole = f"{int(self.usable.sum()):,} of {counted(self.space.points)} usable"
        return "; ".join([whole, *(told(n, reason) for reason, n in self.reasons.items())])

    def series(self) -> tuple[str, list[tuple[str, NDArray[np.bool_]]]]:
        """Return the name that points are told apart by, and for each of its values which points have it."""
        sizes = {
            n: len(self.space.design.numbers.get(n, self.space.design.numerics)) for n in self.names
        }
        if self.loads and prod(sizes[n] for n in self.loads) <= MAX_SERIES:
            return ", ".join(self.loads), list(self._load_series())
        few = [n for n in self.names if sizes[n] <= MAX_SERIES]
        order = sorted(few, key=lambda n: (n not in QUANTITIES, n != NUMERICS))
        if not order:
            return "", [("all points", np.ones(self.space.points, bool))]
        name = order[0]
        column = self.columns[name]
        return name, [(shown(name, v), column == v) for v in self.values(name)]

    def _load_series(self) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        for number in np.unique(self.load_of):
            rows = self.load_of == number
            row = int(np.argmax(rows))
            yield ", ".join(shown(n, self.columns[n][row]) for n in self.loads), rows

    def values(self, name: str) -> Sequence[Any]:
        """Return the values that a varied name takes."""
        design = self.space.design
        return design.numerics if name == NUMERICS else design.numbers[name]

    def best(self) -> Iterator[tuple[str, list[Best]]]:
        """Yield by name the best that each of its values allows, whatever the others are."""
        for name in self.names:
            column = self.columns[name]
            values = self.values(name)
            kept = thinned(list(range(len(values))), SHOWN_FRONT)
            yield name, [self._best(name, values[i], column == values[i]) for i in kept]

    def _best(self, name: str, value: Any, rows: NDArray[np.bool_]) -> Best:
        usable = rows & self.usable
        user, chip = (
            float(self.columns[c][usable].max()) if usable.any() else float("nan")
            for c in (USER, CHIP)
        )
        return Best(shown(name, value), int(usable.sum()), int(rows.sum()), user, chip)

    def as_dict(self) -> dict[str, object]:
        """Return the outcome as JSON data: the front whole, and every point where they are few."""
        return {
            "verdict": "pass" if self.usable.any() else "fail",
            "program": self.name,
            "device": self.device.id,
            "points": self.space.points,
            "usable": int(self.usable.sum()),
            "summary": self.summary,
            "not_usable": dict(self.reasons),
            "not_divided": dict(self.space.undivided),
            "seconds": round(self.seconds, 3),
            "varied": {name: [_json(v) for v in self.values(name)] for name in self.names},
            "loads": list(self.by_load()) if self.loads else [],
            "front": [self._record(i) for i in self.front],
            **({"rows": [self._record(i) for i in range(self.space.points)]} if self.whole else {}),
        }

    def _record(self, index: int) -> dict[str, object]:
        return {name: _json(column[index]) for name, column in self.columns.items()}


def counted(count: int) -> str:
    """Return a number of points in words."""
    return "1 point" if count == 1 else f"{count:,} points"


def told(count: int, reason: str) -> str:
    """Return that so many points have one of the `reasons`."""
    verb, _, rest = reason.partition(" ")
    return f"{counted(count)} {ONE_DOES[verb] if count == 1 else verb} {rest}"


def shown(name: str, value: Any) -> str:
    """Return a value of a name for people: with its unit where it has one, else the number."""
    if isinstance(value, str):
        return value
    number = float(value)
    unit = QUANTITIES.get(name, "").split(" ")[0].rstrip(",")
    if name == "host":
        return f"{1e3 * number:g} ms"
    if unit in {"bytes", "bytes/s", "FLOP/s", "operations/s", "cycles/s"}:
        for size, prefix in PREFIXES:
            if number >= size:
                short = {"bytes": "B", "bytes/s": "B/s", "cycles/s": "Hz"}.get(unit, unit)
                return f"{number / size:.4g} {prefix}{short}"
    return f"{number:,.0f}" if number == int(number) and abs(number) < 1e15 else f"{number:.6g}"


def _answer(value: Any, factor: float, digits: int) -> str:
    if isinstance(value, str):
        return value
    number = factor * float(value)
    return f"{number:,.{digits}f}" if np.isfinite(number) else "–"


def _json(value: Any) -> object:
    """Return a value as JSON has it; what is no number is nothing."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, str):
        return str(value)
    number = float(value)
    if not np.isfinite(number):
        return None
    return int(number) if number == int(number) and abs(number) < 2**53 else number
