# SPDX-License-Identifier: Apache-2.0
"""Feed a mesh and one chip the same rows in every mode, and compare the bits of what they give.

Copies of the whole take as many sequences each: rows are given again until there are enough. Judges no original.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from device_model.engine.engine import Engine
from device_model.memory.meshes import several
from device_model.mesh.comparing import other_tokens
from device_model.mesh.engine import MeshEngine
from porting.report.model import MeshCase
from porting.verdict.feeding import Feeding, Mode
from porting.verdict.rows import Row

Logits = npt.NDArray[np.float32]


def shown(mesh: Mapping[str, int]) -> str:
    """Return a mesh as it is written."""
    return ",".join(f"{axis}={size}" for axis, size in several(mesh).items())


def on_mesh(
    one: Engine, many: MeshEngine, mesh: Mapping[str, int], rows: Sequence[Row],
    feedings: Mapping[Mode, Sequence[Feeding]],
) -> tuple[MeshCase, ...]:  # fmt: skip
    """Return, for every mode, whether the mesh gives one chip's bits, and where it first does not."""
    return tuple(
        _case(one, many, mesh, mode.name, rows, several_) for mode, several_ in feedings.items()
    )


def _case(
    one: Engine, many: MeshEngine, mesh: Mapping[str, int], mode: str, rows: Sequence[Row],
    feedings: Sequence[Feeding],
) -> MeshCase:  # fmt: skip
    tokens, first = 0, ""
    for feeding in feedings:
        tokens += sum(map(sum, feeding.steps))
        first = first or _first(one, many, rows, feeding)
    return MeshCase(shown(mesh), one.numerics.name, mode, tokens, first)


def _first(one: Engine, many: MeshEngine, rows: Sequence[Row], feeding: Feeding) -> str:
    """Return in words where a feeding first gives other bits; nothing where it never does."""
    count = len(feeding.rows)
    filled = [at % count for at in range(-(-count // many.copies) * many.copies)]
    alone, together = one.session(count), many.session(len(filled))
    for pieces in feeding.pieces():
        tokens = [rows[row].tokens[start:end] for row, start, end in pieces]
        wanted = alone.step(tokens)
        try:
            made = together.step([tokens[at] for at in filled])
        except AssertionError as error:  # copies of one result differ
            return str(error)
        for at, got in zip(filled, made, strict=True):
            row, start, _ = pieces[at]
            apart = other_tokens(wanted[at], got)
            if apart is not None:
                return f"{rows[row].name} from token {start + apart[0]} on, by up to {apart[1]:.1e}"
    return ""
