"""Turn a .gguf file into an ordinary checkpoint folder with Hugging Face names, once per content.

The folder lies in the cache under the file's sha256 and appears all at once. What is written is `gguf_model`'s affair.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dsl.diagnostics import Refused, refuse
from porting.checkpoint.gguf_header import GgufHeader, check_sizes, read_gguf_header
from porting.files.files import ModelFile
from porting.files.progress import Progress, silent
from porting.files.strict_json import shown

# Raised when the same file would be converted differently.
CONVERSION = 3
RECORD = "conversion.json"
CHUNK = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Converted:
    """A converted .gguf file: its folder, the sha256 of the file, and what a reader should know."""

    directory: Path
    sha256: str
    notes: tuple[str, ...]


def convert(path: Path, progress: Progress = silent) -> Converted:
    """Return the checkpoint folder of a .gguf file, from the cache or freshly converted."""
    resolved = path.resolve()
    file = ModelFile(path.name, resolved, resolved.stat().st_size)
    header = read_gguf_header(file)
    check_sizes(header, file.name)
    _check_whole(header, file.name)
    sha256 = _sha256(file, progress)
    target = cache_folder() / sha256
    notes = _recorded(target)
    if notes is None:
        notes = _build(file, header, target, progress)
    return Converted(target, sha256, notes)


def cache_folder(room: str = "gguf") -> Path:
    """Return where something is kept: a room of $SOHU_CACHE or of the user's cache folder."""
    if own := os.environ.get("SOHU_CACHE"):
        return Path(own) / room
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "sohu" / room


def _check_whole(header: GgufHeader, name: str) -> None:
    parts, number = (header.metadata.get(f"split.{key}", 0) for key in ("count", "no"))
    if isinstance(parts, int) and isinstance(number, int) and parts > 1:
        message = f"{name} is part {number + 1:,} of {parts:,} of a split file"
        raise refuse("S574", message, place=name, help="join them with llama-gguf-split --merge")


def _sha256(file: ModelFile, progress: Progress) -> str:
    digest = hashlib.sha256()
    with file.open() as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            progress("hash", stream.tell(), file.size)
    return digest.hexdigest()


def _recorded(target: Path) -> tuple[str, ...] | None:
    """Return the notes of a finished conversion, nothing if there is none by this version."""
    try:
        record = json.loads((target / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("conversion") != CONVERSION:
        return None
    return tuple(str(note) for note in record.get("notes", ()))


def _build(
    file: ModelFile, header: GgufHeader, target: Path, progress: Progress
) -> tuple[str, ...]:
    from porting.origin import gguf_model  # noqa: PLC0415 - needs transformers, and a cached conversion does not

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name[:16]}-", dir=target.parent))
    except OSError as error:
        raise _no_room(error) from error
    try:
        notes = gguf_model.write_model(file, header, work, progress)
        record = {"conversion": CONVERSION, "file": file.name, "notes": list(notes)}
        (work / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        _publish(work, target)
    except OSError as error:
        raise _no_room(error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return notes


def _publish(work: Path, target: Path) -> None:
    """Put a finished folder in its place at once; keep the one that another process put there first."""
    for path in [*work.iterdir(), work]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    if target.exists() and _recorded(target) is None:
        target.rename(work.with_name(f"{work.name}-old"))
        shutil.rmtree(work.with_name(f"{work.name}-old"), ignore_errors=True)
    try:
        work.rename(target)
    except OSError:
        if _recorded(target) is None:
            raise


def _no_room(error: OSError) -> Refused:
    message = (
        f"the converted model cannot be written to the cache: {shown(error.strerror or str(error))}"
    )
    return refuse("S575", message, help="set SOHU_CACHE to a folder with room for it")
