# SPDX-License-Identifier: Apache-2.0
"""Seeded single edits of the zoo's texts, and which check catches them.

An edit is made on the syntax tree's places, so the text always parses. It is caught when the check of a family (or of
the block alone) reports an error; the generic check sees free symbols, the bound one a config's numbers.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

from benchmarks.launch import ROOT
from dsl.diagnostics import Diagnostic, Refused, Severity
from dsl.inference.inference import check, check_block, infer
from dsl.linking.program import Program, link
from dsl.source import Source, Span
from dsl.text import syntax as sx
from dsl.text.parser import parse
from porting.config.reader import parse_config
from porting.planning.library import ZOO

CONFIGS = ROOT / "tests" / "data" / "configs"
# Kinds that change a shape, a shard, a state, a dtype, a carry or a name: the checker should catch these.
TYPED = (
    "weights swapped",
    "dimension replaced",
    "all_reduce dropped",
    "all_reduce doubled",
    "mesh axis wrong",
    "state never appended",
    "carry forgotten",
    "dtype changed",
    "name misspelt",
)
# Kinds that leave every type as it was: the validation against the original model catches these.
UNTYPED = (
    "weights of one type swapped",
    "constraint removed",
    "tensors swapped",
    "activation changed",
)
KINDS = (*TYPED, *UNTYPED)


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit: the kind, the file, its new text, the lines that changed (0-based), and what was done."""

    kind: str
    file: str
    text: str
    lines: frozenset[int]
    what: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the checks say about an edit: which one caught it, and whether it points at the edited line."""

    edit: Edit
    generic: bool
    bound: bool
    pointed: bool
    first: Diagnostic | None

    @property
    def caught(self) -> bool:
        """Tell whether any check caught it."""
        return self.generic or self.bound


@cache
def sources() -> Mapping[str, Source]:
    """Return the texts of the zoo's blocks and families by their path in the zoo."""
    paths = sorted([*ZOO.glob("blocks/*.sohu"), *ZOO.glob("families/*.sohu")])
    names = [str(p.relative_to(ZOO)) for p in paths]
    return {n: Source(n, p.read_text(encoding="utf-8")) for n, p in zip(names, paths, strict=True)}


def program(name: str, edited: Edit | None = None) -> Program:
    """Return a family's program, with the edited text in its file's place."""

    def read(path: str) -> sx.File:
        if edited is not None and path == edited.file:
            return parse(Source(path, edited.text))
        return parse(sources()[path])

    return link(read(name), lambda use: read(use.value))


@cache
def configs() -> Mapping[str, Mapping[str, object]]:
    """Return the values of a config for every family that has one among the tests' data, by the family's path."""
    claimed = {
        a.value: name
        for name, source in sources().items()
        for f in parse(source).families
        for a in f.architectures
    }
    bound: dict[str, Mapping[str, object]] = {}
    for path in sorted(CONFIGS.glob("*.json")):
        raw = json.loads(path.read_text(encoding="utf-8"))
        name = claimed.get(raw["architectures"][0])
        if name is not None:
            values = dict(parse_config(json.dumps(raw).encode()).values)
            bound[name] = values | {"dtype": "bf16"}
    return bound


@cache
def edited() -> tuple[str, ...]:
    """Return what edits are made on: the families that have a config, and the files that they use."""
    return tuple(dict.fromkeys(f.span.source.name for n in configs() for f in program(n).files))


@cache
def users(name: str) -> tuple[str, ...]:
    """Return the families that a file's text reaches: itself, or those with a config that use it."""
    if name.startswith("families/"):
        return (name,)
    every = sorted(configs())
    return tuple(n for n in every if name in {f.span.source.name for f in program(n).files})


def nodes(node: sx.Syntax) -> Iterator[sx.Syntax]:
    """Yield a node and all below it."""
    yield node
    for field in node.__dataclass_fields__:
        value = getattr(node, field)
        for child in value if isinstance(value, tuple) else (value,):
            if isinstance(child, sx.Syntax):
                yield from nodes(child)


def replaced(source: Source, *changes: tuple[Span, str]) -> tuple[str, frozenset[int]]:
    """Return a text with spans replaced, and the lines of the replaced places in the new text."""
    text, offset, lines = source.text, 0, set()
    for span, new in sorted(changes, key=lambda c: c[0].start):
        start, end = span.start + offset, span.end + offset
        text = text[:start] + new + text[end:]
        offset += len(new) - (end - start)
        first = text.count("\n", 0, start)
        lines |= set(range(first, first + new.count("\n") + 1))
    return text, frozenset(lines)


def _pick(rng: random.Random, items: Sequence[sx.Syntax]) -> sx.Syntax | None:
    return rng.choice(items) if items else None


def _bodies(file: sx.File) -> list[sx.Block | sx.RepeatSyntax]:
    return [n for n in nodes(file) if isinstance(n, (sx.Block, sx.RepeatSyntax))]


def _weights_swapped(
    rng: random.Random, source: Source, file: sx.File, alike: bool = False
) -> object:
    body = _pick(rng, [b for b in _bodies(file) if len(_weight_uses(b)) > 1])
    if body is None:
        return None
    uses = _weight_uses(body)
    one = rng.choice(uses)
    types = {n.name.id: n.type.span.text for n in nodes(body) if isinstance(n, sx.WeightSyntax)}
    others = [u for u in uses if u.id != one.id and (types[u.id] == types[one.id]) is alike]
    if not others:
        return None
    other = rng.choice(others)
    return ((one.span, other.id), (other.span, one.id)), f"{one.id} and {other.id}"


def _weight_uses(body: sx.Syntax) -> list[sx.Name]:
    declared = {n.name.id for n in nodes(body) if isinstance(n, sx.WeightSyntax)}
    calls = [n for n in nodes(body) if isinstance(n, sx.Call)]
    return [a for c in calls for a in c.arguments if isinstance(a, sx.Name) and a.id in declared]


def _dimension_replaced(rng: random.Random, source: Source, file: sx.File) -> object:
    types = [n for n in nodes(file) if isinstance(n, sx.TypeSyntax)]
    sizes = [n for t in types for a in t.axes for n in nodes(a.size) if isinstance(n, sx.Name)]
    one = _pick(rng, [n for n in sizes if n.id[:1].isupper()])
    others = sorted({n.id for n in sizes if n.id[:1].isupper()} - {getattr(one, "id", "")})
    if one is None or not others:
        return None
    new = rng.choice(others)
    return ((one.span, new),), f"{one.span.text} by {new}"


def _calls(file: sx.File, name: str) -> list[sx.Call]:
    return [n for n in nodes(file) if isinstance(n, sx.Call) and n.function.id == name]


def _all_reduce_dropped(rng: random.Random, source: Source, file: sx.File) -> object:
    call = _pick(rng, _calls(file, "all_reduce"))
    if not isinstance(call, sx.Call):
        return None
    return ((call.span, call.arguments[0].span.text),), call.span.text


def _all_reduce_doubled(rng: random.Random, source: Source, file: sx.File) -> object:
    call = _pick(rng, _calls(file, "all_reduce"))
    if not isinstance(call, sx.Call):
        return None
    axes = ", ".join(a.span.text for a in call.arguments[1:])
    return ((call.span, f"all_reduce({call.span.text}, {axes})"),), call.span.text


def _mesh_axis_wrong(rng: random.Random, source: Source, file: sx.File) -> object:
    shards = [s for n in nodes(file) if isinstance(n, sx.AxisSyntax) for s in n.shards]
    named = [a for c in _calls(file, "all_reduce") for a in c.arguments[1:]]
    one = _pick(rng, [*shards, *named])
    if one is None:
        return None
    new = rng.choice([a for a in ("tp", "ep", "pp") if a != one.span.text])
    return ((one.span, new),), f"{one.span.text} by {new}"


def _state_never_appended(rng: random.Random, source: Source, file: sx.File) -> object:
    call = _pick(rng, _calls(file, "append"))
    if not isinstance(call, sx.Call):
        return None
    return ((call.span, call.arguments[1].span.text),), call.span.text


def _carry_forgotten(rng: random.Random, source: Source, file: sx.File) -> object:
    targets = [
        t
        for r in nodes(file)
        if isinstance(r, sx.RepeatSyntax)
        for s in nodes(r)
        if isinstance(s, sx.Assign)
        for t in s.targets
        if t.id in {c.id for c in r.carry}
    ]
    one = _pick(rng, list(targets))
    return None if one is None else (((one.span, "y"),), f"{one.span.text} bound as y")


def _dtype_changed(rng: random.Random, source: Source, file: sx.File) -> object:
    one = _pick(rng, [n.dtype for n in nodes(file) if isinstance(n, sx.TypeSyntax)])
    if one is None:
        return None
    new = rng.choice([d for d in ("f32", "f16", "i8", "f8e4m3") if d != one.span.text])
    return ((one.span, new),), f"{one.span.text} by {new}"


def _name_misspelt(rng: random.Random, source: Source, file: sx.File) -> object:
    titles = [n.name for n in nodes(file) if isinstance(n, sx.Family)]
    used = [n for n in nodes(file) if isinstance(n, sx.Name) and len(n.id) > 1 and n not in titles]
    one = _pick(rng, list(used))
    if one is None:
        return None
    text = one.span.text
    at = rng.randrange(len(text))
    new = rng.choice([text[:at] + text[at] + text[at:], text[:at] + text[at + 1 :]])
    valid = (
        new.isidentifier() and new != text and new not in {"if", "or", "in", "not", "use", "for"}
    )
    return ((one.span, new),), f"{text} as {new}" if valid else None


def _constraint_removed(rng: random.Random, source: Source, file: sx.File) -> object:
    one = _pick(rng, [n for n in nodes(file) if isinstance(n, sx.Require)])
    return None if one is None else (((one.span, ""),), one.span.text)


def _tensors_swapped(rng: random.Random, source: Source, file: sx.File) -> object:
    body = _pick(rng, list(_bodies(file)))
    weights = [n for n in nodes(body) if isinstance(n, sx.WeightSyntax)] if body else []
    plain = [w.source for w in weights if isinstance(w.source, sx.String)]
    if len(plain) < 2:
        return None
    one, other = rng.sample(plain, 2)
    return ((one.span, other.span.text), (other.span, one.span.text)), one.span.text


def _activation_changed(rng: random.Random, source: Source, file: sx.File) -> object:
    one = _pick(rng, _calls(file, "activation"))
    if not isinstance(one, sx.Call):
        return None
    return ((one.span, f"sigmoid({one.span.text})"),), one.span.text


MAKERS: Mapping[str, Callable[[random.Random, Source, sx.File], object]] = {
    "weights swapped": _weights_swapped,
    "dimension replaced": _dimension_replaced,
    "all_reduce dropped": _all_reduce_dropped,
    "all_reduce doubled": _all_reduce_doubled,
    "mesh axis wrong": _mesh_axis_wrong,
    "state never appended": _state_never_appended,
    "carry forgotten": _carry_forgotten,
    "dtype changed": _dtype_changed,
    "name misspelt": _name_misspelt,
    "weights of one type swapped": partial(_weights_swapped, alike=True),
    "constraint removed": _constraint_removed,
    "tensors swapped": _tensors_swapped,
    "activation changed": _activation_changed,
}


def edits(seed: int, each: int) -> list[Edit]:
    """Return distinct edits, up to `each` of a kind."""
    rng = random.Random(seed)  # noqa: S311 - a reproducible sample
    distinct: dict[tuple[str, str], Edit] = {}
    for kind, make in MAKERS.items():
        made = 0
        for _ in range(each * 20):
            if made == each:
                break
            name = rng.choice(edited())
            source = sources()[name]
            result = make(rng, source, parse(source))
            if not isinstance(result, tuple) or result[1] is None:
                continue
            text, lines = replaced(source, *result[0])
            if text != source.text and (name, text) not in distinct:
                distinct[name, text] = Edit(kind, name, text, lines, result[1])
                made += 1
    return list(distinct.values())


def outcome(edit: Edit) -> Outcome:
    """Return what the checks say about an edit."""
    generic = _generic(edit)
    bound = _bound(edit)
    first = next(iter([*generic, *bound]), None)
    return Outcome(edit, bool(generic), bool(bound), _points(first, edit), first)


def _errors(diagnostics: tuple[Diagnostic, ...]) -> list[Diagnostic]:
    return [d for d in diagnostics if d.severity is Severity.ERROR]


def _generic(edit: Edit) -> list[Diagnostic]:
    try:
        file = parse(Source(edit.file, edit.text))
        errors = []
        for name in users(edit.file)[:2]:
            made = program(name, edit)
            if not file.families:
                for block in file.blocks:
                    errors += _errors(check_block(block, made.blocks).diagnostics)
            errors += _errors(check(made.family(), made.blocks).diagnostics)
            if errors:
                break
    except Refused as refused:
        return list(refused.diagnostics)
    return errors


def _bound(edit: Edit) -> list[Diagnostic]:
    for name in users(edit.file)[:2]:
        if name not in configs():
            continue
        try:
            made = program(name, edit)
            errors = _errors(infer(made.family(), made.blocks, configs()[name]).diagnostics)
        except Refused as refused:
            return list(refused.diagnostics)
        if errors:
            return errors
    return []


def _points(diagnostic: Diagnostic | None, edit: Edit) -> bool:
    if diagnostic is None:
        return False
    if edit.kind == "constraint removed":
        # Its line is gone: the help must say what stood there, or the place be that of a name it was about.
        at = diagnostic.span.text.split()[:1] if diagnostic.span else []
        return edit.what in diagnostic.help or bool(set(at) & set(edit.what.split()))
    spans = [diagnostic.span, *(x.span for x in diagnostic.labels)]
    for span in filter(None, spans):
        if span.source.name != edit.file:
            continue
        first, last = span.source.position(span.start)[0], span.source.position(span.end)[0]
        if edit.lines & set(range(first, last + 1)):
            return True
    return False
