# SPDX-License-Identifier: Apache-2.0
"""What a user brings to a verdict, from arguments as they are given: rows, a family, a reference of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from porting.verdict.asked import own_rows
from porting.verdict.brought import Brought, Given
from sohu.api.tokens import read_array

Reference: TypeAlias = "str | Path | Callable[[npt.NDArray[np.int64]], object] | npt.ArrayLike"
"""`module:function`, a .npy file of logits, a function, or logits."""
ARRAY = ".npy"
MAX_BYTES = 2**36
"""Of a file of logits, which is mapped and read row by row."""


def brought(
    prompts: Sequence[str],
    tokens: Sequence[npt.ArrayLike],
    reference: Reference | None = None,
    family: str | Path | None = None,
    adapter: str | Path | None = None,
) -> Brought:
    """Return what the user brings; raises `Refused` for rows (S532) or logits (S555) that are no arrays."""
    given, called = _reference(reference)
    return Brought(
        own_rows(prompts, tokens),
        None if family is None else Path(family),
        None if adapter is None else str(adapter),
        given,
        called,
    )


def _reference(reference: Reference | None) -> tuple[Given | None, str]:
    """Return a reference, an array where it is one or a file of one, and what it is called where it is a file."""
    if isinstance(reference, str | Path):
        if not str(reference).endswith(ARRAY):
            return str(reference), ""
        logits: npt.NDArray[Any] = read_array(Path(reference), MAX_BYTES, "S555")
        return logits, str(reference)
    if reference is None or callable(reference):
        return reference, ""
    return np.asarray(reference), ""
