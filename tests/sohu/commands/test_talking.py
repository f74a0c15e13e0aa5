# SPDX-License-Identifier: Apache-2.0
"""`sohu generate` and `sohu chat`: what they print where, what they read, and what they refuse."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest

import sohu
from sohu.commands.cli import main
from sohu.terminal import console
from tests.talking_models import talking

PACE = re.compile(r"(\d+) tokens read, (\d+) made: [\d.]+ s to the first(, then [\d.,]+ tokens/s)?")
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(talking(tmp_path_factory.mktemp("talking"), max_position_embeddings=60))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(talking(tmp_path_factory.mktemp("bare"), template=""))


@pytest.fixture(scope="module")
def model(port: str) -> sohu.Model:
    return sohu.load(port)


def typed(monkeypatch: pytest.MonkeyPatch, text: str | bytes, *, terminal: bool = False) -> None:
    """Let standard input be this text."""
    data = text if isinstance(text, bytes) else text.encode()
    stream = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")
    monkeypatch.setattr(stream, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(sys, "stdin", stream)


def said(capsys: Captured, *arguments: str, status: int = 0) -> tuple[str, str]:
    assert main(list(arguments)) == status
    out, err = capsys.readouterr()
    return out, err


# Generate


def test_an_answer_on_one_stream_and_its_pace_on_the_other(
    port: str, model: sohu.Model, capsys: Captured
) -> None:
    out, err = said(capsys, "generate", port, "--prompt", "w5 w9", "--max-new-tokens", "6")
    assert out == "".join(model.generate("w5 w9", max_new_tokens=6)) + "\n"
    last = err.splitlines()[-1]
    told = PACE.fullmatch(last)
    assert told is not None
    assert (told[1], told[2], bool(told[3])) == ("3", "6", True)
    assert "not at its end: it is cut after 6 tokens; --max-new-tokens 24" in err


def test_an_answer_at_its_end_is_not_called_cut(
    port: str, model: sohu.Model, capsys: Captured
) -> None:
    word = "".join(model.generate("w5", max_new_tokens=6)).split()[3]
    out, err = said(capsys, "generate", port, "--prompt", "w5", "--stop", word, "--stop", "none")
    assert word not in out
    assert "cut" not in err


def test_an_answer_says_that_positions_end(port: str, capsys: Captured) -> None:
    prompt = " ".join(["w1"] * 50)
    _, err = said(capsys, "generate", port, "--raw", "--prompt", prompt)
    assert "it is cut after 11 tokens, where the model's positions end" in err


def test_pieces_are_printed_as_they_are_made(
    port: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    printed: list[tuple[str, bool]] = []

    def say(*words: object, end: str = "\n", error: bool = False, flush: bool = False) -> None:
        if not error:
            printed.append((" ".join(map(str, words)) + end, flush))

    monkeypatch.setattr(console, "say", say)
    assert main(["generate", port, "--prompt", "w5", "--max-new-tokens", "4"]) == 0
    assert [text.count("w") for text, _ in printed if text.strip()] == [1, 1, 1, 1]
    assert all(flush for text, flush in printed if text.strip())


def test_draws_are_those_of_the_library(port: str, model: sohu.Model, capsys: Captured) -> None:
    options = "--temperature 1.3 --top-k 40 --top-p 0.9 --min-p 0.01 --seed 18446744073709551615"
    out, err = said(capsys, "generate", port, "--prompt", "w5", *options.split())
    sampling = sohu.Sampling(1.3, 40, 0.9, 0.01, 2**64 - 1)
    assert out == "".join(model.generate("w5", sampling=sampling)) + "\n"
    assert "no effect" not in err


def test_what_has_no_effect_is_told(port: str, capsys: Captured) -> None:
    words = ["--top-p", "0.9", "--seed", "3", "--max-new-tokens", "1"]
    _, err = said(capsys, "generate", port, "--prompt", "w5", *words)
    assert "--top-p, --seed: no effect, as the temperature is 0" in err


def test_several_prompts_are_answered_together(
    port: str, model: sohu.Model, capsys: Captured
) -> None:
    prompts = ["w5 w9", "w2", f"w7 {'w1 ' * 40}"]
    words = [word for prompt in prompts for word in ("--prompt", prompt)]
    stop = "".join(model.generate(prompts[0], max_new_tokens=5)).split()[-1]
    out, err = said(capsys, "generate", port, *words, "--max-new-tokens", "9", "--stop", stop)
    parts = re.split(r"^\[(\d)\] (.*)\n", out, flags=re.MULTILINE)[1:]
    assert parts[::3] == ["1", "2", "3"]
    assert parts[1::3][:2] == prompts[:2]
    assert parts[1::3][2].endswith("…")
    alone = ["".join(model.generate(p, max_new_tokens=9, stop=[stop])) for p in prompts]
    assert [part.strip("\n") for part in parts[2::3]] == alone
    assert "answer 2 is not at its end" in err
    assert "answer 1 is not at its end" not in err


def test_a_prompt_may_be_in_a_file_or_on_standard_input(
    port: str, model: sohu.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    path = tmp_path / "prompt.txt"
    path.write_bytes(b"w5 w9\r\n")
    typed(monkeypatch, "w2\n\n")
    words = ["--prompt-file", str(path), "--prompt-file", "-", "--max-new-tokens", "3", "--json"]
    out, err = said(capsys, "generate", port, *words)
    answers = json.loads(out)["answers"]
    assert [answer["prompt"] for answer in answers] == ["w5 w9", "w2\n"]
    assert answers[1]["text"] == "".join(model.generate("w2", max_new_tokens=3))
    assert err == ""


def test_json_has_ids_ends_and_how_tokens_were_chosen(port: str, capsys: Captured) -> None:
    words = "--temperature 0.5 --seed 2 --max-new-tokens 3 --logprobs 2 --json"
    out, _ = said(capsys, "generate", port, "--prompt", "w5", *words.split())
    data = json.loads(out)
    (answer,) = data["answers"]
    assert answer["prompt_ids"] == [5, 81]
    assert answer["text"].split() == [f"w{i}" for i in answer["ids"]]
    assert (answer["end"], answer["stop"]) == ("length", None)
    assert [entry["id"] for entry in answer["logprobs"]] == answer["ids"]
    assert all(len(entry["likeliest"]) == 2 for entry in answer["logprobs"])
    sampling = {"temperature": 0.5, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 2}
    assert (data["sampling"], data["numerics"]) == (sampling, "bf16")
    assert data["seconds"]["all"] >= data["seconds"]["first_token"] > 0


def test_log_probabilities_are_a_table(port: str, capsys: Captured) -> None:
    words = ["--prompt", "w5", "--max-new-tokens", "2", "--logprobs", "1"]
    out, _ = said(capsys, "generate", port, *words)
    assert "Log-probabilities of the answer" in out
    assert len(re.findall(r"'w\d+' -\d+\.\d{4}", out)) == 2


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        ("", "S111", "--prompt --prompt-file"),
        ("--prompt a --prompt-file b", "S111", "not allowed with"),
        ("--prompt a --raw --system b", "S111", "not allowed with"),
        ("--prompt a --temperature -1", "S111", "from 0 to"),
        ("--prompt a --temperature nan", "S111", "from 0 to"),
        ("--prompt a --temperature hot", "S111", "from 0 to"),
        ("--prompt a --top-k -1", "S111", "whole number"),
        ("--prompt a --top-p 0", "S111", "--top-k 1"),
        ("--prompt a --top-p 1.1", "S111", "from 0 to 1"),
        ("--prompt a --min-p 2", "S111", "from 0 to 1"),
        ("--prompt a --seed 18446744073709551616", "S111", "below 2^64"),
        ("--prompt a --stop=", "S111", "every answer"),
        ("--prompt a --logprobs x", "S111", "whole number"),
        ("--prompt-file nothere", "S547", "No such file"),
        ("--prompt-file .", "S547", "a directory"),
        ("--prompt-file /dev/zero", "S547", "not a regular file"),
        ("--prompt-file bytes", "S547", "not UTF-8 at byte 2"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    words: str, code: str, part: str, port: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: Captured,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("bytes").write_bytes(b"a \xff")
    _, err = said(capsys, "generate", port, *words.split(), status=2)
    assert code in err
    assert part in err


def test_a_long_prompt_is_refused_before_it_is_read(
    port: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr("sohu.commands.generating.MAX_PROMPT", 4)
    typed(monkeypatch, "w" * 17)
    _, err = said(capsys, "generate", port, "--prompt-file", "-", status=2)
    assert "S547" in err
    assert "larger than 16 bytes" in err


@pytest.mark.parametrize("words", ["", "--temperature 1 --top-p 0.9"])
def test_logits_that_are_no_numbers_are_not_answered_from(
    words: str, tmp_path: Path, capsys: Captured
) -> None:
    overflowing = talking(tmp_path, scaled={"lm_head.weight": 1e37, "model.norm.weight": 1e37})
    arguments = ["generate", str(overflowing), "--prompt", "w5", *words.split()]
    out, err = said(capsys, *arguments, status=2)
    assert "S617" in err
    assert out.strip() == ""
    data = json.loads(said(capsys, *arguments, "--json", status=2)[0])
    assert data["diagnostics"][0]["code"] == "S617"


# Chat


def test_lines_are_answered_one_by_one(
    port: str, model: sohu.Model, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    typed(monkeypatch, "w5 w9\n\n   \n w2 \n/reset\nw5 w9\n/system w4\nw5 w9\n/exit\nw3\n")
    out, err = said(capsys, "chat", port, "--max-new-tokens", "4", "--seed", "0")
    chat = model.chat(max_new_tokens=4)
    expected = ["".join(chat.say("w5 w9")), "".join(chat.say("w2"))]
    chat.begin("w4")
    expected += [expected[0], "".join(chat.say("w5 w9"))]
    assert out.splitlines() == expected
    assert ">" not in err
    assert err.count("begun anew") == 2
    assert err.count("the answer is not at its end: it is cut after 4 tokens") == 4


def test_a_conversation_ends_with_its_input(
    port: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    typed(monkeypatch, "w5")
    out, _ = said(capsys, "chat", port, "--max-new-tokens", "3")
    assert len(out.split()) == 3
    typed(monkeypatch, "")
    assert said(capsys, "chat", port, "--quiet") == ("", "")
    monkeypatch.setattr(sys, "stdin", None)
    assert "S547" in said(capsys, "chat", port, status=2)[1]


REFUSED = [
    (b"/rest\n", "S111", "did you mean `/reset`?"),
    (b"a \xff\n", "S547", "not UTF-8"),
    (b"w1 " * 70 + b"\n", "S548", "/reset"),
]


@pytest.mark.parametrize(("line", "code", "part"), REFUSED, ids=["order", "bytes", "long"])
def test_a_line_that_is_refused_ends_a_script_and_no_conversation(
    line: bytes, code: str, part: str, port: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    lines = b"w5 w9\n" + line + b"w2\n/help\n"
    typed(monkeypatch, lines)
    out, err = said(capsys, "chat", port, "--max-new-tokens", "3", status=2)
    assert (code in err, part in err) == (True, True)
    assert len(out.splitlines()) == 1
    typed(monkeypatch, lines, terminal=True)
    out, err = said(capsys, "chat", port, "--max-new-tokens", "3")
    assert (code in err, part in err, "/system" in err) == (True, True, True)
    assert len(out.splitlines()) == 2
    assert err.count("> ") >= 5


def test_a_path_is_no_order(port: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    typed(monkeypatch, "/usr/bin\n /exit\n/reset\n")
    out, _ = said(capsys, "chat", port, "--max-new-tokens", "2")
    assert len(out.splitlines()) == 2


def test_a_model_without_a_template_continues_texts(bare: str, capsys: Captured) -> None:
    _, err = said(capsys, "chat", bare, status=2)
    assert "S558" in err
    assert "sohu generate DIR --raw" in err
    words = ["--prompt", "w5", "--max-new-tokens", "2"]
    assert (
        said(capsys, "generate", bare, *words)[0]
        == said(capsys, "generate", bare, "--raw", *words)[0]
    )
    assert "S558" in said(capsys, "generate", bare, "--system", "w1", *words, status=2)[1]
