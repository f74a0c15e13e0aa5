# SPDX-License-Identifier: Apache-2.0
"""From a checked graph to a flat list of operations on places.

Layers are unrolled, weights are read, values that do not depend on tokens are computed, and values that only rename
axes share memory. No memory is assigned and nothing per token is computed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from device_model.engine.interpreter import compute
from device_model.engine.owing import COMPLETES, Owing
from device_model.engine.renewing import renewals
from device_model.kernels.table import KERNELS
from device_model.numbers.low_products import WEIGHT, low_weights
from device_model.numbers.numerics import BF16, F16, F32, STORAGE, Array, Numerics, is_float
from device_model.numbers.packed import Packed
from device_model.numbers.precision import Product
from device_model.numbers.quantise import weight as quantised
from device_model.program.call import Batch, integer
from device_model.program.places import Buffer, Fixed, Operation, Place, StateRef, dtype_of
from device_model.program.renewal import Renewal
from device_model.weights.reading import TensorReader, evaluate
from dsl.diagnostics import Diagnostic, Refused
from dsl.graph import Body, Graph, Node, Repeat, State, Step, Weight
from dsl.ops import OPS
from dsl.source import Span
from dsl.symbolic import Dim, definition, names, symbol
from dsl.types import DTYPES, DType, Kind

TOGETHER = frozenset(spec.name for spec in OPS.values() if spec.needs_sequence)
"""Operations whose result for a token depends on where it stands, or that work on whole sequences."""
STORES = {spec.name: spec.place(spec.stores) for spec in OPS.values() if spec.stores}
"""Operations that are listed for their effect: their value is that of the operand here."""

MAX_INTEGER_K = (2**31 - 1) // 127**2
"""How many products of 8-bit integers an accumulator of 32 bits holds in any case."""
_NO_ROWS = Batch(*(np.zeros(0, np.int64) for _ in range(4)))


@dataclass(frozen=True, slots=True)
class Mark:
    """The end of a layer: the number of operations before it, the carried values, and what they were before it."""

    operations: int
    layer: int
    carried: tuple[Place, ...]
    entering: tuple[Place, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A value that does not depend on tokens, computed once: by what, and the array."""

    op: str
    span: Span
    layer: int
    array: Array


@dataclass(frozen=True, slots=True)
class Selection:
    """A value of which the head of the plan sees only the wanted tokens."""

    source: Buffer
    target: Buffer


@dataclass(frozen=True, slots=True)
class Plan:
    """The operations of a program in order.

    The first `body` operations see every token; then the selections are made, and the rest see the wanted tokens.
    `longest` is the length of a sequence that the tables of positions allow; `entries` the rows of the smallest table
    that tokens are looked up in; `renewals` say at which lengths a sequence is computed anew.
    """

    operations: tuple[Operation, ...]
    body: int
    marks: tuple[Mark, ...]
    selections: tuple[Selection, ...]
    inputs: tuple[Buffer, ...]
    outputs: Mapping[str, Place]
    states: tuple[StateRef, ...]
    longest: int | None = None
    constants: tuple[Constant, ...] = ()
    renewals: tuple[Renewal, ...] = ()
    entries: int | None = None


def plan(graph: Graph, reader: TensorReader, numerics: Numerics) -> Plan:
    """Flatten a bound graph; raises `ValueError` where a dimension is still a formula."""
    return Planner(graph, reader, numerics).plan()


@dataclass
class Planner:
    """Makes the plan of a program on one chip that has all of it."""

    graph: Graph
    reader: TensorReader
    numerics: Numerics
    operations: list[Operation] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    states: list[StateRef] = field(default_factory=list)
    shared: dict[tuple[str, int], StateRef] = field(default_factory=dict)
    constants: list[Constant] = field(default_factory=list)
    settled: dict[int, np.dtype[np.generic]] = field(default_factory=dict)
    low: frozenset[int] = frozenset()
    buffers: int = 0
    layer: int = -1
    owing: Owing = field(init=False)

    def __post_init__(self) -> None:
        self.owing = Owing(self.graph)

    def plan(self) -> Plan:
        """Return the plan; raises `ValueError` where a dimension is still a formula."""
        env: dict[int, Place] = {}
        inputs = tuple(self._buffer(value.id) for value in self.graph.inputs)
        env.update(zip((value.id for value in self.graph.inputs), inputs, strict=True))
        steps = self.graph.body.steps
        cut = _head_start(steps)
        self._enter(self.graph.body, env, -1)
        self._run(steps[:cut], env)
        body = len(self.operations)
        self._run(steps[cut:], env)
        return self._select(body, inputs, self._outputs(env))

    def _outputs(self, env: dict[int, Place]) -> dict[str, Place]:
        """Return where the program's results are, by name."""
        return {output.name: env[output.value] for output in self.graph.outputs}

    def _enter(self, body: Body, env: dict[int, Place], layer: int) -> None:
        product = self.numerics.product
        low: frozenset[int] = frozenset()
        if product is not None:
            low = low_weights(body, product, in_layer=layer >= 0)
            self.low |= low
        for weight in body.weights:
            env[weight.value] = self._weight(weight, layer, low=weight.value in low)
        for state in body.states:
            env[state.value] = self._item(state, layer) if state.item else self._state(state)

    def _item(self, state: State, layer: int) -> StateRef:
        """Return the state that an item of an array is, whichever body names it first."""
        name, index = state.item or ("", None)
        key = (name, layer if index is None else index)
        if key not in self.shared:
            self.shared[key] = self._state(state)
        return self.shared[key]

    def _weight(self, weight: Weight, layer: int, *, low: bool) -> Fixed | Packed:
        """Return a weight as the device holds it."""
        array = evaluate(weight, self.reader, layer)
        if isinstance(array, Packed):
            return array.rounded(F32 if self._exact(weight) else self.numerics.computed)
        product = self.numerics.product
        if low and product is not None and is_float(array.dtype) and not self._exact(weight):
            self._check_length(weight, product)
            return quantised(array, product.weight, self.numerics.computed)
        return Fixed(array if self._exact(weight) else self.numerics.load(array))

    def _check_length(self, weight: Weight, product: Product) -> None:
        """Refuse a sum of whole numbers that could be longer than its accumulator."""
        k = _bound(weight.type.dims[-1])
        if product.accumulator.is_integer and k > MAX_INTEGER_K:
            message = f"a sum over {k} does not fit the {product.accumulator.dtype} accumulator"
            raise Refused((Diagnostic("S604", message, weight.span, help=f"{MAX_INTEGER_K} do"),))

    def _product(self, node: Node, inputs: tuple[Place, ...]) -> Product | None:
        """Return how a node multiplies in low precision; plain products of packed weights need no word of it."""
        product = self.numerics.product
        if product is None or (product.is_plain and not _per_channel(inputs)):
            return None
        if node.op not in product.operations or node.inputs[WEIGHT] not in self.low:
            return None
        weight = inputs[WEIGHT]
        if not isinstance(weight, Packed):
            return None
        # A weight that is stored in blocks has scales along K, which whole numbers cannot be added across.
        return None if product.accumulator.is_integer and not weight.per_channel else product

    def _exact(self, weight: Weight) -> bool:
        """Tell whether the program keeps this weight in float32, unlike its other weights, in any numerics."""
        return self._widens(weight.type.dtype)

    def _widens(self, dtype: DType) -> bool:
        model = self.graph.config.get("dtype")
        return isinstance(model, DType) and dtype == DTYPES["f32"] != model

    def _run(self, steps: tuple[Step, ...], env: dict[int, Place]) -> None:
        for step in steps:
            if isinstance(step, Repeat):
                self._repeat(step, env)
            else:
                self._node(step, env)

    def _repeat(self, step: Repeat, env: dict[int, Place]) -> None:
        carried = tuple(env[value] for value in step.initial)
        for layer, cls in sorted(step.class_of().items()):
            inner = {**env, **dict(zip(cls.carry_in, carried, strict=True))}
            self.layer = layer
            self._enter(cls.body, inner, layer)
            self._run(cls.body.steps, inner)
            entering, carried = carried, tuple(inner[value] for value in cls.carry_out)
            self.marks.append(Mark(len(self.operations), layer, carried, entering))
        self.layer = -1
        env.update(zip(step.results, carried, strict=True))

    def _node(self, node: Node, env: dict[int, Place]) -> None:
        kernel = KERNELS.get(node.op)
        if kernel is None:
            raise ValueError(f"the device has no operation `{node.op}`")
        self._check_sums(node)
        inputs = tuple(env[value] for value in node.inputs)
        if node.op in STORES:
            env[node.outputs[0]] = inputs[STORES[node.op]]
            self._emit(node, inputs, (), env)
            return
        if node.op == "reuse":
            env[node.outputs[0]] = inputs[0]
            return
        dtypes = kernel.result(tuple(map(self._runtime, inputs)), node.attrs, self.numerics)
        if all(isinstance(place, Fixed) for place in inputs):
            arrays = [place.array for place in inputs if isinstance(place, Fixed)]
            results = compute(
                node.op, arrays, node.operands, node.attrs, _NO_ROWS, self.numerics, dtypes
            )
            env.update(zip(node.outputs, map(Fixed, results), strict=True))
            self.constants += [Constant(node.op, node.span, self.layer, r) for r in results]
            return
        (first, *_) = inputs
        if isinstance(first, StateRef) and node.op == "slice":
            columns = integer(node.attrs, "start"), integer(node.attrs, "stop")
            env[node.outputs[0]] = replace(first, columns=columns)
            return
        dtypes = self._owed(node, dtypes)
        viewed = [place for place in inputs[: len(node.outputs)] if isinstance(place, Buffer)]
        if self._is_view(node) and tuple(place.dtype for place in viewed) == tuple(dtypes):
            for value, place in zip(node.outputs, viewed, strict=True):
                env[value] = replace(place, shape=self._shape(value))
            return
        outputs = tuple(
            self._buffer(value, dtype) for value, dtype in zip(node.outputs, dtypes, strict=True)
        )
        env.update(zip(node.outputs, outputs, strict=True))
        self._emit(node, inputs, outputs, env)

    def _is_view(self, node: Node) -> bool:
        """Tell whether a node only renames axes of the same bytes."""
        return KERNELS[node.op].view

    def _owed(self, node: Node, dtypes: Sequence[np.dtype[Any]]) -> tuple[np.dtype[Any], ...]:
        """Return the formats of results: an owed sum is in float32 until it is complete, then what it would have been.

        Where nothing but its completion reads it, it is rounded at once: the same bits.
        """
        known = next((self.settled[v] for v in node.inputs if v in self.settled), None)
        if node.op in COMPLETES and known is not None and not self.owing.owes(node.outputs[0]):
            return (known,)
        made = []
        for value, dtype in zip(node.outputs, dtypes, strict=True):
            if node.op == "gather" or not self.owing.owes(value):
                made.append(dtype)
                continue
            self.settled[value] = dtype if known is None else known
            at_once = self.owing.is_completed_at_once(value)
            made.append(self.settled[value] if at_once else F32)
        return tuple(made)

    def _emit(
        self, node: Node, inputs: tuple[Place, ...], outputs: tuple[Place, ...],
        env: Mapping[int, Place],
    ) -> None:  # fmt: skip
        """Append what computes a node."""
        self.operations.append(self._operation(node, inputs, outputs, env))

    def _operation(
        self, node: Node, inputs: tuple[Place, ...], outputs: tuple[Place, ...],
        env: Mapping[int, Place],
    ) -> Operation:  # fmt: skip
        operation = Operation(
            node.op, inputs, outputs, node.attrs, node.operands, span=node.span, layer=self.layer,
            product=self._product(node, inputs), leaves=self.owing.leaves(node),
        )  # fmt: skip
        experts = self.owing.experts(node)
        if experts is not None:
            choice, count = experts
            operation = replace(
                operation, inputs=(*inputs, env[choice]), operands=(*node.operands, "choice"),
                attrs={**node.attrs, "experts": count, "first": 0, "stop": count},
            )  # fmt: skip
        return operation

    def _check_sums(self, node: Node) -> None:
        """Refuse an operation that asks for sums in a format that this device does not accumulate in."""
        wanted, own = node.attrs.get("accumulate"), self.numerics.accumulator.dtype
        if isinstance(wanted, DType) and wanted != own:
            message = f"{node.op} asks for sums in {wanted}; the device accumulates in {own}"
            raise Refused((Diagnostic("S604", message, node.span),))

    def _runtime(self, place: Place) -> np.dtype[np.generic]:
        """Return the format that an operand counts as: a weight never widens a result."""
        dtype = dtype_of(place)
        is_weight = isinstance(place, Packed) or (
            isinstance(place, Fixed) and dtype in (F32, BF16, F16)
        )
        return self.numerics.storage if is_weight else dtype

    def _buffer(self, value: int, dtype: np.dtype[np.generic] | None = None) -> Buffer:
        kind = self.graph.values[value].type.dtype
        if dtype is None:
            dtype = self.numerics.storage if kind.kind is Kind.FLOAT else STORAGE["i32"]
        self.buffers += 1
        per_sequence = symbol(self.graph.seq) not in self.graph.values[value].type.dims
        return Buffer(self.buffers - 1, self._shape(value), dtype, per_sequence)

    def _shape(self, value: int) -> tuple[int, ...]:
        """Return the shape per token of a value."""
        return tuple(_bound(dim) for dim in self._dims(value) if not self._packed(dim))

    def _dims(self, value: int) -> tuple[Dim, ...]:
        """Return the sizes of a value's axes."""
        return self.graph.values[value].type.dims

    def _packed(self, dim: Dim) -> bool:
        # Behind a dispatch the batch is a multiple of it.
        return dim == symbol(self.graph.seq) or self.graph.batch in names(dim)

    def _state(self, state: State) -> StateRef:
        dims = [dim for dim in self._dims(state.value) if dim != symbol(self.graph.batch)]
        axes = [i for i, dim in enumerate(dims) if self._is_context(dim)]
        if len(axes) > 1:
            raise ValueError(f"state `{state.name}` has {len(axes)} context axes")
        at = axes[0] if axes else len(dims)
        kept = StateRef(
            len(self.states),
            tuple(map(_bound, dims[:at])),
            tuple(map(_bound, dims[at + 1 :])),
            self._kept_format(state.type.dtype),
            grows=bool(axes),
            ring=self._ring(dims[at]) if axes else None,
        )
        self.states.append(kept)
        return kept

    def _kept_format(self, dtype: DType) -> np.dtype[np.generic]:
        """Return the format of a state: the activations', unless the program asks for integers or more precision."""
        if dtype.kind is not Kind.FLOAT or self._widens(dtype):
            return STORAGE[dtype.name]
        return self.numerics.storage

    def _is_context(self, dim: Dim) -> bool:
        """Tell whether a size is the context or, for a ring, what is kept of it."""
        return self.graph.context in names(dim)

    def _ring(self, dim: Dim) -> int | None:
        made = definition(dim)
        return _bound(made.b) if made is not None and made.function == "min" else None

    def _select(self, body: int, inputs: tuple[Buffer, ...], outputs: Mapping[str, Place]) -> Plan:
        """Let the head read copies of the wanted tokens."""
        made = {
            place.index for operation in self.operations[body:] for place in _written(operation)
        }
        copies: dict[int, Buffer] = {}
        selections: list[Selection] = []

        def moved(place: Place) -> Place:
            if not isinstance(place, Buffer) or place.index in made or place.per_sequence:
                return place
            if place.index not in copies:
                copies[place.index] = replace(place, index=self.buffers)
                self.buffers += 1
                selections.append(Selection(place, copies[place.index]))
            return replace(place, index=copies[place.index].index)

        head = [
            replace(operation, inputs=tuple(map(moved, operation.inputs)), head=True)
            for operation in self.operations[body:]
        ]
        results = {name: moved(place) for name, place in outputs.items()}
        return Plan(
            (*self.operations[:body], *head), body, tuple(self.marks), tuple(selections), inputs,
            results, tuple(self.states), _longest(self.operations), tuple(self.constants),
            renewals(self.operations), _entries(self.operations, inputs),
        )  # fmt: skip


def _longest(operations: Sequence[Operation]) -> int | None:
    """Return how many tokens have a row in every table that positions look up, None where there is no such table."""
    offsets: dict[int, int] = {}
    allowed: list[int] = []
    for operation in operations:
        if operation.op == "positions":
            offsets |= {
                place.index: integer(operation.attrs, "offset", 0) for place in _written(operation)
            }
        if operation.op != "gather":
            continue
        table, *ids = operation.inputs
        if isinstance(table, Fixed) and isinstance(ids[0], Buffer):
            rows = integer(operation.attrs, "entries", len(table.array))
            allowed += [rows - o for o in (offsets.get(ids[0].index),) if o is not None]
    return min(allowed, default=None)


def _entries(operations: Sequence[Operation], inputs: Sequence[Buffer]) -> int | None:
    """Return how many rows every table has that inputs are looked up in, None where there is no such table."""
    given = {place.index for place in inputs}
    rows: list[int] = []
    for operation in operations:
        if operation.op != "gather":
            continue
        table, *ids = operation.inputs
        if not isinstance(ids[0], Buffer) or ids[0].index not in given:
            continue
        if isinstance(table, Fixed | Packed):
            size = table.array.shape[0] if isinstance(table, Fixed) else table.shape[0]
            rows.append(integer(operation.attrs, "entries", size))
    return min(rows, default=None)


def last_uses(plan: Plan, result: Place) -> dict[int, int]:
    """Return by buffer the number of the last operation to read it; what the head reads lives until the selection."""
    last: dict[int, int] = {}
    for number, operation in enumerate(plan.operations):
        for place in (*operation.inputs, *operation.outputs):
            if isinstance(place, Buffer):
                last[place.index] = number
    end = len(plan.operations)
    # A layer's results can be looked at once the layer is done.
    for mark in plan.marks:
        for place in mark.carried:
            if isinstance(place, Buffer):
                last[place.index] = max(last.get(place.index, 0), mark.operations)
    for selection in plan.selections:
        last[selection.source.index] = end
    if isinstance(result, Buffer):
        last[result.index] = end
    return last


def _head_start(steps: tuple[Step, ...]) -> int:
    """Return where the operations begin that treat every token alone."""
    start = len(steps)
    while start > 0:
        step = steps[start - 1]
        if isinstance(step, Repeat) or step.op in TOGETHER:
            break
        start -= 1
    return start


def _written(operation: Operation) -> Iterator[Buffer]:
    for place in operation.outputs:
        if isinstance(place, Buffer):
            yield place


def _per_channel(inputs: tuple[Place, ...]) -> bool:
    return any(isinstance(place, Packed) and place.per_channel for place in inputs)


def _bound(dim: Dim) -> int:
    if isinstance(dim, int):
        return dim
    raise ValueError(f"dimension `{dim}` has no value: bind the program first")
