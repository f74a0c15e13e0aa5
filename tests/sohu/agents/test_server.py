# SPDX-License-Identifier: Apache-2.0
"""`sohu mcp` by the client of the `mcp` package, over standard input and output."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from sohu.agents import lines, work
from sohu.agents.arguments import Place
from sohu.agents.tools import CommandLine
from sohu.agents.work import Limits
from sohu.commands.cli import main
from tests.checkpoints import tiny_llama

ROOT = Path(__file__).parents[3]
PLENTY = Limits(300, 2**34)


def session(root: Path, talk: Callable[[ClientSession], Awaitable[None]], *options: str) -> None:
    """Start a server in a folder, and talk to it."""

    async def talked() -> None:
        command = StdioServerParameters(
            command=sys.executable,
            args=["-m", "sohu", "mcp", "--root", str(root), *options],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        async with stdio_client(command) as (read, write), ClientSession(read, write) as client:
            await client.initialize()
            await talk(client)

    asyncio.run(talked())


def answered(words: tuple[str, ...], root: Path, limits: Limits = PLENTY) -> work.Answer:
    return anyio.run(work.answer, CommandLine(words), Place(root), limits)


def code(answer: work.Answer) -> str:
    return answer.data["diagnostics"][0]["code"]


def test_a_family_is_repaired_from_the_answers_alone(tmp_path: Path) -> None:
    tiny_llama(tmp_path / "model")
    asked: list[str] = []

    async def talk(client: ClientSession) -> None:
        async def call(name: str, **arguments: object) -> dict[str, Any]:
            asked.append(name)
            return (await client.call_tool(name, arguments)).structured_content

        assert (await call("nearest", model="model"))["claimed_by"] == "llama"
        text = (await call("explain", what="llama"))["text"]
        broken = text.replace("gated_mlp(", "gated_mpl(").replace("eps=eps", "epss=eps", 1)
        assert broken != text
        for _ in range(4):
            answer = await call("check", text=broken)
            if answer["verdict"] == "pass":
                break
            first = answer["diagnostics"][0]
            assert first["code"] in (await call("explain", what=first["code"]))["text"]
            broken = mended(broken, first)
        assert answer["verdict"] == "pass"
        (tmp_path / "mine.sohu").write_text(broken)
        report = await call("port", model="model", family="mine.sohu", out="ported")
        assert report["verdict"] == "pass"
        assert any(line.startswith("in f32 ") for line in report["proof"]["proven"])
        assert any("contexts of more than" in line for line in report["proof"]["not_proven"])

    session(tmp_path, talk)
    assert asked.count("check") >= 2
    assert (tmp_path / "ported" / "model.sohu").is_file()


def mended(text: str, diagnostic: dict[str, Any]) -> str:
    """Return a text with the name at the place of a diagnostic replaced by the one that it proposes."""
    proposed = re.fullmatch(r"did you mean `(\w+)`\?", diagnostic["help"])
    assert proposed
    start, rows = diagnostic["span"]["start"], text.splitlines(keepends=True)
    row = rows[start["line"]]
    rows[start["line"]] = row[: start["column"]] + re.sub(
        r"^\w+", proposed.group(1), row[start["column"] :]
    )
    return "".join(rows)


def test_hostile_calls_are_refused_and_the_server_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.sohu").write_text("sohu 1.0\n")
    (root / "link").symlink_to(tmp_path)
    calls: list[tuple[str, dict[str, object]]] = [
        ("check", {"path": "../secret.sohu"}),
        ("check", {"path": "/etc/hostname"}),
        ("check", {"path": "link/secret.sohu"}),
        ("check", {"path": "a\0b"}),
        ("check", {"path": "x" * 5000}),
        ("check", {"text": "x" * 300_000}),
        ("check", {"path": "a", "text": "b"}),
        ("check", {}),
        ("check", {"path": ["a"]}),
        ("plan", {"model": "meta-llama/Llama-3.2-1B", "out": "../out"}),
        ("port", {"model": "a", "reference": "os:system"}),
        ("port", {"model": "a", "family": "link/secret.sohu"}),
        ("profile", {"path": "llama-3.1-70b", "device": "../d.toml"}),
        ("profile", {"path": "llama-3.1-70b", "device": "h100", "batch": "1; rm"}),
        ("diff", {"folder": "~"}),
        ("explain", {"what": "--help"}),
        ("generate", {}),
    ]

    async def talk(client: ClientSession) -> None:
        for name, arguments in calls:
            result = await client.call_tool(name, arguments)
            assert result.is_error, (name, arguments)
            assert result.structured_content["verdict"] == "refused"
            codes = {d["code"] for d in result.structured_content["diagnostics"]}
            assert codes <= {"S111", "S118"}, (name, codes)
        listed = await client.list_tools()
        assert all(tool.input_schema["additionalProperties"] is False for tool in listed.tools)

    session(root, talk)
    assert list(root.iterdir()) == [root / "link"]


def test_a_hub_id_is_refused_without_leave(tmp_path: Path) -> None:
    answer = answered(("port", "--plan", "--json", "--", "nobody/nothing"), tmp_path)
    assert code(answer) == "S118"


def test_what_lies_in_the_folder_is_not_imported(tmp_path: Path) -> None:
    for name in ("sohu", "numpy", "sitecustomize", "json"):
        marked = f"open({str(tmp_path / 'run')!r}, 'w').close()\n"
        (tmp_path / f"{name}.py").write_text(marked)
    answer = answered(("explain", "--json", "--", "S203"), tmp_path)
    assert answer.data["what"] == "S203"
    assert not (tmp_path / "run").exists()


def test_time_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "_hand", lambda *_: anyio.sleep(60))  # it waits for its input
    answer = answered(("check", "-"), tmp_path, Limits(1, 2**33))
    assert answer.failed
    assert code(answer) == "S119"


def test_memory_has_a_limit(tmp_path: Path) -> None:
    words = ("profile", "--json", "--device=h100", "--", "deepseek-v3-671b")
    answer = answered(words, tmp_path, Limits(60, 2**20))
    assert answer.failed
    assert code(answer) == "S119"


def test_a_cancelled_call_ends_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    begin = anyio.open_process

    async def opened(*arguments: Any, **named: Any) -> Any:
        started.append(await begin(*arguments, **named))
        return started[-1]

    monkeypatch.setattr(anyio, "open_process", opened)

    async def cancelled() -> bool:
        with anyio.move_on_after(0.5) as scope:
            await work.answer(CommandLine(("check", "-")), Place(tmp_path), PLENTY)
        return scope.cancelled_caught

    monkeypatch.setattr(work, "_hand", lambda *_: anyio.sleep(60))  # it waits for its input
    assert anyio.run(cancelled)
    with pytest.raises(ProcessLookupError):
        os.killpg(started[0].pid, 0)


def test_a_line_that_is_too_long_is_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE", 8)
    stream = io.BytesIO(b"short\n" + b"x" * 100 + b"\nlast")

    async def read() -> list[str]:
        return [line async for line in lines.Lines(stream)]

    assert anyio.run(read) == ["short\n", lines.TOO_LONG, "last"]


def test_a_root_that_is_no_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mcp", "--root", str(tmp_path / "nothing")]) == 2
    assert "S118" in capsys.readouterr().err


def test_what_tools_say_is_what_the_command_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", "ops", "--json"]) == 0
    assert answered(("list", "ops", "--json"), tmp_path).data == json.loads(capsys.readouterr().out)
