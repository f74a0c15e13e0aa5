"""The engine: a bound graph and its weights, ready to run sequences.

A session holds sequences of different lengths; each step adds tokens to some of them. Prefill, chunks, decode and mixed
batches are the same call. Text, sampling and scheduling are not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from device_model.engine.deciding import Decide, Decision
from device_model.engine.executor import (
    CompiledExecutor,
    Executor,
    Observe,
    ReferenceExecutor,
    warm_up,
)
from device_model.engine.plan import Plan, plan
from device_model.engine.states import Cache
from device_model.kernels.dispatch import machine
from device_model.machine.team import Team
from device_model.numbers.catalogue import numerics_named
from device_model.numbers.numerics import Array, Numerics, wide
from device_model.program.call import Batch
from device_model.program.places import Buffer, Place
from device_model.weights.reading import TensorReader
from dsl.diagnostics import refuse
from dsl.graph import Graph

Logits = Literal["all", "last"]
Kernels = Literal["fast", "reference"]


class Engine:
    """A graph with its weights in one numerics."""

    def __init__(
        self,
        graph: Graph,
        reader: TensorReader,
        numerics: str | Numerics = "bf16",
        kernels: Kernels = "fast",
        threads: int | None = None,
    ) -> None:
        self.graph, self.kernels = graph, kernels
        self.numerics = numerics_named(numerics) if isinstance(numerics, str) else numerics
        self.plan: Plan = plan(graph, reader, self.numerics)
        self._team = Team(machine(), threads) if kernels == "fast" else None

    def session(self, sequences: int = 1) -> Session:
        """Start sequences without context."""
        result = _result(self.plan)
        executor: Executor
        if self._team is None:
            executor = ReferenceExecutor(self.plan, self.numerics, result)
        else:
            executor = CompiledExecutor(self.plan, self.numerics, result, self._team)
        return Session(self.plan, executor, result, sequences)


class Session:
    """Some sequences and what is kept of them."""

    def __init__(self, plan: Plan, executor: Executor, result: Buffer, sequences: int) -> None:
        self._plan, self._executor, self._result = plan, executor, result
        self.cache = Cache(plan.states, sequences)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Return the context of each sequence."""
        return tuple(int(length) for length in self.cache.lengths)

    @property
    def activation_bytes(self) -> int:
        """Return the most bytes that the values of the last step took at a time, without weights and states."""
        return self._executor.activation_bytes

    def step(
        self,
        rows: Sequence[Array],
        logits: Logits = "all",
        observe: Observe | None = None,
        decide: Decide | None = None,
    ) -> list[Array]:
        """Add tokens to the sequences and return each one's results as float32.

        `rows` has one array per sequence, which may be empty. With `logits` "last" a sequence has the result of its
        last new token only. `observe` is called after each layer with the layer and the carried values; `decide` where
        experts are chosen, and may return others.
        """
        if len(rows) != len(self.cache.lengths):
            raise ValueError(f"{len(rows)} rows for {len(self.cache.lengths)} sequences")
        arrays = [np.asarray(row) for row in rows]
        counts = np.array([len(array) for array in arrays], np.int64)
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        wanted = np.arange(starts[-1])
        results = starts
        if logits == "last":
            wanted = starts[1:][counts > 0] - 1
            results = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts > 0)])
        if starts[-1] == 0:
            empty = np.zeros((0, *self._result.shape), np.float32)
            return [empty for _ in arrays]
        self._check_lengths(counts)
        packed = np.concatenate([array for array in arrays if len(array)])
        sequence = np.repeat(np.arange(len(counts)), counts)
        position = np.arange(starts[-1]) - starts[sequence] + self.cache.lengths[sequence]
        self.cache.extend(counts)
        table = Batch(sequence, position, starts, self.cache.lengths)
        out = self._executor.step([packed], table, wanted, self.cache, observe, decide)
        values = wide(out)
        return [values[results[b] : results[b + 1]] for b in range(len(counts))]

    def _check_lengths(self, counts: Array) -> None:
        """Refuse tokens that stand where the model's tables of positions end."""
        longest, wanted = self._plan.longest, int((self.cache.lengths + counts).max())
        if longest is not None and wanted > longest:
            message = f"a sequence of {wanted} tokens; the model has positions for {longest}"
            raise refuse("S605", message)


def _result(plan: Plan) -> Buffer:
    """Return the program's main result: `logits`, or the first output."""
    place: Place = plan.outputs.get("logits") or next(iter(plan.outputs.values()))
    if not isinstance(place, Buffer):
        raise TypeError("the program's result does not depend on its tokens")
    return place


__all__ = ["Decide", "Decision", "Engine", "Session", "warm_up"]
