# SPDX-License-Identifier: Apache-2.0
"""What a user brings to a port: rows to judge it on, a family, a reference. Looks at none of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from porting.verdict.asked import OwnRows

Given: TypeAlias = "str | Callable[[npt.NDArray[np.int64]], object] | npt.NDArray[Any]"
"""A reference as users bring it: `module:function`, a function, or the logits of their rows."""


@dataclass(frozen=True, slots=True, eq=False)
class Brought:
    """Rows to judge on, the file of a family that ports whatever it claims, an adapter, a reference to judge by.

    `called` is what the reference is called in the report, where it is not its own name.
    """

    rows: OwnRows = field(default_factory=OwnRows)
    family: Path | None = None
    adapter: str | None = None
    reference: Given | None = None
    called: str = ""


NOTHING = Brought()
