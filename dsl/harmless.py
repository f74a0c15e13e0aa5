# SPDX-License-Identifier: Apache-2.0
"""Text from anyone, as it may be printed: what a terminal would obey, or show in another order, is written out.

Control characters move the cursor, set titles and more; marks of direction make a line read as another one; half of a
surrogate pair cannot be written at all. New lines and tabs stay. What is printed to whom is not known here.
"""

from __future__ import annotations

import re

_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
IN_ITS_PLACE = "\N{REPLACEMENT CHARACTER}"


def harmless(text: str) -> str:
    """Return text with the characters that a terminal obeys written as escapes."""
    return _OBEYED.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def harmless_line(text: str) -> str:
    """Return a line of a source with a sign for each of those characters, so that columns stay where they are."""
    return _OBEYED.sub(IN_ITS_PLACE, text)


def harmless_json(text: str) -> str:
    """Return a JSON text that means the same, with those characters escaped in its strings."""
    return _OBEYED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
