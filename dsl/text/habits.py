# SPDX-License-Identifier: Apache-2.0
"""What people write from habit, of Python most of all, and what this language has in its place.

Only helps: a text that parses is never looked at, and what is wrong with one is the parser's to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dsl.source import Source, Span

MAX_COLUMN = 200
"""Where a line is longer, nobody wrote it; patterns take longer than its length."""
FIRST_LINE = "begin the text with the line `sohu 1.0`"
_REPEAT = "layers are `repeat i < L carry x { … }`"
_BLOCK = "a block is `block f(x: bf16[B, S, D]) -> bf16[B, S, D] { … return y }`"
_USE = 'blocks of another file come with `use "blocks/mlp.sohu"`'
_BRACES = "a body stands in braces: `{ … }`"


@dataclass(frozen=True, slots=True)
class Habit:
    """A pattern that covers the place of a fault, and the help; with `begins` it is the word that begins the line."""

    pattern: re.Pattern[str]
    help: str
    begins: bool = False


def _begins(words: str, help_: str) -> Habit:
    return Habit(re.compile(rf"^\s*({words})\b(?!\s*[=,]).*"), help_, begins=True)


def _within(pattern: str, help_: str) -> Habit:
    return Habit(re.compile(pattern), help_)


# The first that covers the place counts.
_HABITS = (
    _begins("for|while", _REPEAT),
    _begins("def|fn|func|function", _BLOCK),
    _begins(r"import|from(?=\s+[\w.]+\s+import)", _USE),
    _begins("class", 'a model is `family name for "Architecture" { … }`'),
    _begins("let|var|const", "a name is bound by `name = …` alone"),
    _begins("assert", "a condition that must hold is `require …`"),
    _within(r"\*\*", "a power is `pow(x, 2)`, of numbers"),
    Habit(re.compile(r"^[\s}]*(elif|elsif|elseif)\b.*"), "write `else if`", begins=True),
    _within(r"\bis\s+not\b\s*\S?", "write `!=` to compare"),
    _within(r"\bnot\s+in\b", "write `not (… in …)`"),
    _within(r"\bis\b\s*\S?", "write `==` to compare"),
    _within(r"&&?", "write `and`"),
    _within(r"\|\|?", "write `or`; alternatives of a source stand between `or` too"),
    _within(r"!(?!=)", "write `not`"),
    _within(r"[-+*/@%]=", "write it in full: `x = x + y`"),
    _within(r"(?<==)\s*[^#]*\bif\b.*", "an expression has no `if`; write `if … { x = … } else { x = … }`"),
    _within(r"\bfrom\s+[rbfu]+\"", 'a string is `"…"`; its holes need no letter before it'),
    _within(r"[\w)\]]\s*@\s*[\w(]", "the product with a weight is `matmul(x, w)`"),
    _within(r"\.\w+\s*\(", "an operation is called by its name alone: `silu(x)`, not `x.silu()`"),
    _within(r"\[[^\]]*:[^\]]*\]?", "a part of a tensor is taken by `slice`, parts of one axis by `split`"),
    _within(r"\d_\d+", "a number is written without `_`"),
    _within(r"\blambda\b.*", _BLOCK),
    _within(r"//\s*[A-Za-z]\w*\s+[A-Za-z].*", "a comment begins with `#`"),
    _within(r"(?:^|\s)(?:if|else|repeat|for)\b[^{]*:\s*(?:#.*)?$", _BRACES),
)  # fmt: skip

_CHARACTERS = {
    **dict.fromkeys("“”„‟«»″", 'write straight quotes, `"like this"`'),
    **dict.fromkeys("'\u2018\u2019\u201a\u201b`", 'strings are written "like this"'),
    **dict.fromkeys("−–—", "write `-`"),
    "→": "write `->`",
    "×": "write `*`",
    "·": "write `*`",
    "÷": "write `/`",
    "≤": "write `<=`",
    "≥": "write `>=`",
    "≠": "write `!=`",
    "\N{ZERO WIDTH NO-BREAK SPACE}": "save the text without a byte order mark",
    "\N{ZERO WIDTH SPACE}": "remove this invisible character",
    ";": "statements need no separator",
    "\\": "a line needs no sign to go on: it ends where the statement does",
    "^": "a power is `pow(x, 2)`, of numbers",
    "~": "write `not`",
}

_VALUES = {"True": "true", "False": "false"}
_ABSENT = frozenset({"None", "null", "nil", "nan", "inf"})


def habit_at(source: Source, offset: int) -> tuple[Habit, Span] | None:
    """Return the habit behind a fault at a place, and the words that show it; None where there is none."""
    row, column = source.position(offset)
    line, before = source.line(row), offset - column
    if column > MAX_COLUMN:
        return None
    line = line[: column + MAX_COLUMN]
    code = line.split("#", 1)[0] if '"' not in line else line
    for habit in _HABITS:
        for match in habit.pattern.finditer(code):
            if match.start() <= column <= match.end():
                first, last = match.span(1) if habit.begins else match.span()
                return habit, Span(source, before + first, before + last)
    return None


def help_with_character(char: str) -> str:
    """Return what to write in place of a character without meaning, or nothing."""
    return _CHARACTERS.get(char, "")


def help_with_name(name: str) -> str:
    """Return what to write in place of a name that means a value elsewhere, or nothing."""
    if name in _VALUES:
        return f"write `{_VALUES[name]}`"
    return (
        "there is no such value; leave it out, or ask with a condition" if name in _ABSENT else ""
    )
