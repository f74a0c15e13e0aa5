# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the links of a built site: dead ones, anchors that do not exist, resources from elsewhere.

Reads HTML and nothing else; links for people to other sites are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}
STYLE = re.compile(r"url\(\s*['\"]?(?P<url>https?:[^)'\"]+)|@import\s+['\"](?P<sheet>[^'\"]+)")


@dataclass(slots=True)
class Page(HTMLParser):
    """The anchors of a page, its links, and what it fetches."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        HTMLParser.__init__(self)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of an element."""
        given = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := given.get(key))}
        target = given.get(FETCHED.get(tag, ""))
        if target is not None:
            self.fetched.append(target)
        if tag == "a" and given.get("href"):
            self.links.append(given["href"] or "")


def faults(site: Path) -> list[str]:
    """Return a line for every fault of a site's pages and style sheets."""
    pages = {path: _read(path) for path in sorted(site.rglob("*.html"))}
    lines = [line for path, page in pages.items() for line in _of_page(site, path, page, pages)]
    for sheet in sorted(site.rglob("*.css")):
        fetched = STYLE.finditer(sheet.read_text(encoding="utf-8"))
        lines += [f"{sheet.relative_to(site)}: fetches {match[0]}" for match in fetched]
    return lines


def _read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _of_page(site: Path, path: Path, page: Page, pages: dict[Path, Page]) -> Iterator[str]:
    name = path.relative_to(site)
    for target in page.fetched:
        if urlsplit(target).netloc:
            yield f"{name}: fetches {target}"
    for target in (*page.fetched, *page.links):
        url = urlsplit(target)
        if url.scheme or url.netloc:
            continue
        there = (path.parent / unquote(url.path)).resolve() if url.path else path
        if not there.is_file():
            yield f"{name}: {target} leads nowhere"
        elif url.fragment and there in pages and unquote(url.fragment) not in pages[there].anchors:
            yield f"{name}: {target} has no such anchor"
