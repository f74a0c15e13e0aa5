# SPDX-License-Identifier: Apache-2.0
"""docs/your-own-architecture.md happens as it is told; `tox -e wheel` does the same with the wheel alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.sohu.at_hand import answer
from tests.sohu.told_pages import OWN_ARCHITECTURE, Told, follow


def test_the_page_happens_as_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delitem(sys.modules, "heron", raising=False)

    assert follow(OWN_ARCHITECTURE, tmp_path, answer) == 10
    sys.modules.pop("heron", None)


@pytest.mark.parametrize(
    ("lines", "agrees"),
    [
        (("a", "b 1.00e-05"), True),
        (("a",), False),
        (("a", "…"), True),
        (("…", "b 2.34e-07"), True),
        (("…", "b", "…"), False),
        (("b 1.00e-05", "a"), False),
        (("a", "b …"), True),
        (("a", "c …"), False),
        ((), False),
    ],
)
def test_an_answer_is_compared_line_by_line(lines: tuple[str, ...], agrees: bool) -> None:
    assert Told("", lines).agrees("a  \n\nb 9.99e-06\n") is agrees
