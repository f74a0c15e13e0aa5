# SPDX-License-Identifier: Apache-2.0
"""The page of the Python API: what `sohu.__all__` names, from its docstrings. Sphinx reads them when it builds."""

from __future__ import annotations

import inspect

import sohu
from handbook.reference.markdown import page

ABOUT = (
    "What `import sohu` names is the public face; everything else may move. [Use the library](../library.md) shows it "
    "at work."
)


def api() -> str:
    """Return the page, whose bodies Sphinx takes from the docstrings."""
    names = [name for name in sohu.__all__ if not name.startswith("_")]
    functions = [name for name in names if inspect.isfunction(getattr(sohu, name))]
    classes = [name for name in names if inspect.isclass(getattr(sohu, name))]
    return page(
        "The Python API",
        ABOUT,
        "## Functions",
        *(_directive("autofunction", name) for name in functions),
        "## Classes",
        *(_directive("autoclass", name, ":members:") for name in classes),
    )


def _directive(kind: str, name: str, option: str = "") -> str:
    return f"```{{eval-rst}}\n.. {kind}:: sohu.{name}\n   {option}\n```"
