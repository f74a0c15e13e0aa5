"""What every measurement shares: token ids, repeated timing, and how a process reports.

Imports nothing heavy, so that what is measured is the measured library's.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

PROMPT, STEPS, PREFILL = 16, 48, 512
Result = dict[str, Any]


def tokens(count: int) -> np.ndarray:
    """Return token ids that every measurement shares."""
    return np.random.default_rng(0).integers(1000, 40000, count)


def each(run: Callable[[int], Any], first: int, count: int) -> list[float]:
    """Return the seconds of `count` runs after one that is not counted; each is given its number."""
    times = []
    for index in range(first, first + count + 1):
        start = time.perf_counter()
        run(index)
        times.append(time.perf_counter() - start)
    return times[1:]


def peak_bytes() -> int:
    """Return the most memory that was resident in this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def report(*measurements: Callable[..., Result]) -> None:
    """Run the measurement that the command line names and print what it found as JSON."""
    known = {measurement.__name__: measurement for measurement in measurements}
    name, *arguments = sys.argv[1:]
    print(json.dumps(known[name](*arguments)))
