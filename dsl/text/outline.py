# SPDX-License-Identifier: Apache-2.0
"""What can be said of a program from its text alone: sections given twice, names that nothing mentions.

Values, types and paths are not known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from dsl.diagnostics import Diagnostic, Label
from dsl.source import Span
from dsl.text import syntax as sx

_HOLE = re.compile(r"\{([^{}]*)\}")
# Fields whose names are bound, or are of another kind; every other name is a mention.
_NO_MENTION = {
    sx.Keyword: ("name",),
    sx.Call: ("function",),
    sx.Bind: ("name",),
    sx.Param: ("name",),
    sx.Assign: ("targets",),
    sx.RepeatSyntax: ("variable", "stages"),
    sx.Input: ("name",),
    sx.WeightSyntax: ("name",),
    sx.StateSyntax: ("name", "variable"),
    sx.OutputSyntax: ("name",),
    sx.AxisSyntax: ("shards",),
    sx.DimSyntax: ("name", "role", "shards"),
    sx.Mesh: ("axes",),
    sx.Entry: ("name",),
    sx.Block: ("name",),
    sx.Family: ("name",),
}


def second_sections(family: sx.Family) -> tuple[Diagnostic, ...]:
    """Return a diagnostic for every section that the family has already."""
    first: dict[type, sx.Syntax] = {}
    diagnostics: list[Diagnostic] = []
    for item in family.items:
        if isinstance(item, (sx.Config, sx.Dims, sx.Mesh)):
            before = first.setdefault(type(item), item)
            if before is not item:
                message = f"a second {type(item).__name__.lower()} section"
                labels = (Label(_head(before), "the first"),)
                diagnostics.append(Diagnostic("S202", message, _head(item), labels=labels))
    return tuple(diagnostics)


def unused_config(family: sx.Family) -> tuple[Diagnostic, ...]:
    """Return a diagnostic for every config name that nothing mentions: its key would be dropped in silence."""
    mentioned = set(mentions(family))
    return tuple(
        _unused("config name", bind.name)
        for bind in _binds(family)
        if bind.name.id not in mentioned
    )


def unused_parameters(block: sx.Block) -> tuple[Diagnostic, ...]:
    """Return a diagnostic for every static parameter that a block never mentions."""
    mentioned = set(mentions(block))
    return tuple(
        _unused("parameter", param.name)
        for param in block.params
        if isinstance(param.kind, sx.Name) and param.name.id not in mentioned
    )


def _unused(what: str, name: sx.Name) -> Diagnostic:
    return Diagnostic("S215", f"the {what} `{name.id}` is never used", name.span)


def mentions(node: sx.Syntax) -> Iterator[str]:
    """Yield every name that a part of a program mentions, in expressions, types or holes of strings."""
    for part in _mentioning(node):
        if isinstance(part, sx.Name):
            yield part.id
        else:
            yield from _HOLE.findall(part.value)


def calls(node: sx.Syntax) -> Iterator[sx.Call]:
    """Yield every call below a node."""
    if isinstance(node, sx.Call):
        yield node
    for name in node.__dataclass_fields__:
        value = getattr(node, name)
        for child in value if isinstance(value, tuple) else (value,):
            if isinstance(child, sx.Syntax):
                yield from calls(child)


def names(node: sx.Syntax) -> Iterator[sx.Name]:
    """Yield every reference in a part of a program."""
    return (part for part in _mentioning(node) if isinstance(part, sx.Name))


@lru_cache(maxsize=4096)
def mentioned(statements: tuple[sx.Statement, ...]) -> frozenset[str]:
    """Return the names that some statements refer to."""
    return frozenset(name.id for s in statements for name in names(s))


def _mentioning(node: sx.Syntax) -> Iterator[sx.Name | sx.String]:
    if isinstance(node, (sx.Name, sx.String)):
        yield node
    skipped = _NO_MENTION.get(type(node), ())
    for field in node.__dataclass_fields__:
        value = getattr(node, field)
        for child in value if isinstance(value, tuple) else (value,):
            if isinstance(child, sx.Syntax) and field not in skipped:
                yield from _mentioning(child)


def _binds(family: sx.Family) -> Iterator[sx.Bind]:
    queue: list[sx.ConfigItem] = [
        item for section in family.items if isinstance(section, sx.Config) for item in section.items
    ]
    while queue:
        item = queue.pop(0)
        if isinstance(item, sx.ConfigIf):
            queue += [*item.then, *item.orelse]
        elif isinstance(item, sx.Bind) and not item.name.id.startswith("_"):
            yield item


def _head(node: sx.Syntax) -> Span:
    """Return the place of a section's first word."""
    start = node.span.start
    return Span(node.span.source, start, start + len(type(node).__name__))
