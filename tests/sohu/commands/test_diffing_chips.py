# SPDX-License-Identifier: Apache-2.0
"""`sohu diff --mesh`: sound chips have one chip's bits, a broken one is named, and so are compiled ones alone."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from device_model.mesh import comparing
from device_model.mesh.engine import MeshSession
from device_model.mesh.lockstep import Lockstep
from device_model.numbers.numerics import Array
from device_model.program.places import Fixed
from sohu.commands.cli import main
from tests.device_model.mesh.texts import PORTS, SMALL

RANDOM = ("--weights", "random:7", "--quiet")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    written = (PORTS / "mixtral-8x7b.sohu").read_text(encoding="utf-8")
    for size, value in {**SMALL["mixtral-8x7b"], "V": 96, "H": 8}.items():
        written = re.sub(rf"(?m)^(\s+{size}\s+= )\d+", rf"\g<1>{value}", written, count=1)
    path = tmp_path_factory.mktemp("chips") / "small.sohu"
    path.write_text(written, encoding="utf-8")
    return str(path)


class Broken(Lockstep):
    """A mesh whose second chip multiplies by something else once."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)  # type: ignore[arg-type]
        plan = self.plans[1]
        at = [i for i, o in enumerate(plan.operations) if o.op == "matmul" and o.layer == 1][1]
        operation = plan.operations[at]
        weight = operation.inputs[1]
        assert isinstance(weight, Fixed)
        array = np.array(weight.array)
        array[0] *= 2
        changed = replace(operation, inputs=(operation.inputs[0], Fixed(array)))
        operations = (*plan.operations[:at], changed, *plan.operations[at + 1 :])
        self.plans[1] = replace(plan, operations=operations)


def test_sound_chips_have_one_chips_bits(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", text, "--mesh", "tp=2,ep=3,dp=2", *RANDOM]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Every chip of tp = 2, ep = 3, dp = 2 has one chip's bits")
    assert "in f32 and bf16, fed at once and in steps" in said


def test_a_broken_chip_is_shown_with_its_line(
    text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "Lockstep", Broken)
    assert main(["diff", text, "--mesh", "ep=2", *RANDOM]) == 1
    said = capsys.readouterr().out
    expected = "error[S582]: `matmul` differs first from one chip, in layer 1, on chip (tp 0, ep 1"
    assert expected in said
    assert "matmul(x, wk" in said
    assert "its weight `wk` is not that chip's part of the whole one" in said
    assert main(["diff", text, "--mesh", "ep=2", "--json", *RANDOM]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["verdict"], answer["guilty"]["layer"]) == ("fail", 1)
    assert [chip["ep"] for chip in answer["guilty"]["chips"]] == [1]
    assert answer["guilty"]["weight"] == "wk"


def test_compiled_chips_that_differ_are_told_of_the_plain_ones(
    text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = MeshSession.step

    def wrong(self: MeshSession, *given: object, **options: object) -> list[Array]:
        made = right(self, *given, **options)  # type: ignore[arg-type]
        return [made[0], made[1] + np.float32(made[1].size > 0), *made[2:]]

    monkeypatch.setattr(MeshSession, "step", wrong)
    assert main(["diff", text, "--mesh", "tp=2", *RANDOM]) == 1
    said = capsys.readouterr().out
    assert (
        "error[S582]: the compiled chips give another result, first of sequence 1 at token 0"
        in said
    )
    assert "in plain numpy every operation has one chip's bits" in said


@pytest.mark.parametrize(
    ("words", "code"),
    [(("--mesh", "xp=2", *RANDOM), "S303"), (("--mesh", "ep=7", *RANDOM), "S305"),
     (RANDOM, "S306"), (("--mesh", "dp=300", *RANDOM), "S306"), (("--mesh", "tp=2"), "S533"),
     (("--mesh", "tp=2", "--weights", "random:x"), "S533")],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(
    words: tuple[str, ...], code: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", text, *words]) == 2
    assert f"error[{code}]" in capsys.readouterr().err


def test_no_sequence_is_longer_than_the_model_allows() -> None:
    for sizes in comparing.FED.values():
        steps = comparing.steps(4, 50, sizes)
        assert [sum(len(step[row]) for step in steps) for row in (0, 1)] == [4, 3]
        assert all(any(len(row) for row in step) for step in steps)
