# SPDX-License-Identifier: Apache-2.0
"""The generated pages by their places, in the order in which the navigation lists them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from handbook.reference.blocks import blocks, blocks_places, families
from handbook.reference.chips import device_page, numerics_page
from handbook.reference.commands import commands
from handbook.reference.diagnostics import diagnostics
from handbook.reference.language import PLACE, operations
from handbook.reference.markdown import page
from handbook.reference.python import api

ABOUT_BLOCKS = "What families are made of; `sohu explain blocks/norm` shows a text."
OPERATIONS, BLOCKS = f"{PLACE}/index.md", "reference/blocks/index.md"
SINGLE: Mapping[str, Callable[[], str]] = {
    "reference/commands.md": commands,
    "reference/diagnostics.md": diagnostics,
    "reference/families.md": families,
    "reference/devices.md": device_page,
    "reference/numerics.md": numerics_page,
    "reference/api.md": api,
}
REFERENCE = ("reference/commands.md", OPERATIONS, BLOCKS, *list(SINGLE)[1:])
"""The pages that stand in the navigation; those of areas and files of blocks stand below theirs."""


def reference() -> dict[str, str]:
    """Return the text of every generated page by its place."""
    made = {place: make() for place, make in SINGLE.items()}
    inner = operations()
    names = sorted(blocks_places())
    return {
        **made,
        OPERATIONS: _index("Operations", "What a text may call, by area.", list(inner)),
        **inner,
        BLOCKS: _index(
            "Blocks of the zoo",
            ABOUT_BLOCKS,
            names,
        ),
        **blocks(),
    }


def _index(title: str, about: str, places: list[str]) -> str:
    files = [place.rsplit("/", 1)[-1].removesuffix(".md") for place in places]
    lines = "\n".join(f"* [{file}]({file}.md)" for file in files)
    tree = "\n".join(("```{toctree}", ":hidden:", "", *files, "```"))
    return page(title, about, lines, tree)
