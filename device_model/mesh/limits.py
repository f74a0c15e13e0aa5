# SPDX-License-Identifier: Apache-2.0
"""How many chips one process runs. Asks for no library that only running needs."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from dsl.diagnostics import refuse

MOST_CHIPS = 256
"""Each chip is a thread, with a plan of its own."""


def check_chips(mesh: Mapping[str, int]) -> None:
    """Refuse (S306) a mesh of more chips than one process runs."""
    chips = prod(mesh.values())
    if chips > MOST_CHIPS:
        message = f"a mesh of {chips:,} chips; one process runs up to {MOST_CHIPS}"
        help_ = "fewer chips along an axis; cost, fit and profile take larger meshes"
        raise refuse("S306", message, place="--mesh", help=help_)
