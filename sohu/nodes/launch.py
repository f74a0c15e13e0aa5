# SPDX-License-Identifier: Apache-2.0
"""Where nodes come from: processes of this machine. `on_ray` has them on a cluster's machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sohu.nodes.blocks import Address

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
LOOPBACK = "127.0.0.1"
ROOT = str(Path(__file__).parents[2])
KILL_S = 10.0


@dataclass(frozen=True, slots=True)
class Errand:
    """What a node is told at its start: its number, where the driver listens, the secret of the run."""

    node: int
    driver: Address
    secret: str

    def words(self, host: str) -> dict[str, object]:
        """Return it as words; `host` is where the node itself listens."""
        driver, node = list(self.driver), self.node
        return {"node": node, "driver": driver, "secret": self.secret, "host": host}


class Launcher(Protocol):
    """What starts nodes, knows whether they live, and ends them."""

    host: str

    def start(self, errand: Errand) -> None:
        """Start a node; it connects to the driver by itself."""
        ...

    def alive(self, node: int) -> bool:
        """Return whether a node that was started still runs."""
        ...

    def kill(self, node: int) -> None:
        """End a node at once."""
        ...


class Processes:
    """Nodes as processes of this machine."""

    host = LOOPBACK

    def __init__(self) -> None:
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, errand: Errand) -> None:
        """Start a node; its errand goes over standard input, where no list of processes shows it."""
        paths = [ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | dict.fromkeys(ONE_THREAD, "1")
        environment["PYTHONPATH"] = os.pathsep.join(
            paths
        )  # the driver's own sources, whatever is installed
        command = [sys.executable, "-P", "-m", "sohu.nodes.worker"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)  # noqa: S603 our own
        self._processes[errand.node] = process
        if process.stdin is not None:
            process.stdin.write(json.dumps(errand.words(self.host)).encode() + b"\n")
            process.stdin.close()

    def alive(self, node: int) -> bool:
        """Return whether a process still runs."""
        return node in self._processes and self._processes[node].poll() is None

    def kill(self, node: int) -> None:
        """End a process, and wait until it is gone."""
        process = self._processes.pop(node, None)
        if process is not None:
            process.kill()
            process.wait(KILL_S)
