# SPDX-License-Identifier: Apache-2.0
"""The document that every page is: one file without outside resources, in the house's style, all values escaped.

What a page says is in its own template, which extends `frame.html`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

HOUSE = "porting.pages"
FRAME, STYLE = "frame.html", "page.css"


@dataclass(frozen=True, slots=True)
class Library:
    """A library that lies whole in a page that needs it: its files beside the frame."""

    code: str
    style: str
    licence: str


LIBRARIES: Mapping[str, Library] = {
    "uplot": Library("uplot/uPlot.iife.min.js", "uplot/uPlot.min.css", "uplot/LICENSE.txt"),
}


def render(
    package: str,
    name: str,
    values: Mapping[str, object],
    *,
    filters: Mapping[str, Callable[..., Any]] | None = None,
    styles: Sequence[str] = (),
    script: str = "",
    libraries: Sequence[str] = (),
) -> str:
    """Return the page of a package's template; `styles` and `script` are files beside it, `libraries` are kept here."""
    loader = DictLoader({FRAME: _file(HOUSE, FRAME), name: _file(package, name)})
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(filters or {})
    kept = [LIBRARIES[library] for library in libraries]
    sheets = [_file(HOUSE, STYLE), *(_file(HOUSE, k.style) for k in kept)]
    style = "".join([*sheets, *(_file(package, file) for file in styles)])
    code = [
        part for k in kept for part in (_comment(_file(HOUSE, k.licence)), _file(HOUSE, k.code))
    ]
    code += [_file(package, script)] if script else []
    page = environment.get_template(name).render(
        **values,
        style=Markup(style),  # noqa: S704 - our own files
        script=Markup("\n".join(code)),  # noqa: S704 - our own files
    )
    return page if page.endswith("\n") else page + "\n"


def _comment(text: str) -> str:
    return f"/*! {text.strip()} */"


def _file(package: str, name: str) -> str:
    return resources.files(package).joinpath("templates", name).read_text(encoding="utf-8")
