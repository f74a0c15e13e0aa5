# SPDX-License-Identifier: Apache-2.0
"""`sohu explain`: what a user without a checkout can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from porting.config.reader import parse_config
from porting.planning import library, missing_family
from porting.planning.library import ZOO
from sohu.commands.cli import main
from sohu.commands.explaining import PAGES, explained

BAMBA = b'{"architectures": ["BambaForCausalLM"], "model_type": "bamba", "hidden_size": 64}'


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_shown(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", page]) == 0
    assert capsys.readouterr().out.startswith("# ")


def test_texts_of_the_zoo_are_shown_as_they_are(tmp_path: Path) -> None:
    for name, path in {"llama": "families/llama", "blocks/norm": "blocks/norm"}.items():
        assert explained(name) == (ZOO / f"{path}.sohu").read_text()
    mine = tmp_path / "mine.sohu"
    mine.write_text(explained("llama"))
    assert main(["check", str(mine)]) == 0


@pytest.mark.parametrize("name", ["nothere", "../families/llama", "families/llama", "", "S998"])
def test_other_names_are_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", name]) == 2
    assert "S109" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model_type", "file"), [("bamba", "bamba"), ("../x; rm", "mine"), ("gemma3", "gemma3")]
)
def test_whoever_has_no_checkout_writes_a_file_of_their_own(
    model_type: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages" / "model_zoo"
    installed.parent.mkdir()
    installed.symlink_to(ZOO)
    for module in (library, missing_family):
        monkeypatch.setattr(module, "ZOO", installed)
    config = parse_config(BAMBA.replace(b'"bamba"', f'"{model_type}"'.encode()))
    (found,) = missing_family.refusal(config).diagnostics
    assert found.help is not None
    assert f"write {file}.sohu" in found.help
    assert f"--family {file}.sohu" in found.help
    assert "model_zoo" not in found.help


def test_every_operation_is_explained_without_its_table() -> None:
    from dsl.ops import OPS
    from sohu.commands.explaining import operations

    told = operations()
    assert set(told) == set(OPS)
    assert all(
        spec.signature in told[name] and "####" not in told[name] for name, spec in OPS.items()
    )
