# SPDX-License-Identifier: Apache-2.0
"""`sohu explain WHAT`: a diagnostic code, an operation, a page about the language or its use, a text of the zoo.

All of it is in the wheel: whoever has no checkout can read the language, and begin from a family of ours.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from dsl.codes import CODES
from dsl.diagnostics import did_you_mean, refuse
from dsl.regular_file import read_shipped
from porting.planning.library import zoo_texts

PAGES = {
    "language": ("dsl", "LANGUAGE.md"),
    "new-architecture": ("sohu", "guides/new-architecture.md"),
    "own-architecture": ("sohu", "guides/own-architecture.md"),
}
"""A page by the word that asks for it: a package, and the file in it."""


OPERATION = re.compile(r"^#### `(\w+)`$", re.MULTILINE)
END = re.compile(r"^(?:#|<!--)", re.MULTILINE)


def operations() -> dict[str, str]:
    """Return what the page of the language says of each operation, by its name; the table itself is not loaded."""
    _, *parts = OPERATION.split(_page("language"))
    return {
        name: f"{name}{END.split(text)[0]}" for name, text in zip(*[iter(parts)] * 2, strict=True)
    }


def _page(name: str) -> str:
    package, file = PAGES[name]
    return read_shipped(Path(str(resources.files(package).joinpath(file))))


def explained(what: str) -> str:
    """Return what there is to say about a code, the page or the text of a name; raises `Refused` (S109) for others."""
    code = CODES.get(what.upper())
    if code is not None:
        return f"{what.upper()}: {code.title}\n\n{code.explanation}\n"
    if what in PAGES:
        return _page(what)
    texts = zoo_texts()
    if what in texts:
        return read_shipped(texts[what])
    known_operations = operations()
    if what in known_operations:
        return known_operations[what]
    known = did_you_mean(what, (*CODES, *PAGES, *known_operations, *texts))
    pages = f"pages are {', '.join(PAGES)}; texts are the zoo's, such as llama or blocks/norm"
    message = f"there is no code, page, operation or text `{what}`"
    raise refuse("S109", message, help=known or pages)
