# SPDX-License-Identifier: Apache-2.0
"""Commands as people and scripts use them: exit statuses, what they print, and what they leave on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from device_model.kernels import dispatch
from device_model.machine import native
from porting.verdict.compiling import compile_kernels
from sohu.commands.cli import main, port_main
from tests.checkpoints import tiny_llama

# Query and output projections have one shape here, so that swapping them is a fault of numbers alone.
SQUARE = {
    "hidden_size": 60,
    "attention_bias": False,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("checkpoint") / "tiny", **SQUARE)


@pytest.fixture(scope="module")
def ported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ports") / "tiny"
    assert port_main([str(checkpoint), "--out", str(out)]) == 0
    return out


@pytest.fixture
def copied(checkpoint: Path, tmp_path: Path) -> Path:
    return shutil.copytree(checkpoint, tmp_path / "model")


def test_port_writes_a_complete_report(ported: Path) -> None:
    report = json.loads((ported / "report.json").read_text())
    assert report["schema"] == "sohu.report/1"
    assert report["verdict"] == "pass"
    assert report["model"]["architecture"] == "LlamaForCausalLM"
    assert report["tensors"]["unused"] == report["tensors"]["missing"] == []
    assert report["tensors"]["consumed"] == report["tensors"]["total"] == 30
    assert report["config_keys"]["unread"] == []
    assert {c["numerics"] for c in report["validation"]["cases"]} == {"f32", "bf16"}
    assert all(c["pass"] for c in report["validation"]["cases"])
    assert {"resolve", "plan", "device f32", "device bf16"} <= set(report["timing"])
    assert sorted(p.name for p in ported.iterdir()) == ["model.sohu", "report.html", "report.json"]


def test_plan_stops_before_weights(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["port", str(checkpoint), "--plan", "--json", "--out", str(out)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "planned"
    assert report["validation"]["cases"] == []
    assert (out / "model.sohu").is_file()


def test_a_device_and_a_mesh_place_the_port(checkpoint: Path, tmp_path: Path) -> None:
    arguments = [
        "port",
        str(checkpoint),
        "--plan",
        "--out",
        str(tmp_path / "out"),
        "--mesh",
        "tp=1",
    ]
    assert main([*arguments, "--device", "h100"]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["memory"]["formulas"]["weights_bytes"]["at"] == {"tp": 1, "pp": 1}
    assert main(["port", str(checkpoint), "--plan", "--mesh", "tp=33"]) == 2
    assert main(["port", str(checkpoint), "--plan", "--device", "abacus"]) == 2


def test_port_is_itself_a_program(ported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(ported / "model.sohu")]) == 0
    assert main(["fmt", "--check", str(ported / "model.sohu")]) == 0
    assert main(["cost", str(ported), "--batch", "2", "--context", "10", "--json"]) == 0
    cost = json.loads(capsys.readouterr().out.split("\n", 1)[1])
    # 3 layers, 2 tensors, 2 sequences, 2 heads of width 6, 10 tokens and a new one, 2 bytes
    assert cost["total"]["state"]["decode"] == 3 * 2 * 2 * 2 * 6 * 11 * 2


def swap_projections(text: str) -> str:
    one, other, spare = "{at}.q_proj.weight", "{at}.o_proj.weight", "{at}.spare"
    return text.replace(one, spare).replace(other, one).replace(spare, other)


def swap_gate_and_up(text: str) -> str:
    one, other, spare = "{at}.{gate}.weight", "{at}.{up}.weight", "{at}.spare"
    return text.replace(one, spare).replace(other, one).replace(spare, other)


SABOTAGE: dict[str, Callable[[str], str]] = {
    "two projections swapped": swap_projections,
    "gate and up swapped": swap_gate_and_up,
    "theta changed": lambda t: t.replace("10000.0 ", "10100.0 "),
    "causal mask dropped": lambda t: t.replace('mask="causal"', 'mask="none"'),
    "a norm scaled by one plus its weight": lambda t: t.replace(
        "return rms_norm(x, w, eps=eps, offset=offset)",
        "return rms_norm(x, w, eps=eps, offset=1.0)",
    ),
    "a norm reads another's tensor": lambda t: t.replace(
        "input_layernorm", "post_attention_layernorm"
    ),
    "epsilon changed": lambda t: t.replace("1e-05", "1e-03"),
    "rope pairing changed": lambda t: t.replace("at=C,", 'at=C, pairing="interleaved",'),
}


@pytest.mark.parametrize("edit", SABOTAGE)
def test_sabotage_is_caught(edit: str, ported: Path, tmp_path: Path) -> None:
    port = shutil.copytree(ported, tmp_path / "port")
    text = (port / "model.sohu").read_text()
    edited = SABOTAGE[edit](text)
    assert edited != text
    (port / "model.sohu").write_text(edited)
    assert main(["validate", str(port), "--json"]) == 1


def test_a_tensor_read_twice_is_named(
    ported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = shutil.copytree(ported, tmp_path / "port")
    text = (port / "model.sohu").read_text()
    (port / "model.sohu").write_text(SABOTAGE["a norm reads another's tensor"](text))
    assert main(["validate", str(port)]) == 1
    shown = capsys.readouterr().err
    assert "S564" in shown
    assert "post_attention_layernorm" in shown


def test_out_that_cannot_be_written(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert "S530" in refusal(["port", str(checkpoint), "--plan", "--out", str(out)], capsys)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_untouched_port_validates(ported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(ported), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "pass"


def edit_tensors(directory: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


NORM = "model.layers.1.input_layernorm.weight"


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    assert len(shown.err.splitlines()) <= 40
    return shown.err


def test_missing_tensor_is_named(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_tensors(copied, lambda t: t.pop(NORM))
    shown = refusal(["port", str(copied), "--out", str(copied / "out")], capsys)
    assert "S560" in shown
    assert NORM in shown
    assert not (copied / "out").exists()


def test_surplus_tensor_is_named(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "model.layers.1.self_attn.q_norm.weight"
    edit_tensors(copied, lambda t: t.update({name: t[NORM].clone()}))
    shown = refusal(["port", str(copied), "--out", str(copied / "out")], capsys)
    assert "S561" in shown
    assert name in shown


def test_the_file_decides_whether_a_head_is_tied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_llama(tmp_path / "model", tie_word_embeddings=True)
    embed = "model.embed_tokens.weight"
    edit_tensors(model, lambda t: t.update({"lm_head.weight": t[embed].clone()}))
    assert main(["port", str(model), "--plan", "--out", str(tmp_path / "same")]) == 0
    edit_tensors(model, lambda t: t.update({"lm_head.weight": t[embed] * 2}))
    assert main(["port", str(model), "--plan", "--out", str(tmp_path / "other")]) == 0
    assert "both are read" in capsys.readouterr().out
    same, other = ((tmp_path / name / "model.sohu").read_text() for name in ("same", "other"))
    assert same != other


def test_wrong_shape_is_named(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_tensors(copied, lambda t: t.update({NORM: t[NORM][:-1].clone()}))
    shown = refusal(["port", str(copied), "--out", str(copied / "out")], capsys)
    assert "S562" in shown
    assert NORM in shown


def test_wrong_dtype_is_named(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_tensors(copied, lambda t: t.update({NORM: t[NORM].int()}))
    shown = refusal(["port", str(copied), "--out", str(copied / "out")], capsys)
    assert "S563" in shown
    assert NORM in shown


def test_unknown_config_key_is_named(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copied / "config.json"
    config = json.loads(path.read_text())
    config["rms_norm_esp"] = config.pop("rms_norm_eps")
    path.write_text(json.dumps(config))
    shown = refusal(["port", str(copied), "--out", str(copied / "out")], capsys)
    assert "rms_norm_esp" in shown
    assert not (copied / "out").exists()


def test_architecture_without_family(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copied / "config.json"
    changed = {"architectures": ["ReformerModelWithLMHead"]}
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    shown = refusal(["port", str(copied), "--out", str(copied / "out")], capsys)
    assert "ReformerModelWithLMHead" in shown


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"', "\0\1"])
def test_config_that_is_no_object(
    content: str, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / "config.json").write_text(content)
    assert "config.json" in refusal(["port", str(copied)], capsys)


def test_truncated_weights(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copied / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "model.safetensors" in refusal(["port", str(copied)], capsys)


def test_not_a_directory_and_an_empty_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no-such-folder" in refusal(["port", str(tmp_path / "no-such-folder")], capsys)
    assert "empty" in refusal(["port", str(tmp_path)], capsys)


def test_refused_input_is_one_json_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["port", str(tmp_path), "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "refused"
    assert report["diagnostics"][0]["code"].startswith("S5")


def test_run_gives_the_same_logits_in_chunks(ported: Path, tmp_path: Path) -> None:
    tokens = np.random.default_rng(1).integers(0, 97, (2, 13))
    np.save(tmp_path / "t.npy", tokens)
    found = []
    for chunk in ([], ["--chunk", "5"]):
        out = tmp_path / f"l{len(chunk)}.npy"
        arguments = ["run", str(ported), "--tokens", str(tmp_path / "t.npy"), "--logits", str(out)]
        assert main([*arguments, "--numerics", "f32", *chunk]) == 0
        found.append(np.load(out))
    assert found[0].shape == (2, 13, 97)
    assert found[0].dtype == np.float32
    np.testing.assert_array_equal(found[0], found[1])


def test_run_on_random_weights_needs_no_checkpoint(
    ported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "t.npy", np.arange(6).reshape(1, 6))
    spec, out = tmp_path / "spec.sohu", tmp_path / "l.npy"
    shutil.copy(ported / "model.sohu", spec)
    arguments = ["run", str(spec), "--tokens", str(tmp_path / "t.npy"), "--logits", str(out)]
    assert "S533" in refusal(arguments, capsys)
    assert "S533" in refusal([*arguments, "--weights", "zeros"], capsys)
    assert main([*arguments, "--weights", "random:7"]) == 0
    first = np.load(out)
    assert main([*arguments, "--weights", "random:7"]) == 0
    np.testing.assert_array_equal(np.load(out), first)
    assert main([*arguments, "--weights", "random:8"]) == 0
    assert not np.array_equal(np.load(out), first)


def test_random_weights_beyond_the_memory_are_refused(
    ported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "t.npy", np.zeros((1, 2), np.int64))
    spec, out = tmp_path / "spec.sohu", tmp_path / "l.npy"
    text = (ported / "model.sohu").read_text()
    spec.write_text(text.replace("= 56 ", "= 1099511627776 "))
    arguments = ["run", str(spec), "--tokens", str(tmp_path / "t.npy"), "--logits", str(out)]
    assert "S533" in refusal([*arguments, "--weights", "random:7"], capsys)
    assert not out.exists()


@pytest.mark.parametrize(
    "tokens",
    [np.zeros((2, 3)), np.zeros(3, np.int64), np.full((1, 2), 97), np.full((1, 2), -1)],
    ids=["floats", "one axis", "too high", "negative"],
)
def test_unusable_tokens_are_refused(
    tokens: np.ndarray, ported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "t.npy", tmp_path / "l.npy"
    np.save(path, tokens)
    shown = refusal(["run", str(ported), "--tokens", str(path), "--logits", str(out)], capsys)
    assert "S532" in shown
    assert not out.exists()


def test_explain_knows_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "s301"]) == 0
    assert "Partial sum" in capsys.readouterr().out
    assert "S109" in refusal(["explain", "S998"], capsys)


def test_validate_refuses_what_is_no_port(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "S531" in refusal(["validate", str(tmp_path)], capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "nothere.sohu", "--tokens", "t.npy", "--logits", "l.npy"),
        ("run", "PORT", "--tokens", "nothere.npy", "--logits", "l.npy"),
        ("run", "PORT/model.sohu", "--tokens", "TOKENS", "--logits", "l.npy"),
        ("generate", "nothere", "--prompt", "Hello"),
        ("generate", "PORT", "--prompt", "Hello"),
        ("generate", "PORT", "--prompt-file", "nothere"),
        ("chat", "nothere"),
        ("chat", "PORT"),
        ("validate", "nothere"),
        ("diff", "nothere"),
        ("port", "./nothere"),
    ],
)
def test_nothing_is_compiled_before_the_input_is_looked_at(
    arguments: tuple[str, ...], ported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiles(*_: object) -> None:
        raise AssertionError("it compiles")

    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(dispatch, "_machine", [])
    monkeypatch.setattr(native, "find", lambda _name: None)
    monkeypatch.setattr(dispatch, "compile_parts", compiles)
    np.save(tmp_path / "t.npy", np.zeros((1, 3), np.int64))
    given = [a.replace("PORT", str(ported)) for a in arguments]
    monkeypatch.chdir(tmp_path)
    assert main([a.replace("TOKENS", "t.npy") for a in given]) == 2


def test_the_first_compilation_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[str, int, int]] = []
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(dispatch, "_machine", [])
    monkeypatch.setattr(native, "find", lambda _name: None)
    monkeypatch.setattr(dispatch, "compile_parts", lambda _, parts: ((p, b"") for p in parts))
    monkeypatch.setattr(dispatch, "processes", lambda _: 2)
    monkeypatch.setattr(dispatch, "_placed", lambda _: None)
    compile_kernels(lambda *said: heard.append(said))
    total = len(dispatch.PARTS)
    assert [done for _, done, _ in heard] == list(range(total + 1))
    assert {of for _, _, of in heard} == {total}
    assert heard[0][0] == "compile kernels: products, attention"
    assert heard[-1][0] == "compile kernels"
