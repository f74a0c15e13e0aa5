# SPDX-License-Identifier: Apache-2.0
"""What becomes of mistakes in how programs are split: refused by the checker, caught in lockstep, or missed.

A subject is a family with free symbols, whose tiny config says what a mistake does, or a port, the text of a bound
program. A mistake that leaves the graph as it is, in a branch that the config does not take, is none; neither is one
that makes another right program, which `literal` decides where all bits are as before.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from device_model.engine.engine import Engine
from device_model.mesh.engine import MeshEngine
from dsl.diagnostics import Diagnostic, Refused, Severity
from dsl.graph import Graph
from dsl.inference.inference import check, infer
from dsl.linking.program import Program, link
from dsl.source import Source, Span
from dsl.symbolic import Poly
from dsl.text import syntax as sx
from dsl.text.outline import calls
from dsl.text.parser import parse
from farm.matrix.meshes import MODES, difference, fed
from farm.mutants.literal import literally_differs
from farm.mutants.sharding_edits import ShardingEdit, edited_text, sharding_edits
from farm.oracles.tiny import tiny
from porting.checkpoint.tensors import Checkpoint
from porting.config.class_defaults import asked, completed
from porting.config.reader import read_config
from porting.origin.resolve import resolve
from porting.planning.plan import STORED_DTYPE, family_of, plan, stored_dtype

FAMILY, PORT = "family", "port"
REFUSED, CAUGHT, MISSED = "refused", "caught", "missed"
UNCHANGED, HARMLESS, NO_TEXT = "unchanged", "harmless", "no text"
BUGS = (REFUSED, CAUGHT, MISSED)
LOCKSTEP: tuple[Mapping[str, int], ...] = (
    {"tp": 2}, {"ep": 2}, {"tp": 2, "ep": 2}, {"pp": 2}, {"dp": 2}, {"tp": 2, "dp": 2},
)  # fmt: skip
STEPS = MODES["ragged"]
PLACES = frozenset({"span", "path", "name", "text", "help", "names", "mesh", "obligations"})
"""Fields of a graph that say where something stands or what it is called, or which meshes there may be."""


@dataclass(frozen=True, slots=True)
class Seeded:
    """What became of one mistake, or of a pair; `told` are the codes that refuse it, or where the bits differ."""

    model_type: str
    subject: str
    kinds: tuple[str, ...]
    what: str
    verdict: str
    told: str = ""

    @property
    def is_bug(self) -> bool:
        """Tell whether it makes a program that is wrong on some mesh, or none."""
        return self.verdict in BUGS


@dataclass
class Subject:
    """A program with its texts, its bound graph and weights."""

    model_type: str
    kind: str
    root: str
    files: Mapping[str, sx.File]
    values: Mapping[str, object] | None
    checkpoint: Checkpoint

    def linked(self, texts: Mapping[str, str]) -> Program:
        """Return the program with other texts for some files; raises `Refused` for what is no text."""

        def read(name: str) -> sx.File:
            return parse(Source(name, texts[name])) if name in texts else self.files[name]

        return link(read(self.root), lambda use: read(self._file(use.value)))

    def reached(self) -> tuple[sx.Syntax, ...]:
        """Return the family, with the parts that it includes, and the blocks that it calls."""
        program = self.linked({})
        parts: dict[str, sx.Syntax] = {"": program.family()}
        pending = [""]
        while pending:
            for call in calls(parts[pending.pop()]):
                name = call.function.id
                if name in program.blocks and name not in parts:
                    parts[name] = program.blocks[name]
                    pending.append(name)
        return tuple(parts.values())

    def _file(self, used: str) -> str:
        return next(name for name in self.files if name.endswith(used))

    def errors(self, program: Program) -> tuple[Diagnostic, ...]:
        """Return what the checker has against a program: with free symbols where it is a family."""
        if self.kind == PORT:
            return infer(program.family(), program.blocks, None).errors
        diagnostics = check(program.family(), program.blocks).diagnostics
        return tuple(d for d in diagnostics if d.severity is Severity.ERROR)

    def bound(self, program: Program) -> Graph | None:
        """Return the graph of a program with the tiny config, None where it does not allow that config."""
        held = None if self.kind == PORT else self.checkpoint.tensors
        return infer(program.family(), program.blocks, self.values, held).graph

    @cached_property
    def graph(self) -> Graph:
        """Return the graph without a mistake."""
        graph = self.bound(self.linked({}))
        if graph is None:
            raise ValueError(f"{self.model_type}: the {self.kind} is not bound by its config alone")
        return graph

    @cached_property
    def wanted(self) -> Any:
        """Return the bits of one chip without a mistake."""
        return fed(Engine(self.graph, self.checkpoint, "f32", threads=1), STEPS)


def subjects(model_type: str, folder: Path) -> tuple[Subject, Subject]:
    """Return the family of a type and the port of its tiny oracle, which is written into a folder."""
    tiny(folder, model_type)
    checkpoint, config = Checkpoint.open(folder), read_config(folder)
    spec = plan(resolve(str(folder)), config, checkpoint).spec
    port = {"port.sohu": parse(Source("port.sohu", spec))}
    _, chosen, part = family_of(config, None)
    program = chosen.program
    values = completed(part.config, asked(program.family())).values
    files = {file.span.source.name: file for file in program.files}
    known = {**values, STORED_DTYPE: stored_dtype(checkpoint)}
    root = program.file.span.source.name
    return (
        Subject(model_type, FAMILY, root, files, known, checkpoint),
        Subject(model_type, PORT, "port.sohu", port, None, checkpoint),
    )


def seeded(
    model_type: str, in_family: int, in_port: int, pairs: int, seed: int = 15
) -> Iterator[Seeded]:
    """Yield what becomes of so many mistakes in a type's family and in its port, some of them in pairs."""
    with tempfile.TemporaryDirectory(prefix="farm-") as name:
        family, port = subjects(model_type, Path(name))
        for subject, count in ((family, in_family), (port, in_port)):
            if not count:
                continue
            rng = random.Random(f"{seed} {model_type} {subject.kind}")  # noqa: S311 - a sample
            for edits in drawn(subject, count, pairs, rng):
                verdict, told = judged(subject, edits)
                what = "; ".join(f"{edit.name}: {edit.what}" for edit in edits)
                kinds = tuple(edit.kind for edit in edits)
                yield Seeded(model_type, subject.kind, kinds, what, verdict, told)


def drawn(
    subject: Subject, count: int, pairs: int, rng: random.Random
) -> Iterator[tuple[ShardingEdit, ...]]:
    """Yield distinct mistakes, each kind alike often as long as it has some; every `pairs`-th is a pair."""
    pool: dict[str, list[ShardingEdit]] = {}
    for part in subject.reached():
        for kind, made in sharding_edits(part, subject.graph.mesh).items():
            pool.setdefault(kind, []).extend(made)
    for made in pool.values():
        rng.shuffle(made)
    order = [made for made in pool.values() if made]
    every = [edit for made in order for edit in made]
    for number in range(count):
        left = [made for made in order if made]
        if not left:
            return
        edit = left[number % len(left)].pop()
        if pairs and number % pairs == pairs - 1:
            yield edit, rng.choice(every)
        else:
            yield (edit,)


def judged(subject: Subject, edits: Sequence[ShardingEdit]) -> tuple[str, str]:
    """Return what becomes of mistakes that are made together, and what told it."""
    changes: dict[str, list[tuple[Span, str]]] = {}
    for edit in edits:
        changes.setdefault(edit.name, []).extend(edit.changes)
    try:
        texts = {
            name: edited_text(subject.files[name].span.source, made)
            for name, made in changes.items()
        }
        program = subject.linked(texts)
    except (ValueError, Refused):
        return NO_TEXT, ""
    if errors := subject.errors(program):
        return REFUSED, " ".join(sorted({error.code for error in errors}))
    graph = subject.bound(program)
    if graph is None:
        return REFUSED, "with the config"
    if meaning(graph) == meaning(subject.graph):
        return UNCHANGED, ""
    return in_lockstep(subject, graph)


def in_lockstep(subject: Subject, graph: Graph) -> tuple[str, str]:
    """Return what a changed graph does on one chip and on meshes, beside one chip of the right one."""
    try:
        for mesh in ({}, *LOCKSTEP):
            if not set(mesh) <= set(graph.mesh):
                continue
            many = MeshEngine(graph, subject.checkpoint, "f32", mesh)
            if where := difference(subject.wanted, fed(many, STEPS)):
                return CAUGHT, f"{_named(mesh)}: {where}"
            if where := literally_differs(graph, subject.checkpoint, mesh, STEPS, subject.wanted):
                return MISSED, f"{_named(mesh)}: {where}"
    except (Refused, ValueError, AssertionError) as error:
        # A mesh that cannot be planned, or whose chips do not agree on what all of them have.
        return CAUGHT, f"{type(error).__name__}: {error}"
    return HARMLESS, ""


def _named(mesh: Mapping[str, int]) -> str:
    return ",".join(f"{axis}={size}" for axis, size in mesh.items()) or "one chip"


def meaning(made: object) -> object:
    """Return what a graph says, without places, names of values and the list of its mesh axes."""
    if isinstance(made, Poly):
        return str(made)
    if is_dataclass(made):
        kept = (field.name for field in fields(made) if field.name not in PLACES)
        return (type(made).__name__, *(meaning(getattr(made, name)) for name in kept))
    if isinstance(made, Mapping):
        return tuple(sorted((str(key), meaning(value)) for key, value in made.items()))
    if isinstance(made, (frozenset, set)):
        return tuple(sorted(map(str, made)))
    if isinstance(made, (tuple, list)):
        return tuple(map(meaning, made))
    return made
