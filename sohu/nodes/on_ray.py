# SPDX-License-Identifier: Apache-2.0
"""Nodes and tasks on a Ray cluster: Ray places them, watches them, and starts lost tasks again.

No array of a mesh goes through Ray: a call takes a millisecond, and nodes have their own links.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar

from dsl.diagnostics import refuse
from dsl.extras import require
from sohu.nodes.launch import LOOPBACK, ROOT, Errand

Item = TypeVar("Item")
Made = TypeVar("Made")

LOCAL = "local"
"""The address that starts a cluster on this machine."""
RETRIES = 3
"""How often an item is done again whose worker was lost."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
STORE_BYTES = 100 << 20
"""What a cluster of this machine keeps for results; a task hands on little."""


@contextmanager
def joined(address: str, workers: int) -> Iterator[ModuleType]:
    """Give Ray, joined to a cluster, or to one started here on the loopback interface; it is left at the end.

    `workers` is how many tasks or nodes the started one takes at once. A cluster that is not there is refused (S647).
    """
    require("ray")
    os.environ |= {name: os.environ.get(name, value) for name, value in QUIET.items()}
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([ROOT, *sys.path]))
    import ray

    own: dict[str, Any] = {
        "num_cpus": workers,
        "include_dashboard": False,
        "object_store_memory": STORE_BYTES,
        "_node_ip_address": LOOPBACK,
    }
    there = {} if address == LOCAL else {"address": address}
    try:
        ray.init(log_to_driver=True, configure_logging=False, **(there or own))
    except (ConnectionError, ValueError, RuntimeError) as error:
        line = (str(error).splitlines() or [""])[0]
        raise refuse("S647", f"no Ray cluster at `{address}`: {line}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


class Actors:
    """Nodes as actors of a cluster, wherever it places them."""

    def __init__(self, ray: ModuleType) -> None:
        self._ray = ray
        self._actors: dict[int, Any] = {}
        self._serving: dict[int, Any] = {}
        self.host: str = ray.util.get_node_ip_address()

    def start(self, errand: Errand) -> None:
        """Start a node; another of the same number is gone."""
        actor = self._ray.remote(num_cpus=1, max_restarts=0)(_Seat).remote()
        self._actors[errand.node] = actor
        self._serving[errand.node] = actor.serve.remote(errand.node, errand.driver, errand.secret)

    def alive(self, node: int) -> bool:
        """Return whether an actor still serves."""
        if node not in self._serving:
            return False
        done, _ = self._ray.wait([self._serving[node]], timeout=0)
        return not done

    def kill(self, node: int) -> None:
        """End an actor at once."""
        self._serving.pop(node, None)
        actor = self._actors.pop(node, None)
        if actor is not None:
            self._ray.kill(actor)


class _Seat:
    """What an actor is made of."""

    def serve(self, node: int, driver: tuple[str, int], secret: str) -> None:
        """Do what the driver says until it ends."""
        import ray

        from sohu.nodes.worker import serve

        serve(node, driver, secret, ray.util.get_node_ip_address())


def outcomes(
    ray: ModuleType, function: Callable[[Item], Made], items: Sequence[Item]
) -> Iterator[tuple[Item, Made | BaseException]]:
    """Yield each item with its result, or with what it raised, as the cluster's workers finish.

    What a lost worker had is done again, elsewhere.
    """

    def work(item: Item) -> Made:
        return function(item)

    task = ray.remote(num_cpus=1, max_retries=RETRIES)(work)
    running = {task.remote(item): item for item in items}
    while running:
        (done,), _ = ray.wait(list(running), num_returns=1)
        item = running.pop(done)
        try:
            made: Made | BaseException = ray.get(done)
        except ray.exceptions.RayTaskError as error:
            made = error.cause
        except ray.exceptions.RayError as error:
            made = error
        yield item, made
