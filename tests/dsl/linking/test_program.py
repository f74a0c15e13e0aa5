# SPDX-License-Identifier: Apache-2.0
"""How much a program may be in all: its files are counted, and what stands in them."""

import pytest

from dsl.diagnostics import Refused
from dsl.linking.program import MAX_FILES, link
from dsl.source import Source
from dsl.text.parser import MAX_WORDS, parse


@pytest.mark.parametrize("words", [1, MAX_WORDS // 8])
def test_files_are_read_up_to_a_number_and_a_size_in_all(words: int) -> None:
    uses = "".join(f'use "{i}.sohu"\n' for i in range(MAX_FILES + 1))
    read: list[str] = []

    def load(use):
        read.append(use.value)
        parameters = "x: dim, " * (words // 4)
        return parse(Source(use.value, f"sohu 1.0\nblock b({parameters}) -> f32[B] {{ }}"))

    with pytest.raises(Refused) as refused:
        link(parse(Source("many.sohu", "sohu 1.0\n" + uses)), load)
    assert [d.code for d in refused.value.diagnostics] == ["S218"]
    assert len(read) < (MAX_FILES if words == 1 else 10)
