# SPDX-License-Identifier: Apache-2.0
"""The frozen syntax tree from lark's parse tree.

One method per grammar rule. It checks what the grammar cannot say: literal sizes, expression depth, the version.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

from lark import Token, v_args
from lark.tree import Meta
from lark.visitors import Transformer_NonRecursive

from dsl.diagnostics import Diagnostic, Refused
from dsl.source import Source, Span
from dsl.text import syntax as sx
from dsl.text.habits import help_with_name

VERSIONS = ("1.0",)
MAX_DEPTH = 100
MAX_DIGITS = 18

Node = TypeVar("Node", bound=sx.Syntax)


@v_args(meta=True)
class TreeBuilder(Transformer_NonRecursive[Token, Any]):
    """Builds the `File` of one source; it never recurses, so hostile nesting cannot exhaust the stack."""

    def __init__(self, source: Source, comments: tuple[sx.Comment, ...]) -> None:
        super().__init__()
        self._source = source
        self._comments = comments
        self._depths: dict[int, int] = {}
        self._kept: list[sx.Syntax] = []

    def _span(self, meta: Meta | Token) -> Span:
        start = getattr(meta, "start_pos", None)
        end = getattr(meta, "end_pos", None)
        return Span(self._source, start or 0, end or 0)

    def _deep(self, node: Node, *children: sx.Syntax) -> Node:
        """Record how deep a tree is, so that later recursion over it is bounded."""
        depth = 1 + max((self._depths.get(id(child), 0) for child in children), default=0)
        if depth > MAX_DEPTH:
            message = f"an expression nests deeper than {MAX_DEPTH}"
            raise Refused((Diagnostic("S105", message, node.span),))
        self._depths[id(node)] = depth
        self._kept.append(node)  # ids stay unique only while the nodes live
        return node

    def _name(self, token: Token) -> sx.Name:
        return sx.Name(self._span(token), str(token))

    def _names(self, tokens: list[Token]) -> tuple[sx.Name, ...]:
        return tuple(self._name(t) for t in tokens if t.type == "NAME")

    def _string(self, token: Token) -> sx.String:
        return sx.String(self._span(token), str(token)[1:-1])

    def _number(self, span: Span, text: str) -> sx.Number:
        if text.lstrip("-").isdigit():
            if len(text.lstrip("-")) > MAX_DIGITS:
                message = f"an integer of more than {MAX_DIGITS} digits"
                raise Refused((Diagnostic("S104", message, span),))
            return sx.Number(span, int(text), text)
        value = float(text)
        if not math.isfinite(value):
            raise Refused((Diagnostic("S104", f"`{text}` is not a finite number", span),))
        return sx.Number(span, value, text)

    # Files and declarations

    def start(self, meta: Meta, children: list[Any]) -> sx.File:
        """A whole text."""
        span = Span(self._source, 0, len(self._source.text))
        return sx.File(span, children[0], tuple(children[1:]), self._comments)

    def version(self, meta: Meta, children: list[Any]) -> str:
        """`sohu 1.0`."""
        version = str(children[0])
        if version not in VERSIONS:
            message = f"version {version} of the language is not known"
            help_ = f"this release reads {', '.join(VERSIONS)}"
            raise Refused((Diagnostic("S107", message, self._span(children[0]), help=help_),))
        return version

    def use(self, meta: Meta, children: list[Any]) -> sx.Use:
        """`use "path"`."""
        return sx.Use(self._span(meta), self._string(children[0]))

    def family(self, meta: Meta, children: list[Any]) -> sx.Family:
        """`family name for "Architecture" { … }`."""
        name, architectures, *items = children
        return sx.Family(self._span(meta), self._name(name), architectures, tuple(items))

    def part(self, meta: Meta, children: list[Any]) -> sx.Part:
        """`part name { … }`."""
        name, *items = children
        return sx.Part(self._span(meta), self._name(name), tuple(items))

    def include(self, meta: Meta, children: list[Any]) -> sx.Include:
        """`include name`."""
        return sx.Include(self._span(meta), self._name(children[0]))

    def strings(self, meta: Meta, children: list[Any]) -> tuple[sx.String, ...]:
        """A list of strings."""
        return tuple(self._string(child) for child in children)

    def block(self, meta: Meta, children: list[Any]) -> sx.Block:
        """`block name(params) -> types { … }`."""
        name, *rest = children
        params = tuple(c for c in rest if isinstance(c, sx.Param))
        at = next(i for i, c in enumerate(rest) if isinstance(c, tuple))
        return sx.Block(self._span(meta), self._name(name), params, rest[at], tuple(rest[at + 1 :]))

    def param(self, meta: Meta, children: list[Any]) -> sx.Param:
        """`name: kind = default`."""
        name, kind, default = children
        return sx.Param(self._span(meta), self._name(name), kind, default)

    def scalar(self, meta: Meta, children: list[Any]) -> sx.Name:
        """The kind of a static parameter."""
        return self._name(children[0])

    def types(self, meta: Meta, children: list[Any]) -> tuple[sx.TypeSyntax, ...]:
        """The results of a block."""
        return tuple(children)

    # Config, dims, mesh

    def config(self, meta: Meta, children: list[Any]) -> sx.Config:
        """`config { … }`."""
        return sx.Config(self._span(meta), tuple(children))

    def bind(self, meta: Meta, children: list[Any]) -> sx.Bind:
        """`name = key ?? default`."""
        name, value, default = children
        return sx.Bind(self._span(meta), self._name(name), value, default)

    def key(self, meta: Meta, children: list[Any]) -> str:
        """A dotted key."""
        return ".".join(str(c) for c in children)

    def keys(self, meta: Meta, children: list[Any]) -> sx.Key:
        """A key, or several by which files may call the same thing."""
        path, *others = children[::2]
        for value in (path, *others):
            if help_ := help_with_name(value):
                message = f"`{value}` is no config key"
                raise Refused((Diagnostic("S101", message, self._span(meta), help=help_),))
        return sx.Key(self._span(meta), path, tuple(others))

    def negative(self, meta: Meta, children: list[Any]) -> sx.Number:
        """A negative literal."""
        return self._number(self._span(meta), f"-{children[1]}")

    def literals(self, meta: Meta, children: list[Any]) -> sx.Listing:
        """A list of literals."""
        return sx.Listing(self._span(meta), tuple(c for c in children if c is not None))

    def config_if(self, meta: Meta, children: list[Any]) -> sx.ConfigIf:
        """`if condition { … } else { … }` in a config section."""
        condition, then, orelse = self._branches(meta, children)
        node = sx.ConfigIf(self._span(meta), condition, then, orelse)
        return self._deep(node, *then, *orelse)

    def dims(self, meta: Meta, children: list[Any]) -> sx.Dims:
        """`dims { B: batch }`."""
        return sx.Dims(self._span(meta), tuple(c for c in children if c is not None))

    def dim(self, meta: Meta, children: list[Any]) -> sx.DimSyntax:
        """`B: batch`."""
        name, *shards, role = children
        return sx.DimSyntax(
            self._span(meta), self._name(name), self._name(role), self._names(shards)
        )

    def entry(self, meta: Meta, children: list[Any]) -> sx.Entry:
        """`entry name { … }`."""
        name, *body = children
        return sx.Entry(self._span(meta), self._name(name), tuple(body))

    def mesh(self, meta: Meta, children: list[Any]) -> sx.Mesh:
        """`mesh { tp }`."""
        return sx.Mesh(self._span(meta), self._names(children))

    # Statements

    def input(self, meta: Meta, children: list[Any]) -> sx.Input:
        """`input name: type`."""
        return sx.Input(self._span(meta), self._name(children[0]), children[1])

    def weight(self, meta: Meta, children: list[Any]) -> sx.WeightSyntax:
        """`weight name: type from source`."""
        name, type_, source = children
        return sx.WeightSyntax(self._span(meta), self._name(name), type_, source)

    def unused(self, meta: Meta, children: list[Any]) -> sx.Unused:
        """`unused "pattern" because "reason"`."""
        patterns, reason = children
        return sx.Unused(self._span(meta), patterns, self._string(reason))

    def state(self, meta: Meta, children: list[Any]) -> sx.StateSyntax:
        """`state name: type`."""
        name, variable, _less, count, type_ = children
        if variable is None:
            return sx.StateSyntax(self._span(meta), self._name(name), type_)
        return sx.StateSyntax(
            self._span(meta), self._name(name), type_, self._name(variable), count
        )

    def output(self, meta: Meta, children: list[Any]) -> sx.OutputSyntax:
        """`output name: type = value`."""
        name, type_, value = children
        return sx.OutputSyntax(self._span(meta), self._name(name), type_, value)

    def assign(self, meta: Meta, children: list[Any]) -> sx.Assign:
        """`a, b = value`."""
        *targets, value = children
        return sx.Assign(self._span(meta), self._names(targets), value)

    def repeat(self, meta: Meta, children: list[Any]) -> sx.RepeatSyntax:
        """`repeat i < L carry x { … }`."""
        variable, _less, count, stages, *rest = children
        carry = self._names([c for c in rest if isinstance(c, Token)])
        body = tuple(c for c in rest if not isinstance(c, Token))
        split = None if stages is None else self._name(stages)
        node = sx.RepeatSyntax(self._span(meta), self._name(variable), count, carry, body, split)
        return self._deep(node, *body)

    def cond(self, meta: Meta, children: list[Any]) -> sx.If:
        """`if condition { … } else { … }`."""
        condition, then, orelse = self._branches(meta, children)
        return self._deep(sx.If(self._span(meta), condition, then, orelse), *then, *orelse)

    def require(self, meta: Meta, children: list[Any]) -> sx.Require:
        """`require condition`."""
        return sx.Require(self._span(meta), children[0])

    def return_(self, meta: Meta, children: list[Any]) -> sx.Return:
        """`return a, b`."""
        return sx.Return(self._span(meta), tuple(children))

    def branch(self, meta: Meta, children: list[Any]) -> tuple[Any, ...]:
        """The statements of one branch."""
        return tuple(children)

    @staticmethod
    def _branches(meta: Meta, children: list[Any]) -> tuple[Any, tuple[Any, ...], tuple[Any, ...]]:
        condition, then, orelse = children
        if orelse is None:
            return condition, then, ()
        return condition, then, orelse if isinstance(orelse, tuple) else (orelse,)

    # Types

    def type(self, meta: Meta, children: list[Any]) -> sx.TypeSyntax:
        """`bf16[B, S, D]`."""
        dtype, *axes = children
        kept = tuple(a for a in axes if a is not None)
        return sx.TypeSyntax(self._span(meta), self._name(dtype), kept)

    def axis(self, meta: Meta, children: list[Any]) -> sx.AxisSyntax:
        """`H*E @tp`."""
        size, *shards = children
        return sx.AxisSyntax(self._span(meta), size, self._names(shards))

    # Expressions

    def binary(self, meta: Meta, children: list[Any]) -> sx.Binary:
        """`a operator b`."""
        left, operator, right = children
        node = sx.Binary(self._span(meta), str(operator), left, right, self._span(operator))
        return self._deep(node, left, right)

    def unary(self, meta: Meta, children: list[Any]) -> sx.Unary:
        """`-a` or `not a`."""
        operator, operand = children
        return self._deep(sx.Unary(self._span(meta), str(operator), operand), operand)

    def name(self, meta: Meta, children: list[Any]) -> sx.Name:
        """A reference."""
        return self._name(children[0])

    def number(self, meta: Meta, children: list[Any]) -> sx.Number:
        """A number."""
        return self._number(self._span(meta), str(children[0]))

    def string(self, meta: Meta, children: list[Any]) -> sx.String:
        """A string."""
        return self._string(children[0])

    def true(self, meta: Meta, children: list[Any]) -> sx.Boolean:
        """`true`."""
        return sx.Boolean(self._span(meta), True)

    def false(self, meta: Meta, children: list[Any]) -> sx.Boolean:
        """`false`."""
        return sx.Boolean(self._span(meta), False)

    def listing(self, meta: Meta, children: list[Any]) -> sx.Listing:
        """`[a, b]`."""
        items = tuple(c for c in children if c is not None)
        return self._deep(sx.Listing(self._span(meta), items), *items)

    def call(self, meta: Meta, children: list[Any]) -> sx.Call:
        """`f(a, name=b)`."""
        function, *rest = children
        keywords = tuple(c for c in rest if isinstance(c, sx.Keyword))
        arguments = tuple(c for c in rest if c is not None and not isinstance(c, sx.Keyword))
        node = sx.Call(self._span(meta), self._name(function), arguments, keywords)
        return self._deep(node, *arguments, *(k.value for k in keywords))

    def keyword(self, meta: Meta, children: list[Any]) -> sx.Keyword:
        """`name=value`."""
        return sx.Keyword(self._span(meta), self._name(children[0]), children[1])

    def index(self, meta: Meta, children: list[Any]) -> sx.Index:
        """`kinds[i]`."""
        node = sx.Index(self._span(meta), self._name(children[0]), children[1])
        return self._deep(node, children[1])

    def group(self, meta: Meta, children: list[Any]) -> Any:
        """`(a)`: grouping leaves no trace, the printer puts back what is needed."""
        return children[0]
