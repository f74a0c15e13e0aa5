# SPDX-License-Identifier: Apache-2.0
"""Time per output token and to the first one, where an engine serves a closed loop of equal requests.

A step is a decode step of all running sequences; between steps the prompts of other requests are prefilled, each of
which holds the others up. How many sequences run is bounded by the memory that weights leave. What the host does
between steps is one constant a framework. Arrivals, priorities and prefix caches are not modelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import floor

from device_model.cost.host import HostParameters
from device_model.memory.points import bytes_at
from device_model.memory.use import MemoryFormulas
from device_model.timeline.pricing import Prices
from device_model.timeline.steps import add_up, charges
from device_model.timeline.tasks import stages
from dsl.graph import Graph

MEMORY_SHARE = 0.9
"""Share of the memory that serving engines take, as their defaults are."""


@dataclass(frozen=True, slots=True)
class Load:
    """A closed loop: requests in flight, and their tokens in and out."""

    concurrency: int
    tokens_in: int
    tokens_out: int


@dataclass(frozen=True, slots=True)
class Served:
    """Seconds a token after the first and to the first, the parts of the former, and the sequences that run."""

    per_token: float
    to_first: float
    decode: float
    prefill: float
    running: int


class Server:
    """A program on a mesh of chips."""

    def __init__(self, graph: Graph, prices: Prices, mesh: Mapping[str, int]) -> None:
        self.graph, self.prices = graph, prices
        self.mesh = dict.fromkeys(graph.mesh, 1) | dict(mesh)
        self.memory = MemoryFormulas(graph, prices.dtype)
        self.step = lru_cache(maxsize=4096)(self._step)

    def serve(self, load: Load, framework: HostParameters) -> Served | None:
        """Return the times of a load; None where not even one of its sequences fits."""
        running = min(load.concurrency, self.most(load.tokens_in + load.tokens_out))
        if running < 1:
            return None
        decode = self.step(running, 1, load.tokens_in + load.tokens_out // 2) + framework.host
        prefill = self.step(1, load.tokens_in, 0) + framework.host
        others = framework.exposed * (running - 1) / load.tokens_out
        queue = framework.burst * (load.concurrency - 1) / 2
        return Served(decode + others * prefill, (1 + queue) * prefill, decode, prefill, running)

    def most(self, tokens: int) -> int:
        """Return how many sequences of so many tokens the memory holds beside the weights."""
        at = {
            **self.mesh,
            self.graph.batch: 1,
            self.graph.seq: 1,
            self.graph.context: max(tokens, 1),
        }
        memory = float(self.prices.quantity("hbm_bytes", 0.0))
        room = MEMORY_SHARE * memory - bytes_at(self.memory.weights, self.mesh)
        each = bytes_at(self.memory.footprint.state, at)
        return max(floor(room / each), 0) if each > 0 else 1 << 30

    def _step(self, batch: int, new: int, context: int) -> float:
        graph = self.graph
        at = {**self.mesh, graph.batch: batch, graph.seq: new, graph.context: context}
        tasks = stages(graph, at, last_logits=True)
        return float(add_up(charges(tasks, self.prices)).seconds)
