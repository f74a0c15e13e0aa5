# SPDX-License-Identifier: Apache-2.0
"""Mistakes in how a text is split over chips: mesh axes of types, batches and layers, and collectives.

An edit replaces places of the syntax tree, so that the text always parses. Whether it is a bug is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from dsl.source import Source, Span
from dsl.text import syntax as sx

COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "shard")
AXES = ("tp", "ep", "pp", "dp")
ADDING = ("all_reduce", "reduce_scatter")
NONLINEAR = "silu"
Changes = tuple[tuple[Span, str], ...]


@dataclass(frozen=True, slots=True)
class ShardingEdit:
    """One mistake: its kind, the places with their new texts, and what was done."""

    kind: str
    changes: Changes
    what: str

    @property
    def name(self) -> str:
        """Return the name of the file that it is made in."""
        return self.changes[0][0].source.name


def sharding_edits(program: sx.Syntax, mesh: Sequence[str]) -> dict[str, list[ShardingEdit]]:
    """Return every mistake that can be made in a family or a block, by its kind; `mesh` are the axes that it knows."""
    return {
        kind: [ShardingEdit(kind, changes, what) for changes, what in make(program, mesh)]
        for kind, make in MAKERS.items()
    }


def edited_text(source: Source, changes: Sequence[tuple[Span, str]]) -> str:
    """Return a text with places replaced; raises `ValueError` where two overlap."""
    text, end = source.text, len(source.text)
    for span, new in sorted(changes, key=lambda change: change[0].start, reverse=True):
        if span.end > end:
            raise ValueError("two changes of one place")
        text = text[: span.start] + new + text[span.end :]
        end = span.start
    return text


Made = Iterator[tuple[Changes, str]]


def _nodes(node: sx.Syntax) -> Iterator[sx.Syntax]:
    yield node
    for field in node.__dataclass_fields__:
        value = getattr(node, field)
        for child in value if isinstance(value, tuple) else (value,):
            if isinstance(child, sx.Syntax):
                yield from _nodes(child)


def _types(program: sx.Syntax) -> Iterator[sx.TypeSyntax]:
    return (node for node in _nodes(program) if isinstance(node, sx.TypeSyntax))


def _axes(program: sx.Syntax) -> Iterator[sx.AxisSyntax]:
    return (axis for kind in _types(program) for axis in kind.axes)


def _collectives(program: sx.Syntax) -> Iterator[sx.Call]:
    for node in _nodes(program):
        if isinstance(node, sx.Call) and node.function.id in COLLECTIVES:
            yield node


def _split(axis: sx.AxisSyntax, shards: Sequence[str]) -> tuple[Span, str]:
    return axis.span, " ".join([axis.size.span.text, *(f"@{name}" for name in shards)])


def _names(axis: sx.AxisSyntax) -> list[str]:
    return [name.id for name in axis.shards]


def _others(mesh: Sequence[str], taken: Sequence[str]) -> Iterator[str]:
    return (name for name in mesh if name not in taken)


def _shard_dropped(program: sx.Syntax, mesh: Sequence[str]) -> Made:
    for axis in _axes(program):
        for at in range(len(axis.shards)):
            kept = [name for n, name in enumerate(_names(axis)) if n != at]
            yield (_split(axis, kept),), axis.span.text


def _shard_added(program: sx.Syntax, mesh: Sequence[str]) -> Made:
    for axis in _axes(program):
        for name in _others(mesh, _names(axis)):
            yield (_split(axis, [*_names(axis), name]),), f"{axis.span.text} @{name}"
            if axis.shards:
                yield (_split(axis, [name, *_names(axis)]),), f"{axis.span.text}, @{name} before"


def _shard_renamed(program: sx.Syntax, mesh: Sequence[str]) -> Made:
    for axis in _axes(program):
        for at, old in enumerate(_names(axis)):
            for name in _others(mesh, _names(axis)):
                new = [name if n == at else other for n, other in enumerate(_names(axis))]
                yield (_split(axis, new),), f"{axis.span.text}, @{old} is @{name}"


def _shard_moved(program: sx.Syntax, mesh: Sequence[str]) -> Made:
    for kind in _types(program):
        for axis in kind.axes:
            for other in kind.axes:
                if other is not axis and axis.shards:
                    moved = _split(axis, []), _split(other, [*_names(other), *_names(axis)])
                    yield moved, f"{kind.span.text}: to {other.size.span.text}"


def _shards_exchanged(program: sx.Syntax, mesh: Sequence[str]) -> Made:
    for kind in _types(program):
        split = [axis for axis in kind.axes if axis.shards]
        for one, other in pairwise(split):
            yield (_split(one, _names(other)), _split(other, _names(one))), kind.span.text


def _collective_dropped(program: sx.Syntax, mesh: Sequence[str]) -> Made:
    for call in _collectives(program):
        yield ((call.span, call.arguments[0].span.text),), call.span.text


def _collective_doubled(program: sx.Syntax, mesh: Sequence[str]) -> Made:
    for call in _collectives(program):
        yield (
            ((call.span, _called(call.function.id, call.span.text, _meshes(call))),),
            call.span.text,
        )


def _collective_exchanged(program: sx.Syntax, mesh: Sequence[str]) -> Made:
    for call in _collectives(program):
        for name in _others(COLLECTIVES, [call.function.id]):
            axes = _meshes(call)[: None if name == "all_reduce" else 1]
            new = _called(name, call.arguments[0].span.text, axes)
            yield ((call.span, new),), f"{call.span.text} by {name}"


def _collective_added(program: sx.Syntax, mesh: Sequence[str]) -> Made:
    for node in _nodes(program):
        if not isinstance(node, sx.Assign):
            continue
        for name in COLLECTIVES:
            for axis in mesh:
                new = _called(name, node.value.span.text, [axis])
                yield ((node.value.span, new),), f"{node.span.text} by {name} over {axis}"


def _axes_of_collective(program: sx.Syntax, mesh: Sequence[str]) -> Made:
    for call in _collectives(program):
        axes, x = _meshes(call), call.arguments[0].span.text
        for at, old in enumerate(axes):
            for name in _others(mesh, axes):
                new = [name if n == at else other for n, other in enumerate(axes)]
                yield ((call.span, _called(call.function.id, x, new)),), f"{old} is {name}"
            if len(axes) > 1:
                kept = [name for n, name in enumerate(axes) if n != at]
                yield ((call.span, _called(call.function.id, x, kept)),), f"{old} dropped"
        for name in _others(mesh, axes):
            new = [*axes, name]
            yield ((call.span, _called(call.function.id, x, new)),), f"{name} added"


def _sum_late(program: sx.Syntax, mesh: Sequence[str]) -> Made:
    """A collective behind what should take its result: an operation, or a term of a sum."""
    for node in _nodes(program):
        if isinstance(node, sx.Call) and node.function.id not in COLLECTIVES:
            for call in (a for a in node.arguments if _is_collective(a)):
                yield _hoisted(node, call)
        if isinstance(node, sx.Binary):
            for call in (node.left, node.right):
                if _is_collective(call):
                    yield _hoisted(node, call)


def _sum_behind(program: sx.Syntax, mesh: Sequence[str]) -> Made:
    """What is not linear, or a product of two sums, in front of a collective that adds."""
    for call in _collectives(program):
        if call.function.id not in ADDING:
            continue
        x = call.arguments[0].span.text
        yield ((call.arguments[0].span, f"{NONLINEAR}({x})"),), f"{NONLINEAR} in {call.span.text}"
        yield ((call.arguments[0].span, f"{x} * ({x})"),), f"square in {call.span.text}"


def _sum_early(program: sx.Syntax, mesh: Sequence[str]) -> Made:
    """A collective around an operand of what makes the sum."""
    for call in _collectives(program):
        inner = call.arguments[0]
        if not isinstance(inner, sx.Call) or not inner.arguments:
            continue
        for first in inner.arguments:
            if isinstance(first, (sx.Name, sx.Call)):
                new = _called(call.function.id, first.span.text, _meshes(call))
                changes = (call.span, inner.span.text.replace(first.span.text, new, 1))
                yield (changes,), f"{call.span.text} to {first.span.text}"


def _split_batch(program: sx.Syntax, mesh: Sequence[str]) -> Made:
    for dim in (node for node in _nodes(program) if isinstance(node, sx.DimSyntax)):
        old = [name.id for name in dim.shards]
        for name in _others(mesh, old):
            for shards in ([name], [*old, name]):
                new = " ".join([dim.name.id, *(f"@{axis}" for axis in shards)])
                yield ((dim.span, f"{new}: {dim.role.id}"),), f"{dim.span.text} as {new}"


def _split_layers(program: sx.Syntax, mesh: Sequence[str]) -> Made:
    for node in _nodes(program):
        if not isinstance(node, sx.RepeatSyntax):
            continue
        for name in _others(mesh, [] if node.stages is None else [node.stages.id]):
            if node.stages is not None:
                yield ((node.stages.span, name),), f"layers @{name}"
            else:
                yield ((node.count.span, f"{node.count.span.text} @{name}"),), f"layers @{name}"


def _mesh_shortened(program: sx.Syntax, mesh: Sequence[str]) -> Made:
    for node in _nodes(program):
        if isinstance(node, sx.Mesh):
            for name in node.axes:
                kept = ", ".join(axis.id for axis in node.axes if axis.id != name.id)
                yield ((node.span, f"mesh {{ {kept} }}" if kept else ""),), f"no {name.id}"


def _is_collective(node: sx.Syntax) -> bool:
    return isinstance(node, sx.Call) and node.function.id in COLLECTIVES


def _hoisted(node: sx.Syntax, call: sx.Syntax) -> tuple[Changes, str]:
    if not isinstance(call, sx.Call):
        raise TypeError("no collective")
    start, end = call.span.start - node.span.start, call.span.end - node.span.start
    text = node.span.text
    inner = text[:start] + call.arguments[0].span.text + text[end:]
    return ((node.span, _called(call.function.id, inner, _meshes(call))),), text


def _meshes(call: sx.Call) -> list[str]:
    return [argument.span.text for argument in call.arguments[1:]]


def _called(name: str, x: str, axes: Sequence[str]) -> str:
    return f"{name}({', '.join([x, *axes])})"


MAKERS: Mapping[str, Callable[[sx.Syntax, Sequence[str]], Made]] = {
    "axis dropped from a type": _shard_dropped,
    "axis added to a type": _shard_added,
    "axis renamed in a type": _shard_renamed,
    "axis moved in a type": _shard_moved,
    "axes exchanged in a type": _shards_exchanged,
    "collective dropped": _collective_dropped,
    "collective doubled": _collective_doubled,
    "collective of another kind": _collective_exchanged,
    "collective added": _collective_added,
    "other axes of a collective": _axes_of_collective,
    "collective too late": _sum_late,
    "nonlinear before a sum": _sum_behind,
    "collective too early": _sum_early,
    "batch split on another axis": _split_batch,
    "layers split on another axis": _split_layers,
    "axis dropped from the mesh": _mesh_shortened,
}
