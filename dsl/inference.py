"""Infer a program: from its syntax tree to a typed graph, every fault a diagnostic.

`check` explores a generic family with free symbols along every condition; `infer` takes a bound one to its graph. Each
layer class is inferred once. Operations' own rules live in `dsl.ops`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dsl import syntax as sx
from dsl.binding import Bindings, KeyUse, bind, divisibility, is_generic
from dsl.blocks import Blocks, fits, symbolic_arguments
from dsl.calls import single
from dsl.diagnostics import Diagnostic, Label, Severity, counted, did_you_mean
from dsl.expressions import Context, Expressions
from dsl.findings import Findings
from dsl.graph import Attr, Graph, Output
from dsl.layers import Layers, poison_carry
from dsl.outline import names, second_sections, unused_config, unused_parameters
from dsl.scope import POISON, Meaning, Poison, Scope, Tensor
from dsl.sources import Resolver
from dsl.static import MAX_PATHS, MeshAxis, Path, StaticError, Unknown, explore
from dsl.symbolic import symbol

ROLES = ("batch", "seq", "context")


@dataclass(frozen=True, slots=True)
class Checked:
    """The outcome of checking one family: its graph where it is bound and sound."""

    graph: Graph | None
    diagnostics: tuple[Diagnostic, ...]
    uses: tuple[KeyUse, ...]
    paths: int

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """Return the diagnostics that refuse the program."""
        return tuple(d for d in self.diagnostics if d.severity is Severity.ERROR)


def check(family: sx.Family, blocks: Mapping[str, sx.Block]) -> Checked:
    """Check a family as it stands: along every path where it is generic, once where it is bound."""
    if not is_generic(_config(family)):
        return infer(family, blocks, None)
    found = Findings()
    paths = 0
    for path in explore():
        paths += 1
        for diagnostic in _Inference(family, blocks, path, generic=True).run(None).diagnostics:
            found.add(diagnostic, path)
    diagnostics = found.diagnostics()
    if paths == MAX_PATHS:
        message = f"more than {MAX_PATHS} combinations of conditions: not all were checked"
        capped = Diagnostic("S219", message, family.name.span, severity=Severity.WARNING)
        diagnostics = (*diagnostics, capped)
    return Checked(None, diagnostics, (), paths)


def infer(
    family: sx.Family, blocks: Mapping[str, sx.Block], values: Mapping[str, object] | None
) -> Checked:
    """Infer a bound program; `values` are the normalised config keys, None for a port."""
    return _Inference(family, blocks, Path(), generic=False).run(values)


def check_block(block: sx.Block, blocks: Mapping[str, sx.Block]) -> Checked:
    """Check a block on its own, with free symbols for its parameters."""
    found = Findings()
    paths = 0
    for path in explore():
        paths += 1
        for diagnostic in _Inference(None, blocks, path, generic=True).run_block(block):
            found.add(diagnostic, path)
    return Checked(None, found.diagnostics(), (), paths)


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
    ) -> None:
        self.family = family
        self.shared = Context(blocks, path, generic)
        self.builder = self.shared.builder
        self.expressions = Expressions(self.shared, self._call_block)
        self.blocks = Blocks(self.shared, {}, self._run_block_body)
        self.inputs: list[int] = []
        self.outputs: list[Output] = []
        self.mesh: tuple[str, ...] = ()
        self.unfit = False
        self.layers = Layers(self.shared, self.expressions, self._layer_body)

    def run(self, values: Mapping[str, object] | None) -> Checked:
        """Infer the family."""
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
        statements = tuple(
            i for i in family.items if not isinstance(i, (sx.Config, sx.Dims, sx.Mesh))
        )
        self._guard(lambda: self._statements(statements, scope))
        if not self.outputs and not self.builder.diagnostics:
            message = f"family `{family.name.id}` has no output"
            self.builder.report(Diagnostic("S220", message, family.name.span))
        self.builder.close_frame()
        self.builder.close(unused_config(family) if self.shared.generic else ())
        graph = None if self.builder.diagnostics or self.shared.generic else self._graph(bindings)
        diagnostics = tuple(self.builder.diagnostics.values())
        return Checked(graph, diagnostics, tuple(bindings.uses), 1)

    def run_block(self, block: sx.Block) -> tuple[Diagnostic, ...]:
        """Infer one block with free parameters."""
        self.blocks.globals = {n: symbol(n) for n in ("B", "S", "C")}
        mesh = sorted({s.id for s in _shards(block)})
        scope = Scope(dict(self.blocks.globals))
        symbolic_arguments(block, self.shared, scope, mesh)
        self.blocks.globals |= {m: MeshAxis(m) for m in mesh}
        self._sources_of(block, scope)
        self._guard(lambda: self._block_values(block, scope))
        self.builder.close_frame()
        self.builder.close(unused_parameters(block))
        return tuple(self.builder.diagnostics.values())

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
        scope = Scope()
        for name, value in bindings.values.items():
            scope.bind(name, value, bindings.places[name].span)
        for name in bindings.failed:
            scope.bind(name, POISON, bindings.places.get(name, family.name).span)
        for item in family.items:
            if isinstance(item, sx.Mesh):
                self.mesh = tuple(a.id for a in item.axes)
                for axis in item.axes:
                    self._fresh(axis, scope)
                    scope.bind(axis.id, MeshAxis(axis.id), axis.span)
        self._dims(family, scope)
        shared = self.shared
        runtime = (shared.batch, shared.seq, shared.context)
        self.blocks.globals = {
            n: scope.names[n] for n in (*runtime, *self.mesh) if n in scope.names
        }
        return scope

    def _dims(self, family: sx.Family, scope: Scope) -> None:
        found: dict[str, sx.Name] = {}
        for item in (d for i in family.items if isinstance(i, sx.Dims) for d in i.items):
            if item.role.id not in ROLES:
                help_ = did_you_mean(item.role.id, ROLES) or f"roles are {', '.join(ROLES)}"
                message = f"`{item.role.id}` is no role of a dimension"
                self.builder.report(Diagnostic("S221", message, item.role.span, help=help_))
                scope.bind(item.name.id, POISON, item.name.span)
                continue
            self._fresh(item.name, scope)
            scope.bind(item.name.id, symbol(item.name.id), item.name.span)
            found[item.role.id] = item.name
        missing = [r for r in ROLES if r not in found]
        if missing and not self.builder.diagnostics:
            message = f"no dimension has the role {', '.join(missing)}"
            help_ = "write dims { B: batch, S: seq, C: context }"
            place = next((i.span for i in family.items if isinstance(i, sx.Dims)), family.name.span)
            self.builder.report(Diagnostic("S221", message, place, help=help_))
        self.shared.batch = found["batch"].id if "batch" in found else "B"
        self.shared.seq = found["seq"].id if "seq" in found else "S"
        self.shared.context = found["context"].id if "context" in found else "C"
        for name in (self.shared.batch, self.shared.seq, self.shared.context):
            scope.names.setdefault(name, POISON)

    def _fresh(self, name: sx.Name, scope: Scope) -> None:
        if name.id in scope.names:
            place = scope.places.get(name.id)
            labels = (Label(place, "bound here"),) if place else ()
            message = f"`{name.id}` has a meaning already"
            self.builder.report(Diagnostic("S202", message, name.span, labels=labels))
            scope.bind(name.id, POISON, name.span)

    # Statements

    def _statements(self, statements: Sequence[sx.Statement], scope: Scope) -> sx.Return | None:
        for at, statement in enumerate(statements):
            returned = self._statement(statement, scope)
            if returned is not None:
                if isinstance(statement, sx.Return) and at + 1 < len(statements):
                    self._misplaced("no statement follows `return`", statements[at + 1])
                return returned
        return None

    def _outermost(self, message: str, statement: sx.Statement) -> None:
        if self.layers.depth or self.blocks.stack:
            raise StaticError(Diagnostic("S222", message, statement.span))

    def _misplaced(self, message: str, statement: sx.Statement) -> None:
        self.builder.report(Diagnostic("S222", message, statement.span))

    def _statement(self, statement: sx.Statement, scope: Scope) -> sx.Return | None:
        match statement:
            case sx.Return() if self.blocks.stack:
                return statement
            case sx.Return():
                self._misplaced("`return` ends a block; a family has outputs", statement)
            case sx.If():
                return self._if(statement, scope)
            case sx.Input():
                self._declare(statement.name, scope, lambda: self._input(statement, scope))
            case sx.WeightSyntax():
                self._declare(statement.name, scope, lambda: self._weight(statement, scope))
            case sx.StateSyntax():
                self._declare(statement.name, scope, lambda: self._state(statement, scope))
            case sx.Assign():
                self._assign(statement, scope)
            case sx.OutputSyntax():
                self._guard(lambda: self._output(statement, scope))
            case sx.Require():
                self._guard(lambda: self._require(statement, scope))
                if self.unfit:
                    raise StaticError(None)
            case sx.RepeatSyntax():
                self._guard(lambda: self._repeat(statement, scope))
        return None

    def _guard(self, action: object) -> bool:
        """Run an action; report its diagnostic and tell whether it succeeded."""
        try:
            action()  # type: ignore[operator]  # callables of several results
        except StaticError as error:
            self.builder.report(error.diagnostic)
            return False
        return True

    def _declare(self, name: sx.Name, scope: Scope, make: object) -> None:
        if name.id in scope.names:
            self._fresh(name, scope)
            return
        scope.bind(name.id, POISON, name.span)
        self._guard(lambda: scope.bind(name.id, make(), name.span))  # type: ignore[operator]  # as above

    def _input(self, statement: sx.Input, scope: Scope) -> Meaning:
        self._outermost("an input belongs to the family, outside of repeat and blocks", statement)
        type_ = self.expressions.type(statement.type, scope)
        value = self.builder.value(statement.name.id, type_, statement.span)
        self.builder.expect_use(value, statement.name.id, statement.name.span, "input")
        self.inputs.append(value)
        return Tensor((value,))

    def _weight(self, statement: sx.WeightSyntax, scope: Scope) -> Meaning:
        type_ = self.expressions.type(statement.type, scope)
        resolver = Resolver(scope, self.expressions.evaluator(scope), type_.dims)
        source = resolver.resolve(statement.source)
        value = self.builder.weight(statement.name.id, type_, source, statement.span)
        self.builder.expect_use(value, statement.name.id, statement.name.span, "weight")
        return Tensor((value,))

    def _state(self, statement: sx.StateSyntax, scope: Scope) -> Meaning:
        type_ = self.expressions.type(statement.type, scope)
        return Tensor((self.builder.state(statement.name.id, type_, statement.span),))

    def _assign(self, statement: sx.Assign, scope: Scope) -> None:
        meanings: list[Meaning] = [POISON] * len(statement.targets)
        try:
            value = self.expressions.infer(statement.value, scope)
            meanings = self._spread(statement, value)
        except StaticError as error:
            self.builder.report(error.diagnostic)
        for target, meaning in zip(statement.targets, meanings, strict=True):
            self._guard(lambda t=target, m=meaning: self._bind(t, m, scope))

    def _spread(self, statement: sx.Assign, value: Meaning) -> list[Meaning]:
        targets = statement.targets
        if isinstance(value, Poison):
            return [POISON] * len(targets)
        if isinstance(value, Tensor) and len(value.ids) == len(targets):
            return [Tensor((i,)) for i in value.ids]
        if not isinstance(value, Tensor) and len(targets) == 1:
            return [value]
        count = len(value.ids) if isinstance(value, Tensor) else 1
        values = "1 value is" if count == 1 else f"{count} values are"
        message = f"{values} assigned to {counted(len(targets), 'name')}"
        raise StaticError(Diagnostic("S205", message, statement.span))

    def _bind(self, target: sx.Name, meaning: Meaning, scope: Scope) -> None:
        name, old = target.id, scope.names.get(target.id)
        if name in scope.outer and name not in scope.carried:
            labels = (
                (Label(scope.places[name], "bound here, outside"),) if name in scope.places else ()
            )
            help_ = f"carry {', '.join([*sorted(scope.carried), name])}"
            message = f"`{name}` comes from outside of repeat and is not carried"
            raise StaticError(Diagnostic("S223", message, target.span, labels=labels, help=help_))
        if old is not None and not isinstance(old, (Tensor, Poison)):
            self._fresh(target, scope)
            return
        scope.bind(name, meaning, target.span)
        if isinstance(meaning, Tensor):
            self.builder.rename(meaning.ids[0], name)
            self.builder.expect_use(meaning.ids[0], name, target.span, "value")

    def _output(self, statement: sx.OutputSyntax, scope: Scope) -> None:
        name = statement.name.id
        self._outermost("an output belongs to the family, outside of repeat and blocks", statement)
        for first in (o for o in self.outputs if o.name == name):
            labels = (Label(first.span, "the first"),)
            message = f"a second output `{name}`"
            raise StaticError(Diagnostic("S202", message, statement.name.span, labels=labels))
        value = single(self.expressions.infer(statement.value, scope), statement.value)
        declared = self.expressions.type(statement.type, scope)
        type_ = declared
        if isinstance(value, Poison):
            value = -1
        else:
            self.expressions.complete(value, statement.value)
            type_ = self.builder.type_of(value)
        self.outputs.append(Output(name, value, declared, statement.span))
        if not fits(declared, type_):
            labels = (Label(statement.type.span, "declared here"),)
            message = f"the output is {type_}; {declared} is declared"
            place = statement.value.span
            notes = self.expressions.meaning_of(message, scope, statement.span)
            raise StaticError(Diagnostic("S213", message, place, labels=labels, notes=notes))

    def _require(self, statement: sx.Require, scope: Scope) -> None:
        for name in names(statement.condition):
            scope.static(name)
        if self.shared.generic:
            fact = divisibility(statement.condition, self.expressions.evaluator(scope))
            if fact is not None:
                self.shared.facts.add(fact)
            return
        if not self.expressions.truth(statement.condition, scope):
            self.unfit = True
            shown = statement.condition.span.text
            message = f"`{shown}` does not hold"
            notes = self.expressions.meaning_of(shown, scope)
            raise StaticError(Diagnostic("S403", message, statement.span, notes=notes))

    def _if(self, statement: sx.If, scope: Scope) -> sx.Return | None:
        try:
            chosen = self.expressions.truth(statement.condition, scope)
        except StaticError as error:
            self.builder.report(error.diagnostic)
            self._poison((*statement.then, *statement.orelse), scope)
            return None
        return self._statements(statement.then if chosen else statement.orelse, scope)

    def _poison(self, statements: Sequence[sx.Statement], scope: Scope) -> None:
        """Silence what statements would have bound that could not be inferred."""
        for statement in statements:
            match statement:
                case sx.Assign(targets=targets):
                    names: tuple[sx.Name, ...] = targets
                case sx.WeightSyntax(name=name) | sx.StateSyntax(name=name) | sx.Input(name=name):
                    names = (name,)
                case sx.RepeatSyntax(carry=carry):
                    names = carry
                case sx.If(then=then, orelse=orelse):
                    self._poison((*then, *orelse), scope)
                    continue
                case _:
                    continue
            for target in names:
                scope.bind(target.id, POISON, target.span)

    # Blocks

    def _call_block(self, block: sx.Block, call: sx.Call, caller: Scope) -> Meaning:
        return self.blocks.call(block, call, caller, self.expressions)

    def _run_block_body(
        self, body: tuple[sx.Statement, ...], scope: Scope
    ) -> tuple[sx.Return, Scope] | None:
        before = len(self.builder.diagnostics)
        returned = self._statements(body, scope)
        if returned is not None:
            return returned, scope
        if len(self.builder.diagnostics) == before:
            name = self.blocks.stack[-1]
            block = self.shared.blocks.get(name)
            span = block.name.span if block else None
            self.builder.report(Diagnostic("S220", f"block `{name}` returns nothing", span))
        return None

    # Layers

    def _layer_body(self, body: tuple[sx.Statement, ...], scope: Scope) -> None:
        if not self._guard(lambda: self._statements(body, scope)):
            self._poison(body, scope)

    def _repeat(self, statement: sx.RepeatSyntax, scope: Scope) -> None:
        try:
            self._outermost("repeat stands in the family, outside of repeat and blocks", statement)
            self._fresh(statement.variable, scope)
            self.layers.repeat(statement, scope)
        except StaticError:
            poison_carry(statement, scope)
            raise

    # Result

    def _graph(self, bindings: Bindings) -> Graph:
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
            tuple(self.builder.values[i] for i in self.inputs),
            self.builder.frame.body(),
            tuple(self.outputs),
            tuple(self.builder.values),
            tuple(self.builder.obligations.values()),
        )


def _shards(block: sx.Block) -> list[sx.Name]:
    """Return every mesh axis that a block names, in types or collectives."""
    found: list[sx.Name] = []

    def types(*written: sx.TypeSyntax) -> None:
        for type_ in written:
            for axis in type_.axes:
                found.extend(axis.shards)

    def walk(statements: Sequence[sx.Statement]) -> None:
        for s in statements:
            match s:
                case sx.WeightSyntax() | sx.StateSyntax():
                    types(s.type)
                case sx.If():
                    walk(s.then)
                    walk(s.orelse)

    types(*(p.kind for p in block.params if isinstance(p.kind, sx.TypeSyntax)), *block.results)
    walk(block.body)
    return found
