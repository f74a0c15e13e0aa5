# SPDX-License-Identifier: Apache-2.0
"""Texts as a library: find, read and link `.sohu` files, of the zoo and of other folders.

A `use` is looked up beside the file that names it, then in the zoo; never outside of either. Which family ports a model
is `shelves`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import model_zoo
from dsl.diagnostics import Diagnostic, Refused, did_you_mean, refuse
from dsl.linking.program import Program, link
from dsl.regular_file import (
    TooLarge,
    is_file,
    is_inside,
    is_there,
    open_regular,
    read_at_most,
    read_regular,
)
from dsl.source import Source
from dsl.text import syntax as sx
from dsl.text.parser import MAX_CHARACTERS, parse
from dsl.text.schedules import MAX_SCHEDULE, is_schedule
from porting.files.atomic import replace_file
from porting.files.bounds import may_read, outside

ZOO = Path(model_zoo.__file__).parent
SUFFIX = ".sohu"
KEPT_TEXTS = 64
"""Parsed texts that a process keeps: every block of the zoo, and some families."""
MAX_BYTES = 4 * MAX_CHARACTERS
HEAD = 4096
"""Bytes of a file in which it has begun."""
FAMILIES = "families"
"""The folder of families, in the zoo and on other shelves; what they use lies beside it."""


def read_source(path: Path, name: str) -> Source:
    """Return a text file as a source; raises `Refused` when it cannot be read."""
    if not may_read(path) and not is_inside(path, ZOO):
        raise outside(name)
    return _source(name, lambda: read_regular(path, MAX_BYTES))


def read_schedule_text(path: Path, name: str) -> Source:
    """Return the text of a schedule, which may be much longer than others, as a source."""
    if not may_read(path) and not is_inside(path, ZOO):
        raise outside(name)
    return _source(name, lambda: read_regular(path, MAX_SCHEDULE), MAX_SCHEDULE)


def holds_schedule(path: Path) -> bool:
    """Tell whether a file begins as a schedule; what cannot be read does not."""
    if not may_read(path):
        return False
    try:
        with open_regular(path) as stream:
            return is_schedule(stream.read(HEAD).decode(errors="replace"))
    except OSError:
        return False


def read_stream(stream: BinaryIO, name: str) -> Source:
    """Return what is left of a stream as a source; raises `Refused` when it is no text or too much of it."""
    return _source(name, lambda: read_at_most(stream, MAX_BYTES))


def _source(name: str, read: Callable[[], bytes], limit: int = MAX_BYTES) -> Source:
    try:
        return Source(name, read().decode())
    except TooLarge:
        raise refuse("S106", f"the file is larger than {limit} bytes", place=name) from None
    except UnicodeDecodeError as error:
        raise refuse("S108", f"not UTF-8 at byte {error.start}", place=name) from None
    except FileNotFoundError:
        near = did_you_mean(PurePosixPath(name).name.removesuffix(SUFFIX), zoo_texts())
        raise refuse("S108", "there is no such file", place=name, help=near) from None
    except IsADirectoryError:
        raise refuse("S108", "a directory, not a file", place=name) from None
    except OSError as error:
        raise refuse("S108", f"cannot be read: {error.strerror}", place=name) from None


def write_text(path: Path, text: str) -> None:
    """Replace a text file at once; raises `Refused` when it cannot be written."""

    def save(stream: BinaryIO) -> None:
        stream.write(text.encode())

    try:
        replace_file(path, save)
    except OSError as error:
        raise refuse("S530", f"cannot write `{path}`: {error.strerror}") from None


def load_program(path: Path) -> Program:
    """Return the program in a file, linked with what it uses."""
    return _linked(path, _parsed(path))


def load_family(path: Path, file: sx.File | None = None) -> tuple[Program, tuple[str, ...]]:
    """Return the program in a file, and what it uses of its own folder although the zoo has a file of that name."""
    own: list[str] = []
    return _linked(path, file or _parsed(path), own), tuple(own)


def text_program(text: str, name: str, beside: Path | None = None) -> Program:
    """Return the program of a text that is in no file: what it uses is looked up in a folder, if given, and the zoo."""
    roots = (ZOO,) if beside is None else (beside, ZOO)
    return link(parse(Source(name, text)), lambda use: _used(use, roots))


def zoo_texts() -> dict[str, Path]:
    """Return the zoo's texts by name: ports and families by their own, blocks as `use` names them, without suffix."""
    folders = {"": ("ports", FAMILIES), "blocks/": ("blocks",)}
    return {
        f"{prefix}{path.name.removesuffix(SUFFIX)}": path
        for prefix, names in folders.items()
        for name in names
        for path in sorted((ZOO / name).glob(f"*{SUFFIX}"))
    }


def named_text(path: Path) -> Path:
    """Return the zoo's text of a name where nothing lies at this path, else the path as it is."""
    return path if is_there(path) else zoo_texts().get(str(path), path)


def _linked(path: Path, file: sx.File, own: list[str] | None = None) -> Program:
    return link(file, lambda use: _used(use, roots_of(path), own))


def roots_of(path: Path) -> tuple[Path, ...]:
    """Return where a file's `use` is looked up: its folder, the one above where that is `families`, the zoo."""
    beside = path.parent
    named = beside if beside.name else beside.absolute()
    return (beside, *((named.parent,) if named.name == FAMILIES else ()), ZOO)


def _shown(path: Path) -> str:
    try:
        return str(PurePosixPath("model_zoo") / path.resolve().relative_to(ZOO.resolve()))
    except (OSError, RuntimeError, ValueError):  # a circle of links is in no zoo
        return str(path)


def _used(use: sx.String, roots: Sequence[Path], own: list[str] | None = None) -> sx.File:
    path, root = used_path(use, roots)
    if own is not None and root != ZOO and is_file(ZOO / use.value):
        own.append(use.value)
    return _parsed(path)


def used_path(use: sx.String, roots: Sequence[Path]) -> tuple[Path, Path]:
    """Return the file that a `use` names, and which of the folders it lies in; raises `Refused` where none has it."""
    relative = PurePosixPath(use.value)
    if relative.is_absolute() or ".." in relative.parts or relative.suffix != SUFFIX:
        message = f"`{use.value}` is no plain relative path of a {SUFFIX} file"
        raise Refused((Diagnostic("S227", message, use.span),))
    for root in roots:
        path = root / relative
        if is_file(path) and is_inside(path, root):
            return path, root
    known = [str(p.relative_to(ZOO)) for p in ZOO.glob(f"blocks/*{SUFFIX}")]
    message = f"there is no file `{use.value}` beside this one or in the zoo"
    raise Refused((Diagnostic("S227", message, use.span, help=did_you_mean(use.value, known)),))


def _parsed(path: Path) -> sx.File:
    source = read_source(path, _shown(path))
    return _parsed_text(source.name, source.text)


@lru_cache(maxsize=KEPT_TEXTS)
def _parsed_text(name: str, text: str) -> sx.File:
    """Return the syntax of a text, parsed once however many programs of a process use it."""
    return parse(Source(name, text))


def families() -> dict[str, Path]:
    """Return the zoo's families by the architecture they claim; raises `Refused` where two claim one."""
    return {architecture: path for architecture, (path, _) in claimed(ZOO, "").items()}


def claimed(folder: Path, mentioned: str) -> dict[str, tuple[Path, sx.File]]:
    """Return a folder's families by the architecture they claim; raises `Refused` where two claim one.

    They lie in its `families`, or in the folder itself where it has none. Only texts with the string `mentioned` are
    parsed: a port needs one of many.
    """
    claims: dict[str, tuple[Path, sx.File]] = {}
    inner = folder / FAMILIES
    for path in sorted((inner if inner.is_dir() else folder).glob(f"*{SUFFIX}")):
        source = read_source(path, _shown(path))
        if mentioned and f'"{mentioned}"' not in source.text:
            continue
        file = parse(source)
        for architecture in (a for f in file.families for a in f.architectures):
            if architecture.value in claims:
                message = f"two families claim {architecture.value}"
                raise Refused((Diagnostic("S228", message, architecture.span),))
            claims[architecture.value] = path, file
    return claims


def find_family(architecture: str) -> Program | None:
    """Return the program of the zoo's family that claims an architecture, None where none does."""
    claim = claimed(ZOO, architecture).get(architecture)
    return None if claim is None else _linked(*claim)


def family_for(architecture: str) -> Program:
    """Return the program of the zoo's family that claims an architecture; raises `Refused` where none does."""
    program = find_family(architecture)
    if program is None:
        known = families()
        help_ = did_you_mean(architecture, known) or f"the zoo has {', '.join(sorted(known))}"
        message = f"no family claims {architecture}"
        raise refuse("S404", message, place="config.json: architectures", help=help_)
    return program


def parsed_families() -> tuple[sx.File, ...]:
    """Return every family's own file."""
    return tuple(_parsed(path) for path in sorted((ZOO / FAMILIES).glob(f"*{SUFFIX}")))


def parsed_blocks() -> tuple[sx.File, ...]:
    """Return the files of blocks and parts."""
    return tuple(_parsed(path) for path in sorted((ZOO / "blocks").glob(f"*{SUFFIX}")))
