# SPDX-License-Identifier: Apache-2.0
"""Faults of a value that the config section writes out: they stand at the literal, however often it is used.

Which uses ask for which kind of value is theirs to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from dsl.diagnostics import Label
from dsl.inference.scope import Scope
from dsl.linking.static import StaticError
from dsl.text import syntax as sx

WRONG_KIND = "S207"
_PLAIN = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false", re.ASCII)


def literals(items: tuple[sx.ConfigItem, ...]) -> Iterator[tuple[str, sx.Expr]]:
    """Yield the names that a config section gives a literal, on whichever condition."""
    for item in items:
        if isinstance(item, sx.ConfigIf):
            yield from literals((*item.then, *item.orelse))
        elif isinstance(item, sx.Bind) and not isinstance(item.value, sx.Key):
            yield item.name.id, item.value


def at_literal(error: StaticError, scope: Scope) -> StaticError:
    """Return the fault of a value at the literal that it is, where a use of its name alone shows it."""
    diagnostic = error.diagnostic
    if diagnostic is None or diagnostic.code != WRONG_KIND or diagnostic.span is None:
        return error
    literal = scope.literals.get(diagnostic.span.text)
    if literal is None:
        return error
    labels = (Label(diagnostic.span, "used here"), *diagnostic.labels)
    help_ = diagnostic.help or _unquoted(literal)
    return StaticError(replace(diagnostic, span=literal.span, labels=labels, help=help_))


def _unquoted(literal: sx.Expr) -> str:
    """Return how a number or truth is written that stands between quotes, else nothing."""
    value = literal.value if isinstance(literal, sx.String) else ""
    return f"write `{value}`, without quotes" if _PLAIN.fullmatch(value) else ""
