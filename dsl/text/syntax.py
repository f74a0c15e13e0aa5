# SPDX-License-Identifier: Apache-2.0
"""The syntax tree of a `.sohu` text: frozen nodes, each with its span.

Spans do not take part in equality, so two trees are equal when their programs are. What names mean is not known here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from dsl.source import Span


@dataclass(frozen=True, slots=True)
class Syntax:
    """A node with its place."""

    span: Span = field(compare=False, repr=False)


# Expressions


@dataclass(frozen=True, slots=True)
class Number(Syntax):
    """An integer or real literal; `text` is how it was written."""

    value: int | float
    text: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class String(Syntax):
    """A quoted string: something outside the file, or one of an operation's choices."""

    value: str


@dataclass(frozen=True, slots=True)
class Boolean(Syntax):
    """`true` or `false`."""

    value: bool


@dataclass(frozen=True, slots=True)
class Listing(Syntax):
    """`[a, b]`."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Name(Syntax):
    """A reference to a dimension, scalar, tensor, state or mesh axis."""

    id: str


@dataclass(frozen=True, slots=True)
class Index(Syntax):
    """`kinds[i]`: an item of a per-layer list."""

    name: Name
    index: Expr


@dataclass(frozen=True, slots=True)
class Unary(Syntax):
    """`-a` or `not a`."""

    operator: str
    operand: Expr


@dataclass(frozen=True, slots=True)
class Binary(Syntax):
    """`a operator b`, for arithmetic, comparison and logic."""

    operator: str
    left: Expr
    right: Expr
    operator_span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Keyword(Syntax):
    """`name=value` in a call."""

    name: Name
    value: Expr


@dataclass(frozen=True, slots=True)
class Call(Syntax):
    """An operation, a block or a weight source applied to arguments."""

    function: Name
    arguments: tuple[Expr, ...]
    keywords: tuple[Keyword, ...]


Expr: TypeAlias = Number | String | Boolean | Listing | Name | Index | Unary | Binary | Call


def alternatives(expr: Expr) -> tuple[Expr, ...]:
    """Return the sources that `a or b` names, in order; one where it names no other."""
    if isinstance(expr, Binary) and expr.operator == "or":
        return (*alternatives(expr.left), *alternatives(expr.right))
    return (expr,)


# Types


@dataclass(frozen=True, slots=True)
class AxisSyntax(Syntax):
    """`H*E @tp`: a size and the mesh axes that split it."""

    size: Expr
    shards: tuple[Name, ...]


@dataclass(frozen=True, slots=True)
class TypeSyntax(Syntax):
    """`bf16[B, S, D]`."""

    dtype: Name
    axes: tuple[AxisSyntax, ...]


# Statements


@dataclass(frozen=True, slots=True)
class Input(Syntax):
    """`input name: type`."""

    name: Name
    type: TypeSyntax


@dataclass(frozen=True, slots=True)
class WeightSyntax(Syntax):
    """`weight name: type from source`."""

    name: Name
    type: TypeSyntax
    source: Expr


@dataclass(frozen=True, slots=True)
class Unused(Syntax):
    """`unused "pattern", … because "reason"`: tensors that a checkpoint may hold and the program does not need."""

    patterns: tuple[String, ...]
    reason: String


@dataclass(frozen=True, slots=True)
class StateSyntax(Syntax):
    """`state name: type`, or `state name[n < N]: type` for one instance for each value of a variable."""

    name: Name
    type: TypeSyntax
    variable: Name | None = None
    count: Expr | None = None


@dataclass(frozen=True, slots=True)
class OutputSyntax(Syntax):
    """`output name: type = value`."""

    name: Name
    type: TypeSyntax
    value: Expr


@dataclass(frozen=True, slots=True)
class Assign(Syntax):
    """`a, b = value`."""

    targets: tuple[Name, ...]
    value: Expr


@dataclass(frozen=True, slots=True)
class RepeatSyntax(Syntax):
    """`repeat i < L @pp carry x { … }`; the mesh axis, if any, splits the layers into stages."""

    variable: Name
    count: Expr
    carry: tuple[Name, ...]
    body: tuple[Statement, ...]
    stages: Name | None = None


@dataclass(frozen=True, slots=True)
class If(Syntax):
    """`if condition { … } else { … }`, resolved when the program is bound."""

    condition: Expr
    then: tuple[Statement, ...]
    orelse: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Require(Syntax):
    """`require condition`."""

    condition: Expr


@dataclass(frozen=True, slots=True)
class Return(Syntax):
    """`return a, b`: the results of a block."""

    values: tuple[Expr, ...]


# Config sections


@dataclass(frozen=True, slots=True)
class Key(Syntax):
    """A dotted config key, and `others` by which files may call the same thing."""

    path: str
    others: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """Return every spelling."""
        return (self.path, *self.others)


@dataclass(frozen=True, slots=True)
class Bind(Syntax):
    """`name = key ?? default`, or `name = literal` in a port."""

    name: Name
    value: Key | Expr
    default: Expr | None


@dataclass(frozen=True, slots=True)
class ConfigIf(Syntax):
    """Config items that are read only where a condition holds."""

    condition: Expr
    then: tuple[ConfigItem, ...]
    orelse: tuple[ConfigItem, ...]


ConfigItem: TypeAlias = Bind | Require | ConfigIf


@dataclass(frozen=True, slots=True)
class Config(Syntax):
    """`config { … }`."""

    items: tuple[ConfigItem, ...]


@dataclass(frozen=True, slots=True)
class DimSyntax(Syntax):
    """`B @dp: batch`: a size known only at run time, its role, and the mesh axes that split it everywhere."""

    name: Name
    role: Name
    shards: tuple[Name, ...] = ()


@dataclass(frozen=True, slots=True)
class Dims(Syntax):
    """`dims { … }`."""

    items: tuple[DimSyntax, ...]


@dataclass(frozen=True, slots=True)
class Mesh(Syntax):
    """`mesh { tp, ep }`."""

    axes: tuple[Name, ...]


@dataclass(frozen=True, slots=True)
class Entry(Syntax):
    """`entry name { … }`: one of several programs that share what the family declares outside of entries."""

    name: Name
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Include(Syntax):
    """`include name`: the items of a part."""

    name: Name


Statement: TypeAlias = (
    Input
    | WeightSyntax
    | Unused
    | StateSyntax
    | OutputSyntax
    | Assign
    | RepeatSyntax
    | If
    | Require
    | Return
)
PlainItem: TypeAlias = Config | Dims | Mesh | Entry | Statement
Item: TypeAlias = PlainItem | Include


# Declarations


@dataclass(frozen=True, slots=True)
class Use(Syntax):
    """`use "blocks/attention.sohu"`: the blocks of another file."""

    path: String


@dataclass(frozen=True, slots=True)
class Param(Syntax):
    """A block's parameter: a tensor of a type, or a static value of a kind (`dim`, `string`, …)."""

    name: Name
    kind: TypeSyntax | Name
    default: Expr | None


@dataclass(frozen=True, slots=True)
class Block(Syntax):
    """A reusable body with weights and state."""

    name: Name
    params: tuple[Param, ...]
    results: tuple[TypeSyntax, ...]
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Part(Syntax):
    """A piece of a family, such as the config keys of rotation and what is made of them."""

    name: Name
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Family(Syntax):
    """A model: generic while its config section reads keys, a port when all are literals."""

    name: Name
    architectures: tuple[String, ...]
    items: tuple[Item, ...]


def binds(family: Family) -> Iterator[Bind]:
    """Yield every name that the family's config gives a value, whatever the condition."""
    pending = [item for part in family.items if isinstance(part, Config) for item in part.items]
    while pending:
        item = pending.pop(0)
        if isinstance(item, Bind):
            yield item
        elif isinstance(item, ConfigIf):
            pending = [*item.then, *item.orelse, *pending]


Declaration: TypeAlias = Use | Block | Part | Family


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment: its text with the `#`, its place, and whether code stands before it on its line."""

    text: str
    span: Span = field(compare=False, repr=False)
    trailing: bool


@dataclass(frozen=True, slots=True)
class File(Syntax):
    """A whole text."""

    version: str
    declarations: tuple[Declaration, ...]
    comments: tuple[Comment, ...]

    @property
    def families(self) -> tuple[Family, ...]:
        """Return the families of this file."""
        return tuple(d for d in self.declarations if isinstance(d, Family))

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Return the blocks of this file."""
        return tuple(d for d in self.declarations if isinstance(d, Block))

    @property
    def parts(self) -> tuple[Part, ...]:
        """Return the parts of this file."""
        return tuple(d for d in self.declarations if isinstance(d, Part))

    @property
    def uses(self) -> tuple[Use, ...]:
        """Return the files that this one uses."""
        return tuple(d for d in self.declarations if isinstance(d, Use))
