# SPDX-License-Identifier: Apache-2.0
"""References and weights of one's own: a text is proven without transformers, and what does not fit is refused."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import sohu
from porting.judging import chooses
from porting.planning.library import ZOO
from sohu.commands.cli import main, port_main
from tests.sohu.told_pages import OWN_ARCHITECTURE, write_files

PORTS = {"mixtral-8x7b": True, "llama-3.1-8b": False}
TOKENS = np.random.default_rng(3).integers(0, 61, (2, 20))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the example's model and its port."""
    folder = tmp_path_factory.mktemp("heron")
    write_files(OWN_ARCHITECTURE, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        heron(folder).main()
    sohu.port(folder / "heron", out=folder / "port", family=folder / "heron.sohu", validate=False)
    shutil.copy(folder / "port" / "model.sohu", folder / "mine.sohu")
    return folder


def heron(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("heron_example", folder / "heron.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model(place: Path) -> sohu.Model:
    return sohu.load(place / "mine.sohu")


@pytest.fixture
def weights(place: Path) -> Path:
    return place / "heron" / "model.safetensors"


def refused(call: Callable[..., object], *arguments: object, **options: object) -> sohu.Diagnostic:
    with pytest.raises(sohu.Refused) as caught:
        call(*arguments, **options)
    return caught.value.diagnostics[0]


# What is judged


def test_a_family_and_a_reference_port_what_transformers_does_not_know(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setitem(sys.modules, "transformers", None)
    command = ["heron", "--family", "heron.sohu", "--out", str(tmp_path / "port")]
    assert port_main([*command, "--reference", "heron.py:logits"]) == 0
    report = json.loads((tmp_path / "port" / "report.json").read_text())
    assert report["verdict"] == "pass"
    assert {case["numerics"] for case in report["validation"]["cases"]} == {"f32"}
    assert report["validation"]["tokens"] >= 1000
    assert report["validation"]["original"] == "heron.py:logits"
    page = (tmp_path / "port" / "report.html").read_text()
    assert "against heron.py:logits, a reference of the user" in page
    notes = " ".join(report["validation"]["text"])
    assert "the original is heron.py:logits, a function of the user's, in float64" in notes
    assert "not judged: nobody knows what the original itself makes of bf16" in notes
    again = ["validate", str(tmp_path / "port"), "--reference", "heron.py:logits"]
    assert main([*again, "--numerics", "f32"]) == 0


def test_what_a_reference_does_not_tell_is_said(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graphs = {name: sohu.load(ZOO / "ports" / f"{name}.sohu").graph for name in PORTS}
    assert {name: chooses(graph) for name, graph in graphs.items()} == PORTS
    command = [str(place / "heron"), "--family", str(place / "heron.sohu"), "--plan"]
    named = f"{place}/heron.py:logits"
    assert port_main([*command, "--out", str(tmp_path / "port"), "--reference", named]) == 0
    assert "the reference was not asked" in capsys.readouterr().out


def test_a_wrong_text_fails(place: Path, weights: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.sohu"
    text = (place / "mine.sohu").read_text()
    assert text.count("seen * far + thought * near") == 1
    wrong.write_text(text.replace("seen * far + thought * near", "seen * near + thought * far"))
    report = sohu.load(wrong).validate(
        weights=weights, reference=heron(place).logits, numerics=["f32"]
    )
    assert report.verdict is sohu.Verdict.FAIL


@pytest.mark.parametrize("rows", [TOKENS, TOKENS[0], TOKENS[:, :1], np.repeat(TOKENS, 3, 0)])
def test_logits_of_ones_own_rows_are_the_truth(
    rows: np.ndarray, place: Path, model: sohu.Model, weights: Path
) -> None:
    truth = heron(place).logits(rows.reshape(-1, rows.shape[-1]))
    given = truth.reshape(*rows.shape, -1)
    report = model.validate(weights=weights, reference=given, tokens=[rows])
    assert report.verdict is sohu.Verdict.PASS
    assert [row.tokens for row in report.validation.rows] == [rows.shape[-1]] * len(truth)
    given[(0,) * given.ndim] += 1.0
    report = model.validate(weights=weights, reference=given, tokens=[rows], numerics=["f32"])
    assert report.verdict is sohu.Verdict.FAIL


def test_logits_in_float32_are_taken_and_said(
    place: Path, model: sohu.Model, weights: Path, tmp_path: Path
) -> None:
    path = tmp_path / "l.npy"
    np.save(path, heron(place).logits(TOKENS).astype(np.float32))
    report = model.validate(weights=weights, reference=path, tokens=[TOKENS], numerics=["f32"])
    assert report.verdict is sohu.Verdict.PASS
    assert any("what float32 rounded there" in note for note in report.validation.text)


def test_a_text_runs_on_weights_of_ones_own(place: Path, model: sohu.Model, weights: Path) -> None:
    truth = heron(place).logits(TOKENS)
    for given in (weights, weights.parent):
        logits = model.run(TOKENS, numerics="f32", weights=given)
        assert np.abs(logits - truth).max() < 1e-4


# What is refused


def function(tokens: np.ndarray) -> np.ndarray:
    return np.zeros((*tokens.shape, 61))


UNFIT = {
    "too wide": lambda t: np.zeros((*t.shape, 62)),
    "too short": lambda t: np.zeros((1, t.shape[1] + 1, 61)),
    "no batch": lambda t: np.zeros((2, *t.shape, 61)),
    "bfloat16's bits": lambda t: np.zeros((*t.shape, 61), np.uint16),
    "half": lambda t: np.zeros((*t.shape, 61), np.float16),
    "whole numbers": lambda t: np.zeros((*t.shape, 61), np.int64),
    "nothing": lambda t: None,
    "text": lambda t: "logits",
    "no number": lambda t: np.full((*t.shape, 61), np.nan),
    "infinite": lambda t: np.full((*t.shape, 61), np.inf),
}


@pytest.mark.parametrize("made", UNFIT.values(), ids=UNFIT.keys())
def test_what_a_function_returns_must_fit(
    made: Callable[[np.ndarray], object], model: sohu.Model, weights: Path
) -> None:
    wrong = refused(model.validate, weights=weights, reference=made, numerics=["f32"])
    assert wrong.code == "S555"


@pytest.mark.parametrize("error", [ValueError("mine"), KeyError(), SystemExit(3), MemoryError()])
def test_what_a_function_raises_is_the_users_own(
    error: BaseException, model: sohu.Model, weights: Path
) -> None:
    def broken(tokens: np.ndarray) -> np.ndarray:
        raise error

    wrong = refused(model.validate, weights=weights, reference=broken, numerics=["f32"])
    assert wrong.code == "S556"
    assert type(error).__name__ in wrong.message
    assert f"{__file__}:" in wrong.notes[-1]
    assert "raise error" in wrong.notes[-1]


FILES = {
    "another number of rows": np.zeros((3, 20, 61)),
    "another length": np.zeros((2, 19, 61)),
    "one axis": np.zeros(61),
    "another vocabulary": np.zeros((2, 20, 60)),
    "half": np.zeros((2, 20, 61), np.float16),
    "objects": np.zeros((2, 20, 61), "S1"),
    "no number": np.full((2, 20, 61), np.nan),
}


@pytest.mark.parametrize("logits", FILES.values(), ids=FILES.keys())
def test_logits_must_be_those_of_the_rows(
    logits: np.ndarray, model: sohu.Model, weights: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "l.npy", logits)
    options = {"weights": weights, "reference": tmp_path / "l.npy"}
    assert refused(model.validate, **options, tokens=[TOKENS]).code == "S555"
    assert refused(model.validate, **options).code in {"S554", "S555"}


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"\x93NUMPY\x01\x00v\x00{"])
def test_a_file_that_is_no_array_is_refused(
    content: bytes, model: sohu.Model, weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "l.npy").write_bytes(content)
    for path in (tmp_path / "l.npy", tmp_path / "nothere.npy"):
        assert refused(model.validate, weights=weights, reference=path).code == "S555"


NAMES = ["logits", ":f", "ref:", "ref:f g", "no.such:f", "ref:missing", "ref:NUMBER", "../ref:f",
         "nothere.py:f", "l.npz", "ref.py:missing", "ref f:f"]  # fmt: skip


@pytest.mark.parametrize("named", NAMES)
def test_a_name_without_a_function_is_refused(
    named: str,
    model: sohu.Model,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "ref.py").write_text("NUMBER = 3\n")
    monkeypatch.chdir(tmp_path)
    assert refused(model.validate, weights=weights, reference=named).code == "S554"
    sys.modules.pop("ref", None)


def test_below_f32_nothing_is_judged(model: sohu.Model, weights: Path) -> None:
    wrong = refused(model.validate, weights=weights, reference=function, numerics=["bf16"])
    assert wrong.code == "S554"
    assert refused(model.validate, weights=weights).code == "S554"
    assert refused(model.validate, reference=function).code == "S533"


WEIGHTS = ("nothere.safetensors", "heron/config.json", "heron.py", "zeros")


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_must_be_safetensors(name: str, place: Path, model: sohu.Model) -> None:
    assert refused(model.run, TOKENS, weights=place / name).code == "S533"
    assert refused(model.validate, weights=place / name, reference=function).code == "S533"


def test_weights_are_accounted_for(model: sohu.Model, weights: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(weights)
    changes: dict[str, dict[str, np.ndarray | None]] = {
        "S560": {"norm.weight": None},
        "S561": {"bias": np.ones(3, np.float32)},
        "S562": {"norm.weight": np.ones(25, np.float32)},
        "S563": {"norm.weight": np.ones(24, np.int32)},
    }
    for code, change in changes.items():
        mine = {k: v for k, v in (tensors | change).items() if v is not None}
        save_file(mine, tmp_path / f"{code}.safetensors")
        given = tmp_path / f"{code}.safetensors"
        assert refused(model.run, TOKENS, weights=given).code == code
        report = model.validate(weights=given, reference=function, numerics=["f32"])
        assert report.verdict is sohu.Verdict.FAIL
        assert [d.code for d in report.diagnostics] == [code]


# Whose code is run


TRAP = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\ndef f(t): return t\n"


@pytest.mark.parametrize("named", ["heron/trap.py:f", "heron.trap:f", "trap:f", "package.inner:f"])
def test_code_in_a_models_folder_is_never_run(
    named: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shutil.copytree(place / "heron", tmp_path / "heron")
    (model / "package").mkdir()
    for trap in ("trap.py", "__init__.py", "package/__init__.py", "package/inner.py"):
        (model / trap).write_text(TRAP)
    monkeypatch.chdir(tmp_path if named.startswith("heron") else model)
    command = [str(model), "--family", str(place / "heron.sohu"), "--out", str(tmp_path / "port")]
    assert port_main([*command, "--reference", named]) == 2
    assert not list(tmp_path.rglob("ran"))
    assert not {"trap", "package", "heron"} & set(sys.modules)


def test_code_in_a_ports_folder_is_never_run(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = shutil.copytree(place / "port", tmp_path / "port")
    (port / "trap.py").write_text(TRAP)
    monkeypatch.chdir(port)
    for named in ("trap:f", "trap.py:f", f"{port}/trap.py:f"):
        assert main(["validate", ".", "--reference", named]) == 2
        assert main(["validate", ".", "--weights", str(place / "heron"), "--reference", named]) == 2
    assert not list(tmp_path.rglob("ran"))


def test_code_beside_a_models_weights_is_never_run(
    place: Path, tmp_path: Path, model: sohu.Model
) -> None:
    """A folder of the user's own is none of a model's, although weights lie in it."""
    folder = shutil.copytree(place / "heron", tmp_path / "heron")
    (folder / "trap.py").write_text(TRAP)
    options = {"weights": folder / "model.safetensors", "reference": f"{folder}/trap.py:f"}
    assert refused(model.validate, **options).code == "S554"
    assert not list(tmp_path.rglob("ran"))
    (folder / "config.json").unlink()
    assert refused(model.validate, **options).code == "S555"
    assert list(tmp_path.rglob("ran"))


def test_a_report_names_no_code_to_run(place: Path, tmp_path: Path) -> None:
    port = shutil.copytree(place / "port", tmp_path / "port")
    report = json.loads((port / "report.json").read_text())
    report["reference"] = report["model"]["reference"] = f"{place}/heron.py:logits"
    (port / "report.json").write_text(json.dumps(report))
    assert refused(sohu.load(port).validate).code == "S551"


def test_what_the_users_code_prints_is_not_the_answer(
    place: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loud.py").write_text(
        "import numpy as np\nprint('loading')\ndef f(t):\n    print('running')\n"
        "    return np.ones((*t.shape, 61))\n"
    )
    command = ["validate", str(place / "mine.sohu"), "--weights", str(weights), "--json"]
    assert main([*command, "--numerics", "f32", "--reference", f"{tmp_path}/loud.py:f"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["verdict"] == "fail"
    assert "loading" in captured.err
    assert "running" in captured.err
