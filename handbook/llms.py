# SPDX-License-Identifier: Apache-2.0
"""`llms.txt` and `llms-full.txt`: the site for readers that are language models, as links and as one text.

The first follows llmstxt.org: a title, a summary, lists of links to the pages' Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from handbook.reference.pages import REFERENCE
from handbook.sources.contents import CONTENTS, ROOT, chapters, place
from handbook.staging import title_of

SUMMARY = (
    "> A declarative language and tools that port Hugging Face transformer models to a transformer-only accelerator: "
    "a `.sohu` text is checked, costed, run on a device model bit by bit, validated against transformers in float64."
)
HIDDEN = re.compile(r"^```\{toctree\}.*?^```\n?", re.DOTALL | re.MULTILINE)
SENTENCE = re.compile(r"(?<=[.:])\s")


def index(texts: Mapping[str, str]) -> str:
    """Return llms.txt for the pages of a site, given by their places."""
    contents = (ROOT / CONTENTS).read_text(encoding="utf-8")
    listed = {s.title: [place(path) for path in s.paths] for s in chapters(contents)}
    listed["Reference"] = [
        *REFERENCE,
        *(p for p in texts if p.startswith("reference/") and p not in REFERENCE),
    ]
    parts = ["# sohu", SUMMARY]
    for title, places in listed.items():
        lines = [f"- [{title_of(texts[p])}](_sources/{p}): {_about(texts[p])}" for p in places]
        parts.append("\n".join((f"## {title}", "", *lines)))
    return "\n\n".join(parts) + "\n"


def whole(texts: Mapping[str, str]) -> str:
    """Return llms-full.txt: every page, each behind a line with its place."""
    return "\n".join(f"<!-- {name} -->\n\n{HIDDEN.sub('', text)}" for name, text in texts.items())


def _about(text: str) -> str:
    """Return the first sentence of a page that is prose."""
    prose = (part for part in text.split("\n\n")[1:] if part[:1].isalpha() or part[:1] in "`[*")
    first = SENTENCE.split(" ".join(next(prose, "").split()))[0]
    return first or title_of(text)
