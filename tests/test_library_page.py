# SPDX-License-Identifier: Apache-2.0
"""The snippets of docs/library.md give what the page shows."""

from __future__ import annotations

import doctest
import re
import shutil
from pathlib import Path

import pytest

from tests.checkpoints import add_words, tiny_llama

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "library.md"


def snippets() -> list[doctest.Example]:
    """Return the statements of all snippets, in order, with what each shows."""
    text = PAGE.read_text(encoding="utf-8")
    parser = doctest.DocTestParser()
    examples = []
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        before = text.count("\n", 0, match.start(1))
        for example in parser.get_examples(match[1]):
            example.lineno += before
            examples.append(example)
    return examples


def test_the_page_shows_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "docs" / "examples" / "tiny.sohu", tmp_path)
    add_words(tiny_llama(tmp_path / "my-model", attention_bias=False))
    monkeypatch.chdir(tmp_path)
    examples = snippets()
    assert examples
    said: list[str] = []
    test = doctest.DocTest(examples, {}, PAGE.name, str(PAGE), 0, None)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    runner.run(test, out=said.append)
    assert "".join(said) == ""
