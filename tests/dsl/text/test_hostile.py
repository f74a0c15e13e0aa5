# SPDX-License-Identifier: Apache-2.0
"""No text makes the checker do anything but answer: hostile ones within limits, arbitrary and mutated ones at all."""

from __future__ import annotations

import random
import re
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsl.codes import CODES
from dsl.diagnostics import Refused
from dsl.source import Source
from dsl.text.parser import parse
from porting.planning.library import ZOO
from tests.conftest import TESTS
from tests.dsl.reporting import reported
from tests.dsl.text.hostile import TEXTS, diagnose
from tests.strategies import NAMES, laid_out

PARTS = 3
SECONDS = 240  # a hang is the failure; a machine may be slow
ZOO_FILES = sorted(ZOO.rglob("*.sohu"))
TOKEN = re.compile(r'"[^"\n]*"|#[^\n]*|\w+|[^\s\w]+|\s+')
SOUND = {"comments", "one long comment", "a long program", "carriage returns", "other line ends"}
arbitrary = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.parametrize("part", range(PARTS))
def test_every_hostile_text_is_answered_in_time_and_memory(part: int) -> None:
    command = [sys.executable, "-m", "tests.dsl.text.hostile", str(part), str(PARTS)]
    try:
        run = subprocess.run(
            command, cwd=TESTS.parent, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as late:
        pytest.fail(f"not in time: {str(late.stdout)[-200:]}")
    assert run.returncode == 0, run.stdout[-200:] + run.stderr[-2000:]
    ended = dict(re.findall(r"^end (.*): (.*) [\d.]+ s, \d+$", run.stdout, re.MULTILINE))
    assert ended.keys() == set(list(TEXTS)[part::PARTS])
    assert {name for name, codes in ended.items() if codes == "ok"} == SOUND & ended.keys()


@arbitrary
@given(st.text(max_size=200))
def test_any_text_is_answered(text: str) -> None:
    diagnose(text)
    diagnose("sohu 1.0\n" + text)


WORDS = st.sampled_from(
    (
        *("sohu 1.0\n", "family", "block", "for", "use", "config", "dims", "mesh", "entry", "input"),
        *("weight", "state", "output", "repeat", "carry", "if", "else", "require", "return", "from"),
        *("true", "false", "not", "and", "or", "in", "{", "}", "(", ")", "[", "]", ",", ":", "=", "->"),
        *("==", "<", "??", "@", "*", "+", "-", "%", "//", '"text {i}"', "0", "1.5", "bf16", "#c\n"),
        *NAMES,
    )
)  # fmt: skip


@arbitrary
@given(st.lists(WORDS, max_size=60).map(" ".join))
def test_any_row_of_words_is_answered(text: str) -> None:
    diagnose("sohu 1.0\n" + text)


@arbitrary
@given(laid_out())
def test_any_program_of_the_grammar_is_answered(text: str) -> None:
    diagnose(text)


def mutants(text: str, seed: int) -> str:
    """Return the text with a token deleted, doubled, swapped with another, or put in another's place."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    tokens = TOKEN.findall(text)
    places = [i for i, token in enumerate(tokens) if token.strip()]
    for _ in range(chance.choice([1, 1, 2, 4])):
        one, two = chance.choice(places), chance.choice(places)
        match chance.randrange(4):
            case 0:
                tokens[one] = ""
            case 1:
                tokens[one] += " " + tokens[one]
            case 2:
                tokens[one], tokens[two] = tokens[two], tokens[one]
            case _:
                tokens[one] = tokens[two]
    return "".join(tokens)


@pytest.mark.parametrize("path", ZOO_FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_any_mutant_of_the_zoo_is_answered(path, tmp_path) -> None:
    text = path.read_text(encoding="utf-8")
    mutant = tmp_path / path.name
    for seed in range(20):
        mutant.write_text(mutants(text, seed), encoding="utf-8")
        for diagnostic in reported(mutant):
            assert diagnostic.code in CODES


def test_the_first_syntax_error_is_the_only_one() -> None:
    for path in ZOO_FILES:
        text = path.read_text(encoding="utf-8")
        assert {_faults(mutants(text, seed)) for seed in range(8)} <= {0, 1}


def _faults(text: str) -> int:
    try:
        parse(Source("mutant.sohu", text))
    except Refused as refused:
        return len(refused.diagnostics)
    return 0
