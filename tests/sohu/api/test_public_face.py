# SPDX-License-Identifier: Apache-2.0
"""`import sohu`: what it gives, what it loads, and that what is wrong with a text is a value."""

from __future__ import annotations

import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

import sohu
from dsl.diagnostics import Refused as OurRefused
from sohu.api.version import UNKNOWN, _of_checkout, version

ROOT = Path(__file__).parents[3]
ZOO = ROOT / "model_zoo"
PORT = ZOO / "ports" / "llama-3.1-70b.sohu"
SOUND = "sohu 1.0\n\nblock b(x: bf16[B, S, D]) -> bf16[B, S, D] {\n  return silu(x)\n}\n"
HEAVY = {"numpy", "numba", "llvmlite", "ml_dtypes", "pyarrow", "rich", "tokenizers", "torch"}


def loaded_by(code: str) -> set[str]:
    """Return the packages that a program has loaded when it ends."""
    script = f"{code}\nimport sys; print(*sys.modules)"
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in result.stdout.split()}


def test_importing_loads_nothing_else() -> None:
    ours = {"dsl", "device_model", "porting", "model_zoo", "lark", "sympy"}
    assert loaded_by("import sohu") & (HEAVY | ours) == set()


def test_checking_and_loading_need_no_numbers() -> None:
    code = f"import sohu\nassert sohu.check({str(PORT)!r}) == ()\nsohu.load({str(PORT)!r}).graph"
    packages = loaded_by(code)
    assert "dsl" in packages
    assert packages & HEAVY == set()


def test_every_public_name_is_there_and_no_other() -> None:
    assert sorted(sohu.__all__) == list(sohu.__all__)
    assert dir(sohu) == sorted(sohu.__all__)
    assert set(sohu._HOMES) | {"__version__"} == set(sohu.__all__)
    assert [name for name in sohu.__all__ if getattr(sohu, name) is None] == []
    with pytest.raises(AttributeError, match="no attribute 'prot'"):
        _ = sohu.prot


def test_public_things_say_what_they_do() -> None:
    names = [name for name in sohu.__all__ if name != "__version__"]
    members = [m for n, m in vars(sohu.Model).items() if not n.startswith("_")]
    assert [n for n in names if not getattr(sohu, n).__doc__] == []
    assert [m for m in members if not m.__doc__] == []


def test_a_refusal_shows_its_public_name() -> None:
    assert sohu.Refused is OurRefused
    with pytest.raises(sohu.Refused) as caught:
        sohu.load("nothere.sohu")
    shown = "".join(traceback.format_exception_only(caught.value))
    assert shown == "sohu.Refused: S108: there is no such file\n"
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
    assert again.diagnostics == caught.value.diagnostics


# Version


def test_the_version_is_that_of_the_project() -> None:
    assert _of_checkout(ROOT / "pyproject.toml") == version() == sohu.__version__


def test_copies_of_the_sources_say_that_they_know_no_version(tmp_path: Path) -> None:
    other = tmp_path / "pyproject.toml"
    assert _of_checkout(other) == UNKNOWN
    other.write_text('[project]\nname = "another"\nversion = "7"\n')
    assert _of_checkout(other) == UNKNOWN
    other.write_text("[tool]\n")
    assert _of_checkout(other) == UNKNOWN


def test_the_command_prints_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    from sohu.commands.cli import main

    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"sohu {version()}\n"


# Checking


def test_a_sound_text_or_file_has_no_diagnostics() -> None:
    assert sohu.check(SOUND) == ()
    assert sohu.check(PORT) == sohu.check(str(PORT)) == ()


def test_a_text_uses_the_zoo() -> None:
    family = (ZOO / "families" / "llama.sohu").read_text()
    assert "use " in family
    assert sohu.check(family) == ()


def test_a_text_uses_nothing_outside_of_the_zoo(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "own.sohu").write_text(SOUND)
    user = SOUND.replace("block b", 'use "own.sohu"\n\nblock c')
    (tmp_path / "user.sohu").write_text(user)
    monkeypatch.chdir(tmp_path)
    assert sohu.check(Path("user.sohu")) == ()
    assert [d.code for d in sohu.check(user)] == ["S227"]


def test_what_is_wrong_is_a_value_with_its_place() -> None:
    (diagnostic,) = sohu.check(SOUND.replace("silu(x)", "silu(z)"))
    assert diagnostic.code == "S201"
    assert diagnostic.severity is sohu.Severity.ERROR
    assert diagnostic.span is not None
    assert diagnostic.span.text == "z"
    assert diagnostic.span.source.name == "<text>"


@pytest.mark.parametrize(
    "source",
    ["", "\0", "{" * 500, "family", "\ud800", "é", "a" * 300_000, 'use "../x.sohu"', "x.sohu",
     "\0.sohu", "a" * 5000 + ".sohu", Path("/"), Path("nothere")],
    ids=lambda s: repr(s)[-20:],
)  # fmt: skip
def test_no_source_raises(source: str | Path) -> None:
    assert [d for d in sohu.check(source) if not isinstance(d, sohu.Diagnostic)] == []


def test_a_string_is_a_path_only_where_it_can_be_no_text() -> None:
    assert [d.message for d in sohu.check("nothere.sohu")] == ["there is no such file"]
    assert sohu.check(f"{SOUND}# beside other.sohu") == ()
