# SPDX-License-Identifier: Apache-2.0
"""`mesh=` and `--mesh`: the same output as on one chip, and refusals where no such mesh is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sohu
from dsl.diagnostics import Diagnostic
from dsl.diagnostics import Refused as OurRefused
from sohu.commands.cli import main
from tests.checkpoints import add_words, tiny

TOKENS = [[1, 5, 9, 2, 11, 3], [7, 7, 1, 0, 4, 8]]
SIZES = {"vocab_size": 96, "num_attention_heads": 8, "num_local_experts": 4}
MESHES = ("tp=2", "tp=2,ep=2", "ep=2,dp=2")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> sohu.Model:
    folder = tmp_path_factory.mktemp("chips")
    checkpoint = add_words(tiny(folder / "model", "mixtral", **SIZES))
    return sohu.port(checkpoint, out=folder / "port", validate=False).load()


def refused(call: Callable[..., Any], *given: object, **options: object) -> Diagnostic:
    with pytest.raises(OurRefused) as caught:
        call(*given, **options)
    return caught.value.diagnostics[0]


@pytest.mark.parametrize("mesh", MESHES)
def test_a_mesh_gives_the_logits_of_one_chip(model: sohu.Model, mesh: str) -> None:
    one = model.run(TOKENS, numerics="f32")
    np.testing.assert_array_equal(one, model.run(TOKENS, numerics="f32", mesh=mesh, chunk=4))


def test_answers_and_conversations_are_those_of_one_chip(model: sohu.Model) -> None:
    options: dict[str, Any] = {"max_new_tokens": 4, "raw": True, "numerics": "f32"}
    prompts = ["w5 w9 w2", "w1 w2 w3 w4"]
    one, many = (model.answers(prompts, mesh=mesh, **options) for mesh in ("", "tp=2,dp=2"))
    assert list(one) == list(many)
    assert [a.ids for a in one.answers] == [a.ids for a in many.answers]


def test_the_command_names_the_mesh(
    model: sohu.Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens, logits = tmp_path / "t.npy", tmp_path / "l.npy"
    np.save(tokens, np.array(TOKENS))
    words = ["run", model.path, "--tokens", tokens, "--logits", logits, "--mesh", "tp=2", "--json"]
    assert main([str(word) for word in words]) == 0
    assert json.loads(capsys.readouterr().out)["mesh"] == {"tp": 2}
    np.testing.assert_array_equal(np.load(logits), model.run(TOKENS))
    said = ["generate", str(model.path), "--prompt", "w1", "--max-new-tokens", "1", "--json"]
    assert main([*said, "--mesh", "tp=2"]) == 0
    assert json.loads(capsys.readouterr().out)["mesh"] == {"tp": 2}
    assert main(said) == 0
    assert json.loads(capsys.readouterr().out)["mesh"] is None


@pytest.mark.parametrize(
    ("mesh", "code"),
    [("xp=2", "S303"), ("tp", "S306"), ("tp=0", "S306"), ("tp=-1", "S306"), ("ep=33,dp=1", "S305"),
     ("dp=3", "S305"), ("tp=2,dp=4096", "S305"), ("tp=\x1b[2J", "S306"), ("tp=9999999999", "S306")],
)  # fmt: skip
def test_what_is_no_mesh_of_the_program_is_refused(model: sohu.Model, mesh: str, code: str) -> None:
    assert refused(model.run, TOKENS, mesh=mesh).code == code
    assert refused(model.answers, ["w1", "w2"], mesh=mesh).code == code


def test_a_batch_that_the_copies_do_not_divide_is_refused(model: sohu.Model) -> None:
    assert refused(model.chat, mesh="dp=2").code == "S305"
    assert refused(model.run, [TOKENS[0]], mesh="dp=2").code == "S305"


def test_more_chips_than_a_process_runs_are_refused(model: sohu.Model) -> None:
    many = refused(model.run, TOKENS * 512, mesh="dp=512")
    assert (many.code, many.place) == ("S306", "--mesh")
    assert "512 chips" in many.message
