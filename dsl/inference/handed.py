# SPDX-License-Identifier: Apache-2.0
"""Attributes that a table hands on to what reads it: `OpSpec.hands`.

A reader that leaves one out has the table's; who has no such parameter may not read it. It does not say what they mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping

from dsl.diagnostics import Diagnostic
from dsl.graph import Attr
from dsl.linking.static import StaticError, Unknown
from dsl.ops.spec import OpSpec
from dsl.source import Span

Attrs = Mapping[str, Attr | Unknown]


def given_by(spec: OpSpec, attrs: Attrs) -> Attrs:
    """Return what the result of an operation hands on: what was asked for, not the defaults."""
    defaults = {p.name: p.default for p in spec.params}
    return {name: attrs[name] for name in spec.hands if attrs[name] != defaults[name]}


def take_over(
    spec: OpSpec,
    operands: Iterable[int],
    attrs: MutableMapping[str, Attr | Unknown],
    handed: Mapping[int, Attrs],
    span: Span,
) -> None:
    """Give a reader what its operands hand on; raises `StaticError` where it has no such parameter."""
    known = {p.name for p in spec.params}
    for operand in operands:
        given = handed.get(operand, {})
        keep({name for name in given if name not in known}, spec.name, span)
        for name, value in given.items():
            attrs.setdefault(name, value)


def keep(names: Iterable[str], reader: str, span: Span) -> None:
    """Refuse a reader that would lose what it is handed."""
    for name in sorted(names):
        message = f"{reader} would lose the `{name}` of what it reads"
        raise StaticError(Diagnostic("S207", message, span))
