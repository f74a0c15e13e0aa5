# SPDX-License-Identifier: Apache-2.0
"""Threads that execute one program together.

The calling thread is the first; helpers sleep between programs and wait inside one by spinning. No result depends on
how many there are.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeAlias

import numpy as np

from device_model.numbers.numerics import Array

CELL = 8
"""Counters stand a cache line apart."""
CELLS = 4
"""A helper may still look at the last counter when the next program starts; counters are used in turn."""

Execute: TypeAlias = Callable[..., int]
"""Runs a job; returns 0, or one more than the number of the instruction at which it stopped."""

Job: TypeAlias = tuple[Array, Array, int, int, int, int, int, int]


class MachineFault(RuntimeError):
    """The machine stopped at an instruction, because it does not know its opcode or its kernel failed."""

    def __init__(self, instruction: int, opcode: int) -> None:
        super().__init__(f"the machine stopped at instruction {instruction} with opcode {opcode}")


class Team:
    """A fixed number of threads."""

    def __init__(self, execute: Execute, threads: int | None = None) -> None:
        self.size = available() if threads is None else max(1, threads)
        self._execute = execute
        self._counters = np.zeros(CELLS * CELL, np.int64)
        self._turn = 0
        self._scratch = np.zeros(0, np.uint8)
        self._queues: list[SimpleQueue[Job | None]] = []
        for _ in range(self.size - 1):
            queue: SimpleQueue[Job | None] = SimpleQueue()
            self._queues.append(queue)
            arguments = (execute, queue, self._counters)
            threading.Thread(target=_serve, args=arguments, daemon=True).start()
        weakref.finalize(self, _dismiss, self._queues)

    def run(self, code: Array, reals: Array, start: int, stop: int, scratch: int) -> None:
        """Execute instructions `start` to `stop` with `scratch` bytes for each thread; raises `MachineFault`."""
        if start == stop:
            return
        stride = -(-scratch // 4096) * 4096 + 4096
        if len(self._scratch) < stride * self.size + 64:
            self._scratch = np.zeros(stride * self.size + 64, np.uint8)
        base = -(-self._scratch.ctypes.data // 64) * 64
        self._turn = (self._turn + 1) % CELLS
        self._counters[(self._turn + 2) % CELLS * CELL] = 0
        barrier = self._counters.ctypes.data + self._turn * CELL * 8
        jobs: list[Job] = [
            (code, reals, start, stop, part, self.size, base + part * stride, barrier)
            for part in range(self.size)
        ]
        for queue, job in zip(self._queues, jobs[1:], strict=True):
            queue.put(job)
        stopped = self._execute(*jobs[0])
        if stopped:
            raise MachineFault(stopped - 1, int(code[stopped - 1, 0]))


def available() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _serve(execute: Execute, queue: SimpleQueue[Job | None], counters: Array) -> None:
    while (job := queue.get()) is not None:
        execute(*job)


def _dismiss(queues: list[SimpleQueue[Job | None]]) -> None:
    for queue in queues:
        queue.put(None)
