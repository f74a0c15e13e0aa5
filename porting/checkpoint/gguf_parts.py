# SPDX-License-Identifier: Apache-2.0
"""Open a GGUF model: one file, or every part of a split one, each once and as one header.

Whoever reads gets the bytes that were checked: all parts stay open from the first look to the last. Parts are found by
their names, as llama.cpp names them; what their tensors mean is not known here.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from dsl.diagnostics import Refused, refuse
from porting.checkpoint.gguf_header import (
    GgufHeader,
    GgufTensor,
    GgufValue,
    check_sizes,
    read_opened,
)
from porting.files.files import ModelFile
from porting.files.strict_json import shown

PART = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf", re.DOTALL)
MAX_PARTS = 512
COUNT, NUMBER, TENSORS = (f"split.{key}" for key in ("count", "no", "tensors.count"))
OWN_KEYS = frozenset({"general.alignment", "general.architecture"})
"""What any part may say of itself; llama.cpp takes all else from the first."""
OTHER_TYPES: Mapping[str, str] = {
    "adapter": "an adapter: weights to be added to another model's",
    "imatrix": "what a quantiser measured of a model",
    "mmproj": "the part of a model that sees or hears",
}
"""What a file is by its `general.type`, where that is not a model."""
OTHER_ARCHITECTURES: Mapping[str, str] = {
    "clip": OTHER_TYPES["mmproj"],
    "controlvector": "a control vector: something to be added to another model's hidden states",
    "imatrix": OTHER_TYPES["imatrix"],
}
NO_MODEL = (
    "port the model that it belongs to; an adapter is ported from its PEFT folder, with --adapter"
)

Identity = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GgufModel:
    """The open parts of a model, in order, and their one header, whose tensors know their part."""

    name: str
    header: GgufHeader
    paths: tuple[Path, ...]
    streams: tuple[BinaryIO, ...]

    @property
    def size(self) -> int:
        """The bytes of all parts."""
        return sum(os.fstat(stream.fileno()).st_size for stream in self.streams)

    def identities(self) -> tuple[Identity, ...]:
        """Return what tells whether a part was changed while it was open."""
        facts = (os.fstat(stream.fileno()) for stream in self.streams)
        return tuple((x.st_dev, x.st_ino, x.st_size, x.st_mtime_ns, x.st_ctime_ns) for x in facts)


@contextmanager
def open_gguf(path: Path) -> Iterator[GgufModel]:
    """Open the model that a file holds, or is a part of; raises `Refused` for what holds no whole model."""
    with ExitStack() as stack:
        named = stack.enter_context(_file(path).open())
        header = _read(path.name, named)
        paths = _all_parts(path, header)
        if len(paths) == 1:
            model = GgufModel(path.name, header, paths, (named,))
        else:
            streams = tuple(stack.enter_context(_file(part).open()) for part in paths)
            model = GgufModel(path.name, _joined(paths, streams), paths, streams)
        _check_whole(model)
        yield model


def part_paths(path: Path) -> tuple[Path, ...]:
    """Return the paths of all parts that a part's name speaks of, the path alone where it is no part's."""
    match = PART.fullmatch(path.name)
    if match is None or not 1 < int(match["count"]) <= MAX_PARTS:
        return (path,)
    names = (
        f"{match['stem']}-{number:05d}-of-{match['count']}.gguf"
        for number in range(1, int(match["count"]) + 1)
    )
    return tuple(path.with_name(name) for name in names)


def _file(path: Path) -> ModelFile:
    """Return a file of a user's; it may be a link, as in the hub's cache."""
    try:
        resolved = path.resolve(strict=True)
        status = resolved.stat()
    except (OSError, RuntimeError) as error:
        raise refuse("S513", f"{shown(path.name)} cannot be read", place=path.name) from error
    if not stat.S_ISREG(status.st_mode):
        raise refuse("S513", f"{shown(path.name)} is not a regular file", place=path.name)
    return ModelFile(path.name, resolved, status.st_size)


def _read(name: str, stream: BinaryIO) -> GgufHeader:
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        raise refuse("S513", f"{shown(name)} is not a regular file", place=name)
    return read_opened(name, stream)


def _all_parts(path: Path, header: GgufHeader) -> tuple[Path, ...]:
    """Return the parts of the model that a file belongs to, all of which lie beside it."""
    count, number = (_whole(header.metadata.get(key, 0)) for key in (COUNT, NUMBER))
    if count <= 1:
        return (path,)
    if count > MAX_PARTS:
        message = f"{path.name} has {count:,} parts; at most {MAX_PARTS} are read"
        raise _split(path.name, message)
    paths = part_paths(path)
    if len(paths) != count or not 0 <= number < count or paths[number].name != path.name:
        message = f"{path.name} is part {number + 1:,} of {count:,} of a split file, which its name does not say"
        raise _split(path.name, message, f"name it NAME-{number + 1:05d}-of-{count:05d}.gguf")
    missing = [x.name for x in paths if not os.path.lexists(x)]
    if missing:
        more = f" and {len(missing) - 3:,} more" if len(missing) > 3 else ""
        message = (
            f"{path.name} is part {number + 1:,} of {count:,} of a split file; missing beside it: "
            f"{', '.join(shown(name) for name in missing[:3])}{more}"
        )
        raise _split(path.name, message, "put all parts into one folder, with their names")
    return paths


def _whole(value: GgufValue) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _joined(paths: tuple[Path, ...], streams: tuple[BinaryIO, ...]) -> GgufHeader:
    """Return the header of all parts: the first one's keys, and everyone's tensors."""
    headers = [_read(path.name, x) for path, x in zip(paths, streams, strict=True)]
    first = headers[0]
    tensors: dict[str, GgufTensor] = {}
    for number, (path, header) in enumerate(zip(paths, headers, strict=True)):
        _check_part(path, number, len(paths), header, first)
        for tensor in header.tensors:
            if tensor.name in tensors:
                message = f"{path.name} has the tensor `{shown(tensor.name)}` of an earlier part"
                raise _split(path.name, message)
            tensors[tensor.name] = replace(tensor, part=number)
    told = first.metadata.get(TENSORS, len(tensors))
    if told != len(tensors):
        message = f"{paths[0].name}: all parts are to have {shown(told)} tensors, and have {len(tensors):,}"
        raise _split(paths[0].name, message)
    return replace(first, tensors=tuple(tensors.values()))


def _check_part(path: Path, number: int, count: int, header: GgufHeader, first: GgufHeader) -> None:
    said = tuple(header.metadata.get(key) for key in (NUMBER, COUNT))
    if said != (number, count):
        message = f"{path.name} does not say that it is part {number + 1:,} of {count:,}"
        raise _split(path.name, message)
    for key, value in header.metadata.items():
        if key in OWN_KEYS or key.startswith("split.") or first.metadata.get(key) == value:
            continue
        message = f"{path.name} says `{shown(key)}` otherwise than the first part"
        raise _split(path.name, message)


def _split(name: str, message: str, help_: str | None = None) -> Refused:
    return refuse("S543", message, place=name, help=help_ or "fetch the parts once more")


def _check_whole(model: GgufModel) -> None:
    """Refuse what is a file of this format and no model, then counts that do not fit its tensors."""
    header = model.header
    kind, architecture = header.metadata.get("general.type"), header.architecture
    other = OTHER_TYPES.get(kind) if isinstance(kind, str) else None
    other = other or OTHER_ARCHITECTURES.get(architecture)
    if other is None and not header.tensors:
        other = "a vocabulary alone" if "tokenizer.ggml.model" in header.metadata else "no tensor"
    if other is not None:
        raise refuse(
            "S544", f"{model.name} holds {other}, no model", place=model.name, help=NO_MODEL
        )
    check_sizes(header, model.name)
