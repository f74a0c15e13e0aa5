# SPDX-License-Identifier: Apache-2.0
"""Which neighbouring operations are one task, as serving engines fuse them, and what people call it.

Products of one value are one product, element-wise runs are one pass, the products of one choice of experts are one
expert layer. Sizes are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from device_model.timeline.kinds import KINDS, Kind
from dsl.graph import Graph, Node
from dsl.ops import OPS
from dsl.ops.spec import no_traffic


def kind_of(group: Sequence[Node]) -> Kind:
    """Return the kind of a task of some nodes."""
    return KINDS.get(group[0].op, Kind.VECTOR)


def groups(nodes: Sequence[Node]) -> Iterator[list[Node]]:
    """Yield the nodes of one task at a time, in order."""
    at = 0
    while at < len(nodes):
        end = _end(nodes, at)
        yield list(nodes[at:end])
        at = end


def _end(nodes: Sequence[Node], at: int) -> int:
    """Return where the task that starts here ends."""
    first = nodes[at]
    kind = kind_of([first])
    end = at + 1
    if kind is Kind.EXPERTS:
        return _experts_end(nodes, at)
    while end < len(nodes):
        node = nodes[end]
        if kind is Kind.GEMM and not (
            node.op == "matmul" == first.op and node.inputs[0] == first.inputs[0]
        ):
            break
        if kind is Kind.VECTOR and node.op in KINDS:
            break
        if kind in (Kind.ATTENTION, Kind.COLLECTIVE):
            break
        end += 1
    return end


def _experts_end(nodes: Sequence[Node], at: int) -> int:
    """Return the end of an expert layer: its last product of the same choice, and what combines the results."""
    choice = _choice(nodes[at])
    same = [
        i for i in range(at, len(nodes))
        if nodes[i].op == "expert_matmul" and _choice(nodes[i]) == choice
    ]  # fmt: skip
    end = same[-1] + 1
    while end < len(nodes) and nodes[end].op == "combine":
        end += 1
    inside = [n for n in nodes[at:end] if KINDS.get(n.op, Kind.EXPERTS) is not Kind.EXPERTS]
    return at + 1 if inside else end


def _choice(node: Node) -> int:
    return node.inputs[node.operands.index("choice")]


def name_of(graph: Graph, group: Sequence[Node]) -> str:
    """Return what a person calls a task: the operation, and its weights or results."""
    kind = kind_of(group)
    if kind in (Kind.GEMM, Kind.EXPERTS):
        weights = [
            graph.values[n.inputs[n.operands.index("w")]].name for n in group if "w" in n.operands
        ]
        return f"{'experts' if kind is Kind.EXPERTS else 'matmul'} {'+'.join(weights)}"
    if kind is Kind.VECTOR:
        names = [n.op for n in group if OPS[n.op].traffic is not no_traffic]
        return "+".join(dict.fromkeys(names)) or group[0].op
    return group[0].op
