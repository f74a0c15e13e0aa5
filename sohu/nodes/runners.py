# SPDX-License-Identifier: Apache-2.0
"""What nodes run: ranks of a model, and the drill that stands in for one.

A runner gives logits for tokens and meets the others through a fabric; it knows nothing of nodes.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import ml_dtypes
import numpy as np

import device_model
from device_model.engine.engine import Logits
from device_model.mesh.drill import Drill
from device_model.mesh.fabric import Array, Fabric, driven
from device_model.mesh.handshake import Facts, digest, digest_of_arrays

Spec: TypeAlias = Mapping[str, Any]
Rows: TypeAlias = Sequence[Sequence[int]]


class RankRunner(Protocol):
    """One rank of a model, with the states that its steps leave."""

    def begin(self, sequences: int) -> None:
        """Start sequences without context; those of before are gone."""
        ...

    def step(self, step: int, rows: Rows, logits: Logits, fabric: Fabric) -> list[Array]:
        """Return the results of each sequence's new tokens, [S, V], or of the last of them, [1, V]."""
        ...


@dataclass(frozen=True, slots=True)
class Crew:
    """The ranks of a node, and digests of what is the same on all nodes."""

    runners: Mapping[int, RankRunner]
    facts: Facts


class DrillRunner:
    """A rank of a drill, which has one sequence."""

    def __init__(self, seed: int, rank: int, size: int) -> None:
        self._made = (seed, rank, size)
        self._drill = Drill(*self._made)

    def begin(self, sequences: int) -> None:
        """Start anew."""
        self._drill = Drill(*self._made)

    def step(self, step: int, rows: Rows, logits: Logits, fabric: Fabric) -> list[Array]:
        """Return the logits [1, V] of the last token."""
        return [driven(self._drill.step(rows[0]), self._made[1], step, fabric)[None]]


def drill(spec: Spec, mesh: Mapping[str, int], ranks: Sequence[int]) -> Crew:
    """Return the ranks of a drill: `spec` may have a seed."""
    size, seed = prod(mesh.values()), int(spec.get("seed", 1))
    tables = [("table", Drill(seed, 0, size).table)]
    told = sorted(mesh.items())
    facts = Facts(
        digest(b"drill"),
        digest_of_arrays(tables),
        digest(repr(told).encode()),
        digest(b"f32"),
        code(),
    )
    return Crew({rank: DrillRunner(seed, rank, size) for rank in ranks}, facts)


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
