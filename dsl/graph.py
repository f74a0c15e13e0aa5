# SPDX-License-Identifier: Apache-2.0
"""The typed graph of a program: what the checker proves, the device runs and the cost model counts.

Values are numbered once per graph. A `Repeat` holds one body per layer class and the class of every layer, so that 80
equal layers are one body. Nothing here knows how a value is computed or stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from dsl.source import Span
from dsl.symbolic import Dim
from dsl.types import DType, TensorType

Attr: TypeAlias = Dim | float | bool | str | DType | tuple["Attr", ...]


@dataclass(frozen=True, slots=True)
class Value:
    """One value of the graph; `name` is what the text calls it."""

    id: int
    name: str
    type: TensorType
    span: Span


@dataclass(frozen=True, slots=True)
class Node:
    """One operation. `operands` names the parameter of each input; `path` the enclosing blocks, outermost first."""

    op: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    attrs: Mapping[str, Attr]
    span: Span
    path: tuple[str, ...] = ()
    operands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Region:
    """The part of one axis that a weight reads: indices start, start + step, … below stop, of each of equal groups."""

    axis: int
    start: Dim
    stop: Dim
    step: int = 1
    groups: Dim = 1


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A checkpoint tensor; `{i}` in the name stands for the layer index.

    `shape` is what the file must hold, None where only a region says something about a size; `read` is the shape of
    the part that is read; `dtype` is the stored format, None for any that the weight's own can be made from. A `shared`
    tensor says something of each part of a packed one, and is read with every one of them.
    """

    name: str
    span: Span
    shape: tuple[Dim | None, ...] = ()
    read: tuple[Dim, ...] = ()
    region: Region | None = None
    dtype: DType | None = None
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Transform:
    """A function of sources, such as `stack`, `transpose` or `rows`, with static arguments."""

    function: str
    parts: tuple[WeightSource, ...]
    attrs: Mapping[str, Attr]
    span: Span


WeightSource: TypeAlias = TensorRef | Transform


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight of a body: the value it provides and where its bytes come from.

    `share` is the part of those bytes, of so many, that a chip has where a graph is one chip's.
    """

    value: int
    name: str
    type: TensorType
    source: WeightSource
    span: Span
    share: tuple[int, int] = (1, 1)


@dataclass(frozen=True, slots=True)
class Unneeded:
    """Tensors that a checkpoint may hold and the program does not need: their names, and why.

    In the pattern a `*` stands for any characters, a hole for the number of a layer.
    """

    pattern: str
    reason: str


@dataclass(frozen=True, slots=True)
class State:
    """What persists between steps: the value it provides, one instance per layer of its body.

    With `item` it is not the body's own but an item of an array of the family: the array's name, and which item, None
    for the one of this layer.
    """

    value: int
    name: str
    type: TensorType
    span: Span
    item: tuple[str, int | None] | None = None


@dataclass(frozen=True, slots=True)
class StateArray:
    """States that the family declares together, which layers and entries share by index."""

    name: str
    count: Dim
    type: TensorType
    span: Span


@dataclass(frozen=True, slots=True)
class Body:
    """Steps in order, with the weights and states that they may use."""

    weights: tuple[Weight, ...]
    states: tuple[State, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class LayerClass:
    """A body that some layers share; `carry_in` are its ids for the carried values, `carry_out` their new ones."""

    body: Body
    carry_in: tuple[int, ...]
    carry_out: tuple[int, ...]
    layers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """A sequence of layers: `initial` enters layer 0, `results` leave the last one."""

    variable: str
    count: int | None
    classes: tuple[LayerClass, ...]
    initial: tuple[int, ...]
    results: tuple[int, ...]
    names: tuple[str, ...]
    span: Span
    stages: str | None = None

    def class_of(self) -> dict[int, LayerClass]:
        """Return the class of every layer index."""
        return {layer: cls for cls in self.classes for layer in cls.layers}


Step: TypeAlias = Node | Repeat


@dataclass(frozen=True, slots=True)
class Output:
    """A named result of the program."""

    name: str
    value: int
    type: TensorType
    span: Span


@dataclass(frozen=True, slots=True)
class Obligation:
    """A fact that the checker needs and that only the values can settle, such as `K % tp == 0`.

    With `at_most` the divisor is only no larger than the dividend, as stages are no more than layers: `pp <= L`. `why`
    says what an axis that splits nothing would have to split.
    """

    text: str
    dividend: Dim
    divisor: Dim
    span: Span
    at_most: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Graph:
    """A checked program."""

    family: str
    architectures: tuple[str, ...]
    batch: str
    seq: str
    context: str
    mesh: tuple[str, ...]
    config: Mapping[str, Attr]
    inputs: tuple[Value, ...]
    body: Body
    outputs: tuple[Output, ...]
    values: tuple[Value, ...]
    obligations: tuple[Obligation, ...]
    arrays: tuple[StateArray, ...] = ()
    batch_shards: tuple[str, ...] = ()
    entry: str = ""
    unneeded: tuple[Unneeded, ...] = ()

    def bodies(self) -> Iterator[tuple[Body, tuple[int, ...]]]:
        """Yield each body with the layer indices that run it; the outermost runs once, as layer -1."""
        yield self.body, (-1,)
        for step in self.body.steps:
            if isinstance(step, Repeat):
                for cls in step.classes:
                    yield cls.body, cls.layers
