# SPDX-License-Identifier: Apache-2.0
"""Whether a program fits a chip's memory: the largest batch and context, and the smallest mesh that would do.

Asks `use` at many points. What fits is not said to be fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from device_model.chips.chip import Device
from device_model.memory.meshes import legal_meshes
from device_model.memory.use import Logits, MemoryFormulas, MemoryUse, Question, larger, phases
from dsl.counting.longest import longest

MAX_SEARCH = 2**40
CONTEXTS = (1024, 4096, 8192, 32768, 131072)


@dataclass(frozen=True, slots=True)
class PhaseFit:
    """One of the steps asked about: what it does, its bytes, and how far it could grow in the memory alone.

    `max_context` is the longest sequence at the batch asked about, new tokens included, `max_batch` by such a length.
    They are 0 where nothing fits, None where memory sets no bound.
    """

    question: Question
    use: MemoryUse
    max_context: int | None
    max_batch: Mapping[int, int | None]


@dataclass(frozen=True, slots=True)
class Fit:
    """The outcome for one device and mesh: each step asked about, and the larger one's name.

    `longest` is the model's own limit of a sequence, None where it is not known. `mesh_needed` is the smallest mesh
    that holds both steps, where the given one does not.
    """

    device: Device
    mesh: Mapping[str, int]
    numerics: str
    logits: Logits
    limit: int
    steps: Mapping[str, PhaseFit]
    phase: str
    longest: int | None
    mesh_needed: Mapping[str, int] | None

    @property
    def use(self) -> MemoryUse:
        """Return the bytes of the larger step."""
        return self.steps[self.phase].use

    @property
    def fits(self) -> bool:
        """Tell whether both steps fit one chip's memory."""
        return int(self.use.total) <= self.limit

    @property
    def largest(self) -> str:
        """Return the part that takes the most bytes in the larger step."""
        return max(("weights", "state", "activations"), key=lambda part: getattr(self.use, part))

    @property
    def memory_context(self) -> int | None:
        """Return the longest sequence that the memory holds in both steps, None where it sets no bound."""
        return _least(step.max_context for step in self.steps.values())

    @property
    def max_context(self) -> int | None:
        """Return the longest sequence: what the memory holds, and no more than the model has positions for."""
        return _least((self.memory_context, self.longest))

    def context_text(self) -> str:
        """Return the longest sequence in words, and whether memory or the model bounds it."""
        memory, limit = self.memory_context, self.longest
        held = "any number of" if memory is None else f"{memory:,}"
        if limit is None:
            return f"{held} tokens (no limit of the model's own is known)"
        if memory is not None and memory < limit:
            return f"{held} tokens (the model's own limit is {limit:,})"
        would = "any number" if memory is None else held
        return f"{limit:,} tokens (the model's own limit; memory would hold {would})"

    @property
    def max_batch(self) -> Mapping[int, int | None]:
        """Return the largest batch of both steps by the length of its sequences."""
        lengths = next(iter(self.steps.values())).max_batch
        return {n: _least(step.max_batch[n] for step in self.steps.values()) for n in lengths}

    @property
    def beyond(self) -> int | None:
        """Return the length of the longest sequence asked about where the model has no positions for it."""
        asked = max(step.question.context + step.question.new for step in self.steps.values())
        return asked if self.longest is not None and asked > self.longest else None


class Capacity:
    """The memory of one program, asked for what fits."""

    def __init__(self, memory: MemoryFormulas) -> None:
        self.memory = memory
        self.longest = longest(memory.graph)

    def fit(
        self, device: Device, mesh: Mapping[str, int], batch: int, seq: int, context: int
    ) -> Fit:
        """Return whether a decode step and a prefill fit, what the most is, and the mesh that would do."""
        full = dict.fromkeys(self.memory.graph.mesh, 1) | dict(mesh)
        limit = device.memory_bytes
        lengths = sorted({*CONTEXTS, context} - {0})
        if self.longest is not None:
            lengths = [n for n in lengths if n <= self.longest]
        steps = {
            name: self._step(name, question, seq, limit, lengths)
            for name, question in phases(full, batch, seq, context).items()
        }
        phase = larger({name: step.use for name, step in steps.items()})
        holds = steps[phase].use.total <= limit
        needed = None if holds else self._mesh_needed(limit, batch, seq, context)
        how = self.memory.numerics, self.memory.logits
        return Fit(device, full, *how, limit, steps, phase, self.longest, needed)

    def _step(
        self, name: str, question: Question, seq: int, limit: int, lengths: list[int]
    ) -> PhaseFit:
        mesh, batch = question.mesh, question.batch

        def holds(batch: int, length: int) -> bool:
            grown = phases(mesh, batch, seq, length - 1 if name == "decode" else length)
            return int(self.memory.use(grown[name]).total) <= limit

        return PhaseFit(
            question,
            self.memory.use(question),
            _largest(lambda length: holds(batch, length)),
            {n: _largest(partial(holds, length=n)) for n in lengths},
        )

    def _mesh_needed(
        self, limit: int, batch: int, seq: int, context: int
    ) -> Mapping[str, int] | None:
        for mesh in legal_meshes(self.memory.graph, batch):
            steps = phases(mesh, batch, seq, context).values()
            if any(self.memory.mean(question).total > limit for question in steps):
                continue  # the largest chip has no less than the mean
            if all(self.memory.use(question).total <= limit for question in steps):
                return mesh
        return None


def _least(bounds: Iterable[int | None]) -> int | None:
    """Return the least of some bounds, None where there is none."""
    return min((bound for bound in bounds if bound is not None), default=None)


def _largest(holds: Callable[[int], bool]) -> int | None:
    """Return the largest number for which a falling condition holds: 0 where never, None where there is no bound."""
    if not holds(1):
        return 0
    low, high = 1, 2
    while holds(high):
        low, high = high, high * 2
        if high > MAX_SEARCH:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
