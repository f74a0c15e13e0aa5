# SPDX-License-Identifier: Apache-2.0
"""A loaded model: the same answers as the commands', refusals for what users get wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import sohu
from sohu.commands.cli import main
from tests.checkpoints import add_words, tiny_llama

ROOT = Path(__file__).parents[3]
LARGE = ROOT / "model_zoo" / "ports" / "llama-3.1-70b.sohu"
TOKENS = np.arange(12).reshape(2, 6)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_llama(tmp_path_factory.mktemp("checkpoint") / "tiny", attention_bias=False)
    return add_words(folder)


@pytest.fixture(scope="module")
def ported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> sohu.PortResult:
    return sohu.port(checkpoint, out=tmp_path_factory.mktemp("ports") / "tiny", validate=False)


@pytest.fixture(scope="module")
def model(ported: sohu.PortResult) -> sohu.Model:
    return ported.load()


def refused(call, *arguments, **options) -> sohu.Diagnostic:
    """Return the first reason for which a call is refused."""
    with pytest.raises(sohu.Refused) as caught:
        call(*arguments, **options)
    return caught.value.diagnostics[0]


# Porting


def test_a_port_without_validation_is_a_plan(ported: sohu.PortResult) -> None:
    assert ported.verdict is sohu.Verdict.PLANNED
    assert ported.report.validation.cases == ()
    assert sorted(p.name for p in ported.folder.iterdir()) == [
        "model.sohu", "report.html", "report.json",
    ]  # fmt: skip


def test_a_device_that_does_not_hold_the_port_is_a_verdict(
    checkpoint: Path, tmp_path: Path
) -> None:
    chip = tmp_path / "small.toml"
    text = (ROOT / "device_model/chips/descriptions/h100_sxm.toml").read_text()
    assert text.count("value = 85_899_345_920,") == 1
    chip.write_text(text.replace("value = 85_899_345_920,", "value = 1_000,"))
    result = sohu.port(checkpoint, out=tmp_path / "out", plan=True, device=str(chip))
    assert result.verdict is sohu.Verdict.FAIL


def test_what_cannot_be_ported_is_refused(tmp_path: Path) -> None:
    assert refused(sohu.port, tmp_path / "nothere").code == "S510"
    assert refused(sohu.port, tmp_path, plan=True).code == "S511"


# Loading


def test_what_is_not_bound_is_refused(tmp_path: Path) -> None:
    assert refused(sohu.load, ROOT / "model_zoo/families/llama.sohu").code == "S405"
    assert refused(sohu.load, tmp_path).code == "S108"


# Running


def test_logits_are_those_of_the_command(model: sohu.Model, tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", TOKENS)
    arguments = ["--tokens", str(tmp_path / "t.npy"), "--logits", str(tmp_path / "l.npy")]
    assert main(["run", str(model.path), *arguments]) == 0
    logits = model.run(TOKENS)
    assert logits.shape == (2, 6, model.vocabulary)
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits, np.load(tmp_path / "l.npy"))
    np.testing.assert_array_equal(logits, model.run(TOKENS.tolist(), chunk=4))


def test_a_choice_is_not_taken_for_another(model: sohu.Model) -> None:
    first = model.run(TOKENS)
    assert not np.array_equal(first, model.run(TOKENS, numerics="f32"))
    assert not np.array_equal(first, model.run(TOKENS, weights="random:7"))
    np.testing.assert_array_equal(first, model.run(TOKENS))


def test_a_file_alone_runs_on_random_weights(model: sohu.Model, tmp_path: Path) -> None:
    alone = sohu.load(shutil.copy(model.path / "model.sohu", tmp_path / "alone.sohu"))
    assert refused(alone.run, TOKENS).code == "S533"
    assert refused(alone.run, TOKENS, weights="zeros").code == "S533"
    first, again = alone.run(TOKENS, weights="random:7"), alone.run(TOKENS, weights="random:7")
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, alone.run(TOKENS, weights="random:8"))
    assert refused(alone.generate, "w1").code == "S531"


@pytest.mark.parametrize(
    "tokens",
    [[1, 2], [[1.5]], [[]], [[97]], [[-1]], [["a"]], [[1], [1, 2]]],
    ids=["one axis", "floats", "empty", "too high", "negative", "words", "ragged"],
)
def test_unusable_tokens_are_refused(model: sohu.Model, tokens: list[object]) -> None:
    assert refused(model.run, tokens).code == "S532"


def test_unknown_names_are_refused(model: sohu.Model) -> None:
    assert refused(model.run, TOKENS, numerics="f33").code == "S601"
    assert refused(model.run, TOKENS, device="abacus").code == "S602"
    assert refused(model.fit, "abacus").code == "S602"
    assert refused(model.fit, "h100", mesh={"xp": 2}).code == "S303"
    assert refused(model.cost, mesh={"tp": 0}).code == "S306"


def test_impossible_counts_fail_at_once(model: sohu.Model) -> None:
    with pytest.raises(ValueError, match="chunk is 0"):
        model.run(TOKENS, chunk=0)
    with pytest.raises(ValueError, match="max_new_tokens is 0"):
        model.generate("w1", max_new_tokens=0)
    for call in (model.cost, lambda **o: model.fit("h100", **o)):
        with pytest.raises(ValueError, match="batch is 0"):
            call(batch=0)


def test_an_answer_is_the_greedy_continuation(model: sohu.Model) -> None:
    row = [5, 9, 2, 11]
    for _ in range(4):
        row.append(int(model.run([row])[0, -1].argmax()))
    pieces = list(model.generate("w5 w9 w2 w11", max_new_tokens=4))
    assert "".join(pieces).split() == [f"w{i}" for i in row[4:]]


def test_a_prompt_that_the_model_has_no_place_for_is_refused(
    model: sohu.Model, checkpoint: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "other"))
    other = sohu.port(folder, out=tmp_path / "port", validate=False).load()
    longest = json.loads((folder / "config.json").read_text())["max_position_embeddings"]
    assert "positions" in refused(other.generate, "w1 " * (longest + 1)).message
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["w1"] = 2**32 - 1
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    diagnostic = refused(other.generate, "w5 w1")
    assert diagnostic.code == "S548"
    assert "id 4294967295 of `w1`" in diagnostic.message
    assert list(other.generate("w5", max_new_tokens=1))


# Looking


def test_cost_and_fit_are_those_of_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    large = sohu.load(LARGE)
    point = ["--mesh", "tp=8", "--batch", "2", "--context", "1000", "--json"]
    assert main(["cost", str(LARGE), *point]) == 0
    cost = large.cost(mesh={"tp": 8}, batch=2, context=1000)
    assert cost.as_dict() == json.loads(capsys.readouterr().out)
    assert main(["fit", str(LARGE), "--device", "h100", *point]) == 0
    fit = large.fit("h100", mesh={"tp": 8}, batch=2, context=1000)
    shown = json.loads(capsys.readouterr().out)
    assert shown["bytes"]["total"] == fit.use.total
    assert fit.fits


def test_a_profile_is_that_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    from sohu.performance.profile.data import as_dict

    profile = sohu.load(LARGE).profile("h100", mesh="tp=8")
    assert main(["profile", str(LARGE), "--device", "h100", "--mesh", "tp=8", "--json"]) == 0
    assert json.loads(json.dumps(as_dict(profile))) == json.loads(capsys.readouterr().out)


def test_the_graph_is_typed(model: sohu.Model) -> None:
    assert [str(value.name) for value in model.graph.outputs] == ["logits"]
    assert model.vocabulary == 97


# Validating


def test_validation_is_a_report(checkpoint: Path, tmp_path: Path) -> None:
    result = sohu.port(checkpoint, out=tmp_path / "port")
    assert result.verdict is sohu.Verdict.PASS
    text = (result.folder / "model.sohu").read_text()
    edited = text.replace("1e-05", "1e-03")
    assert edited != text
    (result.folder / "model.sohu").write_text(edited)
    report = sohu.load(result.folder).validate(numerics=["f32"])
    assert report.verdict is sohu.Verdict.FAIL
    assert {case.numerics for case in report.validation.cases} == {"f32"}
