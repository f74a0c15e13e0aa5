# SPDX-License-Identifier: Apache-2.0
"""A port may be a stranger's: what its report names is looked for on this machine, and never on the network."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import sohu
from sohu.commands.cli import main
from tests.checkpoints import tiny_llama

COMMANDS: Sequence[Sequence[str]] = (
    ("validate", "PORT"),
    ("diff", "PORT"),
    ("generate", "PORT", "--prompt", "w1"),
    ("run", "PORT", "--tokens", "TOKENS", "--logits", "LOGITS"),
)
SOURCES = {
    "hub id": ({"source": "nobody/nothing"}, "S515"),
    "hub id and commit": ({"source": "nobody/nothing", "revision": "0" * 40}, "S515"),
    "adapter": ({"source": "demo", "adapter": "nobody/nothing"}, "S515"),
    "long": ({"source": "a/" * 5000}, "S510"),
    "zero byte": ({"source": "a\0/b"}, "S510"),
}


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strangers")
    sohu.port(tiny_llama(folder / "model"), out=folder / "port", validate=False)
    np.save(folder / "t.npy", np.arange(6).reshape(1, 6))
    return folder / "port"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[object]:
    """Count what is asked of the network, with a cache of the hub that holds nothing."""
    asked: list[object] = []

    def refuse(*arguments: object, **_: object) -> None:
        asked.append(arguments)
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return asked


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("name", SOURCES)
def test_nothing_is_fetched_because_a_report_says_so(
    port: Path,
    name: str,
    command: Sequence[str],
    calls: list[object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changed, code = SOURCES[name]
    if "adapter" in changed:
        changed = {**changed, "source": str(port.parent / "model")}
    stranger = tmp_path / "port"
    stranger.mkdir()
    (stranger / "model.sohu").write_text((port / "model.sohu").read_text())
    report = json.loads((port / "report.json").read_text())
    report["model"] |= changed
    (stranger / "report.json").write_text(json.dumps(report))
    names = {
        "PORT": stranger, "TOKENS": port.parent / "t.npy", "LOGITS": tmp_path / "l.npy",
    }  # fmt: skip
    assert main([str(names.get(word, word)) for word in command]) == 2
    assert f"error[{code}]" in capsys.readouterr().err
    assert calls == []
