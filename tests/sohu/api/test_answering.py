# SPDX-License-Identifier: Apache-2.0
"""Answers: the tokens that logits and draws give, in any batch; where they end; what is told of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sohu
from device_model.sampling.choosing import choose
from sohu import Sampling
from sohu.api.answering import Answer, End
from tests.sohu.api.test_model import refused
from tests.talking_models import talking

PROMPTS = ["w5 w9 w2 w11", "w3", "w7 w7 w7 w7 w7 w7 w7", "w5 w9"]
DRAWN = Sampling(1.5, top_k=30, top_p=0.9, seed=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> sohu.Model:
    return sohu.load(talking(tmp_path_factory.mktemp("talking"), max_position_embeddings=40))


def answers(model: sohu.Model, *prompts: str, **options) -> tuple[Answer, ...]:
    made = model.answers(prompts, **{"raw": True, "max_new_tokens": 12} | options)
    texts = [""] * len(prompts)
    for row, piece in made:
        texts[row] += piece
    assert texts == [answer.text for answer in made.answers]
    return made.answers


def ids(text: str) -> list[int]:
    return [int(word[1:]) for word in text.split()]


@pytest.mark.parametrize("sampling", [Sampling(), DRAWN], ids=["greedy", "drawn"])
def test_each_token_is_chosen_from_the_logits_before_it(
    model: sohu.Model, sampling: Sampling
) -> None:
    (answer,) = answers(model, PROMPTS[0], sampling=sampling)
    row = ids(PROMPTS[0])
    for _ in range(12):
        row.append(choose(model.run([row])[0, -1], sampling, len(row)))
    assert list(answer.prompt) + answer.ids == row
    assert ids(answer.text) == answer.ids


@pytest.mark.parametrize("sampling", [Sampling(), DRAWN], ids=["greedy", "drawn"])
def test_an_answer_does_not_depend_on_the_batch(model: sohu.Model, sampling: Sampling) -> None:
    together = answers(model, *PROMPTS, sampling=sampling, logprobs=2)
    for prompt, answer in zip(PROMPTS, together, strict=True):
        assert answers(model, prompt, sampling=sampling, logprobs=2) == (answer,)
    assert answers(model, *PROMPTS[::-1], sampling=sampling, logprobs=2) == together[::-1]


def test_seeds_make_different_answers(model: sohu.Model) -> None:
    texts = {answers(model, "w5", sampling=Sampling(1.5, seed=s))[0].text for s in range(5)}
    assert len(texts) == 5


def test_an_answer_ends_before_a_stop(model: sohu.Model) -> None:
    (whole,) = answers(model, *PROMPTS[:1])
    words = whole.text.split()
    assert (whole.end, whole.stop) == (End.LENGTH, None)
    stop = f"{words[5]} {words[6]}"
    (cut,) = answers(model, PROMPTS[0], stop=[stop, "nothing"])
    assert (cut.end, cut.stop) == (End.TEXT, stop)
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.ids == whole.ids[: len(cut.ids)]
    others = answers(model, *PROMPTS, stop=[stop])
    assert others[0] == cut
    assert {answer.end for answer in others[1:]} <= {End.LENGTH, End.TEXT}


def test_an_answer_ends_with_a_token_that_ends(
    model: sohu.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (whole,) = answers(model, PROMPTS[0])
    made = model.answers([PROMPTS[0]], raw=True, max_new_tokens=12)
    last = whole.ids[3]
    monkeypatch.setattr(type(made._codec), "stop_ids", frozenset({last}))
    pieces = [piece for _, piece in made]
    (answer,) = made.answers
    assert (answer.end, answer.ids) == (End.TOKEN, whole.ids[: whole.ids.index(last)])
    assert ids("".join(pieces)) == answer.ids


def test_an_answer_ends_where_positions_do(model: sohu.Model) -> None:
    prompt = " ".join(["w1"] * 36)
    (answer,) = answers(model, prompt)
    # The fortieth token is the last that can be computed; what it is followed by is known.
    assert (answer.end, len(answer.ids)) == (End.POSITIONS, 5)
    (short,) = answers(model, prompt, max_new_tokens=5)
    assert (short.end, short.ids) == (End.LENGTH, answer.ids)
    (full,) = answers(model, " ".join(["w1"] * 40))
    assert (full.end, len(full.ids)) == (End.POSITIONS, 1)


def test_logprobs_are_those_of_the_logits(model: sohu.Model) -> None:
    (answer,) = answers(model, PROMPTS[0], sampling=DRAWN, logprobs=3)
    row = [*answer.prompt, *answer.ids]
    logits = model.run([row])[0].astype(np.float64)
    for place, (token, (chosen, *top)) in enumerate(
        zip(answer.ids, answer.likelihoods, strict=True)
    ):
        before = logits[len(answer.prompt) + place - 1]
        expected = before - before.max() - np.log(np.exp(before - before.max()).sum())
        assert (chosen.id, chosen.token) == (token, f"w{token}")
        assert [x.id for x in top] == np.argsort(-expected, kind="stable")[:3].tolist()
        for one in (chosen, *top):
            assert one.logprob == pytest.approx(expected[one.id], abs=1e-12)
    (alone,) = answers(model, PROMPTS[0], logprobs=0)
    assert [len(row) for row in alone.likelihoods] == [1] * 12


def test_a_raw_prompt_has_no_template(model: sohu.Model) -> None:
    (answer,) = answers(model, "w5 w9", raw=False)
    assert answer.prompt == (5, 9, 81)
    (told,) = answers(model, "w5 w9", raw=False, system="w4")
    assert told.prompt == (90, 4, 81, 5, 9, 82)
    with pytest.raises(ValueError, match="raw"):
        model.answers(["w5"], raw=True, system="w4")


def test_a_system_message_that_nobody_hears_is_refused(tmp_path: Path) -> None:
    bare = sohu.load(talking(tmp_path, template=""))
    assert refused(bare.generate, "w1", system="w2").code == "S558"
    assert list(bare.generate("w1", max_new_tokens=1))


def test_who_iterates_again_goes_on(model: sohu.Model) -> None:
    made = model.answers(PROMPTS[:2], raw=True, max_new_tokens=5)
    first = next(iter(made))
    assert len([first, *made]) == 10
    assert list(made) == []
    assert made.answers == answers(model, *PROMPTS[:2], max_new_tokens=5)


def test_pace_counts_what_comes_after_the_first_step(model: sohu.Model) -> None:
    made = model.answers(PROMPTS[:2], raw=True, max_new_tokens=5)
    assert len([piece for _, piece in made]) == 10
    assert made.pace.later == 8
    assert 0 < made.pace.first < made.pace.last
    alone = model.answers(["w1"], raw=True, max_new_tokens=1)
    assert len(list(alone)) == 1
    assert alone.pace.tokens_per_second is None


@pytest.mark.parametrize(
    "options", [{"stop": "w1"}, {"stop": [""]}, {"logprobs": -1}, {"max_new_tokens": 0}], ids=str
)
def test_impossible_wishes_fail_at_once(model: sohu.Model, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        model.answers(["w1"], **options)
