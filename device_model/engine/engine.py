# SPDX-License-Identifier: Apache-2.0
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
    alone,
    warm_up,
)
from device_model.engine.meetings import Meet
from device_model.engine.plan import Plan, plan
from device_model.engine.renewing import History
from device_model.engine.stage_plan import rank_plan
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
from dsl.mesh.rank import Rank

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
        rank: Rank | None = None,
    ) -> None:
        self.graph, self.kernels = graph, kernels
        self.numerics = numerics_named(numerics) if isinstance(numerics, str) else numerics
        self.plan: Plan = _planned(graph, reader, self.numerics, rank)
        self._team = Team(machine(), threads) if kernels == "fast" else None

    def session(self, sequences: int = 1, meet: Meet = alone) -> Session:
        """Start sequences without context; `meet` is how a chip of a mesh meets the others."""
        result = _result(self.plan)
        executor: Executor
        if self._team is None:
            executor = ReferenceExecutor(self.plan, self.numerics, result, meet)
        else:
            executor = CompiledExecutor(self.plan, self.numerics, result, self._team, meet)
        return Session(self.plan, executor, result, sequences)


class Session:
    """Some sequences and what is kept of them."""

    def __init__(self, plan: Plan, executor: Executor, result: Buffer, sequences: int) -> None:
        self._plan, self._executor, self._result = plan, executor, result
        self.cache = Cache(plan.states, sequences)
        self._history = History(plan.renewals, sequences)

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
        last new token only. `observe` is called after each layer with the layer and the carried values of the new
        tokens; `decide` where experts are chosen, and may return others. A sequence that reaches a length of
        `Plan.renewals` is computed anew from its first token in this step, and `decide` is asked for all of it.
        Raises `Refused` for ids that a table has no row for and for positions that the model does not have.
        """
        if len(rows) != len(self.cache.lengths):
            raise ValueError(f"{len(rows)} rows for {len(self.cache.lengths)} sequences")
        arrays = [np.asarray(row) for row in rows]
        counts = np.array([len(array) for array in arrays], np.int64)
        if not counts.any():
            empty = np.zeros((0, *self._result.shape), np.float32)
            return [empty for _ in arrays]
        self._check_lengths(counts)
        self._check_ids(arrays)
        known, run = self.cache.lengths, self._to_run(arrays, counts)
        sizes = counts if run is arrays else np.array([len(row) for row in run], np.int64)
        starts = _offsets(sizes)
        sequence = np.repeat(np.arange(len(sizes)), sizes)
        position = np.arange(starts[-1]) - starts[sequence] + self.cache.lengths[sequence]
        wanted, results = np.arange(starts[-1]), starts
        if run is not arrays:
            wanted, results = np.flatnonzero(position >= known[sequence]), _offsets(counts)
            observe = None if observe is None else _of_tokens(observe, wanted, len(position))
        if logits == "last":
            wanted, results = starts[1:][counts > 0] - 1, _offsets(counts > 0)
        packed = np.concatenate([row for row in run if len(row)])
        self.cache.extend(sizes)
        table = Batch(sequence, position, starts, self.cache.lengths)
        out = self._executor.step([packed], table, wanted, self.cache, observe, decide)
        values = wide(out)
        return [values[results[b] : results[b + 1]] for b in range(len(counts))]

    def rewind(self, sequence: int, length: int) -> int:
        """Let a sequence end at a length, and return the tokens that it has then: as many, or none at all.

        None where its states cannot go back: they are of fixed size, depend on the length, or are a ring without the
        entries that are needed. The next tokens have the bits that they have after as many tokens in any case.
        """
        known = self.lengths[sequence]
        if not 0 <= length <= known:
            raise ValueError(f"a sequence of {known} tokens does not go back to {length}")
        if length == known:
            return length
        if not self._plan.renewals and self.cache.shorten(sequence, length):
            return length
        self.cache.forget((sequence,))
        self._history.forget(sequence)
        return 0

    def _to_run(self, rows: list[Array], counts: Array) -> list[Array]:
        """Return the new tokens, and from their first token the sequences that are computed anew, without states."""
        if not self._plan.renewals:
            return rows
        whole = self._history.take(rows, self.cache.lengths, counts)
        if not whole:
            return rows
        self.cache.forget(tuple(whole))
        return [whole.get(sequence, row) for sequence, row in enumerate(rows)]

    def _check_lengths(self, counts: Array) -> None:
        """Refuse tokens that stand where the model's tables of positions end."""
        longest, wanted = self._plan.longest, int((self.cache.lengths + counts).max())
        if longest is not None and wanted > longest:
            message = f"a sequence of {wanted} tokens; the model has positions for {longest}"
            raise refuse("S605", message)

    def _check_ids(self, rows: Sequence[Array]) -> None:
        """Refuse ids outside of a table, whoever made them: compiled code trusts its operands."""
        for row in rows:
            if row.size and row.dtype.kind not in "iu":
                raise TypeError(f"token ids are whole numbers, not {row.dtype}")
            entries = self._plan.entries
            if entries is None or not row.size:
                continue
            low, high = int(row.min()), int(row.max())
            if low < 0 or high >= entries:
                wrong = low if low < 0 else high
                message = f"token {wrong} has no row in the model's table of {entries:,}"
                raise refuse("S616", message, help="the ids of a tokenizer and a model must agree")


def _planned(graph: Graph, reader: TensorReader, numerics: Numerics, rank: Rank | None) -> Plan:
    return (
        plan(graph, reader, numerics) if rank is None else rank_plan(graph, reader, numerics, rank)
    )


def _offsets(counts: Array) -> Array:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


def _of_tokens(observe: Observe, new: Array, tokens: int) -> Observe:
    """Return an observer of the new tokens alone; a value per sequence is shown as it is."""

    def cut(layer: int, values: tuple[Array, ...]) -> None:
        observe(layer, tuple(value[new] if len(value) == tokens else value for value in values))

    return cut


def _result(plan: Plan) -> Buffer:
    """Return the program's main result: `logits`, or the first output."""
    place: Place = plan.outputs.get("logits") or next(iter(plan.outputs.values()))
    if not isinstance(place, Buffer):
        raise TypeError("the program's result does not depend on its tokens")
    return place


__all__ = ["Decide", "Decision", "Engine", "Session", "warm_up"]
