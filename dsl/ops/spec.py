# SPDX-License-Identifier: Apache-2.0
"""What an operation is: parameters, numbered constraints, shape rule, cost, semantics.

`OpSpec` rows are the single source for the checker, the cost model and the language page. What an operation computes is
the device model's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from dsl.graph import Attr
from dsl.symbolic import Dim, definition, equal, quotient, ratio, symbol, text
from dsl.types import Axis, DType, Kind, TensorType


class Role(Enum):
    """What a parameter of an operation takes."""

    TENSOR = "tensor"
    STATE = "state"
    STATE_READ = "state to read"
    DIM = "dim"
    FLOAT = "float"
    FLOATS = "list of floats"
    BOOL = "bool"
    CHOICE = "choice"
    DTYPE = "dtype"
    MESH = "mesh axis"
    BATCH_MESH = "mesh axis that splits the batch"
    CONTEXT = "context dim"

    @property
    def is_value(self) -> bool:
        """Tell whether the argument is a value of the graph rather than an attribute."""
        return self in (Role.TENSOR, Role.STATE, Role.STATE_READ)


class Work(Enum):
    """The kind of work that an operation is, which says what formula prices it."""

    GEMM = "gemm"
    ATTENTION = "attention"
    EXPERTS = "moe"
    VECTOR = "vector"
    COLLECTIVE = "collective"


class Required(Enum):
    """The default of a parameter that has none."""

    YES = "required"


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter: `variadic` takes all remaining positional arguments."""

    name: str
    role: Role = Role.TENSOR
    default: Attr | Required | None = Required.YES
    choices: tuple[str, ...] = ()
    variadic: bool = False


class Violation(Exception):
    """A constraint does not hold at a call; `at` is the parameter to point at."""

    def __init__(self, constraint: str, message: str, at: str, code: str, help: str) -> None:
        super().__init__(message)
        self.constraint, self.message, self.at = constraint, message, at
        self.code, self.help = code, help


@dataclass(frozen=True, slots=True)
class Divides:
    """A pair `dividend % divisor == 0`, known or to be shown."""

    dividend: Dim
    divisor: Dim


@dataclass(slots=True)
class Site:
    """One call of an operation, as its shape rule sees it."""

    op: str
    types: Mapping[str, TensorType | tuple[TensorType, ...]]
    attrs: Mapping[str, Attr]
    facts: frozenset[Divides]
    batch: str
    seq: str
    context: str
    obligations: list[Divides]
    stored: Mapping[str, Dim] = field(default_factory=dict)

    def type(self, name: str) -> TensorType:
        """Return the type of a required tensor argument."""
        value = self.types[name]
        if isinstance(value, tuple):
            raise TypeError(f"{self.op}: {name} is variadic")
        return value

    def bytes(self, name: str) -> Dim:
        """Return the bytes of a tensor argument on one chip, a weight's as it is stored."""
        return self.stored[name] if name in self.stored else local_bytes(self.type(name))

    def optional(self, name: str) -> TensorType | None:
        """Return the type of an optional tensor argument."""
        return self.type(name) if name in self.types else None

    def variadic(self, name: str) -> tuple[TensorType, ...]:
        """Return the types of a variadic tensor argument."""
        value = self.types[name]
        return value if isinstance(value, tuple) else (value,)

    def dim(self, name: str) -> Dim:
        """Return a dimension attribute."""
        value = self.attrs[name]
        if isinstance(value, (float, bool, str, DType, tuple)):
            raise TypeError(f"{self.op}: {name} is no dimension")
        return value

    def axes(self, name: str) -> tuple[str, ...]:
        """Return a variadic mesh-axis attribute."""
        value = self.attrs[name]
        return tuple(str(v) for v in value) if isinstance(value, tuple) else (str(value),)

    def need(self, holds: bool, number: int, message: str, at: str, help: str = "") -> None:
        """Raise the violation of a numbered shape constraint unless it holds."""
        if not holds:
            raise Violation(f"{self.op}_c{number}", message, at, "S203", help)

    def need_shard(self, holds: bool, number: int, message: str, at: str, help: str = "") -> None:
        """Raise the violation of a numbered sharding constraint unless it holds."""
        if not holds:
            raise Violation(f"{self.op}_c{number}", message, at, "S302", help)

    def rank(self, name: str, rank: int, number: int) -> TensorType:
        """Return the type of an argument that must have this many axes."""
        value = self.type(name)
        self.need(value.rank == rank, number, f"{name} is {value}, not of rank {rank}", name)
        return value

    def divides(self, dividend: Dim, divisor: Dim) -> bool:
        """Tell whether a division is exact: by algebra, by a declared fact, or by both."""
        if quotient(dividend, divisor) is not None:
            return True
        if equal(divisor, 0):
            return False
        wanted = ratio(dividend, divisor)
        return any(
            quotient(wanted, ratio(f.dividend, f.divisor)) is not None
            or (equal(f.dividend, dividend) and quotient(f.divisor, divisor) is not None)
            for f in self.facts
        )

    def divide(self, dividend: Dim, divisor: Dim, number: int, at: str) -> Dim:
        """Return an exact quotient, or raise the violation of a numbered constraint."""
        shown = f"{text(dividend)} is not a multiple of {text(divisor)}"
        self.need(self.divides(dividend, divisor), number, shown, at, fact_help(dividend, divisor))
        exact = quotient(dividend, divisor)
        return ratio(dividend, divisor) if exact is None else exact

    def split_shards(self, axis: Axis, outer: Dim) -> None:
        """Record that the shards of a product axis must divide its outer factor."""
        for name in axis.shards:
            self.oblige(outer, name)

    def context_axis(self, state: TensorType) -> int | None:
        """Return which axis of a state holds the context: of size C, or min(C, n) where it is a ring."""
        places = [i for i, axis in enumerate(state.axes) if self.is_context(axis.dim)]
        return places[0] if len(places) == 1 else None

    def is_context(self, size: Dim) -> bool:
        """Tell whether a size is the cached context, or what a ring keeps of it."""
        made = definition(size)
        context = symbol(self.context)
        return equal(size, context) or (
            made is not None and made.function == "min" and equal(made.a, context)
        )

    def oblige(self, dividend: Dim, mesh_axis: str) -> None:
        """Record that a mesh axis must divide a size."""
        self.obligations.append(Divides(dividend, symbol(mesh_axis)))


def fact_help(dividend: Dim, divisor: Dim) -> str:
    """Return the help line for a division that only a fact could make exact."""
    if isinstance(dividend, int) and isinstance(divisor, int):
        return ""
    return f"`require {text(dividend)} % {text(divisor)} == 0` makes it exact"


Infer: TypeAlias = Callable[[Site], tuple[TensorType, ...]]
Flops: TypeAlias = Callable[[Site, tuple[TensorType, ...]], Dim]


Traffic: TypeAlias = Callable[[Site, tuple[TensorType, ...]], Dim]


def local_bytes(value: TensorType) -> Dim:
    """Return the bytes of a tensor on one chip."""
    return ratio(value.local_elements() * value.dtype.bits, 8)


def all_operands(site: Site, results: tuple[TensorType, ...]) -> Dim:
    """Return the bytes of all arguments and results: what an operation moves that touches everything once."""
    total: Dim = 0
    for name, value in site.types.items():
        for type_ in value if isinstance(value, tuple) else ():
            total = total + local_bytes(type_)
        if not isinstance(value, tuple):
            total = total + site.bytes(name)
    for result in results:
        total = total + local_bytes(result)
    return total


def no_traffic(site: Site, results: tuple[TensorType, ...]) -> Dim:
    """Return zero: the operation only renames axes."""
    return 0


def no_flops(site: Site, results: tuple[TensorType, ...]) -> Dim:
    """Return zero: the operation moves data only."""
    return 0


@dataclass(frozen=True, slots=True)
class OpSpec:
    """A row of the operation table.

    `constraints` are numbered from 1 and named `<op>_c<n>`; `semantics` is index notation, `cost` the FLOP formula in
    words. The other columns are facts from which lists of operations are made, wherever one is needed.
    """

    name: str
    summary: str
    params: tuple[Param, ...]
    result: str
    constraints: tuple[str, ...]
    semantics: str
    cost: str
    example: str
    infer: Infer
    flops: Flops = no_flops
    traffic: Traffic = all_operands
    work: Work = Work.VECTOR
    linear: bool = False
    """It accepts partial sums and passes them on."""
    in_place: bool = False
    """Its result needs no memory beside its first argument's."""
    views_state: bool = False
    """Of a state it gives a part that is read where it lies; of other values, a copy."""
    mixes: bool = False
    """Its result for a token depends on other tokens of the sequence."""
    stores: str = ""
    """Where it is listed for its effect on a state: the parameter whose value its result is."""
    passes: bool = False
    """It hands on what it is given, moved, cut, joined, rounded or put together from chips, and is as right as that."""
    completes: bool = False
    """It adds the partial sums of chips."""
    keeps_axes: bool = False
    """Its result has the axes of its largest argument; along the last it cuts or joins at most."""
    hands: tuple[str, ...] = ()
    """Attributes that those who read its result take over where they leave them out; others may not read it."""
    chooses: bool = False
    """Its first result is a discrete choice for each token, by its first argument; the rest follows from both."""
    copies: tuple[str, ...] = ()
    """Operands whose heads are copied to every chip that reads them, where the first operand's are split further."""
    lengths: tuple[str, ...] = ()
    """Attributes that are lengths of a sequence at which what it computes changes."""

    @property
    def needs_sequence(self) -> bool:
        """Tell whether its result for a token depends on the sequence: on other tokens, a state or the position."""
        roles = {p.role for p in self.params}
        return self.mixes or not roles.isdisjoint((Role.STATE, Role.STATE_READ, Role.CONTEXT))

    def place(self, param: str) -> int:
        """Return where a parameter stands."""
        return [p.name for p in self.params].index(param)

    @property
    def signature(self) -> str:
        """Return the call as a reader writes it."""
        shown = []
        for p in self.params:
            default = "" if isinstance(p.default, Required) else "=" + _shown(p.default)
            shown.append(f"{p.name}{'…' if p.variadic else ''}{default}")
        return f"{self.name}({', '.join(shown)}) -> {self.result}"


def _shown(default: Attr | None) -> str:
    if default is None:
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    return f'"{default}"' if isinstance(default, str) else str(default)


def same_dims(a: Iterable[Dim], b: Iterable[Dim]) -> bool:
    """Tell whether two shapes are equal axis by axis."""
    left, right = tuple(a), tuple(b)
    return len(left) == len(right) and all(equal(x, y) for x, y in zip(left, right, strict=True))


def is_float(value: TensorType) -> bool:
    """Tell whether a type holds real numbers."""
    return value.dtype.kind is Kind.FLOAT
