# SPDX-License-Identifier: Apache-2.0
"""What every measurement shares: token ids, repeated timing, and how a process reports.

Imports nothing heavy, so that what is measured is the measured library's.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

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


class Peer(Protocol):
    """A model that runs one sequence."""

    def restart(self) -> None:
        """Forget the sequence."""

    def step(self, ids: np.ndarray) -> np.ndarray:
        """Take the next tokens and return their logits."""


def peer_decode(peer: Peer) -> Result:
    """Decode token by token."""
    ids = tokens(PROMPT + STEPS + 4)
    peer.step(ids[:PROMPT])
    times = each(lambda i: peer.step(ids[i : i + 1]), PROMPT, STEPS)
    return {"seconds": float(np.median(times))}


def peer_prefill(peer: Peer) -> Result:
    """Run a prompt in one step; `top` is the likeliest token after each position."""
    ids = tokens(PREFILL)

    def whole(_: int) -> np.ndarray:
        peer.restart()
        return peer.step(ids)

    times = each(whole, 0, 3)
    return {"seconds": float(np.median(times)), "top": top(whole(0))}


def top(logits: np.ndarray) -> list[int]:
    """Return the likeliest token after each position."""
    return [int(i) for i in logits.argmax(-1)]


def peak_bytes() -> int:
    """Return the most memory that was resident in this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def report(*measurements: Callable[..., Result]) -> None:
    """Run the measurement that the command line names and print what it found as JSON."""
    known = {measurement.__name__: measurement for measurement in measurements}
    name, *arguments = sys.argv[1:]
    print(json.dumps(known[name](*arguments)))
