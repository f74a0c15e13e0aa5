"""`sohu explain WHAT`: a diagnostic code, a page about the language or its use, a text of the zoo.

All of it is in the wheel: whoever has no checkout can read the language, and begin from a family of ours.
"""

from __future__ import annotations

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


def explained(what: str) -> str:
    """Return what there is to say about a code, the page or the text of a name; raises `Refused` (S109) for others."""
    code = CODES.get(what.upper())
    if code is not None:
        return f"{what.upper()}: {code.title}\n\n{code.explanation}\n"
    if what in PAGES:
        package, file = PAGES[what]
        return read_shipped(Path(str(resources.files(package).joinpath(file))))
    texts = zoo_texts()
    if what in texts:
        return read_shipped(texts[what])
    known = did_you_mean(what, (*CODES, *PAGES, *texts))
    pages = f"pages are {', '.join(PAGES)}; texts are the zoo's, such as llama or blocks/norm"
    message = f"there is no code, page or text `{what}`"
    raise refuse("S109", message, help=known or pages)
