# SPDX-License-Identifier: Apache-2.0
"""The document that every page is: one file without outside resources, in the house's style, all values escaped.

What a page says is in its own template, which extends `frame.html`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

HOUSE = "porting.pages"
FRAME, STYLE = "frame.html", "page.css"


def render(
    package: str,
    name: str,
    values: Mapping[str, object],
    *,
    filters: Mapping[str, Callable[..., Any]] | None = None,
    styles: Sequence[str] = (),
    script: str = "",
) -> str:
    """Return the page of a package's template; `styles` and `script` are files beside it."""
    loader = DictLoader({FRAME: _file(HOUSE, FRAME), name: _file(package, name)})
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(filters or {})
    style = _file(HOUSE, STYLE) + "".join(_file(package, file) for file in styles)
    page = environment.get_template(name).render(
        **values,
        style=Markup(style),  # noqa: S704 - our own files
        script=Markup(_file(package, script)) if script else "",  # noqa: S704 - our own file
    )
    return page if page.endswith("\n") else page + "\n"


def _file(package: str, name: str) -> str:
    return resources.files(package).joinpath("templates", name).read_text(encoding="utf-8")
