# SPDX-License-Identifier: Apache-2.0
"""Arguments that no command takes are answered with the word that is near, as text and as JSON."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from sohu.commands.cli import main, port_main
from sohu.commands.parsing import arguments, parser_of
from sohu.commands.table import COMMANDS

HEAVY = {"torch", "transformers", "sympy", "numpy", "lark", "rich", "numba"}


@pytest.mark.parametrize(
    ("given", "near"),
    [
        (("profil",), "did you mean `profile`?"),
        (("xyzzy",), "`sohu help` lists the commands"),
        (("--verson",), "did you mean `--version`?"),
        (("cost", "--contxt", "7"), "did you mean `--context`?"),
        (("cost", "a.sohu", "--jsn"), "did you mean `--json`?"),
        (("check", "a.sohu", "-x"), "`sohu check --help` lists the options"),
        (("help", "profil"), "did you mean `profile`?"),
    ],
)
def test_a_misspelt_word_is_answered_with_the_near_one(
    given: tuple[str, ...], near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(given) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error[S111]: there is no ")
    assert near in shown.err
    assert "usage: sohu" in shown.err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("cost",), "required: FILE|DIR"),
        (("cost", "a", "b"), "`b` is one argument too many"),
        (("cost", "a", "--batch", "0"), "0 is not 1 or more"),
        (("cost", "a", "--logits", "al"), "invalid choice"),
        (("port", "a", "--adapter", "b", "--base", "c"), "not allowed with"),
    ],
)
def test_other_misuse_is_said_and_is_json_where_that_is_asked(
    given: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(given) == 2
    assert message in capsys.readouterr().err
    assert main([*given, "--json"]) == 2
    shown = capsys.readouterr()
    assert shown.err == ""
    (diagnostic,) = json.loads(shown.out)["diagnostics"]
    assert diagnostic["code"] == "S111"
    assert message in diagnostic["message"]


def test_an_escape_in_an_argument_is_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["\x1b[31m"]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_what_begins_with_dashes_may_be_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--", "--strange.sohu"]) == 2
    assert capsys.readouterr().err.startswith("error[S108]")


def test_without_a_command_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    listed = capsys.readouterr().err
    assert all(f"\n  {name} " in listed for name in COMMANDS)
    for given in (["help"], ["--help"], ["help", "help"]):
        with pytest.raises(SystemExit, match="0"):
            main(given)
        assert capsys.readouterr().out == listed


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_argument(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["help", name])
    shown = capsys.readouterr().out
    words = [word for action in arguments(parser_of(name)) for word in action.option_strings]
    assert len(words) > 1
    assert [word for word in words if word not in shown] == []


def test_port_speaks_of_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        port_main(["--version"])
    assert capsys.readouterr().out.startswith("port ")
    assert port_main([]) == 2
    assert "usage: port " in capsys.readouterr().err


def test_what_needs_no_work_loads_no_libraries() -> None:
    ask = (
        "import sys\nfrom sohu.commands.cli import main\n"
        "for given in (['--version'], ['help'], ['help', 'cost'], ['profil']):\n"
        "    try:\n        main(given)\n    except SystemExit:\n        pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    answer = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert HEAVY & set(answer.stderr.splitlines()[-1].split()) == set()
