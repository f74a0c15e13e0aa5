# SPDX-License-Identifier: Apache-2.0
"""Conversations: each turn is answered as a fresh session would, computing only what is new where it can."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sohu
from sohu import Sampling
from sohu.api.chatting import Chat
from tests.sohu.api.test_model import refused
from tests.talking_models import talking

# Keys and values; a ring that is short.
MODELS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "mistral": {"model_type": "mistral", "sliding_window": 4},
}
MESSAGES = ["w5 w9 w2", "w11", "w3 w4 w6 w8", "w1"]
DRAWN = Sampling(1.2, seed=6)


@pytest.fixture(scope="module", params=MODELS)
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return talking(tmp_path_factory.mktemp(request.param), **MODELS[request.param])


def say(chat: Chat, text: str) -> str:
    made = "".join(chat.say(text))
    assert chat.answer is not None
    assert chat.said[-2:] == [("user", text), ("assistant", made)]
    return made


def test_turns_are_answered_as_by_a_fresh_session(port: Path) -> None:
    model = sohu.load(port)
    chat = model.chat(max_new_tokens=7, system="w4", sampling=DRAWN)
    for message in MESSAGES:
        before = chat.said
        text = say(chat, message)
        assert chat.answer is not None
        prompt = " ".join(f"w{i}" for i in chat.answer.prompt)
        fresh = model.answers([prompt], raw=True, max_new_tokens=7, sampling=DRAWN)
        assert "".join(piece for _, piece in fresh) == text
        assert fresh.answers[0] == chat.answer
        # All that was computed is known again, whatever the states are: nothing of it was changed.
        assert chat.known == (len(chat.answer.prompt) - len(message.split()) - 3 if before else 0)
    assert [text for role, text in chat.said if role == "user"] == MESSAGES


def test_a_turn_that_begins_otherwise_goes_back_or_begins_anew(port: Path) -> None:
    model = sohu.load(port)
    whole = model.chat(max_new_tokens=12)
    words = say(whole, MESSAGES[0]).split()
    chat = model.chat(max_new_tokens=12, stop=[words[9]])
    text = say(chat, MESSAGES[0])
    assert text == " ".join(words[: words.index(words[9])]) + " "
    say(chat, MESSAGES[1])
    assert chat.answer is not None
    shared = len(MESSAGES[0].split()) + 1 + words.index(words[9])
    assert chat.known in ({shared} if port.parent.name.startswith("llama") else {0, shared})
    prompt = " ".join(f"w{i}" for i in chat.answer.prompt)
    fresh = model.answers([prompt], raw=True, max_new_tokens=12, stop=[words[9]])
    assert "".join(piece for _, piece in fresh) == chat.answer.text


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> sohu.Model:
    return sohu.load(talking(tmp_path_factory.mktemp("talking"), max_position_embeddings=40))


def test_a_conversation_begins_anew(model: sohu.Model) -> None:
    chat = model.chat(max_new_tokens=4)
    first = say(chat, "w5 w9")
    say(chat, "w2")
    chat.reset()
    assert say(chat, "w5 w9") == first
    chat.begin("w8")
    assert say(chat, "w5 w9") == say(model.chat(max_new_tokens=4, system="w8"), "w5 w9")
    chat.begin(None)
    assert say(chat, "w5 w9") == first


def test_an_answer_that_nobody_waits_for_stays_as_it_is(model: sohu.Model) -> None:
    chat = model.chat(max_new_tokens=6)
    pieces = chat.say("w5 w9")
    begun = next(pieces) + next(pieces)
    assert chat.said == [("user", "w5 w9"), ("assistant", begun)]
    after = say(chat, "w2")
    assert list(pieces) == []
    assert chat.answer is not None
    prompt = " ".join(f"w{i}" for i in chat.answer.prompt)
    assert prompt == f"w5 w9 w81 {begun} w82 w2 w83"
    assert "".join(model.generate(prompt, raw=True, max_new_tokens=6)) == after
    chat.say("w1")  # never asked for a piece: it is not said
    assert len(chat.said) == 4


def test_what_is_refused_is_not_said(model: sohu.Model) -> None:
    chat = model.chat(max_new_tokens=4)
    first = say(chat, "w5 w9")
    said = chat.said
    assert refused(chat.say, " ".join(["w1"] * 50)).code == "S548"
    assert refused(chat.say, "a \udcff").code == "S547"
    assert refused(chat.begin, "a \udcff").code == "S547"
    assert chat.said == said
    say(chat, "w2")
    assert chat.said[:2] == [("user", "w5 w9"), ("assistant", first)]


def test_a_model_without_a_template_is_refused_with_a_way_out(tmp_path: Path) -> None:
    diagnostic = refused(sohu.load(talking(tmp_path, template="")).chat)
    assert diagnostic.code == "S558"
    assert "sohu generate" in str(diagnostic.help)
    assert "--raw" in str(diagnostic.help)


def test_a_template_without_system_messages_refuses_one_at_once(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}{{ m.content }} {% endfor %}"
    )
    model = sohu.load(talking(tmp_path, template=template))
    assert refused(model.chat, system="w1").code == "S542"
    chat = model.chat(max_new_tokens=2)
    assert refused(chat.begin, "w1").code == "S542"
    assert say(chat, "w5")
