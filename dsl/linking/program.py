# SPDX-License-Identifier: Apache-2.0
"""A whole program: a file with the blocks of the files it uses, and the port that a bound family becomes.

Files are given by a callback; finding and reading them is the caller's work.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from dsl.diagnostics import Diagnostic, Label, Refused
from dsl.graph import Graph
from dsl.linking.binding import KeyUse
from dsl.linking.parts import collect, expanded, included
from dsl.linking.static import Evaluator, Path, Static, show
from dsl.ops import OPS
from dsl.source import Source, Span
from dsl.text import syntax as sx
from dsl.text.outline import calls
from dsl.text.parser import MAX_WORDS, count_words
from dsl.types import DType

MAX_FILES = 64
Node = TypeVar("Node", bound=sx.Syntax)

ReadFile = Callable[[sx.String], sx.File]


@dataclass(frozen=True, slots=True)
class Program:
    """A file, its families with their parts in place, and every block that they can call."""

    file: sx.File
    blocks: Mapping[str, sx.Block]
    files: tuple[sx.File, ...]
    families: tuple[sx.Family, ...]
    parts: Mapping[str, sx.Part]

    def family(self) -> sx.Family:
        """Return the one family of the file; raises `Refused` when there is none or several."""
        families = self.families
        if len(families) != 1:
            place = self.file.span.source.name
            message = f"{len(families)} families; one is needed"
            span = families[1].name.span if families else None
            raise Refused((Diagnostic("S226", message, span, place=place),))
        return families[0]


def link(file: sx.File, load: ReadFile) -> Program:
    """Return the program of a file; `load` gives the file that a `use` names."""
    files = [file]
    seen: dict[str, sx.Use] = {}
    queue = list(file.uses)
    words = 0
    while queue:
        use = queue.pop(0)
        if use.path.value in seen:
            continue
        seen[use.path.value] = use
        if len(files) >= MAX_FILES:
            raise Refused((Diagnostic("S218", f"more than {MAX_FILES} files", use.span),))
        used = load(use.path)
        words += count_words(used.span.source.text)
        if words > MAX_WORDS:
            message = f"the files used have more than {MAX_WORDS:,} names, numbers and signs in all"
            raise Refused((Diagnostic("S218", message, use.span),))
        files.append(used)
        queue.extend(used.uses)
    blocks: dict[str, sx.Block] = {}
    problems: list[Diagnostic] = []
    for block in (b for f in files for b in f.blocks):
        name = block.name.id
        if name in blocks:
            labels = (Label(blocks[name].name.span, "first defined here"),)
            message = f"a second block `{name}`"
            problems.append(Diagnostic("S202", message, block.name.span, labels=labels))
        blocks.setdefault(name, block)
    problems += _shadows(blocks)
    if problems:
        raise Refused(problems)
    parts = collect(files)
    families = tuple(expanded(family, parts) for family in file.families)
    return Program(file, blocks, tuple(files), families, parts)


def with_sources(program: Program, change: Callable[[sx.WeightSyntax], sx.Expr]) -> Program:
    """Return the program in which every weight's source is what `change` makes of it."""
    files = tuple(replace(f, declarations=_changed(f.declarations, change)) for f in program.files)
    blocks = {block.name.id: block for file in files for block in file.blocks}
    parts = collect(files)
    families = tuple(expanded(family, parts) for family in files[0].families)
    return Program(files[0], blocks, files, families, parts)


def with_unused(program: Program, patterns: Mapping[str, str]) -> Program:
    """Return the program whose families may leave tensors of these patterns, each for its reason."""

    def more(family: sx.Family) -> sx.Family:
        span = family.name.span
        items = tuple(
            sx.Unused(span, (sx.String(span, pattern),), sx.String(span, reason))
            for pattern, reason in patterns.items()
        )
        return replace(family, items=(*family.items, *items))

    file = replace(
        program.file,
        declarations=tuple(
            more(d) if isinstance(d, sx.Family) else d for d in program.file.declarations
        ),
    )
    files = (file, *program.files[1:])
    return replace(program, file=file, files=files, families=tuple(map(more, program.families)))


def _changed(
    nodes: Sequence[Node], change: Callable[[sx.WeightSyntax], sx.Expr]
) -> tuple[Node, ...]:
    changed: list[Node] = []
    for node in nodes:
        if isinstance(node, sx.WeightSyntax):
            changed.append(replace(node, source=change(node)))
            continue
        bodies = {
            name: _changed(getattr(node, name), change) for name in _BODIES.get(type(node), ())
        }
        changed.append(replace(node, **bodies) if bodies else node)  # type: ignore[arg-type]  # fields of this node
    return tuple(changed)


def _shadows(blocks: Mapping[str, sx.Block]) -> list[Diagnostic]:
    return [
        Diagnostic("S202", f"`{name}` is an operation's name", block.name.span)
        for name, block in blocks.items()
        if name in OPS
    ]


def port_of(
    program: Program,
    uses: Sequence[KeyUse],
    header: Sequence[str],
    graphs: Iterable[Graph],
    unread: Sequence[KeyUse] = (),
) -> sx.File:
    """Return the port: the family with its config keys replaced by values, and the blocks it calls.

    The result is a complete file of the same language; each value keeps its key as a comment. Of alternative sources
    it has the one that the graphs read; raises `Refused` where one statement reads several. `unread` are keys that the
    family does not read and the port keeps all the same.
    """
    read = {w.source.span for g in graphs for body, _ in g.bodies() for w in body.weights}
    family = program.family()
    values = {use.name: use for use in uses}
    notes: list[sx.Comment] = []
    items = tuple(
        replace(item, items=(*_bound(item.items, values, notes), *_kept_keys(unread, notes)))
        if isinstance(item, sx.Config)
        else item
        for item in family.items
    )
    port = _decided(replace(family, items=items), read)
    called = _reachable(family, program.blocks)
    blocks = [_decided(b, read) for f in program.files for b in f.blocks if b.name.id in called]
    parts = included(program.file.families[0], program.parts)
    kept: tuple[sx.Declaration, ...] = (port, *blocks, *parts)
    comments = [c for f in program.files for c in f.comments if _kept(c, kept)]
    remarks = [f"# {line}".rstrip() for line in header]
    source = Source("port", "\n".join([*remarks, "sohu 1.0", ""]))
    starts = source.line_starts()
    provenance = tuple(
        sx.Comment(remark, Span(source, start, start + len(remark)), False)
        for remark, start in zip(remarks, starts, strict=False)
    )
    span = Span(source, 0, len(source.text))
    declarations: tuple[sx.Declaration, ...] = (*blocks, port)
    merged = sorted([*comments, *notes], key=lambda c: c.span.start)
    return sx.File(span, program.file.version, declarations, (*provenance, *merged))


def _decided(node: Node, read: Container[Span]) -> Node:
    """Return a part of a program with one source a weight: the one that is read, the first where none is."""
    if isinstance(node, sx.WeightSyntax):
        chosen = [source for source in sx.alternatives(node.source) if source.span in read]
        if len(chosen) > 1:
            message = f"`{node.name.id}` comes from different sources in different places"
            help_ = "write one weight for each place"
            raise Refused((Diagnostic("S208", message, node.source.span, help=help_),))
        return replace(node, source=(*chosen, *sx.alternatives(node.source))[0])
    for name in _BODIES.get(type(node), ()):
        inner = tuple(_decided(part, read) for part in getattr(node, name))
        node = replace(node, **{name: inner})  # type: ignore[arg-type]  # fields of this node
    return node


_BODIES: Mapping[type[sx.Syntax], tuple[str, ...]] = {
    sx.Family: ("items",),
    sx.Block: ("body",),
    sx.Part: ("items",),
    sx.Entry: ("body",),
    sx.RepeatSyntax: ("body",),
    sx.If: ("then", "orelse"),
}


def _bound(
    items: Sequence[sx.ConfigItem],
    values: Mapping[str, KeyUse],
    notes: list[sx.Comment],
    before: tuple[sx.ConfigItem, ...] = (),
) -> tuple[sx.ConfigItem, ...]:
    """Return config items with literals for keys; conditions give way to their taken branch."""
    bound: list[sx.ConfigItem] = []
    for item in items:
        match item:
            case sx.Bind(value=sx.Key(), name=name) if name.id in values:
                use = values[name.id]
                remark = f"# {use.key} (default)" if use.defaulted else f"# {use.key}"
                end = Span(item.span.source, item.span.end, item.span.end)
                notes.append(sx.Comment(remark, end, True))
                bound.append(replace(item, value=literal(use.value, item.span), default=None))
            case sx.Bind(value=sx.Key()):
                continue
            case sx.ConfigIf(condition=condition, then=then, orelse=orelse):
                known = (*before, *bound)
                taken = then if _holds(condition, values, known) else orelse
                bound.extend(_bound(taken, values, notes, known))
            case _:
                bound.append(item)
    return tuple(bound)


def _kept_keys(unread: Sequence[KeyUse], notes: list[sx.Comment]) -> Iterator[sx.ConfigItem]:
    """Yield config items for keys that nothing reads; they have no text but their own."""
    for use in unread:
        span = Span(Source(use.key, ""), 0, 0)
        notes.append(sx.Comment(f"# {use.key}", span, True))
        yield sx.Bind(span, sx.Name(span, use.name), literal(use.value, span), None)


def _holds(
    condition: sx.Expr, values: Mapping[str, KeyUse], before: Sequence[sx.ConfigItem]
) -> bool:
    """Return the truth of a condition in a config section that has been bound without fault."""
    written = {b.name.id: b.value for b in before if isinstance(b, sx.Bind)}

    def lookup(name: sx.Name) -> Static:
        if name.id in values:
            return values[name.id].value
        value = written[name.id]
        if isinstance(value, sx.Key):
            raise TypeError(f"`{name.id}` is not bound")
        return Evaluator(lookup, Path()).value(value)

    return Evaluator(lookup, Path()).truth(condition)


def literal(value: Static, span: Span) -> sx.Expr:
    """Return the expression that writes a static value."""
    if isinstance(value, bool):
        return sx.Boolean(span, value)
    if isinstance(value, (int, float)):
        return sx.Number(span, value, repr(value))
    if isinstance(value, (str, DType)):
        return sx.String(span, str(value))
    if isinstance(value, tuple):
        return sx.Listing(span, tuple(literal(v, span) for v in value))
    raise TypeError(f"{show(value)} is no literal")


def _kept(comment: sx.Comment, declarations: Sequence[sx.Declaration]) -> bool:
    """Tell whether a comment belongs to a kept declaration: inside it, or directly above it."""
    source, at = comment.span.source, comment.span.start
    for declaration in declarations:
        span = declaration.span
        if span.source is not source:
            continue
        between = source.text[comment.span.end : span.start]
        if span.start <= at < span.end or (at < span.start and not _has_gap(between)):
            return True
    return False


def _has_gap(between: str) -> bool:
    lines = between.split("\n")[1:-1]
    return any(not line.strip() or not line.strip().startswith("#") for line in lines)


def _reachable(family: sx.Family, blocks: Mapping[str, sx.Block]) -> set[str]:
    needed: set[str] = set()
    queue: list[sx.Syntax] = [family]
    while queue:
        for call in calls(queue.pop()):
            name = call.function.id
            if name in blocks and name not in needed:
                needed.add(name)
                queue.append(blocks[name])
    return needed
