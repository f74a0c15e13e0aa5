# SPDX-License-Identifier: Apache-2.0
"""The manual page holds every command and option, and groff has nothing to say against it."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from sohu.commands.cli import main
from sohu.commands.described import arguments
from sohu.commands.manual import _text, manual
from sohu.commands.parsing import described, parser_of
from sohu.commands.table import COMMANDS


def test_help_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["help", "--man"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == manual(described())


def test_every_command_and_option_is_in_it() -> None:
    page = manual(described()).replace("\\-", "-")
    for name in COMMANDS:
        part = page.partition(f'.SS "sohu {name}')[2].partition("\n.S")[0]
        for action in arguments(parser_of(name)):
            if action.dest != "help" and action.option_strings:
                assert f"\\fB{', '.join(action.option_strings)}\\fR" in part


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not here")
def test_groff_reads_it_without_a_warning() -> None:
    command = ["groff", "-ww", "-man", "-Tutf8", "-P-c"]
    result = subprocess.run(
        command, input=manual(described()), capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    plain = re.sub(".\b", "", result.stdout)  # bold is struck twice
    assert re.search(r"^ +sohu profile FILE\|DIR$", plain, re.MULTILINE)


def test_nothing_in_a_text_is_a_request() -> None:
    assert _text(".so /etc/passwd") == "\\&.so /etc/passwd"
    assert _text("a\\b-c") == "a\\eb\\-c"
