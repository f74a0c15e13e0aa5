# SPDX-License-Identifier: Apache-2.0
"""`sohu diff` names the operation that an edit of a port made wrong, and nothing where the port is right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from porting.diff import reproduction
from porting.diff.matching import TOLERANCES, Golden
from sohu.commands.cli import main
from tests.checkpoints import tiny

QUERY = 'q = head_rms("{at}.q_norm", q, eps=%s)'
KEY = 'k = head_rms("{at}.k_norm", k, eps=eps)'
EARLY = f"{QUERY}\n    {KEY}\n"
CALL = 'q, append(keys, k), append(values, v), mask="causal", scale=%s, window=%s,'
ACT = "activation(g, act) * u"
EDITS = {
    "theta": ("theta = 10000.0", "theta = 10500.0", "rope_frequencies"),
    "scale": (CALL % ("scale", "window"), CALL % ("0.9*scale", "window"), "attention"),
    "query norm": (EARLY % "eps", EARLY % "0.05", "rms_norm"),
    "gate and up": (ACT, "activation(u, act) * g", "activation"),
    "residual": ("    x = x + gated_mlp(", "    x = h + gated_mlp(", "add"),
    "activation": (ACT, "activation(g, act) * 0.0 + gelu(g) * u", "gelu"),
    "window": (CALL % ("scale", "window"), CALL % ("scale", "5"), "attention"),
    "final norm": ('x = rms("model.norm", x, eps=eps)', 'x = rms("model.norm", x, eps=0.1)', "rms_norm"),
}  # fmt: skip


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diff")
    model = tiny(folder / "model", "qwen3")
    assert main(["port", str(model), "--out", str(folder / "port"), "--no-validate"]) == 0
    return folder / "port"


def edited(port: Path, folder: Path, old: str, new: str) -> Path:
    """Return a copy of a port with an edited text."""
    text = (port / "model.sohu").read_text(encoding="utf-8")
    if old.startswith("theta"):
        old = next(line for line in text.split("\n") if line.strip().startswith("theta "))
        new = f"    {new}"
    assert text.count(old) == 1
    folder.mkdir()
    for name in ("report.json", "report.html"):
        (folder / name).write_bytes((port / name).read_bytes())
    (folder / "model.sohu").write_text(text.replace(old, new), encoding="utf-8")
    return folder


@pytest.mark.parametrize("edit", EDITS)
def test_the_edited_operation_is_named(
    edit: str, port: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, op = EDITS[edit]
    folder = edited(port, tmp_path / "edited", old, new)
    capsys.readouterr()
    assert main(["diff", str(folder), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "fail"
    assert found["guilty"][0]["op"] == op
    if found["reproduction"] is not None:
        assert reproduction.replay(Path(found["reproduction"])) == 0.0


def test_a_person_is_shown_the_line(
    port: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = edited(port, tmp_path / "edited", *EDITS["scale"][:2])
    capsys.readouterr()
    assert main(["diff", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "error[S580]: `attention` departs first, in layer 0, fed at once" in out
    assert "a = attention(" in out
    assert "python -m porting.diff.reproduction" in out


def test_a_right_port_departs_nowhere(port: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["diff", str(port), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["guilty"] == []
    assert max(part["error"] for part in found["parts"]) < 1e-6
    assert not (port / "diff").exists()


def test_a_port_of_fewer_layers_is_refused(
    port: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (port / "model.sohu").read_text(encoding="utf-8")
    line = next(line for line in text.split("\n") if line.strip().startswith("L "))
    folder = edited(port, tmp_path / "short", line, line.replace("= 3", "= 2"))
    assert main(["diff", str(folder)]) == 2
    assert "S581" in capsys.readouterr().err


def test_rows_are_found_in_any_order_of_the_other_axes() -> None:
    rng = np.random.default_rng(3)
    value = rng.standard_normal((5, 4, 6))
    golden = Golden([rng.standard_normal((5, 24)), value.transpose(1, 0, 2)])
    assert golden.holds(value)
    assert Golden([value]).holds(value.reshape(5, 24))
    assert golden.holds(value[2:3])
    assert not golden.holds(value * (1 + 10 * TOLERANCES[0]))
    assert not golden.holds(value[:, :, :5])


def test_rows_are_found_with_their_elements_in_another_order() -> None:
    rng = np.random.default_rng(4)
    value = rng.standard_normal((7, 8))
    golden = Golden([value])
    assert golden.holds(value[:, rng.permutation(8)])
    assert not golden.holds(value + 1e-3)


def test_what_is_not_finite_is_nowhere() -> None:
    assert not Golden([np.ones((2, 3))]).holds(np.full((2, 3), np.nan))
