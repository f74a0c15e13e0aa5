# SPDX-License-Identifier: Apache-2.0
"""The specification of the language must be what the tables say, and its example a program."""

from __future__ import annotations

import re

from dsl.inference.inference import check
from dsl.source import Source
from dsl.text.formatter import format_file
from dsl.text.parser import parse
from porting.planning.library import ZOO, _used
from tests.conftest import TESTS, Golden
from tests.dsl.language_page import with_sections

ROOT = TESTS.parent
PAGE = ROOT / "dsl" / "LANGUAGE.md"


def test_generated_sections_are_fresh(golden: Golden) -> None:
    grammar = (ROOT / "dsl" / "text" / "grammar.lark").read_text(encoding="utf-8")
    golden(with_sections(PAGE.read_text(encoding="utf-8"), grammar), "../dsl/LANGUAGE.md")


def test_the_example_is_a_sound_canonical_program() -> None:
    text = re.search(r"```sohu\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert text is not None
    source = Source("LANGUAGE.md", text.group(1))
    file = parse(source)
    assert format_file(file) == source.text
    blocks = {b.name.id: b for u in file.uses for b in _used(u.path, (ZOO,)).blocks}
    assert check(file.families[0], blocks).diagnostics == ()
