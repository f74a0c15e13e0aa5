# SPDX-License-Identifier: Apache-2.0
"""A port is validated on a mesh: by the rule, and its bits beside one chip's, in every mode."""

import json
from pathlib import Path

import numpy as np
import pytest

from device_model.mesh.engine import MeshSession
from device_model.numbers.numerics import Array
from dsl.diagnostics import Refused
from porting import pipeline
from porting.report.model import JSON_NAME, Report, Verdict
from porting.report.page import render_html, summary
from porting.verdict.feeding import MODES
from tests.checkpoints import tiny

SIZES = {"vocab_size": 96, "num_attention_heads": 8, "num_local_experts": 4}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    folder = tmp_path_factory.mktemp("meshed")
    model = tiny(folder / "model", "mixtral", **SIZES)
    report, out = pipeline.port(str(model), out=folder / "port", mesh="tp=2,dp=2")
    return out, report


def test_a_port_on_a_mesh_says_that_its_bits_are_one_chips(made: tuple[Path, Report]) -> None:
    out, report = made
    assert report.verdict is Verdict.PASS
    meshes = json.loads((out / JSON_NAME).read_text(encoding="utf-8"))["validation"]["meshes"]
    ways = {(case["numerics"], case["mode"]) for case in meshes}
    assert ways == {(name, mode.name) for name in ("f32", "bf16") for mode in MODES}
    assert {(case["mesh"], case["same_bits"], case["differs"]) for case in meshes} == {
        ("tp=2,dp=2", True, None)
    }
    assert "same bits as one chip" in (out / "report.html").read_text(encoding="utf-8")


def test_other_bits_fail_and_are_placed(
    made: tuple[Path, Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = MeshSession.step

    def wrong(self: MeshSession, *given: object, **options: object) -> list[Array]:
        results = right(self, *given, **options)  # type: ignore[arg-type]
        return [np.nextafter(result, np.float32(9)) for result in results]

    monkeypatch.setattr(MeshSession, "step", wrong)
    report = pipeline.validate_port(made[0], numerics=("f32",), mesh="tp=2")
    assert report.verdict is Verdict.FAIL
    assert all(case.passed for case in report.validation.cases)  # a last bit is nothing to the rule
    assert all(not case.same_bits for case in report.validation.meshes)
    assert report.validation.meshes[0].differs.startswith("random 48 from token 0 on, by up to")
    assert "On a mesh of tp=2 the bits are not one chip's" in summary(report)
    assert "other bits: random 48 from token 0 on" in render_html(report, "")


def test_without_a_mesh_nothing_is_said_of_one(made: tuple[Path, Report]) -> None:
    report = pipeline.validate_port(made[0], numerics=("f32",))
    assert report.validation.meshes == ()


@pytest.mark.parametrize(
    ("mesh", "code"), [("xp=2", "S303"), ("tp", "S306"), ("ep=7", "S305"), ("dp=512", "S306")]
)
def test_what_is_no_mesh_is_refused_before_anything_runs(
    mesh: str, code: str, made: tuple[Path, Report]
) -> None:
    with pytest.raises(Refused) as caught:
        pipeline.validate_port(made[0], mesh=mesh)
    assert caught.value.diagnostics[0].code == code
