# SPDX-License-Identifier: Apache-2.0
"""Ports of the zoo with sizes so small that every chip of a mesh fits into a test."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from dsl.graph import Graph
from dsl.inference.inference import infer
from dsl.linking.program import link
from dsl.source import Source
from dsl.text.parser import parse

PORTS = Path(__file__).parents[3] / "model_zoo" / "ports"
SMALL = {
    "llama-3.1-8b": {"D": 48, "L": 2, "V": 97, "H": 8, "K": 2, "E": 8, "F": 56},
    "mixtral-8x7b": {"D": 48, "L": 2, "V": 97, "H": 6, "K": 2, "E": 8, "F": 56, "X": 6, "T": 3},
    "deepseek-v3-671b": {
        "D": 48, "L": 4, "V": 97, "H": 8, "K": 8, "Q": 24, "Z": 16, "N": 8, "P": 4, "E": 12, "Ev": 8,
        "F": 56, "G": 24, "X": 8, "T": 3, "U": 4, "W": 2,
    },
}  # fmt: skip
"""Sizes by the names that the texts have for them; 6 and 2 heads are not divided by many meshes."""


@lru_cache
def small(name: str, batch: str = "B @dp", *changes: tuple[str, str]) -> Graph:
    """Return the graph of a port of the zoo in its small sizes, its batch split as it is or otherwise.

    `changes` are parts of its text and what stands there instead.
    """
    text = (PORTS / f"{name}.sohu").read_text(encoding="utf-8")
    assert text.count("dims { B @dp: batch") == 1
    text = text.replace("dims { B @dp: batch", f"dims {{ {batch}: batch")
    for size, value in SMALL[name].items():
        text, count = re.subn(rf"(?m)^(\s+{size}\s+= )\d+", rf"\g<1>{value}", text, count=1)
        assert count == 1, size
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    program = link(parse(Source(f"{name}.sohu", text)), lambda use: None)
    checked = infer(program.family(), program.blocks, None)
    assert checked.graph is not None, [error.message for error in checked.errors]
    return checked.graph
