# SPDX-License-Identifier: Apache-2.0
"""What a terminal would obey is written out, and means the same in JSON."""

import json
import unicodedata

import pytest

from dsl.diagnostics import Diagnostic, Label, refuse, render
from dsl.harmless import harmless, harmless_json, harmless_line
from dsl.source import Source, Span
from dsl.whole_numbers import whole_number

TITLE = "\x1b]0;pwn\x07"
OBEYED = [
    chr(c)
    for c in range(0x110000)
    if unicodedata.category(chr(c)) in {"Cc", "Cs", "Zl", "Zp"}
    or unicodedata.bidirectional(chr(c)) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
]  # fmt: skip


def test_no_control_character_is_left():
    for sign in OBEYED:
        if sign not in "\n\t":
            assert sign not in harmless(f"a{sign}b"), hex(ord(sign))
            assert len(harmless_line(f"a{sign}b")) == 3
            assert sign not in harmless_json(f'"a{sign}b"')
    assert harmless("a\n\tb µ – 文 😀") == "a\n\tb µ – 文 😀"


@pytest.mark.parametrize("sign", ["\x7f", "\x9b", "\u202e", "\u2028", "\ud800"])
def test_json_means_the_same(sign):
    text = json.dumps({"a": f"x{sign}y"}, ensure_ascii=False)
    assert json.loads(harmless_json(text)) == {"a": f"x{sign}y"}


def test_a_diagnostic_is_not_obeyed_wherever_it_repeats_the_input():
    source = Source(f"x{TITLE}.sohu", f"family {TITLE} for x\n")
    span = Span(source, 7, 8)
    whole = Diagnostic(
        "S101", TITLE, span, text=TITLE, labels=(Label(span, TITLE),), notes=(TITLE,), help=TITLE
    )
    assert "\x1b" not in render(whole)
    assert "\x1b" not in str(refuse("S101", TITLE, place=TITLE).diagnostics[0])
    assert "family �]0;pwn� for x" in render(whole)


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("7", 7), ("0007", 7), ("100", 100), ("101", None), ("²", None), ("٣", None), ("", None),
     ("-1", None), (" 1", None), ("1_0", None), ("9" * 5000, None), ("0" * 100_000 + "1", 1)],
)  # fmt: skip
def test_whole_numbers_are_ascii_digits_up_to_a_limit(text, number):
    assert whole_number(text, 100) == number
