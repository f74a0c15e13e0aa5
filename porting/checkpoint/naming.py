# SPDX-License-Identifier: Apache-2.0
"""Let a family's tensors be found under a file's names for them: relative to the base model, or inside of another.

transformers' loading adds or takes away the name of the base model wherever that makes a name fit, and a model that
reads text beside other things holds its text model under one of a few names. The port states the file's own names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from dsl.linking.parts import collect, expanded
from dsl.linking.program import Program
from dsl.text import syntax as sx

Node = TypeVar("Node")

_NUMBER = re.compile(r"(?<=\.)[0-9]+(?=\.|$)")
_HOLE = re.compile(r"\{[^{}]*\}")
_LEADING = re.compile(r"\{(\w+)\}")
OTHER = frozenset({sx.Use, sx.Config, sx.Dims, sx.Mesh, sx.TypeSyntax, sx.Name})
"""Syntax that names no tensors."""
BEFORE = (sx.Config, sx.Dims, sx.Mesh)
"""What stands at the head of a family."""
WITHIN = (
    ("language_model.{base}.", "language_model."),
    ("{base}.language_model.", ""),
    ("{base}.text_model.", ""),
    ("language_model.", ""),
    ("text_model.", ""),
)
"""How files name a text model's tensors inside of another model: those of its base model, and the others."""


def as_named(
    program: Program, tensors: Collection[str], *, inside: bool = False
) -> tuple[Program, tuple[str, ...]]:
    """Return a program with the names that a checkpoint has its tensors by, and a note where they are others.

    With `inside` the program is of a text model that the checkpoint holds inside of another.
    """
    moved = _moved(program, tensors, inside=inside)
    if not moved:
        return program, ()
    names = {name: _change(name, moved) for name in _all_names(program)}
    shown = ", ".join(f"`{head}.` is `{new}`" for head, new in moved.items())
    return renamed(program, names), (f"the file's names are its own: {shown}",)


def own_names(
    program: Program, tensors: Collection[str], *, inside: bool = False
) -> dict[str, str]:
    """Return what a program calls the tensors, by the names that a checkpoint has them by where they are others."""
    moved = _moved(program, tensors, inside=inside)
    pairs = ((name, _change(name, moved)) for name in _all_names(program))
    return {new: name for name, new in pairs if new != name}


def _change(name: str, moved: Mapping[str, str]) -> str:
    head, dot, rest = name.partition(".")
    return f"{moved[head]}{rest}" if dot and head in moved else name


def _all_names(program: Program) -> set[str]:
    return set(_names(program, _constants(program.family())))


def _moved(program: Program, tensors: Collection[str], *, inside: bool) -> dict[str, str]:
    """Return what a file has in place of the beginnings of a program's names, where it is something else."""
    names = {name for name in _all_names(program) if "*" not in name}
    base = _base(names)
    if not base or not tensors:
        return {}
    prefixes = _prefixes(tensors)
    own = [n for n in names if n.startswith(f"{base}.")]
    moved = {base: _chosen(base, own, prefixes, inside)}
    for head in sorted({n.partition(".")[0] for n in names if "." in n} - {base}):
        own = [n for n in names if n.startswith(f"{head}.")]
        moved[head] = _other(head, base, own, prefixes, inside)
    return {head: new for head, new in moved.items() if new != f"{head}."}


def base_of(program: Program) -> str:
    """Return what a family calls the base model: what most names of tensors in layers begin with."""
    return _base(_all_names(program))


def _base(names: Iterable[str]) -> str:
    in_layers = (name for name in names if "{" in name and not name.startswith("{"))
    heads = Counter(name.partition(".")[0] for name in in_layers)
    return heads.most_common(1)[0][0] if heads else ""


def renamed(program: Program, names: Mapping[str, str]) -> Program:
    """Return a program that reads other tensors in place of some."""
    constants = _constants(program.family())
    return _with_strings(program, lambda name: names.get(name, name), constants)


def beside(
    program: Program, modules: Iterable[str], reason: str, tensors: Collection[str]
) -> Program:
    """Return a program that leaves the tensors of some modules, at the top of a model or within its base model."""
    span = program.file.families[0].span
    places = [f"{under}{module}" for module in modules for under in ("", "model.")]
    held = _prefixes(tensors)
    patterns = tuple(
        sx.String(span, place if place in tensors else f"{place}.*")
        for place in places
        if place in held
    )
    if not patterns:
        return program
    statement = sx.Unused(span, patterns, sx.String(span, reason))

    def extended(node: sx.Declaration) -> sx.Declaration:
        if not isinstance(node, sx.Family):
            return node
        after = [n for n, item in enumerate(node.items) if isinstance(item, BEFORE)]
        at = max(after, default=-1) + 1
        return replace(node, items=(*node.items[:at], statement, *node.items[at:]))

    first, *others = program.files
    return _again((replace(first, declarations=tuple(map(extended, first.declarations))), *others))


def _again(files: tuple[sx.File, ...]) -> Program:
    blocks = {block.name.id: block for file in files for block in file.blocks}
    parts = collect(files)
    families = tuple(expanded(family, parts) for family in files[0].families)
    return Program(files[0], blocks, files, families, parts)


def _chosen(base: str, names: list[str], prefixes: Collection[str], inside: bool) -> str:
    """Return what stands before the names of the base model in a file: of equals the family's own."""
    ways = [f"{base}.", ""]
    ways += [way.format(base=base) for way, _ in WITHIN] if inside else []
    return max(ways, key=lambda way: _there(way, base, names, prefixes))


def _other(head: str, base: str, names: list[str], prefixes: Collection[str], inside: bool) -> str:
    ways = [f"{head}.", f"{base}.{head}."]
    ways += [f"language_model.{head}."] if inside else []
    return max(ways, key=lambda way: _there(way, head, names, prefixes))


def _there(way: str, head: str, names: list[str], prefixes: Collection[str]) -> int:
    """Return how many names a checkpoint has with `way` in place of their head."""
    return sum(f"{way}{name.removeprefix(f'{head}.')}" in prefixes for name in _numbered(names))


def _numbered(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield _HOLE.sub("#", name)


def _prefixes(tensors: Iterable[str]) -> set[str]:
    """Return every beginning of the names of tensors, numbers left out."""
    names = {_NUMBER.sub("#", name) for name in tensors}
    return {
        ".".join(parts[:n])
        for parts in (x.split(".") for x in names)
        for n in range(1, len(parts) + 1)
    }


def _constants(family: sx.Family) -> dict[str, str]:
    """Return the texts that a family gives names to, for the beginnings of tensors' names."""
    return {
        item.targets[0].id: item.value.value
        for item in family.items
        if isinstance(item, sx.Assign) and isinstance(item.value, sx.String)
    }


def _names(program: Program, constants: Mapping[str, str]) -> Iterator[str]:
    seen: list[str] = []

    def look(name: str) -> str:
        seen.append(name)
        return name

    for family in program.families:
        _mapped(family, look, constants)
    yield from seen


def _with_strings(
    program: Program, change: Callable[[str], str], constants: Mapping[str, str]
) -> Program:
    """Return a program whose tensors' names are what `change` makes of them."""
    files = tuple(
        replace(
            file,
            declarations=tuple(
                _mapped(d, change, {} if isinstance(d, sx.Block) else constants)
                for d in file.declarations
            ),
        )
        for file in program.files
    )
    kept = _mentioned(_again(files).family())
    lost = constants.keys() - kept
    return _again(tuple(_without(file, lost) for file in files) if lost else files)


def _mentioned(node: object) -> set[str]:
    """Return the names that a tree mentions, those of assignments' targets aside."""
    if isinstance(node, tuple):
        return {name for part in node for name in _mentioned(part)}
    if isinstance(node, sx.String):
        return {hole[1:-1] for hole in _HOLE.findall(node.value)}
    if isinstance(node, sx.Name):
        return {node.id}
    if not is_dataclass(node) or isinstance(node, type):
        return set()
    skipped = {"span", "targets"} if isinstance(node, sx.Assign) else {"span"}
    inner = (getattr(node, field.name) for field in fields(node) if field.name not in skipped)
    return {name for part in inner for name in _mentioned(part)}


def _without(file: sx.File, lost: Collection[str]) -> sx.File:
    """Return a file whose family and parts do not give the lost names a value."""

    def trimmed(node: sx.Declaration) -> sx.Declaration:
        if not isinstance(node, sx.Family | sx.Part):
            return node
        kept = (i for i in node.items if not (isinstance(i, sx.Assign) and i.targets[0].id in lost))
        return replace(node, items=tuple(kept))

    return replace(file, declarations=tuple(map(trimmed, file.declarations)))


def _mapped(node: Node, change: Callable[[str], str], constants: Mapping[str, str]) -> Node:
    """Return a tree in which names of tensors are changed; one that begins with a constant has its text instead."""
    if isinstance(node, tuple):
        return tuple(_mapped(part, change, constants) for part in node)  # type: ignore[return-value]  # as it was
    if isinstance(node, sx.String):
        return _changed(node, change, constants)  # type: ignore[return-value]  # a text, as it was
    if not is_dataclass(node) or isinstance(node, type) or type(node) in OTHER:
        return node
    skipped = {sx.Unused: "reason", sx.Family: "architectures"}.get(type(node))
    made: dict[str, Any] = {
        field.name: _mapped(getattr(node, field.name), change, constants)
        for field in fields(node)
        if field.name not in ("span", skipped)
    }
    return replace(node, **made)


def _changed(
    text: sx.String, change: Callable[[str], str], constants: Mapping[str, str]
) -> sx.String:
    written = text.value
    leading = _LEADING.match(written)
    known = constants.get(leading[1]) if leading else None
    whole = written if leading is None or known is None else known + written[leading.end() :]
    new = change(whole)
    return text if new == whole else replace(text, value=new)
