# SPDX-License-Identifier: Apache-2.0
"""How long `sohu lsp` takes to answer an editor: `python -m benchmarks.editing [TIMES]`.

A raw client of the protocol asks twenty things about a family of the zoo, each time of a text that was just edited. The
processor's time is that of the thread that answers; on a busy machine it is the one to read.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from porting.planning.library import ZOO

FAMILY, TIMES = "llama", 10
COMMAND = "import sys; from sohu.commands.cli import main; sys.exit(main(['lsp']))"
CALL, KEY, NAME = "x = x + gqa_att", "F              = inter", 'self_attn", h'
# The request, and the text before the place that it is about; the first occurrence counts.
ACTIONS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("hover", CALL, {}),
    ("hover", NAME, {}),
    ("hover", KEY, {}),
    ("hover", "repea", {}),
    ("hover", "include rota", {}),
    ("definition", CALL, {}),
    ("definition", "freqs, H", {}),
    ("definition", "include rota", {}),
    ("definition", 'use "blocks/no', {}),
    ("definition", "eps=e", {}),
    ("completion", "act=activation, ", {}),
    ("completion", "activation     = ", {}),
    ("completion", "  mesh { tp }\n\n  ", {}),
    ("completion", "output logits: ", {}),
    ("signatureHelp", "act=activation, bias=", {}),
    ("references", CALL[:1], {"context": {"includeDeclaration": True}}),
    ("rename", "    eps", {"newName": "epsilon"}),
    ("documentSymbol", "", {}),
    ("inlayHint", "", {}),
    ("formatting", "", {"options": {"tabSize": 2, "insertSpaces": True}}),
)


class Client:
    """A server on pipes, with one text open."""

    def __init__(self, path: Path) -> None:
        self.uri, self.text, self.version, self.id = path.as_uri(), path.read_text("utf-8"), 1, 0
        pipe = subprocess.PIPE
        self.server = subprocess.Popen([sys.executable, "-c", COMMAND], stdin=pipe, stdout=pipe)  # noqa: S603 - ours
        self.ask("initialize", {"capabilities": {}, "processId": None, "rootUri": None})
        self.tell("initialized", {})
        item = {"uri": self.uri, "languageId": "sohu", "version": 1, "text": self.text}
        self.tell("textDocument/didOpen", {"textDocument": item})
        while self.read().get("method") != "textDocument/publishDiagnostics":
            pass

    def send(self, message: dict[str, Any]) -> None:
        """Write a message."""
        body = json.dumps({"jsonrpc": "2.0"} | message).encode()
        if self.server.stdin is None:
            raise RuntimeError("the server has no input")
        self.server.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.server.stdin.flush()

    def read(self) -> dict[str, Any]:
        """Return the next message."""
        if self.server.stdout is None:
            raise RuntimeError("the server has no output")
        length = 0
        while line := self.server.stdout.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        message: dict[str, Any] = json.loads(self.server.stdout.read(length))
        return message

    def tell(self, method: str, params: dict[str, Any]) -> None:
        """Send a notification."""
        self.send({"method": method, "params": params})

    def ask(self, method: str, params: Any) -> Any:
        """Return the result of a request; what the server tells meanwhile is passed over."""
        self.id += 1
        self.send({"id": self.id, "method": method, "params": params})
        while (answer := self.read()).get("id") != self.id:
            pass
        if "error" in answer:
            raise SystemExit(f"{method}: {answer['error']}")
        return answer["result"]

    def edit(self) -> None:
        """Change the text, so that nothing of it is known any more."""
        self.version += 1
        identifier = {"uri": self.uri, "version": self.version}
        change = [{"text": f"{self.text}# {self.version}\n"}]
        self.tell("textDocument/didChange", {"textDocument": identifier, "contentChanges": change})

    def act(self, what: str, before: str, more: dict[str, Any]) -> Any:
        """Return the answer to one action."""
        offset = self.text.index(before) + len(before)
        line = self.text.count("\n", 0, offset)
        place = {"line": line, "character": offset - self.text.rfind("\n", 0, offset) - 1}
        whole = {"start": {"line": 0, "character": 0}, "end": {"line": 9999, "character": 0}}
        about = {"textDocument": {"uri": self.uri}, "position": place, "range": whole}
        return self.ask(f"textDocument/{what}", about | more)

    def seconds(self) -> float:
        """Return the processor's seconds of the thread that answers."""
        pid = self.server.pid
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text("utf-8").split()[0]) / 1e9


def main(arguments: list[str]) -> None:
    """Print a row for each action."""
    times = int(arguments[0]) if arguments else TIMES
    start = time.perf_counter()
    client = Client(ZOO / "families" / f"{FAMILY}.sohu")
    told = time.perf_counter() - start
    print(f"{FAMILY}: {told:.1f} s from the start of the server to its first diagnostics")
    print(f"{'action':<16}{'at':<26}{'first ms':>9}{'ms':>8}{'cpu ms':>8}{'worst cpu':>11}")
    for what, before, more in ACTIONS:
        walls, processors = [], []
        for _ in range(times):
            client.edit()
            wall, processor = time.perf_counter(), client.seconds()
            client.act(what, before, more)
            walls.append(1e3 * (time.perf_counter() - wall))
            processors.append(1e3 * (client.seconds() - processor))
        rest, median = processors[1:], statistics.median
        print(
            f"{what:<16}{before.strip().splitlines()[-1] if before else '':<26}{walls[0]:>9.1f}"
            f"{median(walls[1:]):>8.1f}{median(rest):>8.1f}{max(rest):>11.1f}"
        )
    client.ask("shutdown", None)
    client.tell("exit", {})
    client.server.wait(timeout=60)


if __name__ == "__main__":
    main(sys.argv[1:])
