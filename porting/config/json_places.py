# SPDX-License-Identifier: Apache-2.0
"""Find where each key of a JSON object stands in its text.

The text must already have been parsed: this only keeps count of the nesting and reads no values.
"""

from __future__ import annotations

import json
import re

_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[{}\[\],:]')


def key_places(text: str) -> dict[str, tuple[int, int]]:
    """Return the (start, end) of every key by its dotted path; keys of objects in lists are left out."""
    places: dict[str, tuple[int, int]] = {}
    path: list[str | None] = []
    last: re.Match[str] | None = None
    key = ""
    for token in _TOKEN.finditer(text):
        match token.group():
            case "{":
                path.append(key)
            case "[":
                path.append(None)
            case "}" | "]":
                path.pop()
            case ":" if last is not None:
                key = str(json.loads(last.group()))
                if None not in path:
                    places[dotted(*path[1:], key)] = last.span()
        last = token
    return places


def dotted(*parts: str | None) -> str:
    """Return the dotted name of a path of keys."""
    return ".".join(part for part in parts if part)
