# SPDX-License-Identifier: Apache-2.0
"""What the original made of rows, kept on disk: a text that is edited and judged again needs no torch.

Kept under the digest of the original's files, the code and libraries that ran it, and the processor, so that a result
is found only where it would come out the same, and in folders that nobody else can write. Small models are quicker to
run than to look up, and large results are not kept. Nothing here judges; a damaged or half-written record counts as not
there.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from dsl.own_folder import is_own_folder, own_folder, read_own
from dsl.regular_file import open_regular, read_shipped
from porting.checkpoint.gguf_parts import part_paths
from porting.files.atomic import replace_file
from porting.original.adapted import Adapted
from porting.original.choices import Choice
from porting.original.reference import RowOutput
from porting.report.model import versions
from porting.verdict.errors import PositionErrors
from porting.verdict.rows import Row
from porting.verdict.truth import Own, Truth

Arrays = dict[str, npt.NDArray[Any]]

LEAST_BYTES, MOST_BYTES = 2**26, 4 * 2**30
"""Of the original's files: below, running is quicker; above, hashing takes longer than a person waits."""
MOST_KEPT = 2**30
MOST_IN_ALL = 4 * 2**30
MOST_FACTS = 2**24
CHUNK = 2**22
CODE = ("original", "verdict")
COUNTED = ("torch", "transformers", "gguf", "numpy")


@dataclass(frozen=True, slots=True)
class Facts:
    """What rows are chosen by: the vocabulary, the lengths that the config names, and its special tokens."""

    vocab_size: int
    lengths: Mapping[int, str]
    special: frozenset[int]


@dataclass(frozen=True, slots=True)
class Kept:
    """The records of one original, in a folder of the cache."""

    folder: Path

    @classmethod
    def of(cls, original: Path | Adapted, cache: Path) -> Kept | None:
        """Return the records of an original, None where it is too small or too large to keep any."""
        with suppress(OSError):  # what cannot be read is no one's to vouch for
            files = _files(original)
            size = sum(path.stat().st_size for path in files)
            if LEAST_BYTES <= size <= MOST_BYTES:
                return cls(cache / _content(files)[:32])
        return None

    def facts(self) -> Facts | None:
        """Return what rows are chosen by, None where it is not known yet."""
        try:
            data = json.loads(self._bytes("facts.json", MOST_FACTS))
            lengths = {int(length): str(key) for length, key in data["lengths"].items()}
            return Facts(int(data["vocab_size"]), lengths, frozenset(map(int, data["special"])))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def keep_facts(self, facts: Facts) -> None:
        """Keep what rows are chosen by."""
        data = {
            "vocab_size": facts.vocab_size,
            "lengths": {str(length): key for length, key in facts.lengths.items()},
            "special": sorted(facts.special),
        }
        self._write("facts.json", lambda stream: stream.write(json.dumps(data).encode()))

    def truth(self, rows: Sequence[Row], start: int) -> tuple[Truth, str] | None:
        """Return the truth of rows and the note beside it, None where they were not run yet."""
        arrays = self._read(f"truth-{_digest(rows)}-{start}.npz")
        if arrays is None:
            return None
        whole = tuple(_output(arrays, number) for number in range(len(rows)))
        return Truth(tuple(rows), whole, by_length=False), str(arrays["note"])

    def keep_truth(self, truth: Truth, start: int, note: str) -> None:
        """Keep the truth of rows whose starts do not depend on their lengths."""
        if truth.by_length or sum(output.logits.nbytes for output in truth.whole) > MOST_KEPT:
            return
        arrays: Arrays = {"note": np.array(note)}
        for number, output in enumerate(truth.whole):
            arrays |= _arrays(output, number)
        self._save(f"truth-{_digest(truth.rows)}-{start}.npz", arrays)

    def own(self, rows: Sequence[Row], precision: str) -> Own | None:
        """Return the original's own errors at a precision, None where it did not run yet."""
        arrays = self._read(f"own-{precision}-{_digest(rows)}.npz")
        if arrays is None:
            return None
        names = [field.name for field in fields(PositionErrors)]
        errors = [
            PositionErrors(*(arrays[f"{name}-{n}"] for name in names)) for n in range(len(rows))
        ]
        close = [tuple(_several(arrays, f"close-{n}")) for n in range(len(rows))]
        return Own(tuple(errors), tuple(_several(arrays, "hidden")), tuple(close))

    def keep_own(self, own: Own, rows: Sequence[Row], precision: str) -> None:
        """Keep the original's own errors at a precision."""
        arrays: Arrays = {f"hidden-{i}": x for i, x in enumerate(own.hidden)}
        for n, (errors, close) in enumerate(zip(own.errors, own.close, strict=True)):
            arrays |= {f"{f.name}-{n}": getattr(errors, f.name) for f in fields(errors)}
            arrays |= {f"close-{n}-{i}": x for i, x in enumerate(close)}
        self._save(f"own-{precision}-{_digest(rows)}.npz", arrays)

    def _bytes(self, name: str, limit: int) -> bytes:
        """Return a record that nobody else can have written: a verdict rests on it."""
        if not is_own_folder(self.folder.parent):
            raise OSError(f"{self.folder.parent} can be written by others")
        return read_own(self.folder / name, limit)

    def _read(self, name: str) -> Arrays | None:
        try:
            archive = np.load(io.BytesIO(self._bytes(name, MOST_IN_ALL)), allow_pickle=False)
            is_archive = isinstance(archive, np.lib.npyio.NpzFile)
            return {key: archive[key] for key in archive.files} if is_archive else None
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return None

    def _save(self, name: str, arrays: Arrays) -> None:
        def save(stream: BinaryIO) -> None:
            np.savez(stream, allow_pickle=False, **arrays)

        self._write(name, save)

    def _write(self, name: str, save: Any) -> None:
        """Write a record, and make room for it; a full disk only means that nothing is kept."""
        if own_folder(self.folder.parent) is None or own_folder(self.folder) is None:
            return
        with suppress(OSError):
            replace_file(self.folder / name, save)
            _make_room(self.folder)


def _files(original: Path | Adapted) -> list[Path]:
    if isinstance(original, Adapted):
        return [*_files(original.base), *original.files()]
    if original.is_file():
        return [path.resolve() for path in part_paths(original) if path.is_file()]
    return sorted(path for path in original.iterdir() if path.is_file())


def _content(files: Sequence[Path]) -> str:
    digest = hashlib.sha256(_surroundings().encode())
    for path in files:
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        with open_regular(path) as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _surroundings() -> str:
    """Return what results depend on besides the files: libraries, this code, and the processor."""
    known = versions()
    digest = hashlib.sha256()
    for room in CODE:
        for path in sorted((Path(__file__).parents[1] / room).rglob("*.py")):
            digest.update(read_shipped(path).encode())
    libraries = [f"{name} {known.get(name, '')}" for name in COUNTED]
    return "\n".join([*libraries, digest.hexdigest(), _processor()])


def _processor() -> str:
    """Return the lines by which this system tells its processor from others."""
    wanted = ("model name", "flags", "Features", "CPU part")
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        return "\n".join(sorted({x for x in text.splitlines() if x.startswith(wanted)}))
    return os.uname().machine


def _digest(rows: Sequence[Row]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{len(row)}\n".encode() + row.tokens.astype("<i8").tobytes())
    return digest.hexdigest()[:32]


def _arrays(output: RowOutput, number: int) -> Arrays:
    arrays: Arrays = {f"logits-{number}": output.logits}
    arrays |= {f"hidden-{number}-{i}": x for i, x in enumerate(output.hidden)}
    for i, choice in enumerate(output.choices):
        arrays |= {f"scores-{number}-{i}": choice.scores, f"picked-{number}-{i}": choice.picked}
    return arrays


def _output(arrays: Arrays, number: int) -> RowOutput:
    scores = _several(arrays, f"scores-{number}")
    picked = _several(arrays, f"picked-{number}")
    choices = tuple(Choice(s, p) for s, p in zip(scores, picked, strict=True))
    return RowOutput(
        arrays[f"logits-{number}"], tuple(_several(arrays, f"hidden-{number}")), choices
    )


def _several(arrays: Arrays, name: str) -> Iterator[npt.NDArray[Any]]:
    number = 0
    while f"{name}-{number}" in arrays:
        yield arrays[f"{name}-{number}"]
        number += 1


def _make_room(folder: Path) -> None:
    """Drop the records of the originals that were written longest ago, until all are few enough."""
    others = sorted(
        (p for p in folder.parent.iterdir() if p.is_dir() and p != folder),
        key=lambda p: p.stat().st_mtime,
    )
    size = {p: sum(f.stat().st_size for f in p.iterdir()) for p in [*others, folder]}
    total = sum(size.values())
    for old in others:
        if total <= MOST_IN_ALL:
            return
        total -= size[old]
        shutil.rmtree(old, ignore_errors=True)
