# SPDX-License-Identifier: Apache-2.0
"""Turn a .gguf model, one file or split, into an ordinary checkpoint folder with Hugging Face names, once per content.

The folder lies in the cache under the content's sha256. What is written is `gguf_model`'s affair, how it is kept
`conversions`'s.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

from dsl.diagnostics import refuse
from porting.checkpoint.gguf_parts import GgufModel, Identity, open_gguf
from porting.files.progress import Progress, silent
from porting.origin.conversions import build, cache_folder, recorded

ROOM = "gguf"
CHUNK = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Converted:
    """A converted .gguf model: its folder, the sha256 of the file or of its parts', and what a reader should know."""

    directory: Path
    sha256: str
    notes: tuple[str, ...]


def convert(path: Path, progress: Progress = silent) -> Converted:
    """Return the checkpoint folder of a .gguf model, from the cache or freshly converted."""
    with open_gguf(path) as model:
        before = model.identities()
        sha256 = _sha256(model, progress)
        target = cache_folder(ROOM) / sha256
        notes = recorded(target)
        if notes is None:
            notes = _build(model, before, target, progress)
        _check_same(model, before)
    return Converted(target, sha256, notes)


def _sha256(model: GgufModel, progress: Progress) -> str:
    """Return the sha256 of a file, of a split one that of its parts' in their order."""
    digests = []
    size, done = model.size, 0
    for stream in model.streams:
        digest = hashlib.sha256()
        stream.seek(0)
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            progress("hash", done, size)
        digests.append(digest.hexdigest())
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def _build(
    model: GgufModel, before: tuple[Identity, ...], target: Path, progress: Progress
) -> tuple[str, ...]:
    from porting.origin import gguf_model  # noqa: PLC0415 - needs transformers, and a cached conversion does not

    def write(work: Path) -> tuple[str, ...]:
        notes = gguf_model.write_model(model, work, progress)
        _check_same(model, before)
        return notes

    # No format of what is kept takes less than 16 bits.
    least = 2 * sum(math.prod(tensor.shape) for tensor in model.header.tensors)
    return build(target, model.name, least, write)


def _check_same(model: GgufModel, before: tuple[Identity, ...]) -> None:
    if model.identities() != before:
        message = f"{model.name} was changed while it was read"
        raise refuse("S513", message, place=model.name, help="port it once it is whole")
