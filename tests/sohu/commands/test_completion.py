# SPDX-License-Identifier: Apache-2.0
"""Completion by the shells themselves, where they are installed, and the scripts of a small table by golden files."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sohu.commands import parsing, words
from sohu.commands.completion import SCRIPTS, script
from sohu.commands.described import HELP, arguments
from sohu.commands.options import SHELLS
from sohu.commands.parsing import described, parser_of
from sohu.commands.table import COMMANDS, Command
from tests.conftest import Golden

BASH = """
source "$1"; shift
function="$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(( $# - 1 ))
$function 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""
# zsh completes in an editor alone; what the function calls there is told in its place.
ZSH = """
compdef() { :; }
_describe() { print -l -- "${(@)values%%:*}"; }
_files() { print -l -- *; }
compset() { :; }
source "$1"; shift
service="${1#_sohu_}"; shift
words=("$@") CURRENT=$#
_sohu
"""
FISH = 'source "$argv[1]"; complete -C "$argv[2]"'


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    for shell in SCRIPTS:
        (folder / f"completion.{shell}").write_text(script(shell, described()))
    return folder


def ran(shell: str, code: str, *arguments: str, folder: Path) -> set[str]:
    result = subprocess.run(
        [shell, *(("-f",) if shell == "zsh" else ()), "-c", code, *arguments],
        cwd=folder, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert result.stderr == ""
    return {line.partition("\t")[0] for line in result.stdout.splitlines()}


def by_bash(scripts: Path, folder: Path, *line: str) -> set[str]:
    split = [part for word in line for part in _at_equals(word)]
    function = "_sohu_port" if line[0] == "port" else "_sohu"
    path = str(scripts / "completion.bash")
    return ran("bash", BASH, "bash", path, function, *split, folder=folder)


def _at_equals(word: str) -> list[str]:
    """Split a word as bash does, which breaks at an equals sign."""
    name, sign, value = word.partition("=")
    return [part for part in (name, sign, value) if part] if sign else [word]


def by_zsh(scripts: Path, folder: Path, *line: str) -> set[str]:
    path = str(scripts / "completion.zsh")
    service = "_sohu_port" if line[0] == "port" else "_sohu_sohu"
    shown = ran("zsh", ZSH, "zsh", path, service, *line, folder=folder)
    begun = line[-1].rpartition("=")[2]
    return {word for word in shown if word.startswith(begun)}


def by_fish(scripts: Path, folder: Path, *line: str) -> set[str]:
    shown = ran("fish", FISH, str(scripts / "completion.fish"), " ".join(line), folder=folder)
    begun = f"{line[-1].partition('=')[0]}="
    return {word.removeprefix(begun) for word in shown}


BY: dict[str, Callable[..., set[str]]] = {"bash": by_bash, "zsh": by_zsh, "fish": by_fish}
SHELL = [
    pytest.param(
        name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not here")
    )
    for name in BY
]


@pytest.mark.parametrize("shell", SHELL)
@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (("sohu", "pro"), {"profile"}),
        (("sohu", "fit", "--dev"), {"--device"}),
        (("sohu", "fit", "--device", "tpu"), {"tpu"}),
        (("sohu", "fit", "--device=h10"), {"h100"}),
        (("sohu", "cost", "--numerics", "int"), {"int8"}),
        (("sohu", "profile", "--logits", "l"), {"last"}),
        (("sohu", "profile", "llama-3.1-7"), {"llama-3.1-70b"}),
        (("sohu", "check", "mine"), {"mine.sohu"}),
        (("sohu", "explain", "S21"), {"S213"}),
        (("sohu", "explain", "rms_"), {"rms_norm"}),
        (("sohu", "list", "dev"), {"devices"}),
        (("sohu", "help", "swe"), {"sweep"}),
        (("sohu", "completion", "z"), {"zsh"}),
        (("port", "--no-"), {"--no-validate"}),
        (("port", "de"), {"demo"}),
    ],
    ids=" ".join,
)
def test_a_shell_completes(
    scripts: Path, tmp_path: Path, shell: str, line: tuple[str, ...], wanted: set[str]
) -> None:
    (tmp_path / "mine.sohu").touch()
    begun = line[-1].rpartition("=")[2]
    shown = BY[shell](scripts, tmp_path, *line)
    assert any(word.startswith(next(iter(wanted))) for word in shown), shown
    assert all(word.startswith(begun) for word in shown), shown


@pytest.mark.parametrize("shell", SHELL)
def test_a_flag_takes_nothing_and_a_number_no_file(
    scripts: Path, tmp_path: Path, shell: str
) -> None:
    (tmp_path / "mine.sohu").touch()
    assert "--json" in BY[shell](scripts, tmp_path, "sohu", "cost", "--j")
    assert "mine.sohu" not in BY[shell](scripts, tmp_path, "sohu", "cost", "--batch", "m")


def test_every_option_of_every_command_is_known() -> None:
    known = {command.name: command for command in words.command_line(described())}
    assert set(known) == {*COMMANDS, HELP}
    for name in COMMANDS:
        actions = arguments(parser_of(name))
        options = {o for a in actions for o in a.option_strings if o.startswith("--")}
        assert {option.name for option in known[name].options} == options


def test_the_shells_are_those_that_have_scripts() -> None:
    assert tuple(SCRIPTS) == SHELLS


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path)
    parser.add_argument("--kind", choices=("a:b", "it's"), help="one of 'two': $HOME `x`")
    parser.add_argument("--flag", action="store_true", help="100 %% sure")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_a_small_table(
    shell: str, golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parsing, "COMMANDS", {"port": Command("", "do it", _options, len)})
    golden(script(shell, described()), f"data/completion.{shell}")
