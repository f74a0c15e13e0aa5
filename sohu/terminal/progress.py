# SPDX-License-Identifier: Apache-2.0
"""Progress as plain lines, for a log: a line where a stage ends, and one every ten seconds while something goes on.

A stage that takes less than a second says nothing. Bars, for a terminal, are `console`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Lock, Thread

EVERY = 10.0
"""Seconds between two lines of one stage."""
SHORT = 1.0
"""Seconds of a stage that is over before it is worth a line."""


@dataclass(slots=True)
class _Stage:
    began: float
    text: str
    done: int
    total: int
    told: bool = False


class Lines:
    """What reports of progress are told as; `say` takes a line, `clock` gives seconds."""

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._clock = say, clock
        self._lock = Lock()
        self._stages: dict[str, _Stage] = {}
        self._last = clock()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Hear how far a stage is; what follows a colon in it says what is being done now."""
        with self._lock:
            now, name = self._clock(), stage.partition(":")[0]
            known = self._stages.setdefault(name, _Stage(now, stage, done, total))
            known.text, known.done, known.total = stage, done, total
            ends = done >= total and not known.told and now - known.began >= SHORT
            if ends or now - self._last >= EVERY:
                self._tell(known, now)

    def beat(self) -> None:
        """Tell how far the last stage is that is not over, where nothing was told for long."""
        with self._lock:
            now = self._clock()
            going = [stage for stage in self._stages.values() if stage.done < stage.total]
            if going and now - self._last >= EVERY:
                self._tell(going[-1], now)

    def _tell(self, stage: _Stage, now: float) -> None:
        self._last, stage.told = now, stage.done >= stage.total
        self._say(f"{stage.text} {stage.done:,} of {stage.total:,}, {now - stage.began:.0f} s")


@contextmanager
def lines(say: Callable[[str], None]) -> Iterator[Lines]:
    """Tell of progress by lines until the work ends; a log that takes no line does not end the work."""

    def safe(line: str) -> None:
        with suppress(OSError, ValueError):
            say(line)

    told, over = Lines(safe), Event()

    def watch() -> None:
        while not over.wait(EVERY):
            told.beat()

    Thread(target=watch, name="progress", daemon=True).start()
    try:
        yield told
    finally:
        over.set()
