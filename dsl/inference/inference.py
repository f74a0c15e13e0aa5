# SPDX-License-Identifier: Apache-2.0
"""Infer a program: from its syntax tree to a typed graph, every fault a diagnostic.

`check` explores a generic family with free symbols along every condition; `infer` takes a bound one to its graph. Each
layer class is inferred once. Operations' own rules live in `dsl.ops`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from dsl.diagnostics import Diagnostic, Severity, did_you_mean
from dsl.graph import Attr, Graph
from dsl.inference.blocks import faulty_parameters, symbolic_arguments
from dsl.inference.expressions import Context
from dsl.inference.findings import UNUSED, Findings
from dsl.inference.literals import literals
from dsl.inference.recall import Recall
from dsl.inference.scope import POISON, Scope, Tensor
from dsl.inference.sightings import Sightings
from dsl.inference.splits import BATCH, MeshSplit, not_cut, sharded, split_twice
from dsl.inference.statements import Statements
from dsl.linking.binding import Bindings, KeyUse, bind, is_generic
from dsl.linking.static import Exhausted, Exploration, MeshAxis, Path, StaticError, Unknown
from dsl.ops import AREAS
from dsl.ops.spec import Divides
from dsl.source import Span
from dsl.symbolic import symbol
from dsl.text import syntax as sx
from dsl.text.outline import calls, second_sections, unused_config, unused_parameters

ROLES = ("batch", "seq", "context")
COLLECTIVES = {
    spec.name: spec.place("axes") for area in ("collective", "exchange") for spec in AREAS[area]
}
"""Operations between chips, and where their mesh axes begin."""
OPTIONAL_ROLES = ("memory",)


@dataclass(frozen=True, slots=True)
class Checked:
    """The outcome of checking one family: its graph where it is bound and sound.

    `entries` has the graph of every entry; `graph` is the last one's, which ends in the logits.
    """

    graph: Graph | None
    diagnostics: tuple[Diagnostic, ...]
    uses: tuple[KeyUse, ...]
    paths: int
    entries: Mapping[str, Graph] = field(default_factory=dict)

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """Return the diagnostics that refuse the program."""
        return tuple(d for d in self.diagnostics if d.severity is Severity.ERROR)


def check(family: sx.Family, blocks: Mapping[str, sx.Block]) -> Checked:
    """Check a family as it stands: along every path where it is generic, once where it is bound."""
    if not is_generic(_config(family)):
        return infer(family, blocks, None)
    findings, paths, recall = Findings(), Exploration(), Recall()
    for path in paths:
        made = _entries(family, blocks, path, None, generic=True, recall=recall)
        if made.diagnostics:
            # Once more in full: messages name places inside of calls that were not inferred again.
            made = _entries(family, blocks, path.again(), None, generic=True)
        for diagnostic in made.diagnostics:
            findings.add(diagnostic, path)
    return Checked(None, (*findings.diagnostics(), *_capped(paths, family.name)), (), paths.count)


def _capped(paths: Exploration, name: sx.Name) -> tuple[Diagnostic, ...]:
    if not paths.capped:
        return ()
    message = (
        f"there are more than {paths.count} combinations of conditions; the others were not checked"
    )
    return (Diagnostic("S219", message, name.span, severity=Severity.WARNING),)


def infer(
    family: sx.Family,
    blocks: Mapping[str, sx.Block],
    values: Mapping[str, object] | None,
    held: Container[str] | None = None,
) -> Checked:
    """Infer a bound program; `values` are the normalised config keys, None for a port.

    `held` names the tensors of a checkpoint: it decides between the alternatives of a weight's source.
    """
    return _entries(family, blocks, Path(), values, generic=False, held=held)


def _entries(
    family: sx.Family,
    blocks: Mapping[str, sx.Block],
    path: Path,
    values: Mapping[str, object] | None,
    *,
    generic: bool,
    held: Container[str] | None = None,
    seen: Sightings | None = None,
    recall: Recall | None = None,
) -> Checked:
    """Infer every entry of a family along one path; a family without entries is one program."""
    entries: list[sx.Entry | None] = [i for i in family.items if isinstance(i, sx.Entry)]
    walks = [
        _Inference(family, blocks, path, generic, held, seen, recall) for _ in entries or [None]
    ]
    made = [w.run(values, e) for w, e in zip(walks, entries or [None], strict=True)]
    # What is outside of entries must be used in one of them at least.
    left = [{d.span: d for d in w.builder.left_unused} for w in walks]
    unused = [d for span, d in left[0].items() if all(span in other for other in left[1:])]
    diagnostics = {(d.code, d.span): d for c in made for d in c.diagnostics}
    if not diagnostics:
        diagnostics = {(d.code, d.span): d for d in unused}
    graphs = {c.graph.entry: c.graph for c in made if c.graph is not None}
    whole = not diagnostics and len(graphs) == len(made)
    return Checked(
        made[-1].graph if whole else None,
        tuple(diagnostics.values()),
        made[-1].uses,
        1,
        graphs if whole else {},
    )


def check_block(block: sx.Block, blocks: Mapping[str, sx.Block]) -> Checked:
    """Check a block on its own, with free symbols for its parameters."""
    findings, paths, recall = Findings(), Exploration(), Recall()
    params = [param.span for param in block.params]
    idle: list[dict[Span, tuple[Diagnostic, Path]]] = []
    for path in paths:
        idle.append({})
        diagnostics = _Inference(None, blocks, path, True, recall=recall).run_block(block)
        if diagnostics:
            diagnostics = _Inference(None, blocks, path.again(), generic=True).run_block(block)
        for diagnostic in diagnostics:
            span = diagnostic.span
            if span is not None and diagnostic.code == "S215" and _within(span, params):
                idle[-1][span] = diagnostic, path
            else:
                findings.add(diagnostic, path)
    # A parameter that one path needs is not idle on the others.
    for span, (diagnostic, path) in idle[0].items():
        if all(span in other for other in idle):
            findings.add(diagnostic, path)
    return Checked(None, (*findings.diagnostics(), *_capped(paths, block.name)), (), paths.count)


def glance(
    part: sx.Family | sx.Block, blocks: Mapping[str, sx.Block], most: int
) -> tuple[Sightings, tuple[Diagnostic, ...]]:
    """Return what the places of a family or block stand for, and its faults, along at most so many paths.

    Names that nothing uses are no fault here: a path that was not walked may use them.
    """
    seen, findings = Sightings(), Findings()
    generic = isinstance(part, sx.Block) or is_generic(_config(part))
    for path in islice(Exploration(), most):
        if isinstance(part, sx.Block):
            inference = _Inference(None, blocks, path, generic=True, seen=seen)
            diagnostics = inference.run_block(part)
        else:
            made = _entries(part, blocks, path, None, generic=generic, seen=seen)
            diagnostics = made.diagnostics
        for diagnostic in diagnostics:
            findings.add(diagnostic, path)
        if not generic:
            return seen, diagnostics
    return seen, tuple(d for d in findings.diagnostics() if d.code != UNUSED)


def _within(span: Span, others: Sequence[Span]) -> bool:
    return any(o.source is span.source and o.start <= span.start < o.end for o in others)


def _config(family: sx.Family) -> sx.Config | None:
    return next((i for i in family.items if isinstance(i, sx.Config)), None)


class _Inference:
    """One walk over one program along one path."""

    def __init__(
        self,
        family: sx.Family | None,
        blocks: Mapping[str, sx.Block],
        path: Path,
        generic: bool,
        held: Container[str] | None = None,
        seen: Sightings | None = None,
        recall: Recall | None = None,
    ) -> None:
        self.family = family
        self.shared = Context(blocks, path, generic, held=held, seen=seen, recall=recall)
        self.builder = self.shared.builder
        self.statements = Statements(self.shared)
        self.expressions = self.statements.expressions
        self.blocks = self.statements.blocks
        self.mesh: tuple[str, ...] = ()
        self.batch_shards: tuple[str, ...] = ()
        self.batch_splits: list[MeshSplit] = []

    def run(self, values: Mapping[str, object] | None, entry: sx.Entry | None) -> Checked:
        """Infer the family, or one entry with what it shares."""
        family = self.family
        if family is None:
            raise ValueError("there is no family to infer")
        bindings = bind(_config(family), values, self.shared.path, self.shared.generic)
        self.shared.facts, self.shared.uses = bindings.facts, tuple(bindings.uses)
        sections = second_sections(family)
        for diagnostic in (*sections, *bindings.diagnostics):
            self.builder.report(diagnostic)
        if sections or any(d.code == "S403" for d in bindings.diagnostics):
            # With a part unread, or for another model than is meant, every further fault may follow.
            return Checked(None, tuple(self.builder.diagnostics.values()), self.shared.uses, 1)
        scope = self._family_scope(family, bindings)
        self.shared.note_all(scope)
        statements = _statements(family, entry)
        self._bounded(lambda: self.statements.run(statements, scope))
        if not self.statements.outputs and not self.builder.diagnostics:
            message = f"family `{family.name.id}` has no output"
            self.builder.report(Diagnostic("S220", message, family.name.span))
        self.builder.close_frame()
        splits = [*self.batch_splits, *self.shared.stages]
        for diagnostic in (
            *split_twice(splits, self.builder.values, self.shared.batch),
            *not_cut(self.shared.stages, self.builder.arrays.values()),
        ):
            self.builder.report(diagnostic)
        self._leave_whole(family, entry)
        unused = self._unused_config(family) if self.shared.generic else ()
        self.builder.close(unused, entry.span if entry else None)
        whole = not self.builder.diagnostics and not self.shared.generic
        graph = self._graph(bindings, entry) if whole else None
        diagnostics = tuple(self.builder.diagnostics.values())
        return Checked(graph, diagnostics, tuple(bindings.uses), 1)

    def _leave_whole(self, family: sx.Family, entry: sx.Entry | None) -> None:
        """Record that the mesh axes which split nothing have one chip; an entry may leave one to others."""
        if entry is not None or self.shared.generic:
            return
        splits = [*self.batch_splits, *self.shared.stages]
        idle = set(self.mesh) - {split.axis for split in splits} - set(sharded(self.builder.values))
        for axis in (a for i in family.items if isinstance(i, sx.Mesh) for a in i.axes):
            if axis.id in idle:
                self.builder.leave_whole(axis.id, f"nothing is split on `{axis.id}`", axis.span)

    def _unused_config(self, family: sx.Family) -> tuple[Diagnostic, ...]:
        recall = self.shared.recall or Recall()
        return recall.unused(lambda: unused_config(family))

    def _bounded(self, action: Callable[[], object]) -> None:
        try:
            self.statements.guard(action)
        except Exhausted as error:
            self.builder.report(error.diagnostic)

    def run_block(self, block: sx.Block) -> tuple[Diagnostic, ...]:
        """Infer one block with free parameters."""
        faulty = tuple(faulty_parameters(block))
        if faulty:
            return faulty
        self.blocks.globals = {n: symbol(n) for n in ("B", "S", "C")}
        mesh = sorted({s.id for b in self._called(block) for s in _shards(b)})
        scope = Scope(dict(self.blocks.globals))
        symbolic_arguments(block, self.shared, scope, mesh)
        self.blocks.globals |= {m: MeshAxis(m, None) for m in mesh}
        self._sources_of(block, scope)
        self.shared.note_all(scope)
        self._bounded(lambda: self._block_values(block, scope))
        self.builder.close_frame()
        self.builder.close(unused_parameters(block))
        return tuple(self.builder.diagnostics.values())

    def _called(self, block: sx.Block) -> list[sx.Block]:
        """Return a block and all that it calls."""
        blocks = [block]
        for one in blocks:
            made = (self.shared.blocks.get(call.function.id) for call in calls(one))
            blocks += [b for b in dict.fromkeys(made) if b is not None and b not in blocks]
        return blocks

    def _sources_of(self, block: sx.Block, scope: Scope) -> None:
        for param in block.params:
            if isinstance(param.kind, sx.TypeSyntax):
                kind = param.kind
                try:
                    type_ = self.expressions.type(kind, scope)
                except StaticError as error:
                    self.builder.report(error.diagnostic)
                    scope.bind(param.name.id, POISON, param.name.span)
                    continue
                value = self.builder.value(param.name.id, type_, param.span)
                self.builder.expect_use(value, param.name.id, param.name.span, "parameter")
                scope.bind(param.name.id, Tensor((value,)), param.name.span)

    def _block_values(self, block: sx.Block, scope: Scope) -> None:
        self.blocks.results(block, sx.Call(block.span, block.name, (), ()), scope, self.expressions)

    # Scopes and sections

    def _family_scope(self, family: sx.Family, bindings: Bindings) -> Scope:
        config = _config(family)
        scope = Scope(literals=dict(literals(config.items)) if config else {})
        for name, value in bindings.values.items():
            scope.bind(name, value, bindings.places[name].span)
        for name in bindings.failed:
            scope.bind(name, POISON, bindings.places.get(name, family.name).span)
        dims = (d for item in family.items if isinstance(item, sx.Dims) for d in item.items)
        split = {name.id for d in dims if d.role.id == "batch" for name in d.shards}
        for item in family.items:
            if isinstance(item, sx.Mesh):
                self.mesh = tuple(a.id for a in item.axes)
                for axis in item.axes:
                    self.statements.fresh(axis, scope)
                    scope.bind(axis.id, MeshAxis(axis.id, axis.id in split), axis.span)
        self._dims(family, scope)
        shared = self.shared
        runtime = (shared.batch, shared.seq, shared.context)
        self.blocks.globals = {
            n: scope.names[n] for n in (*runtime, *self.mesh) if n in scope.names
        }
        return scope

    def _dims(self, family: sx.Family, scope: Scope) -> None:
        roles: dict[str, sx.Name] = {}
        for item in (d for i in family.items if isinstance(i, sx.Dims) for d in i.items):
            if item.role.id not in (*ROLES, *OPTIONAL_ROLES):
                known = (*ROLES, *OPTIONAL_ROLES)
                help_ = did_you_mean(item.role.id, known) or f"roles are {', '.join(known)}"
                message = f"`{item.role.id}` is no role of a dimension"
                self.builder.report(Diagnostic("S221", message, item.role.span, help=help_))
                scope.bind(item.name.id, POISON, item.name.span)
                continue
            self.statements.fresh(item.name, scope)
            scope.bind(item.name.id, symbol(item.name.id), item.name.span)
            roles[item.role.id] = item.name
            if item.shards:
                self._split_dim(item, scope)
        missing = [r for r in ROLES if r not in roles]
        if missing and not self.builder.diagnostics:
            message = f"no dimension has the role {', '.join(missing)}"
            help_ = "write dims { B: batch, S: seq, C: context }"
            place = next((i.span for i in family.items if isinstance(i, sx.Dims)), family.name.span)
            self.builder.report(Diagnostic("S221", message, place, help=help_))
        self.shared.batch = roles["batch"].id if "batch" in roles else "B"
        self.shared.seq = roles["seq"].id if "seq" in roles else "S"
        self.shared.context = roles["context"].id if "context" in roles else "C"
        for name in (self.shared.batch, self.shared.seq, self.shared.context):
            scope.names.setdefault(name, POISON)

    def _split_dim(self, item: sx.DimSyntax, scope: Scope) -> None:
        """Record the mesh axes that split the batch wherever it occurs."""
        if item.role.id != "batch":
            message = "only the batch is split as a whole; shard other axes in their types"
            self.builder.report(Diagnostic("S302", message, item.shards[0].span))
            return
        axes: list[str] = []
        try:
            axes = [self.expressions.mesh_axis(name, scope) for name in item.shards]
        except StaticError as error:
            self.builder.report(error.diagnostic)
        self.batch_shards = tuple(axes)
        self.batch_splits += [
            MeshSplit(axis, BATCH, name.span) for axis, name in zip(axes, item.shards, strict=False)
        ]
        facts = [Divides(symbol(item.name.id), symbol(axis)) for axis in axes]
        self.builder.oblige(facts, item.span)

    # Result

    def _graph(self, bindings: Bindings, entry: sx.Entry | None) -> Graph:
        if self.family is None:
            raise ValueError("there is no family")
        config: dict[str, Attr] = {
            k: v  # type: ignore[misc]  # bound programs have no unknowns and no mesh axes here
            for k, v in bindings.values.items()
            if not isinstance(v, (Unknown, MeshAxis))
        }
        return Graph(
            self.family.name.id,
            tuple(a.value for a in self.family.architectures),
            self.shared.batch,
            self.shared.seq,
            self.shared.context,
            self.mesh,
            config,
            tuple(self.builder.values[i] for i in self.statements.inputs),
            self.builder.frame.body(),
            tuple(self.statements.outputs),
            tuple(self.builder.values),
            tuple(self.builder.obligations.values()),
            tuple(self.builder.arrays.values()),
            self.batch_shards,
            entry.name.id if entry else "",
            tuple(self.builder.unneeded.values()),
        )


def _statements(family: sx.Family, entry: sx.Entry | None) -> tuple[sx.Statement, ...]:
    """Return what one entry runs: the family's statements, with the entry's body in its place."""
    statements: list[sx.Statement] = []
    for item in family.items:
        if isinstance(item, sx.Entry):
            statements += item.body if item is entry else ()
        elif isinstance(item, sx.Include):
            raise TypeError(f"`{item.name.id}` is included before a family is inferred")
        elif not isinstance(item, (sx.Config, sx.Dims, sx.Mesh)):
            statements.append(item)
    return tuple(statements)


def _shards(block: sx.Block) -> list[sx.Name]:
    """Return every mesh axis that a block names, in types or collectives."""
    names: list[sx.Name] = []

    def types(*written: sx.TypeSyntax) -> None:
        for type_ in written:
            for axis in type_.axes:
                names.extend(axis.shards)

    def walk(statements: Sequence[sx.Statement]) -> None:
        for s in statements:
            match s:
                case sx.WeightSyntax() | sx.StateSyntax():
                    types(s.type)
                case sx.If():
                    walk(s.then)
                    walk(s.orelse)

    between = [call for call in calls(block) if call.function.id in COLLECTIVES]
    axes = (a for call in between for a in call.arguments[COLLECTIVES[call.function.id] :])
    names.extend(a for a in axes if isinstance(a, sx.Name))
    types(*(p.kind for p in block.params if isinstance(p.kind, sx.TypeSyntax)), *block.results)
    walk(block.body)
    return names
