# SPDX-License-Identifier: Apache-2.0
"""Install the wheel in a new environment outside of the checkout and use it, as a user would: `tox -e wheel`.

First with what `pip install sohu` brings, then with the extra `run`, with which an architecture of one's own is ported
and proven as its page tells. Prints every command with what it answered, and fails at the first answer that is not the
expected one. Needs a package index; torch and transformers are never installed.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from told_pages import OWN_ARCHITECTURE, follow

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "tiny.sohu"
MOST_LINES = 6
SCRIPT = """\
import sohu
model = sohu.load("tiny.sohu")
reveal_type(model.run([[1, 2, 3]]))
reveal_type(model.fit("h100").fits)
reveal_type([d.code for d in sohu.check("tiny.sohu")])
"""


@dataclass(frozen=True)
class Place:
    """A folder with a new environment, and nothing of the checkout in sight."""

    folder: Path

    @property
    def bin(self) -> Path:
        return self.folder / "venv" / "bin"

    def pip(self, *arguments: str) -> None:
        """Let the environment's pip do something, or fail with what it says."""
        command = [str(self.bin / "python"), "-m", "pip", "--quiet", "--quiet", *arguments]
        subprocess.run(command, cwd=self.folder, check=True, stdin=subprocess.DEVNULL)

    def told(self, command: str) -> str:
        """Return what a command that a page tells answers: on standard error where it is refused."""
        words = shlex.split(command)
        settings = {}
        while "=" in words[0]:
            name, _, settings[name] = words.pop(0).partition("=")
        program = self.bin / words[0]
        print("$", command)
        result = self._run([str(program if program.exists() else words[0]), *words[1:]], settings)
        print((result.stdout or result.stderr).strip())
        return result.stderr if result.returncode == 2 else result.stdout

    def _run(
        self, command: Sequence[str], settings: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        hidden = ("PYTHONPATH", "PYTHONHOME", "MYPYPATH", "SOHU_PATH")
        environment = {k: v for k, v in os.environ.items() if k not in hidden}
        environment |= {"COLUMNS": "100", **(settings or {})}
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )

    def ask(self, command: Sequence[str], says: Sequence[str] = (), status: int = 0) -> None:
        """Run a command of the environment and show it; fail unless it ends and says what it should."""
        result = self._run([str(self.bin / command[0]), *command[1:]])
        said = (result.stdout + result.stderr).strip()
        shown = said.splitlines()
        left = [f"… {len(shown) - MOST_LINES} more lines"] if len(shown) > MOST_LINES else []
        print("$", shlex.join(command))
        for line in (*shown[:MOST_LINES], *left):
            print(line.rstrip())
        missing = [text for text in says if text not in said]
        if result.returncode != status or missing:
            sys.exit(f"status {result.returncode}, expected {status}; not said: {missing}\n{said}")
        if status:
            print(f"(exit status {status})")


def main() -> None:
    """Build, install, use; then the same with what running needs."""
    with tempfile.TemporaryDirectory(prefix="sohu-wheel-") as name:
        place = Place(Path(name))
        subprocess.run([sys.executable, "-m", "venv", str(place.folder / "venv")], check=True)
        place.pip("install", "--upgrade", "pip>=25.1")
        place.pip("wheel", "--no-deps", "--wheel-dir", str(place.folder), str(ROOT))
        (wheel,) = place.folder.glob("sohu-*.whl")
        (place.folder / "tiny.sohu").write_text(EXAMPLE.read_text())
        place.pip("install", str(wheel))
        core(place)
        place.pip("install", "mypy")
        (place.folder / "five.py").write_text(SCRIPT)
        typed(place)
        place.pip("install", f"{wheel}[run]")
        run(place)
        place.pip("install", "safetensors")
        follow(OWN_ARCHITECTURE, place.folder, place.told)


def core(place: Place) -> None:
    """Ask what needs no extra, and hear which extra running needs."""
    place.ask(["python", "-c", "import sohu; print(sohu.__version__)"])
    place.ask(["sohu", "--version"], ["sohu "])
    place.ask(["sohu", "check", "tiny.sohu"], ["ok (family tiny)"])
    place.ask(["sohu", "fmt", "--check", "tiny.sohu"])
    place.ask(["sohu", "fit", "tiny.sohu", "--device", "h100"], ["verdict: fits"])
    place.ask(["sohu", "cost", "tiny.sohu", "--mesh", "tp=2"], ["640 + 221184/tp"])
    place.ask(["sohu", "explain", "S517"], ["A library is not installed"])
    place.ask(["sohu", "explain", "language"], ["# "])
    place.ask(["sohu", "explain", "own-architecture"], ["# An architecture of your own"])
    place.ask(["sohu", "explain", "llama"], ['for "LlamaForCausalLM"'])
    place.ask(
        ["python", "-c", "import numpy; numpy.save('tokens.npy', numpy.arange(8).reshape(2, 4))"]
    )
    place.ask(RUN, ["S517", "pip install 'sohu[run]'"], status=2)


def typed(place: Place) -> None:
    """Let a strict checker say what types a user's five lines have."""
    shown = ['"numpy.ndarray[', '"bool"', '"list[str]"']
    place.ask(["mypy", "--strict", "five.py"], [*shown, "no issues found"])


def run(place: Place) -> None:
    """Run on random weights."""
    place.ask(RUN, ["logits.npy: float32 [2, 4, 256]"])


RUN = [
    "sohu", "run", "tiny.sohu", "--weights", "random:7", "--tokens", "tokens.npy",
    "--logits", "logits.npy",
]  # fmt: skip

if __name__ == "__main__":
    main()
