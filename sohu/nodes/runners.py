# SPDX-License-Identifier: Apache-2.0
"""What nodes run: a rank of something, by its name in the table below.

A runner gives logits for tokens and meets the others through a fabric; it knows nothing of nodes.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import ml_dtypes
import numpy as np

import device_model
from device_model.mesh.drill import Drill
from device_model.mesh.fabric import Array, Fabric, driven
from device_model.mesh.handshake import Facts, digest, digest_of_arrays

Spec: TypeAlias = Mapping[str, Any]


class RankRunner(Protocol):
    """One rank of a model, with the state that its steps leave."""

    def facts(self) -> Facts:
        """Return digests of what is the same on all ranks."""
        ...

    def step(self, step: int, tokens: Sequence[int], fabric: Fabric) -> Array:
        """Return the logits [V] after some more tokens; nothing, of shape [0], where this rank has none."""
        ...


class DrillRunner:
    """A rank of a drill."""

    def __init__(self, spec: Spec, rank: int, size: int) -> None:
        self._drill = Drill(int(spec.get("seed", 1)), rank, size)
        self._size, self._rank = size, rank

    def facts(self) -> Facts:
        """Return digests of the tables that all ranks have whole, and of the release."""
        whole = digest_of_arrays([("table", self._drill.table)])
        mesh = digest(str(self._size).encode())
        return Facts(digest(b"drill"), whole, mesh, digest(b"f32"), code())

    def step(self, step: int, tokens: Sequence[int], fabric: Fabric) -> Array:
        """Return the logits [V]."""
        return driven(self._drill.step(tokens), self._rank, step, fabric)


@lru_cache
def code() -> str:
    """Return the digest of the device model as it is installed here, and of what it computes with."""
    root = Path(device_model.__file__).parent
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py"))
    versions = (
        f"{sys.version_info[:2]} {np.__version__} {ml_dtypes.__version__} {platform.machine()}"
    )
    parts = [part for name in names for part in (name.encode(), (root / name).read_bytes())]
    return digest(versions.encode(), *parts)


RUNNERS: dict[str, Callable[[Spec, int, int], RankRunner]] = {"drill": DrillRunner}
"""By name: how a rank is made, from what is asked for, its number and how many there are."""
