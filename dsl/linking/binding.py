# SPDX-License-Identifier: Apache-2.0
"""Bind a family's config section: names to values, every key read accounted for.

With values from a config the names are known; without, dimensions are free symbols and scalars unknown. Reading files
and normalising keys is the importer's work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dsl.diagnostics import Diagnostic, Label, did_you_mean, near
from dsl.linking.static import MAX_FAULTS, Evaluator, Path, Static, StaticError, Unknown, show
from dsl.ops.spec import Divides
from dsl.symbolic import Poly, symbol
from dsl.text import syntax as sx
from dsl.text.habits import help_with_name
from dsl.text.outline import names
from dsl.types import DTYPES

MAX_DIM = 2**40


@dataclass(frozen=True, slots=True)
class KeyUse:
    """A config key that the family reads, the name it binds and the value it gives."""

    key: str
    name: str
    value: Static
    defaulted: bool


@dataclass(slots=True)
class Bindings:
    """The names of a config section with their values and places."""

    values: dict[str, Static] = field(default_factory=dict)
    places: dict[str, sx.Name] = field(default_factory=dict)
    uses: list[KeyUse] = field(default_factory=list)
    facts: set[Divides] = field(default_factory=set)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)


def is_dim_name(name: str) -> bool:
    """Tell whether a name is a dimension's: it begins with a capital."""
    return name[:1].isupper()


def bind(
    config: sx.Config | None, values: Mapping[str, object] | None, path: Path, generic: bool
) -> Bindings:
    """Return the bindings of a config section; problems are in `diagnostics`."""
    binder = _Binder(values, path, generic)
    if config is not None:
        binder.items(config.items)
    return binder.result


def is_generic(config: sx.Config | None) -> bool:
    """Tell whether a config section reads keys, so that it needs a config to be bound."""

    def reads(items: tuple[sx.ConfigItem, ...]) -> bool:
        return any(
            isinstance(i.value, sx.Key)
            if isinstance(i, sx.Bind)
            else isinstance(i, sx.ConfigIf) and (reads(i.then) or reads(i.orelse))
            for i in items
        )

    return config is not None and reads(config.items)


class _Binder:
    def __init__(self, values: Mapping[str, object] | None, path: Path, generic: bool) -> None:
        self.config = values
        self.path = path
        self.generic = generic
        self.result = Bindings()

    def evaluator(self) -> Evaluator:
        return Evaluator(self._lookup, self.path, frozenset(self.result.facts))

    def _lookup(self, name: sx.Name) -> Static:
        if name.id in self.result.values:
            return self.result.values[name.id]
        if name.id in self.result.failed:
            raise StaticError(None)
        help_ = help_with_name(name.id) or did_you_mean(name.id, self.result.values)
        labels = near(name.id, {n: place.span for n, place in self.result.places.items()})
        message = f"`{name.id}` is not bound here"
        raise StaticError(Diagnostic("S201", message, name.span, labels=labels, help=help_))

    def items(self, items: tuple[sx.ConfigItem, ...]) -> None:
        for item in items:
            if len(self.result.diagnostics) >= MAX_FAULTS:
                return
            try:
                self._item(item)
            except StaticError as error:
                if error.diagnostic is not None:
                    self.result.diagnostics.append(error.diagnostic)
                if isinstance(item, sx.Bind):
                    self.result.failed.add(item.name.id)

    def _item(self, item: sx.ConfigItem) -> None:
        match item:
            case sx.Bind():
                self._bind(item)
            case sx.Require():
                self._require(item)
            case sx.ConfigIf(condition=condition):
                self.items(item.then if self.evaluator().truth(condition) else item.orelse)

    def _bind(self, item: sx.Bind) -> None:
        name = item.name.id
        if name in self.result.places:
            message = f"`{name}` is bound twice in the config section"
            labels = (Label(self.result.places[name].span, "the first"),)
            raise StaticError(Diagnostic("S202", message, item.name.span, labels=labels))
        self.result.places[name] = item.name
        value = self._value(item)
        self.result.values[name] = self._checked(item, value)

    def _value(self, item: sx.Bind) -> Static:
        if not isinstance(item.value, sx.Key):
            return self.evaluator().value(item.value)
        key = item.value.path
        if self.config is None and not self.generic:
            message = f"`{key}` has no value: the family is generic, and no config is given"
            help_ = "port a model, or write values in place of the keys"
            raise StaticError(Diagnostic("S405", message, item.value.span, help=help_))
        if self.config is None:
            return self._free(item)
        present = [k for k in item.value.paths if self.config.get(k) is not None]
        if not present and item.default is None:
            help_ = did_you_mean(key, self.config)
            message = f"the config has no `{key}`, and `{item.name.id}` has no default"
            raise StaticError(Diagnostic("S401", message, item.value.span, help=help_))
        if not present and item.default is not None:
            value = self.evaluator().value(item.default)
            self.result.uses.append(KeyUse(key, item.name.id, value, True))
            return value
        value = _from_json(item, self.config[present[0]])
        for other in present[1:]:
            if _from_json(item, self.config[other]) != value:
                message = f"`{present[0]}` and `{other}` disagree about `{item.name.id}`"
                raise StaticError(Diagnostic("S423", message, item.value.span))
        self.result.uses += [KeyUse(k, item.name.id, value, False) for k in reversed(present)]
        return value

    def _free(self, item: sx.Bind) -> Static:
        name = item.name.id
        if item.default is not None:
            self.evaluator().value(item.default)  # not taken, but its names must mean something
        if is_dim_name(name):
            return symbol(name)
        if isinstance(item.default, sx.String) and item.default.value in DTYPES:
            return DTYPES[item.default.value]
        return Unknown(name)

    def _checked(self, item: sx.Bind, value: Static) -> Static:
        name = item.name.id
        if isinstance(value, str) and value in DTYPES:
            return DTYPES[value]
        if not is_dim_name(name) or isinstance(value, (Poly, Unknown)):
            return value
        if isinstance(value, bool) or not isinstance(value, int):
            message = f"`{name}` is a dimension; {_origin(item)} is {show(value)}"
            raise StaticError(Diagnostic("S402", message, item.span))
        if not 0 <= value <= MAX_DIM:
            message = f"`{name}` is {value}; a dimension lies between 0 and 2^40"
            raise StaticError(Diagnostic("S402", message, item.span))
        return value

    def _require(self, item: sx.Require) -> None:
        if self.generic and self._assume(item.condition):
            return
        if self.evaluator().truth(item.condition):
            return
        if self.generic:
            return
        mentioned = {name.id for name in names(item.condition)}
        notes = tuple(
            f"{use.name} is {use.key} = {show(use.value)}" + (" (default)" if use.defaulted else "")
            for use in self.result.uses
            if use.name in mentioned
        )
        message = f"this family needs `{item.condition.span.text}`"
        raise StaticError(Diagnostic("S403", message, item.span, notes=notes))

    def _assume(self, condition: sx.Expr) -> bool:
        """Take a requirement of a generic family as a fact; tell whether it was one."""
        for named in names(condition):
            self._lookup(named)
        fact = divisibility(condition, self.evaluator())
        if fact is not None:
            self.result.facts.add(fact)
            return True
        match condition:
            case sx.Binary(operator="==", left=sx.Name(id=name), right=right):
                return self._equate(name, right)
            case sx.Binary(operator="in", left=sx.Name(id=name), right=right):
                known, allowed = self.result.values.get(name), self.evaluator().value(right)
                if isinstance(known, Unknown) and isinstance(allowed, tuple):
                    self.path.domains[known.text] = allowed
                return isinstance(known, Unknown)
            case sx.Binary(operator="<" | "<=" | ">" | ">=" | "!="):
                return True
            case sx.Unary(operator="not", operand=sx.Name(id=name)):
                return self._equate(name, sx.Boolean(condition.span, False))
        return False

    def _equate(self, name: str, right: sx.Expr) -> bool:
        known, value = self.result.values.get(name), self.evaluator().value(right)
        if isinstance(known, Unknown) and not isinstance(value, (Unknown, Poly)):
            self.path.known[known.text] = value
            return True
        if isinstance(known, Poly) and isinstance(value, (int, Poly)):
            self.result.values[name] = value
            return True
        return False


def divisibility(condition: sx.Expr, evaluator: Evaluator) -> Divides | None:
    """Return the fact that a condition of the form `a % b == 0` states."""
    match condition:
        case sx.Binary(operator="==", left=sx.Binary(operator="%") as modulo, right=right):
            if isinstance(right, sx.Number) and right.value == 0:
                return Divides(evaluator.dim(modulo.left), evaluator.dim(modulo.right))
    return None


def _origin(item: sx.Bind) -> str:
    return f"the key `{item.value.path}`" if isinstance(item.value, sx.Key) else "the value"


_JSON: Mapping[type, str] = {dict: "an object", type(None): "null"}


def _from_json(item: sx.Bind, raw: object) -> Static:
    match raw:
        case bool() | int() | float():
            return raw
        case str() if '"' not in raw and "\n" not in raw:
            return raw
        case list():
            return tuple(_from_json(item, x) for x in raw)
    shown = _JSON.get(type(raw), "text with quotes or line breaks")
    message = f"{_origin(item)} is {shown}; a number, plain text, truth or list is needed"
    raise StaticError(Diagnostic("S402", message, item.span))
