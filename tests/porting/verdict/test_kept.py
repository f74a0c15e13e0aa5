# SPDX-License-Identifier: Apache-2.0
"""What is kept of an original: the same verdict without running it, and nothing where anything is different."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from farm.oracles.tiny import tiny
from porting.pipeline import port, validate_port
from porting.report.model import Verdict
from porting.verdict import kept as keeping
from porting.verdict import originals
from porting.verdict.kept import Facts, Kept


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Keep small models too, in a folder of the test's own."""
    monkeypatch.setattr(keeping, "LEAST_BYTES", 1)
    monkeypatch.setenv("SOHU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "originals"


def forbidden(*_: object, **__: object) -> None:
    raise AssertionError("the original was run again")


@pytest.mark.parametrize("model_type", ["llama", "mixtral"])
def test_a_second_verdict_is_the_same_and_runs_nothing(
    model_type: str, eager: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "port"
    first, _ = port(str(tiny(tmp_path / "model", model_type)), out=out)
    monkeypatch.setattr(originals.Reference, "load", forbidden)
    again = validate_port(out)
    assert again.verdict is Verdict.PASS
    assert again.validation.cases == first.validation.cases
    assert again.validation.layers == first.validation.layers
    assert again.validation.pins == first.validation.pins
    assert len(list(eager.iterdir())) == 1


def test_other_weights_are_another_original(eager: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        port(str(tiny(tmp_path / f"model{seed}", "llama", seed=seed)), out=tmp_path / "port")
    assert len(list(eager.iterdir())) == 2


def test_other_code_is_another_original(
    eager: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny(tmp_path / "model", "llama")
    before = Kept.of(folder, eager)
    monkeypatch.setattr(keeping, "_surroundings", lambda: "another transformers")
    assert before is not None
    assert Kept.of(folder, eager) != before


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 half of one", b"\x93NUMPY"])
def test_a_damaged_record_counts_as_not_there(content: bytes, eager: Path, tmp_path: Path) -> None:
    out = tmp_path / "port"
    first, _ = port(str(tiny(tmp_path / "model", "llama")), out=out)
    records = [path for path in eager.rglob("*") if path.is_file()]
    assert len(records) == 3
    for path in records:
        path.write_bytes(content)
    again = validate_port(out)
    assert again.validation.cases == first.validation.cases


def test_facts_come_back_as_they_were(tmp_path: Path) -> None:
    records = Kept(tmp_path / "a")
    facts = Facts(97, {11: "sliding_window"}, frozenset({1, 2}))
    assert records.facts() is None
    records.keep_facts(facts)
    assert records.facts() == facts


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"vocab_size": "x", "lengths": {}, "special": []}', "nul"]
)
def test_odd_facts_count_as_not_there(text: str, tmp_path: Path) -> None:
    (tmp_path / "facts.json").write_text(text)
    assert Kept(tmp_path).facts() is None


def test_a_small_model_is_not_kept(tmp_path: Path) -> None:
    assert Kept.of(tiny(tmp_path / "model", "llama"), tmp_path / "cache") is None


def test_the_oldest_go_where_there_is_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "MOST_IN_ALL", 3000)
    for number, name in enumerate(("old", "older", "new")):
        Kept(tmp_path / name)._save("own.npz", {"x": np.zeros(250)})
        at = 1_000_000 + (number if name != "older" else -1)
        os.utime(tmp_path / name, (at, at))
    Kept(tmp_path / "newest")._save("own.npz", {"x": np.zeros(10)})
    left = {path.name for path in tmp_path.iterdir()}
    assert "newest" in left
    assert "older" not in left


def test_an_original_that_cannot_be_read_is_not_kept(eager: Path, tmp_path: Path) -> None:
    assert Kept.of(tmp_path / "not there", eager) is None


@pytest.mark.parametrize("place", [".", "one", "one/facts.json"])
def test_what_others_can_write_is_not_believed(place: str, tmp_path: Path) -> None:
    kept = Kept(tmp_path / "originals" / "one")
    facts = Facts(64, {}, frozenset())
    kept.keep_facts(facts)
    assert kept.facts() == facts
    path = tmp_path / "originals" / place
    path.chmod(path.stat().st_mode | 0o022)
    assert kept.facts() is None


def test_nothing_is_kept_where_others_can_write(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "originals" / "one")
    kept.folder.parent.mkdir()
    kept.folder.parent.chmod(0o777)
    kept.keep_facts(Facts(64, {}, frozenset()))
    assert list(kept.folder.parent.iterdir()) == []
