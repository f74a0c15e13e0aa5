# SPDX-License-Identifier: Apache-2.0
"""Texts that end an answer: however it is cut into pieces, and with nothing held back without a reason."""

from __future__ import annotations

import random

import pytest

from porting.text.stops import Stops

CASES = [
    ("a\n\nb", ["\n\n"], "a", "\n\n"),
    ("abcd", ["cd", "bcd"], "a", "bcd"),  # together complete: the longest
    ("abcd", ["bcde", "bc"], "a", "bc"),  # the first that is complete
    ("aab", ["aaab", "ab"], "a", "ab"),
    ("stop", ["stop"], "", "stop"),
    ("nothing of it", ["stop", "x"], "nothing of it", None),
    ("ends with st", ["stop"], "ends with st", None),
    ("héllo 🙂!", ["🙂"], "héllo ", "🙂"),
    ("no stops", [], "no stops", None),
]


@pytest.mark.parametrize(("text", "stops", "shown", "reached"), CASES)
def test_how_a_text_is_cut_makes_no_difference(
    text: str, stops: list[str], shown: str, reached: str | None
) -> None:
    chance = random.Random(1)  # noqa: S311 - of texts
    for share in (0.0, 0.3, 0.6, 1.0):
        watch = Stops(stops)
        pieces, piece = [], ""
        for character in text:
            piece += character
            if chance.random() < share:
                pieces.append(watch.take(piece))
                piece = ""
        pieces += [watch.take(piece), watch.rest()]
        assert ("".join(pieces), watch.reached) == (shown, reached)


def test_random_texts_are_as_a_search_has_it() -> None:
    """The oracle: of all prefixes of the text, the first that ends with a stop."""
    chance = random.Random(2)  # noqa: S311 - of texts
    for _ in range(400):
        text = "".join(chance.choices("ab", k=14))
        stops = ["".join(chance.choices("ab", k=chance.randint(1, 5))) for _ in range(3)]
        ends = (n for n in range(len(text) + 1) if any(text[:n].endswith(s) for s in stops))
        end = next(ends, None)
        longest = max((s for s in stops if end and text[:end].endswith(s)), key=len, default="")
        expected = text if end is None else text[: end - len(longest)]
        watch = Stops(stops)
        assert "".join(map(watch.take, text)) + watch.rest() == expected
        assert watch.reached == (longest or None)


def test_only_what_may_be_a_beginning_is_held_back() -> None:
    watch = Stops(["</end>", "xx"])
    shown = [watch.take(piece) for piece in ("a<", "b", "c</en", "d", "x")]
    assert shown == ["a", "<b", "c", "", "</end"]
    assert watch.rest() == "x"
    assert watch.rest() == ""


def test_nothing_follows_a_stop() -> None:
    watch = Stops(["."])
    assert watch.take("a.b") == "a"
    assert watch.take("c") + watch.rest() == ""


def test_an_empty_stop_fails_at_once() -> None:
    with pytest.raises(ValueError, match="not empty"):
        Stops(["a", ""])
