# SPDX-License-Identifier: Apache-2.0
"""The plan of one chip of a mesh: its part of weights, states and values, and where it meets other chips.

Owed sums are completed where they arise, in their declared tree: what the program's own collective then finds is the
whole, as on one chip. That is where a sum must be complete for the bits to be those of one chip; the collective says
where it must be at the latest. Nothing is exchanged here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from device_model.engine.plan import Planner
from device_model.numbers.numerics import F32
from device_model.numbers.packed import Packed
from device_model.numbers.precision import Leaves
from device_model.program.places import Buffer, Fixed, Meeting, Meets, Operation, Place
from dsl.diagnostics import Diagnostic, Refused
from dsl.graph import Node, Weight
from dsl.mesh.components import Component
from dsl.mesh.cuts import leaf_borders
from dsl.mesh.rank import Rank, Shares
from dsl.mesh.trees import Node as Subtree
from dsl.mesh.trees import merges, nodes
from dsl.ops import OPS
from dsl.ops.spec import Work
from dsl.symbolic import Dim


@dataclass
class RankPlanner(Planner):
    """Makes the plan of one chip."""

    rank: Rank = field(default_factory=lambda: Rank({}, {}))
    shares: Shares = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.shares = Shares(self.graph, self.owing.parts, self.rank)
        self._check_double_cuts()

    def _check_double_cuts(self) -> None:
        """Refuse what two mesh axes cut one within the other where parts are uneven."""
        for value in self.graph.values:
            if all(len(axis.shards) < 2 for axis in value.type.axes):
                continue
            try:
                self.shares.spans(value.id)
            except ValueError as error:
                help_ = "one axis that cuts it, or sizes that divide it"
                diagnostic = Diagnostic("S618", f"`{value.name}`: {error}", value.span, help=help_)
                raise Refused((diagnostic,)) from error

    def _check_single(self, node: Node, axes: tuple[str, ...]) -> None:
        """Refuse a sum that two mesh axes cut: its parts are no runs of leaves."""
        wide = [axis for axis in axes if self.rank.sizes[axis] > 1]
        if len(wide) > 1:
            message = f"{node.op} is a sum that {' and '.join(wide)} cut one within the other"
            help_ = "several chips along one of them"
            raise Refused((Diagnostic("S618", message, node.span, help=help_),))

    def _dims(self, value: int) -> tuple[Dim, ...]:
        axes = self.graph.values[value].type.axes
        spans = self.shares.spans(value)
        return tuple(
            axis.dim if span is None else span[1] - span[0]
            for axis, span in zip(axes, spans, strict=True)
        )

    def _weight(self, weight: Weight, layer: int, *, low: bool) -> Fixed | Packed:
        whole = super()._weight(weight, layer, low=low)
        return self._cut(whole, self.shares.spans(weight.value), weight)

    def _cut(
        self, whole: Fixed | Packed, spans: tuple[tuple[int, int] | None, ...], weight: Weight
    ) -> Fixed | Packed:
        if all(span is None for span in spans):
            return whole
        if isinstance(whole, Fixed):
            at = tuple(slice(None) if span is None else slice(*span) for span in spans)
            return Fixed(np.ascontiguousarray(whole.array[at]))
        try:
            return whole.cut(spans)
        except ValueError as error:
            mesh = ", ".join(f"{axis}={size}" for axis, size in self.rank.sizes.items() if size > 1)
            message = (
                f"`{weight.name}` is stored in blocks of {whole.rows} x {whole.columns}; {error}"
            )
            help_ = f"{mesh} cuts it there: fewer chips along that axis, or weights that are not in blocks"
            raise Refused((Diagnostic("S618", message, weight.span, help=help_),)) from error

    def _node(self, node: Node, env: dict[int, Place]) -> None:
        exchanges = OPS[node.op].work is Work.COLLECTIVE or node.op == "shard"
        if exchanges and self._cuts(axes_of(node)) and not isinstance(env[node.inputs[0]], Buffer):
            # What does not depend on tokens is worked out on each chip before any chip meets another.
            message = f"`{node.op}` of what does not depend on tokens: no mesh exchanges weights"
            help_ = "declare the weight as every chip needs it, split or whole"
            raise Refused((Diagnostic("S618", message, node.span, help=help_),))
        super()._node(node, env)

    def _is_view(self, node: Node) -> bool:
        cut = OPS[node.op].work is Work.COLLECTIVE or node.op == "shard"
        return super()._is_view(node) and not (cut and self._changes(node))

    def _changes(self, node: Node) -> bool:
        """Tell whether a chip has another part of a result than of the operand."""
        (given, *_), (made, *_) = node.inputs, node.outputs
        return self.shares.spans(given) != self.shares.spans(made)

    def _emit(
        self, node: Node, inputs: tuple[Place, ...], outputs: tuple[Place, ...],
        env: Mapping[int, Place],
    ) -> None:  # fmt: skip
        if all(
            isinstance(place, Buffer) and not place.elements for place in outputs or inputs[1:2]
        ):
            return
        operation = self._operation(node, inputs, outputs, env)
        for emit in (self._gather, self._share, self._look_up, self._experts, self._products):
            if emit(node, operation):
                return
        self.operations.append(self._of_heads(node, operation))

    def _group(self, axes: Iterable[str]) -> tuple[Shares, ...]:
        """Return what the chips have that differ from this one along mesh axes, itself among them."""
        return tuple(self.shares.of(rank) for rank in self.rank.peers(axes))

    def _cuts(self, axes: Iterable[str]) -> bool:
        return any(self.rank.sizes[axis] > 1 for axis in axes)

    def _fresh(self, like: Buffer) -> Buffer:
        """Return another buffer of the same shape for a sum that is not complete."""
        self.buffers += 1
        return replace(like, index=self.buffers - 1, dtype=F32)

    def _gather(self, node: Node, operation: Operation) -> bool:
        """Put the parts of an axis side by side."""
        if node.op != "all_gather":
            return False
        (value,), (made,) = node.inputs, node.outputs
        axes = self.graph.values[value].type.axes
        after = self.graph.values[made].type.axes
        (at,) = (i for i, axis in enumerate(axes) if axis.shards != after[i].shards)
        mesh = set(axes[at].shards) - set(after[at].shards)
        group = self._group(mesh)
        offset = self.shares.span(made, after[at])[0] if after[at].shards else 0
        spans = tuple(share.span(value, axes[at]) for share in group)
        meeting = Meeting(
            Meets.JOIN, _numbers(group), axis=self._token_axis(value, at),
            spans=tuple((start - offset, stop - offset) for start, stop in spans),
        )  # fmt: skip
        self.operations.append(replace(operation, meeting=meeting))
        return True

    def _token_axis(self, value: int, at: int) -> int:
        """Return where an axis stands in the shape per token, the tokens being the first."""
        dims = self.graph.values[value].type.dims
        return 1 + sum(not self._packed(dim) for dim in dims[:at])

    def _share(self, node: Node, operation: Operation) -> bool:
        """Take the chip's own part of what every chip has."""
        if node.op not in ("shard", "reduce_scatter") or not self._changes(node):
            return False
        (made,) = node.outputs
        axis = self.graph.values[made].type.axes[-1]
        start, stop = self.shares.span(made, axis)
        attrs = {"start": start, "stop": stop}
        self.operations.append(replace(operation, op="slice", attrs=attrs))
        return True

    def _look_up(self, node: Node, operation: Operation) -> bool:
        """Look rows of a split table up, each on the chip that has it."""
        table, *_ = node.inputs
        axis = self.graph.values[table].type.axes[0]
        if node.op != "gather" or not self._cuts(axis.shards):
            return False
        first, _ = self.shares.span(table, axis)
        (out,) = operation.outputs
        if not isinstance(out, Buffer):
            return False
        own = replace(self._fresh(out), dtype=out.dtype)
        attrs = {**node.attrs, "first": first, "entries": axis.dim}
        self.operations.append(replace(operation, outputs=(own,), attrs=attrs))
        group = self._group(axis.shards)
        spans = tuple(share.span(table, axis) for share in group)
        meeting = Meeting(Meets.PICK, _numbers(group), spans=spans)
        self.operations.append(
            replace(
                operation, inputs=(own, operation.inputs[1]), operands=("x", "ids"), meeting=meeting
            )
        )
        return True

    def _experts(self, node: Node, operation: Operation) -> bool:
        """Add what a chip's own experts made, a sum for each subtree of them, and complete it."""
        known = self.owing.experts(node)
        y = self.graph.values[node.inputs[0]].type
        if node.op != "combine" or not self._cuts(y.axes[2].shards):
            return False
        self._check_single(node, y.axes[2].shards)
        if known is None:
            message = (
                "what is combined does not come from one product of experts: no mesh can split it"
            )
            raise Refused((Diagnostic("S618", message, node.span),))
        (mesh,) = (axis for axis in y.axes[2].shards if self.rank.sizes[axis] > 1)
        part, count = self.owing.parts.at(node.inputs[0], mesh), known[1]
        group = self._group(y.axes[2].shards)
        held = tuple(_subtrees(count, *_range(share, part)) for share in group)
        own = held[self._place(group)]

        def product(subtree: Subtree) -> Operation:
            first, stop = subtree
            return replace(operation, attrs={**operation.attrs, "first": first, "stop": stop})

        self._complete(operation, own, product, Meeting(Meets.ADD, _numbers(group), held, count))
        return True

    def _products(self, node: Node, operation: Operation) -> bool:
        """Multiply by a chip's own columns, a sum for each subtree of their leaves, and complete it."""
        parts = self.owing.summed(node)
        self._check_single(node, tuple(part.mesh for part in parts))
        part = next((part for part in parts if self._cuts((part.mesh,))), None)
        operation = self._of_heads(node, operation)
        if part is None or operation.leaves is None:
            return False
        if operation.product is not None:
            message = f"{node.op} quantises rows that {part.mesh}={self.rank.sizes[part.mesh]} cuts"
            help_ = (
                "numerics that quantise activations run on meshes that do not split their products"
            )
            raise Refused((Diagnostic("S618", message, node.span, help=help_),))
        leaves = operation.leaves
        count = len(leaf_borders(part)) - 1
        group = self._group((part.mesh,))
        held = tuple(_subtrees(count, *_leaves(share, part)) for share in group)
        first = leaves.borders[_leaves(self.shares, part)[0]]

        def product(subtree: Subtree) -> Operation:
            lo, hi = subtree
            borders = tuple(border - first for border in leaves.borders[lo : hi + 1])
            return replace(operation, leaves=Leaves(borders, merges(lo, hi)))

        meeting = Meeting(Meets.ADD, _numbers(group), held, count)
        self._complete(operation, held[self._place(group)], product, meeting)
        return True

    def _complete(
        self, operation: Operation, own: tuple[Subtree, ...],
        product: Callable[[Subtree], Operation], meeting: Meeting,
    ) -> None:  # fmt: skip
        """Append the sums of a chip's subtrees and the meeting that completes them."""
        (out,) = operation.outputs
        if not isinstance(out, Buffer):
            raise TypeError(f"{operation.op} does not depend on tokens")
        sums = []
        for subtree in own:
            made = self._fresh(out)
            self.operations.append(replace(product(subtree), outputs=(made,)))
            sums.append(made)
        self.operations.append(
            replace(
                operation,
                inputs=tuple(sums),
                operands=("x",) * len(sums),
                leaves=None,
                meeting=meeting,
            )
        )

    def _of_heads(self, node: Node, operation: Operation) -> Operation:
        """Tell an operation where the chip's experts begin, and give it the slopes of the chip's heads."""
        if OPS[node.op].work is Work.EXPERTS:
            axis = self.graph.values[node.inputs[1]].type.axes[0]
            first = self.shares.span(node.inputs[1], axis)[0] if axis.shards else 0
            return replace(operation, attrs={**operation.attrs, "first": first})
        slopes = operation.operand("slopes")
        if not isinstance(slopes, Fixed) or "slopes" not in node.operands:
            return operation
        value = node.inputs[node.operands.index("slopes")]
        heads = self.graph.values[node.inputs[0]].type.axes[1]
        if self.graph.values[value].type.axes[0].shards or not heads.shards:
            return operation
        start, stop = self.shares.span(node.inputs[0], heads)
        own = Fixed(np.ascontiguousarray(slopes.array[start:stop]))
        inputs = tuple(own if place is slopes else place for place in operation.inputs)
        return replace(operation, inputs=inputs)

    def _place(self, group: tuple[Shares, ...]) -> int:
        return _numbers(group).index(self.rank.number)


def axes_of(node: Node) -> tuple[str, ...]:
    """Return the mesh axes of a collective."""
    axes = node.attrs["axes"]
    return tuple(map(str, axes)) if isinstance(axes, tuple) else (str(axes),)


def _numbers(group: tuple[Shares, ...]) -> tuple[int, ...]:
    return tuple(share.rank.number for share in group)


def _subtrees(leaves: int, lo: int, hi: int) -> tuple[Subtree, ...]:
    return nodes(leaves, lo, hi)


def _leaves(share: Shares, part: Component) -> tuple[int, int]:
    run = share.run(part)
    return run.first_leaf, run.last_leaf


def _range(share: Shares, part: Component) -> tuple[int, int]:
    run = share.run(part)
    return run.start, run.stop
