# SPDX-License-Identifier: Apache-2.0
"""Diagnostics of all paths through a generic program: each fault once, with the conditions under which it shows.

What a path decides is known from `dsl.linking.static`; nothing is inferred here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dsl.diagnostics import Diagnostic
from dsl.linking.static import Path

Key = tuple[object, ...]


UNUSED = "S215"


@dataclass(slots=True)
class Findings:
    """Collects the diagnostics of one path after another."""

    _first: dict[Key, Diagnostic] = field(default_factory=dict)
    _faulty: dict[Key, list[Mapping[str, bool]]] = field(default_factory=dict)

    def add(self, diagnostic: Diagnostic, path: Path) -> None:
        """Record a diagnostic of a path that has been walked."""
        span = diagnostic.span
        at = (span.source.name, span.start) if span else (diagnostic.message,)
        key = (diagnostic.code, *at)
        self._first.setdefault(key, diagnostic)
        self._faulty.setdefault(key, []).append(path.taken)

    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Return every diagnostic once, noting the decisions that all its paths share."""
        faults = {k: d for k, d in self._first.items() if d.code != UNUSED}
        # What is unused on one path may follow from a fault that another path shows.
        return tuple(self._noted(key, d) for key, d in (faults or self._first).items())

    def _noted(self, key: Key, diagnostic: Diagnostic) -> Diagnostic:
        first, *others = self._faulty[key]
        shared = [
            _shown(condition, truth)
            for condition, truth in first.items()
            if all(other.get(condition) is truth for other in others)
        ]
        if not shared:
            return diagnostic
        return replace(
            diagnostic, notes=(*diagnostic.notes, f"this is where {' and '.join(shared)}")
        )


def _shown(condition: str, truth: bool) -> str:
    if condition.endswith(" == true"):
        name = condition.removesuffix(" == true")
        return f"`{name}`" if truth else f"`not {name}`"
    if truth:
        return f"`{condition}`"
    if " == " in condition:
        return f"`{condition.replace(' == ', ' != ', 1)}`"
    return f"not `{condition}`"
