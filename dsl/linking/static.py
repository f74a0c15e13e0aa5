# SPDX-License-Identifier: Apache-2.0
"""Static values: what is known about a name before anything runs, and the arithmetic on it.

A bound program has only known values. In a generic one a scalar of the config is `Unknown`, and a condition on it is a
decision of the `Path` being explored. Tensors are not known here.
"""

from __future__ import annotations

import math
import operator
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from dsl import symbolic
from dsl.diagnostics import Diagnostic, counted
from dsl.ops.spec import Divides
from dsl.source import Span
from dsl.symbolic import Dim, Poly, TooComplex
from dsl.text import syntax as sx
from dsl.types import DType

MAX_PATHS = 256
MAX_STEPS = 20_000
QUESTIONS = 8
"""As long as one statement takes, so many questions are answered."""
MAX_FAULTS = 100
MAX_TEXT = 2000


@dataclass(frozen=True, slots=True)
class Unknown:
    """A scalar whose value only a config gives; `text` is how the program computes it."""

    text: str


@dataclass(frozen=True, slots=True)
class MeshAxis:
    """An axis of the chip mesh, and whether it splits the batch; None in a block without a caller."""

    name: str
    splits_batch: bool | None = False


Static: TypeAlias = (
    int | Poly | float | bool | str | DType | Unknown | MeshAxis | tuple["Static", ...]
)


Question: TypeAlias = tuple[str, tuple[Static, ...]]
"""A condition, or a scalar with the one value that it is asked about."""


class StaticError(Exception):
    """An expression cannot be evaluated; carries the diagnostic, or None when it was reported before."""

    def __init__(self, diagnostic: Diagnostic | None) -> None:
        super().__init__(diagnostic.message if diagnostic else "already reported")
        self.diagnostic = diagnostic


class Exhausted(Exception):
    """A program takes too long to infer; carries the diagnostic."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


@dataclass(slots=True)
class Path:
    """One way through the conditions of a generic program."""

    prefix: tuple[bool, ...] = ()
    taken: dict[str, bool] = field(default_factory=dict)
    known: dict[str, Static] = field(default_factory=dict)
    domains: dict[str, tuple[Static, ...]] = field(default_factory=dict)
    excluded: dict[str, set[Static]] = field(default_factory=dict)
    steps: int = 0
    asked: int = 0
    recalled: int = 0
    """Of the steps, those of calls that were not inferred again."""
    log: list[tuple[Question, bool]] = field(default_factory=list)
    """What was asked of the path, with its answers."""

    def again(self) -> Path:
        """Return the same path from its beginning, and count its walk in full."""
        self.recalled = 0
        return Path(self.prefix)

    def spend(self, place: Span, faults: int) -> None:
        """Count one statement; raises `Exhausted` so that no program can keep the checker busy."""
        self.steps += 1
        if faults >= MAX_FAULTS:
            message = f"more than {MAX_FAULTS} faults; the rest is not looked for"
            raise Exhausted(Diagnostic("S218", message, place))
        if self.steps > MAX_STEPS:
            message = f"more than {MAX_STEPS} statements, with those of blocks at each call"
            raise Exhausted(Diagnostic("S218", message, place))

    def recall(self, steps: int, place: Span, faults: int) -> None:
        """Count the statements of a call that is not inferred again; raises `Exhausted` as if it were."""
        self.recalled += steps
        self.steps += steps - 1
        self.spend(place, faults)

    def ask(self, place: Span) -> None:
        """Count one question that a layer is asked; raises `Exhausted` as `spend` does, of which it is a part."""
        self.asked += 1
        self.steps += self.asked % QUESTIONS == 0
        if self.steps > MAX_STEPS:
            message = (
                f"more than {QUESTIONS * MAX_STEPS:,} questions to layers, to tell which are alike"
            )
            raise Exhausted(Diagnostic("S218", message, place))

    def answer(self, question: Question) -> bool:
        """Return the answer to a question, as if the program asked it."""
        name, literal = question
        return self.is_value(Unknown(name), literal[0]) if literal else self.decide(name)

    def decide(self, key: str) -> bool:
        """Return the truth of a condition on this path, choosing it at first sight."""
        answer = self._decide(key)
        self.log.append(((key, ()), answer))
        return answer

    def is_value(self, unknown: Unknown, literal: Static) -> bool:
        """Return whether an unknown scalar has a value on this path, and remember it."""
        answer = self._is_value(unknown, literal)
        self.log.append(((unknown.text, (literal,)), answer))
        return answer

    def _decide(self, key: str) -> bool:
        if key not in self.taken:
            index = len(self.taken)
            self.taken[key] = self.prefix[index] if index < len(self.prefix) else True
        return self.taken[key]

    def _is_value(self, unknown: Unknown, literal: Static) -> bool:
        name = unknown.text
        if name in self.known:
            return self.known[name] == literal
        excluded = self.excluded.setdefault(name, set())
        domain = self.domains.get(name)
        if literal in excluded or (domain is not None and literal not in domain):
            return False
        left = [v for v in domain or () if v not in excluded]
        holds = left == [literal] or self._decide(f"{name} == {show(literal)}")
        if holds:
            self.known[name] = literal
        else:
            excluded.add(literal)
        return holds


@dataclass(slots=True)
class Exploration:
    """Yields paths until every condition met has been taken both ways, or a cap leaves some out.

    Single flips come first, so that each branch is seen early even where the cap cuts the product short.
    """

    count: int = 0
    capped: bool = False

    def __iter__(self) -> Iterator[Path]:
        queue: deque[tuple[bool, ...]] = deque([()])
        steps = longest = 0
        while queue:
            if self.count >= MAX_PATHS or steps + longest > MAX_STEPS:
                self.capped = True
                return
            path = Path(queue.popleft())
            self.count += 1
            yield path
            steps += path.steps - path.recalled
            longest = max(longest, path.steps - path.recalled)
            taken = tuple(path.taken.values())
            for i in range(len(path.prefix), len(taken)):
                queue.append((*taken[:i], not taken[i]))


Lookup: TypeAlias = Callable[[sx.Name], Static]


@dataclass(slots=True)
class Evaluator:
    """Evaluates static expressions; `lookup` raises `StaticError` for what is not static."""

    lookup: Lookup
    path: Path
    facts: frozenset[Divides] = frozenset()

    def value(self, expr: sx.Expr) -> Static:
        """Return the value of an expression."""
        try:
            return self._value(expr)
        except TooComplex as error:
            raise _error("S218", f"{error} is too complex", expr) from None

    def _value(self, expr: sx.Expr) -> Static:
        match expr:
            case sx.Number(value=number):
                return number
            case sx.String(value=string):
                return string
            case sx.Boolean(value=boolean):
                return boolean
            case sx.Listing(items=items):
                return tuple(self.value(item) for item in items)
            case sx.Name():
                return self.lookup(expr)
            case sx.Index():
                return self._index(expr)
            case sx.Unary():
                return self._unary(expr)
            case sx.Binary():
                return self._binary(expr)
            case sx.Call():
                return self._call(expr)

    def truth(self, expr: sx.Expr) -> bool:
        """Return the truth of a condition, decided by the path where it is not known."""
        value = self.value(expr)
        if isinstance(value, Unknown):
            return self.path.is_value(value, True)
        if not isinstance(value, bool):
            raise _error("S207", f"a condition must be true or false; this is {show(value)}", expr)
        return value

    def dim(self, expr: sx.Expr) -> Dim:
        """Return a dimension: a positive size known or symbolic."""
        value = self.value(expr)
        if isinstance(value, Poly):
            return value
        if isinstance(value, bool) or not isinstance(value, int):
            raise _error("S207", f"a size is needed; this is {show(value)}", expr)
        return value

    def _index(self, expr: sx.Index) -> Static:
        items, at = self.lookup(expr.name), self.value(expr.index)
        if isinstance(items, Unknown) or isinstance(at, (Unknown, Poly)):
            return _unknown(expr, f"{expr.name.id}[{show(at)}]")
        if not isinstance(items, tuple):
            raise _error("S207", f"`{expr.name.id}` is {show(items)}, not a list", expr)
        if isinstance(at, bool) or not isinstance(at, int) or not 0 <= at < len(items):
            message = f"index {show(at)} of a list of {counted(len(items), 'item')}"
            raise _error("S207", message, expr)
        return items[at]

    def _unary(self, expr: sx.Unary) -> Static:
        if expr.operator == "not":
            return not self.truth(expr.operand)
        value = self.value(expr.operand)
        if isinstance(value, Unknown):
            return _unknown(expr, f"-{value.text}")
        if isinstance(value, bool) or not isinstance(value, (int, float, Poly)):
            raise _error("S207", f"`-` of {show(value)}", expr)
        return -value

    def _binary(self, expr: sx.Binary) -> Static:
        if expr.operator == "and":
            return self.truth(expr.left) and self.truth(expr.right)
        if expr.operator == "or":
            return self.truth(expr.left) or self.truth(expr.right)
        left, right = self.value(expr.left), self.value(expr.right)
        if expr.operator == "in":
            return self._member(expr, left, right)
        if expr.operator in ("==", "!="):
            return self._same(left, right) is (expr.operator == "==")
        if expr.operator in _ORDER:
            return self._order(expr, left, right)
        return self._arithmetic(expr, left, right)

    def _member(self, expr: sx.Binary, left: Static, right: Static) -> Static:
        if isinstance(right, Unknown):
            return self.path.decide(f"{show(left)} in {show(right)}")
        if not isinstance(right, tuple):
            raise _error("S207", f"`in` needs a list; this is {show(right)}", expr.right)
        return any(self._same(left, item) for item in right)

    def _same(self, left: Static, right: Static) -> bool:
        if isinstance(left, Unknown) and not isinstance(right, (Unknown, Poly)):
            return self.path.is_value(left, right)
        if isinstance(right, Unknown) and not isinstance(left, (Unknown, Poly)):
            return self.path.is_value(right, left)
        if left == right:
            return True
        if _is_symbolic(left) or _is_symbolic(right):
            return self.path.decide(f"{show(left)} == {show(right)}")
        return False

    def _order(self, expr: sx.Binary, left: Static, right: Static) -> Static:
        if _is_symbolic(left) or _is_symbolic(right):
            return self.path.decide(f"{show(left)} {expr.operator} {show(right)}")
        if not (_is_number(left) and _is_number(right)):
            message = f"`{expr.operator}` compares {show(left)} with {show(right)}"
            raise _error("S207", message, expr)
        return bool(_ORDER[expr.operator](left, right))

    def _arithmetic(self, expr: sx.Binary, left: Static, right: Static) -> Static:
        sign = expr.operator
        scalar = isinstance(left, (Unknown, float)) or isinstance(right, (Unknown, float))
        if scalar and (_is_symbolic(left) or _is_symbolic(right)):
            return _unknown(expr, f"({show(left)} {sign} {show(right)})")
        if not (_is_number(left) and _is_number(right)):
            raise _error("S207", f"`{sign}` of {show(left)} and {show(right)}", expr)
        if sign in ("/", "//", "%") and right == 0:
            raise _error("S207", f"division by zero: {show(left)} {sign} 0", expr)
        if sign in _RING:
            return _bounded(expr, _RING[sign](left, right))
        if isinstance(left, Poly) or isinstance(right, Poly):
            return self._divide_symbolic(sign, left, right)  # type: ignore[arg-type]  # numbers
        return _bounded(expr, _DIVISION[sign](left, right))

    def _divide_symbolic(self, sign: str, left: Dim, right: Dim) -> Static:
        exact = symbolic.quotient(left, right)
        if exact is None and Divides(left, right) in self.facts:
            exact = symbolic.ratio(left, right)
        if sign == "%":
            return 0 if exact is not None else symbolic.opaque("mod", left, right)
        if exact is not None:
            return exact
        return symbolic.opaque("floor", left, right)

    def _call(self, expr: sx.Call) -> Static:
        name = expr.function.id
        function = FUNCTIONS.get(name)
        if function is None or expr.keywords:
            raise _error("S207", f"`{name}(…)` is not known before the program runs", expr)
        values = [self.value(a) for a in expr.arguments]
        sizes = [v for v in values if isinstance(v, (int, Poly)) and not isinstance(v, bool)]
        if name in symbolic.OPAQUE and len(sizes) == len(values) == 2:
            return symbolic.opaque(name, sizes[0], sizes[1])
        if name == "int" and len(values) == 1 and isinstance(values[0], Unknown):
            # A share of a size is a size: of the rotated coordinates of a head, for example.
            return symbolic.named(f"int({values[0].text})")
        if name == SPLITS_BATCH:
            return _splits_batch(expr, values)
        if any(isinstance(v, (Unknown, Poly)) for v in values):
            text = _unknown(expr, f"{name}({', '.join(show(v) for v in values)})").text
            return symbolic.symbol(text) if name == "int" else Unknown(text)
        try:
            return _bounded(expr, function(*values))
        except (TypeError, ValueError, ZeroDivisionError, OverflowError):
            shown = ", ".join(show(v) for v in values)
            raise _error("S207", f"`{name}({shown})` has no value", expr) from None


_ORDER: Mapping[str, Callable[..., bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_RING: Mapping[str, Callable[..., Static]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}
_DIVISION: Mapping[str, Callable[..., Static]] = {
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
}

SPLITS_BATCH = "splits_batch"


def _splits_batch(expr: sx.Call, values: Sequence[Static]) -> Static:
    """Return whether a mesh axis splits the batch, which a block without a caller does not know."""
    axis = values[0] if len(values) == 1 else None
    if not isinstance(axis, MeshAxis):
        shown = ", ".join(map(show, values))
        raise _error("S207", f"`{SPLITS_BATCH}` needs one mesh axis; this is {shown}", expr)
    known = axis.splits_batch
    return _unknown(expr, f"{SPLITS_BATCH}({axis.name})") if known is None else known


FUNCTIONS: Mapping[str, Callable[..., Static]] = {
    "sqrt": math.sqrt,
    "rsqrt": lambda x: 1.0 / math.sqrt(x),
    "log": math.log,
    "exp": math.exp,
    "pow": math.pow,
    "abs": abs,
    "min": min,
    "max": max,
    "len": len,
    "int": int,
    "ceil_div": lambda a, b: -(-a // b),
    SPLITS_BATCH: bool,
}

MAX_INTEGER = 2**63


def _unknown(expr: sx.Expr, text: str) -> Unknown:
    if len(text) > MAX_TEXT:
        raise _error("S218", f"an expression of {len(text)} characters is too complex", expr)
    return Unknown(text)


def _bounded(expr: sx.Expr, value: Static) -> Static:
    if isinstance(value, float) and not math.isfinite(value):
        raise _error("S207", "the result is not a finite number", expr)
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise _error("S207", "the result is larger than 2^63", expr)
    return value


def _is_symbolic(value: Static) -> bool:
    return isinstance(value, (Unknown, Poly))


def _is_number(value: Static) -> bool:
    return isinstance(value, (int, float, Poly)) and not isinstance(value, bool)


def _error(code: str, message: str, expr: sx.Syntax) -> StaticError:
    return StaticError(Diagnostic(code, message, expr.span))


def show(value: object) -> str:
    """Return a static value as the language writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, Unknown):
        return value.text
    if isinstance(value, MeshAxis):
        return value.name
    if isinstance(value, (int, Poly)):
        return symbolic.text(value)
    if isinstance(value, tuple):
        return f"[{', '.join(show(v) for v in value)}]"
    return str(value)
