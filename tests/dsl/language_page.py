# SPDX-License-Identifier: Apache-2.0
"""The generated sections of the language's specification: operations, sources, types, diagnostics, from their tables.

Returns text; `LANGUAGE.md` holds it between markers, and a test fails when the two differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dsl.codes import CODES
from dsl.inference.sources import SOURCES
from dsl.linking.static import FUNCTIONS
from dsl.ops import AREAS
from dsl.ops.spec import OpSpec, Required, Work
from dsl.types import DTYPES

GROUPS = {
    "S1": "Syntax and source files",
    "S2": "Names, types and shapes",
    "S3": "Sharding",
    "S4": "Config",
    "S5": "Checkpoint and files",
    "S6": "Device",
}

NOTES = {
    "linear": "linear: accepts partial sums where its constraints allow, and passes them on",
    "in_place": "in place: its result shares the memory of its first argument",
    "views_state": "of a state: a part that is read where it lies",
    "needs_sequence": "in its sequence: a token's result depends on other tokens, a state or the position",
    "stores": "for its effect on a state",
    "passes": "hands on what it is given, and is as right as that",
    "keeps_axes": "keeps the axes of its largest argument",
}


def operations() -> str:
    """Return one section an operation, by area."""
    parts = []
    for area, specs in AREAS.items():
        parts.append(f"### {area}")
        parts += [_operation(spec) for spec in specs]
    return "\n\n".join(parts)


def _operation(spec: OpSpec) -> str:
    rows = [f"#### `{spec.name}`", "", spec.summary, "", f"`{spec.signature}`", ""]
    notes = [note for column, note in NOTES.items() if getattr(spec, column)]
    if spec.work is not Work.VECTOR:
        notes.append(f"priced as: {spec.work.value}")
    required = [p.name for p in spec.params if isinstance(p.default, Required)]
    rows += [
        f"* parameters: {', '.join(_param(p.name, p.role.value, p.choices) for p in spec.params)}",
        f"* required: {', '.join(f'`{r}`' for r in required)}",
        f"* semantics: {spec.semantics}",
        f"* FLOPs: {spec.cost}",
        *(f"* {note}" for note in notes),
        f"* example: `{spec.example}`",
        "",
    ]
    rows += [f"* `{spec.name}_c{i}`: {c}" for i, c in enumerate(spec.constraints, 1)]
    return "\n".join(rows)


def _param(name: str, role: str, choices: tuple[str, ...]) -> str:
    if choices:
        return f"`{name}` ({' or '.join(choices)})"
    return f"`{name}` ({role})"


def dtypes() -> str:
    """Return the table of storage formats."""
    rows = ["| dtype | kind | bits |", "|---|---|--:|"]
    rows += [f"| `{d.name}` | {d.kind.value} | {d.bits} |" for d in DTYPES.values()]
    return "\n".join(rows)


def sources() -> str:
    """Return the table of weight sources."""
    rows = ["| source | gives |", "|---|---|", '| `"name"` | the tensor of this name |']
    rows += [f"| `{s.usage}` | {s.summary} |" for s in SOURCES.values()]
    return "\n".join(rows)


def functions() -> str:
    """Return the names of the static functions."""
    return ", ".join(f"`{name}`" for name in sorted(FUNCTIONS))


def diagnostics() -> str:
    """Return the index of diagnostics."""
    parts = []
    for prefix, title in GROUPS.items():
        rows = [f"### {prefix}xx {title}", ""]
        rows += [
            f"* **{code}** {row.title}. {row.explanation}"
            for code, row in sorted(CODES.items())
            if code.startswith(prefix)
        ]
        parts.append("\n".join(rows))
    return "\n\n".join(parts)


SECTIONS: Mapping[str, Callable[[], str]] = {
    "dtypes": dtypes,
    "sources": sources,
    "functions": functions,
    "operations": operations,
    "diagnostics": diagnostics,
}


def marker(name: str) -> tuple[str, str]:
    """Return the lines that enclose a generated section."""
    return f"<!-- generated: {name} -->", f"<!-- end of {name} -->"


def with_sections(page: str, grammar: str) -> str:
    """Return a page with its generated sections as the tables now give them; the grammar is given as text."""
    made = {name: make() for name, make in SECTIONS.items()}
    made["grammar"] = f"```lark\n{grammar.rstrip()}\n```"
    for name, text in made.items():
        start, end = marker(name)
        head, _, rest = page.partition(start)
        _, found, tail = rest.partition(end)
        if not found:
            raise ValueError(f"the page has no section {name}")
        page = f"{head}{start}\n{text}\n{end}{tail}"
    return page
