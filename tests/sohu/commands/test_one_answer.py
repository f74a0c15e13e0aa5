# SPDX-License-Identifier: Apache-2.0
"""The one answer to "does it fit": five commands, asked the same, say the same bytes, part by part."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from porting.planning.bound import bound_graph
from porting.planning.placement import place
from sohu.commands.cli import main
from tests.checkpoints import tiny
from tests.conftest import TESTS

PORTS = TESTS.parent / "model_zoo" / "ports"
PARTS = ("weights", "state", "activations", "total")
SWEPT = ("weights_bytes", "state_bytes", "activation_bytes", "memory_bytes")
Bytes = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """A program, and the options that all of the five commands know."""

    name: str
    mesh: str
    numerics: str = "bf16"
    rest: tuple[str, ...] = ()

    @property
    def options(self) -> list[str]:
        return ["--mesh", self.mesh, "--numerics", self.numerics, *self.rest]


CASES = (
    Case("llama-3.1-70b", "tp=8"),
    Case("llama-3.1-70b", "tp=1", "f8e4m3"),
    Case("llama-3.1-70b", "tp=8", rest=("--logits", "all")),
    Case("mixtral-8x22b", "tp=4,ep=2", rest=("--batch", "3", "--context", "1000")),
    Case("deepseek-v3-671b", "tp=8", "f8e4m3"),
    Case("gemma-3-27b-text", "tp=2"),
    Case("gemma-3-27b-text", "tp=1", "f8e4m3", ("--batch", "7", "--context", "500")),
    Case("llama-3.1-8b", "tp=2,pp=4", rest=("--batch", "2")),
    Case("llama-3.1-8b", "tp=2,pp=3,dp=2", rest=("--batch", "2")),
)
# A port is asked about one sequence and the usual context.
PLACED = (CASES[0], CASES[1], CASES[3], CASES[6], CASES[7])


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Any:
    """A function that runs a command about a program and returns its JSON."""

    def run(command: str, path: Path, *options: str) -> dict[str, Any]:
        main([command, str(path), *options, "--json"])
        return dict(json.loads(capsys.readouterr().out))

    return run


def parts(found: dict[str, Any], total: str = "total") -> Bytes:
    return tuple(found[part] for part in (*PARTS[:-1], total))


def swept(row: dict[str, Any]) -> Bytes:
    return tuple(row[column] for column in SWEPT)


@pytest.mark.parametrize("case", CASES, ids=lambda c: " ".join((c.name, *c.options)))
def test_cost_fit_profile_and_sweep_say_the_same_bytes(case: Case, ask: Any) -> None:
    path = PORTS / f"{case.name}.sohu"
    chip = (*case.options, "--device", "h100")
    fit, profile = ask("fit", path, *chip), ask("profile", path, *chip)
    cost = ask("cost", path, *case.options)
    for phase in ("decode", "prefill"):
        said = {
            "cost": parts(cost["memory"][phase]),
            "fit": parts(fit["phases"][phase]["bytes"]),
            "profile": parts(profile["phases"][phase]["memory_bytes"], "peak"),
        }
        assert len(set(said.values())) == 1, said
        assert cost["total"]["activations"][phase] == said["cost"][2]
        # The formulas are of the stages' mean, the bytes of the stage that has the most.
        state = cost["total"]["state"][phase]
        assert state == said["cost"][1] if "pp=3" not in case.mesh else state < said["cost"][1]
    # A sweep that has no prompts decodes alone; with prompts it tells of the larger step.
    (row,) = ask("sweep", path, *chip)["rows"]
    assert swept(row) == parts(fit["phases"]["decode"]["bytes"])
    prompt = str(fit["phases"]["prefill"]["new_tokens"])
    (row,) = ask("sweep", path, *chip, "--seq", prompt)["rows"]
    assert swept(row) == parts(fit["bytes"]) == parts(fit["phases"][fit["phase"]]["bytes"])
    assert row["fits"] == (fit["verdict"] == "pass") == (profile["verdict"] == "pass")


@pytest.mark.parametrize("case", PLACED, ids=lambda c: f"{c.name} {c.mesh} {c.numerics}")
def test_a_port_is_placed_by_the_same_bytes(case: Case, ask: Any) -> None:
    path = PORTS / f"{case.name}.sohu"
    placed = place(bound_graph(path), "h100", case.mesh, case.numerics)
    mesh = ("--mesh", case.mesh, "--numerics", case.numerics)
    fit = ask("fit", path, *mesh, "--device", "h100")
    assert {n: parts(use.as_dict()) for n, use in placed.uses.items()} == {
        name: parts(phase["bytes"]) for name, phase in fit["phases"].items()
    }
    assert placed.fits == (fit["verdict"] == "pass")


@pytest.mark.parametrize("numerics", ["bf16", "f8e4m3"])
def test_a_report_of_a_port_has_the_same_bytes(numerics: str, ask: Any, tmp_path: Path) -> None:
    model, out = tiny(tmp_path / "model", "mixtral"), tmp_path / "port"
    options = ("--numerics", numerics, "--device", "h100")
    report = ask("port", model, *options, "--plan", "--out", str(out))
    fit = ask("fit", out, *options)
    assert report["memory"]["numerics"] == numerics
    assert report["memory"]["steps"] == {n: p["bytes"] for n, p in fit["phases"].items()}
    assert json.loads((out / "report.json").read_text())["memory"] == report["memory"]
    config = json.loads((model / "config.json").read_text())
    assert fit["model_context"] == config["max_position_embeddings"]


def test_many_points_at_once_have_the_bytes_of_each(ask: Any) -> None:
    path = PORTS / "gemma-3-27b-text.sohu"
    given = ("--device", "h100", "--seq", "700", "--context", "900", "--numerics", "f8e4m3")
    vary = ("--vary", "batch=1,5", "--vary", "tp=1,4", "--vary", "context=10,4096")
    rows = ask("sweep", path, *given, *vary)["rows"]
    assert len(rows) == 8
    for row in rows:
        mesh, load = f"tp={row['tp']}", ("--batch", str(row["batch"]))
        fit = ask("fit", path, *given, "--mesh", mesh, *load, "--context", str(row["context"]))
        assert swept(row) == parts(fit["bytes"])


def test_prompts_of_a_few_sequences_leave_the_others_waiting(ask: Any) -> None:
    path = PORTS / "llama-3.1-70b.sohu"
    given = ("--device", "h100", "--mesh", "tp=8", "--context", "2112")
    vary = ("--seq", "2048", "--batch", "64", "--vary", "prompts=4")
    (row,) = ask("sweep", path, *given, *vary)["rows"]
    some = ask("fit", path, *given, "--seq", "2048", "--batch", "4")["phases"]["prefill"]["bytes"]
    others = ask("fit", path, *given, "--batch", "60")["phases"]["decode"]["bytes"]
    assert row["state_bytes"] == some["state"] + others["state"]
    assert row["activation_bytes"] == some["activations"]
