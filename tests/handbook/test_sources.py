# SPDX-License-Identifier: Apache-2.0
"""Pages as they are taken into the site: their links, their places, what is read off the texts of the zoo."""

from __future__ import annotations

import pytest

from handbook.reference.blocks import blocks
from handbook.reference.chips import device_page
from handbook.reference.commands import commands
from handbook.reference.diagnostics import diagnostics
from handbook.reference.markdown import cell, table
from handbook.sources.contents import ROOT, Chapter, chapters, pages, place, resolved
from handbook.sources.links import for_sphinx, relative, relinked, targets


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("[the tour](docs/tour.md#here)", "[the tour](tour.md#here)"),
        ("[`code`](dsl/LANGUAGE.md)", "[`code`](language.md)"),
        ("[a text](model_zoo/a.sohu)", "[a text](files/model_zoo/a.sohu)"),
        ("[away](https://example.org/x.md)", "[away](https://example.org/x.md)"),
        ("[here](#anchor)", "[here](#anchor)"),
        ("[lost](docs/lost.md)", "lost"),
        ("```\n[the tour](docs/tour.md)\n```", "```\n[the tour](docs/tour.md)\n```"),
    ],
)
def test_links_are_those_of_the_site(line: str, shown: str) -> None:
    known = {"docs/tour.md", "dsl/LANGUAGE.md", "model_zoo/a.sohu"}
    assert relinked(line, "README.md", known.__contains__) == shown


def test_links_go_from_where_a_page_stands() -> None:
    text = "[x](../tour.md) and [y](0001-a.md)"
    page = "docs/decisions/0002-b.md"
    assert targets(text, page) == {"docs/tour.md", "docs/decisions/0001-a.md"}
    assert relinked(text, page, lambda path: True) == "[x](../tour.md) and [y](0001-a.md)"
    assert relative("reference/blocks/norm.md", "language.md") == "../../language.md"


def test_the_contents_are_sections_of_pages() -> None:
    text = (
        "# Title\n\nWords.\n\n## One\n\n* [a](a.md): words\n* [b](../B.md)\n\n## Two\n\n* [c](c)\n"
    )
    assert chapters(text) == (
        Chapter("One", ("docs/a.md", "B.md")),
        Chapter("Two", ("docs/c",)),
    )
    assert resolved("docs/a.md", "../x/./y.md") == "x/y.md"
    assert len({place(path) for path in pages()}) == len(pages())


def test_every_page_of_the_documentation_is_in_the_contents() -> None:
    written = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")}
    assert sorted(written - set(pages())) == []


def test_snippets_at_a_prompt_are_called_so() -> None:
    text = "```python\n>>> 1\n1\n```\n\n```python\nx = 1\n```\n"
    assert for_sphinx(text) == text.replace("python", "pycon", 1)


def test_cells_keep_a_table_whole() -> None:
    assert cell("a | b\n c") == "a \\| b c"
    assert table(("x", "n:"), [("a", "1")]) == "| x | n |\n| --- | --: |\n| a | 1 |"


def test_blocks_say_their_parameters() -> None:
    norm = blocks()["reference/blocks/norm.md"]
    assert "| `eps` | `float` | required |" in norm
    assert "without a weight where it is not `weighted`" in norm
    assert "In the families" in norm


def test_a_code_has_its_example() -> None:
    page = diagnostics()
    assert "### S301" in page
    assert "error[S301]" in page
    assert "errors/" not in page


def test_values_of_chips_have_their_sources() -> None:
    page = device_page()
    assert "| `hbm_bytes` | 1.44e+11 | bytes of main memory | medium | claimed: 144 GB" in page
    assert "also called `sohu`" in page


def test_commands_show_what_they_take() -> None:
    page = commands()
    assert "### `sohu check`" in page
    assert "| `--mesh tp=8` |" in page
    assert "%(" not in page
