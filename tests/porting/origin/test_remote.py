# SPDX-License-Identifier: Apache-2.0
"""A hub id is planned from its config and the headers of its weights: what is fetched is counted at a fake hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dsl.diagnostics import Refused
from farm.oracles.tiny import tiny
from porting.checkpoint.remote import FIRST, open_remote
from porting.checkpoint.tensors import Checkpoint, Extent
from porting.origin.resolve import Origin, OriginKind
from porting.planning.opening import open_to_plan
from tests.checkpoints import safetensors_bytes, tensor_entry

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PLAN = """
import sys
from sohu.commands.cli import port_main
sys.exit(port_main(["org/name", "--plan", "--json", "--out", sys.argv[1]]))
"""


class Hub(ThreadingHTTPServer):
    """One repository, as the hub serves it: what it holds, its files by name, and parts of them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder = folder
        self.sent: dict[str, int] = {}


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/org/name"):
            self.reply(200, json.dumps(self.told(path)).encode(), {}, body)
            return
        name = path.rpartition("/")[2]
        file = self.server.folder / name
        if not path.startswith("/org/name/resolve/") or not file.is_file():
            self.reply(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
            return
        data, status, more = file.read_bytes(), 200, {}
        if asked := self.headers.get("Range"):
            start, stop = (int(x) for x in asked.removeprefix("bytes=").split("-"))
            size = len(data)
            data, status = data[start : stop + 1], 206
            more = {"Content-Range": f"bytes {start}-{start + len(data) - 1}/{size}"}
        if body:
            self.server.sent[name] = self.server.sent.get(name, 0) + len(data)
        tag = {"ETag": f'"{sha256(file.read_bytes()).hexdigest()}"', "X-Repo-Commit": COMMIT}
        self.reply(status, data, {**tag, **more}, body)

    def told(self, path: str) -> object:
        """Return what the hub says of the repository, or of the files in it."""
        files = sorted(self.server.folder.iterdir())
        if "/tree/" not in path:
            names = [{"rfilename": file.name} for file in files]
            return {"id": "org/name", "sha": COMMIT, "siblings": names}
        return [
            {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": COMMIT}
            for file in files
        ]

    def reply(self, status: int, data: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Hub]:
    (tmp_path / "served").mkdir()
    hub = Hub(tmp_path / "served")
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    yield hub
    hub.shutdown()
    hub.server_close()


def planned(hub: Hub, tmp_path: Path) -> dict[str, object]:
    env = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    command = [sys.executable, "-c", PLAN, str(tmp_path / "port")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def pad(file: Path, name: str, size: int) -> None:
    """Add a tensor that nothing reads, large enough that nobody fetches it by accident."""
    save_file({**load_file(file), name: torch.zeros(size)}, file, {"format": "pt"})


def test_a_hub_id_is_planned_by_headers_alone(served: Hub, tmp_path: Path) -> None:
    tiny(served.folder, "llama", dtype="float32")
    pad(served.folder / "model.safetensors", "extra.weight", 500_000)
    report = planned(served, tmp_path)
    assert report["verdict"] == "planned"
    notes = report["validation"]["text"]
    assert any("headers" in note for note in notes)
    assert any("1 tensors are not read" in note for note in notes)
    assert report["tensors"]["consumed"] == 39
    assert served.sent["model.safetensors"] <= FIRST
    assert (served.folder / "model.safetensors").stat().st_size > 10 * FIRST
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_a_hub_id_without_safetensors_is_planned_by_its_config(served: Hub, tmp_path: Path) -> None:
    tiny(served.folder, "llama")
    (served.folder / "model.safetensors").rename(served.folder / "pytorch_model.bin")
    report = planned(served, tmp_path)
    assert any("config alone" in note for note in report["validation"]["text"])
    assert "pytorch_model.bin" not in served.sent


def test_a_hub_that_is_lost_leaves_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny(tmp_path / "model", "llama")
    (folder / "model.safetensors").unlink()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    origin = Origin(folder, folder, "org/name", COMMIT, OriginKind.HUB)
    _, checkpoint = open_to_plan(origin)
    assert checkpoint.extent is Extent.NOTHING


def fetched(files: dict[str, bytes]) -> Checkpoint:
    def part(name: str, start: int, stop: int) -> tuple[bytes, int]:
        return files[name][start:stop], len(files[name])

    return open_remote(Path("nowhere"), files, part, lambda *_: None)


def one(name: str, size: int = 4) -> bytes:
    return safetensors_bytes({name: tensor_entry("U8", [size], 0, size)}, bytes(size))


def test_headers_of_several_files_are_one_checkpoint() -> None:
    long = {f"{n}.{'x' * 200}": tensor_entry("U8", [1], n, n + 1) for n in range(600)}
    made = fetched({"a": one("first"), "b": safetensors_bytes(long, bytes(600))})
    assert len(made.tensors) == 601
    assert made.extent is Extent.HEADERS
    assert made.tensors["first"].shape == (4,)


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"a": one("x")[:-1]}, "S523"),
        ({"a": one("x") + b"\0"}, "S524"),
        ({"a": (1 << 60).to_bytes(8, "little") + b"{}"}, "S522"),
        ({"a": b"\x02"}, "S523"),
        ({"a": b"\x02" + bytes(7) + b"[]"}, "S522"),
        ({"a": one("x"), "b": one("x")}, "S528"),
    ],
)
def test_headers_from_elsewhere_are_checked_like_those_here(
    files: dict[str, bytes], code: str
) -> None:
    with pytest.raises(Refused) as caught:
        fetched(files)
    assert caught.value.diagnostics[0].code == code
