# SPDX-License-Identifier: Apache-2.0
"""Every file that is read, and what may stand in its place: a pipe, a device, a link, holes, a folder, nothing.

`READERS` has a row for each file of the valid case and the command that reads it. A new reader needs a row.
"""

from __future__ import annotations

import random
from pathlib import Path

from tests.hostile.arguments import ADAPTED, CALIBRATE, GENERATE, PLAN, PREDICT, RUN
from tests.hostile.things import (
    FULL,
    ZERO,
    Content,
    CopyOf,
    Device,
    Folder,
    LinkTo,
    Pipe,
    Plug,
    Sealed,
    Sparse,
)

MODEL = (
    "config.json", "generation_config.json", "model.safetensors", "model.safetensors.index.json",
    "quantize_config.json", "adapter_config.json", "adapter_model.safetensors",
)  # fmt: skip
TEXT = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "chat_template.json",
    "generation_config.json", "added_tokens.json",
)  # fmt: skip
PARQUET = (PREDICT[0], "{case}/t.parquet", *PREDICT[2:])
READERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    *((f"m/{name}", PLAN) for name in MODEL),
    *((f"m/{name}", GENERATE) for name in TEXT),
    *((f"a/{name}", ADAPTED) for name in ("adapter_config.json", "adapter_model.safetensors", "README.md")),
    ("m", PLAN), ("a", ADAPTED), ("p", RUN),
    ("x.gguf", ("port", "{case}/x.gguf", *PLAN[2:])),
    ("x-00001-of-00002.gguf", ("port", "{case}/x-00001-of-00002.gguf", *PLAN[2:])),
    ("x.sohu", ("check", "{case}/x.sohu")),
    ("x.sohu", ("fmt", "{case}/x.sohu")),
    ("x.sohu", ("fmt", "--check", "{case}/x.sohu")),
    ("x.sohu", ("check", "{case}/user.sohu")),
    ("x.sohu", (*PLAN, "--family", "{case}/x.sohu")),
    ("p/model.sohu", ("cost", "{case}/p")),
    ("p/model.sohu", ("validate", "{case}/p")),
    ("p/model.sohu", (*PLAN[:-1], "{case}/p")),
    ("p/report.json", RUN), ("p/report.json", GENERATE),
    ("p/report.json", (*PLAN[:-1], "{case}/p")),
    ("p/report.html", (*PLAN[:-1], "{case}/p")),
    ("e.toml", ("fit", "{case}/p", "--device", "{case}/e.toml")),
    ("t.csv", PREDICT), ("t.parquet", PARQUET),
    ("t.npy", RUN),
    ("t.npy", (*PLAN[:2], "--out", "{case}/out", "--tokens", "{case}/t.npy")),
    ("l.npy", RUN),
    ("l.npy", ("validate", "{case}/p", "--tokens", "{case}/t.npy", "--reference", "{case}/l.npy")),
    ("w.safetensors", (*RUN, "--weights", "{case}/w.safetensors")),
    ("w.safetensors", ("validate", "{case}/p", "--weights", "{case}/w.safetensors")),
    ("o.csv", PREDICT), ("out", PLAN), ("out/model.sohu", PLAN),
    ("c", CALIBRATE), ("c/gemm.csv", CALIBRATE), ("c/gemm.parquet", CALIBRATE),
    ("m/config.json", ("cost", "{case}/m")), ("m/config.json", ("port", "{case}/m/config.json", "--plan")),
)  # fmt: skip
HUGE = 2**41
OUTSIDE = "outside.txt"
"""A file beside the case that no input may read or change, unless the user names it."""


def odd(chance: random.Random, case: Path) -> tuple[dict[str, Content], tuple[str, ...]]:
    """Return a file that is none, and the command that reads it."""
    path, arguments = chance.choice(READERS)
    return {path: chance.choice(things(path, case))}, arguments


def things(path: str, case: Path) -> tuple[Content, ...]:
    """Return what may stand in a file's place; some begin as the valid file does."""
    valid = case / path
    content = valid.read_bytes() if valid.is_file() else b"{}"
    name = path.rsplit("/", maxsplit=1)[-1]
    above = "../" * (path.count("/") + 1)
    copies = (CopyOf("m"),) if "/" not in path and path != "m" else ()
    leaving = (LinkTo(above + OUTSIDE), LinkTo(above + "absent"))
    return (
        Pipe(), Device(ZERO), Device(FULL), LinkTo("/dev/zero"), LinkTo(name), LinkTo("absent"),
        *(() if path == "out" else leaving),  # that link the user names
        LinkTo("/proc/self/mem"), LinkTo("/proc/self/environ"),
        Sparse(content, HUGE), Sparse(b"", HUGE), Sparse(content[:20], len(content)), Folder(), Sealed(content), Plug(),
        *copies,
    )  # fmt: skip
