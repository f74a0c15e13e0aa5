# SPDX-License-Identifier: Apache-2.0
"""Every command without each library of an extra: as before, or refused with the extra's name; never a traceback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import sohu
from dsl.extras import EXTRAS
from sohu.commands.table import COMMANDS
from tests.checkpoints import gguf_bytes, gguf_string, tiny_llama

ROOT = Path(__file__).parents[3]
LARGE = str(ROOT / "model_zoo" / "ports" / "llama-3.1-70b.sohu")
FAMILY = str(ROOT / "model_zoo" / "families" / "llama.sohu")
STRING = 8  # in GGUF
MESH = "--mesh tp=8"
# Ways of asking, in the folder that `workplace` makes, that need no extra.
CORE = (
    f"check {FAMILY}",
    f"fmt --check {FAMILY}",
    f"cost {LARGE} {MESH}",
    f"fit {LARGE} --device h100 {MESH}",
    "collective template ring --op all_gather --topology ring.sohu",
    "explain S517",
    "list families",
    "new begun",
    "nearest model",
    "env",
    "completion bash",
    f"profile {LARGE} --device h100 {MESH} --html page.html",
    f"sweep {LARGE} --device h100 {MESH} --vary batch=1,2 --html page.html",
    "port model --plan --out planned",
    "port model --no-validate --out planned",
)
# Ways of asking with each library that they do not work without.
RUNNING = ("llvmlite", "numba", "tokenizers")
REFERENCE = ("accelerate", "safetensors", "torch", "transformers")
NEEDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("run port --tokens t.npy --logits l.npy", ("llvmlite", "numba")),
    ("generate port --prompt w1", RUNNING),
    ("chat port", RUNNING),
    ("validate port", (*RUNNING, *REFERENCE)),
    ("port model --out ported", (*RUNNING, *REFERENCE)),
    ("diff port", (*RUNNING, *REFERENCE)),
    ("diff port --mesh tp=1 --weights random:7", ("llvmlite", "numba")),
    ("port model.gguf --plan --out planned", ("gguf", *REFERENCE)),
    ("port nobody/nothing --plan --out planned", ("huggingface_hub",)),
    (f"profile {LARGE} --device h100 {MESH} --trace trace", ("perfetto",)),
    (f"sweep {LARGE} --device h100 {MESH} --vary batch=1,2 --out points.csv", ("pyarrow",)),
    ("predict shapes.csv --op gemm --device h100 --out times.csv", ("pyarrow",)),
    ("calibrate .", ("pyarrow", "scipy")),
    (f"sweep {LARGE} --device h100 {MESH} --vary batch=1,2 --ray", ("ray",)),
    ("generate port --prompt w1 --nodes 1 --address", ("ray",)),
    ("lsp", ("lsprotocol", "pygls")),
    ("mcp", ("mcp",)),
)
ASK = """
import sys
for name in sys.argv[1].split():
    sys.modules[name] = None
from sohu.commands.cli import main
for line in sys.argv[2:]:
    status = main(line.split())
    print(f"= {status} {line}", file=sys.stderr, flush=True)
"""


@dataclass(frozen=True)
class Answer:
    """How a command ended, and what it said to standard error."""

    status: int
    said: str


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workplace")
    sohu.port(tiny_llama(folder / "model"), out=folder / "port", validate=False)
    np.save(folder / "t.npy", np.arange(6).reshape(1, 6))
    (folder / "ring.sohu").write_text(
        "sohu 1.0\n\ntopology r {\n  ring 4\n  link 90 GB/s, 1 us\n}\n"
    )
    (folder / "shapes.csv").write_text("m,n,k\n64,64,64\n")
    (folder / "model.gguf").write_bytes(
        gguf_bytes(
            [("general.architecture", STRING, gguf_string("llama"))],
            [("token_embd.weight", [32, 4], 0, 0)],
            bytes(4 * 128),
        )
    )
    return folder


def answers(hidden: Iterable[str], lines: Sequence[str], folder: Path) -> dict[str, Answer]:
    """Return what commands answer in one process in which these libraries cannot be imported."""
    command = [sys.executable, "-c", ASK, " ".join(hidden), *lines]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SOHU_CACHE": str(folder.parent / "cache")}
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    *parts, rest = re.split(r"^= (\d+) (.*)\n", result.stderr, flags=re.MULTILINE)
    assert rest == ""
    said, statuses, asked = parts[::3], parts[1::3], parts[2::3]
    assert asked == list(lines)
    return {
        line: Answer(int(status), text)
        for line, status, text in zip(asked, statuses, said, strict=True)
    }


def test_every_command_is_asked() -> None:
    lines = [*CORE, *(line for line, _ in NEEDS)]
    assert {line.split()[0] for line in lines} == set(COMMANDS)


def test_every_library_is_hidden() -> None:
    assert {module for _, modules in NEEDS for module in modules} == set(EXTRAS)


def test_the_core_needs_no_extra(workplace: Path) -> None:
    ended = {line: answer.status for line, answer in answers(EXTRAS, CORE, workplace).items()}
    assert ended == dict.fromkeys(CORE, 0)


@pytest.mark.parametrize("module", sorted(EXTRAS))
def test_a_command_names_the_extra_that_it_lacks(module: str, workplace: Path) -> None:
    lines = [line for line, modules in NEEDS if module in modules]
    before = sorted(workplace.rglob("*"))
    for line, answer in answers([module], lines, workplace).items():
        assert answer.status == 2, line
        assert f"error[S517]: {module} is not installed" in answer.said, line
        assert f"pip install 'sohu[{EXTRAS[module]}]'" in answer.said, line
    assert sorted(workplace.rglob("*")) == before
