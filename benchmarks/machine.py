# SPDX-License-Identifier: Apache-2.0
"""What the machine can do, and what is measured on it: `python -m benchmarks.machine NAME`."""

from __future__ import annotations

import os
import sys
import threading
from importlib.metadata import version
from typing import Any

import numpy as np
from numba import njit

from benchmarks.process import Result, each, report


@njit(nogil=True)
def _total(x: Any) -> Any:
    total = np.uint64(0)
    for i in range(len(x)):
        total += x[i]
    return total


def limits() -> Result:
    """Measure what the machine can do: streaming reads by all processors, and float32 matrix products."""
    count = len(os.sched_getaffinity(0))
    data = [np.ones(1 << 26, np.uint64) for _ in range(count)]
    _total(data[0])

    def read(_: int) -> None:
        threads = [threading.Thread(target=_total, args=(part,)) for part in data]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    reads = each(read, 0, 5)
    a = np.random.default_rng(0).normal(size=(2048, 2048)).astype(np.float32)
    products = each(lambda _: a @ a, 0, 5)
    return {
        "read_bytes_per_second": sum(part.nbytes for part in data) / float(np.median(reads)),
        "flops_per_second": 2 * 2048**3 / float(np.median(products)),
    }


def versions() -> Result:
    """Name what was measured."""
    names = ("numpy", "numba", "torch", "transformers")
    return {"python": sys.version.split()[0], **{name: version(name) for name in names}}


if __name__ == "__main__":
    report(limits, versions)
