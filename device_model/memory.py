"""Weights in memory: reading tensors by name and evaluating where a weight comes from.

A plain tensor stays the array that the reader returned, which is a view of a mapped file; only a transformation that
moves elements copies. Files are not opened here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from device_model.numerics import STORAGE, Array, cast
from dsl.diagnostics import refuse
from dsl.graph import Attr, Graph, TensorRef, Transform, Weight, WeightSource
from dsl.types import DType


class TensorReader(Protocol):
    """Where tensors come from."""

    def read(self, name: str) -> Array:
        """Return a tensor read-only, in its stored format; raises `KeyError` for an unknown name."""
        ...


@dataclass(frozen=True, slots=True)
class Shape:
    """The stored shape and format of a tensor."""

    dims: tuple[int, ...]
    dtype: DType


@dataclass(frozen=True, slots=True)
class RandomReader:
    """Tensors of given shapes filled with numbers that depend on a seed and the tensor's name alone.

    Matrices have a deviation of fan_in ** -0.5, vectors stand near 1.
    """

    shapes: Mapping[str, Shape]
    seed: int = 0

    def read(self, name: str) -> Array:
        """Make the tensor of this name."""
        shape = self.shapes[name]
        digest = hashlib.sha256(f"{self.seed}:{name}".encode()).digest()
        generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "little")))
        values = generator.standard_normal(shape.dims, dtype=np.float32)
        if len(shape.dims) > 1:
            values *= np.float32(shape.dims[-1] ** -0.5)
        else:
            values *= np.float32(0.1)
            values += np.float32(1.0)
        array = cast(values, STORAGE[shape.dtype.name])
        array.flags.writeable = False
        return array


@dataclass(frozen=True, slots=True)
class ArrayReader:
    """Tensors that are in memory already."""

    arrays: Mapping[str, Array]

    def read(self, name: str) -> Array:
        """Return the array of this name."""
        view = self.arrays[name].view()
        view.flags.writeable = False
        return view


def shapes_of(graph: Graph) -> dict[str, Shape]:
    """Return a stored shape for every tensor that a graph names, for running it without a checkpoint.

    Raises `Refused` for a weight that is a transformation of tensors, whose own shapes the program does not state.
    """
    shapes: dict[str, Shape] = {}
    for body, layers in graph.bodies():
        for weight in body.weights:
            dims = tuple(dim for dim in weight.type.dims if isinstance(dim, int))
            if not isinstance(weight.source, TensorRef):
                raise refuse(
                    "S603", f"`{weight.name}` is not a plain tensor", place=weight.span.text
                )
            for layer in layers:
                name = weight.source.name.replace("{i}", str(layer))
                shapes[name] = Shape(dims, weight.type.dtype)
    return shapes


def evaluate(weight: Weight, reader: TensorReader, indices: Mapping[str, int]) -> Array:
    """Return the array of a weight; raises `Refused` where it does not have the declared shape."""
    array = source(weight.source, reader, indices)
    if tuple(array.shape) != tuple(weight.type.dims):
        declared = ", ".join(str(dim) for dim in weight.type.dims)
        raise refuse(
            "S602", f"`{weight.name}` is declared [{declared}] and has {list(array.shape)}"
        )
    return array


def source(origin: WeightSource, reader: TensorReader, indices: Mapping[str, int]) -> Array:
    """Evaluate a source; `{name}` in a tensor's name is replaced by the index of that name."""
    if isinstance(origin, TensorRef):
        name = origin.name
        for variable, index in indices.items():
            name = name.replace(f"{{{variable}}}", str(index))
        return reader.read(name)
    if origin.function not in TRANSFORMS:
        raise refuse("S604", f"the device cannot evaluate `{origin.function}` of a weight")
    if origin.function == "stack" and "count" in origin.attrs:
        return np.stack([source(origin.parts[0], reader, i) for i in _each(origin, indices)])
    parts = [source(part, reader, indices) for part in origin.parts]
    return TRANSFORMS[origin.function](parts, origin.attrs)


def _each(origin: Transform, indices: Mapping[str, int]) -> list[dict[str, int]]:
    variable, count = origin.attrs["variable"], origin.attrs["count"]
    if not (isinstance(variable, str) and isinstance(count, int)):
        raise refuse("S604", "`stack` needs a variable and an integer count")
    return [{**indices, variable: index} for index in range(count)]


def _stack(parts: list[Array], attrs: Mapping[str, Attr]) -> Array:
    return np.stack(parts)


def _concat(parts: list[Array], attrs: Mapping[str, Attr]) -> Array:
    return np.concatenate(parts, axis=_integer(attrs, "axis", 0))


def _transpose(parts: list[Array], attrs: Mapping[str, Attr]) -> Array:
    return np.ascontiguousarray(parts[0].swapaxes(-1, -2))


def _rows(parts: list[Array], attrs: Mapping[str, Attr]) -> Array:
    return parts[0][_integer(attrs, "start") : _integer(attrs, "stop")]


def _reshape(parts: list[Array], attrs: Mapping[str, Attr]) -> Array:
    shape = attrs["shape"]
    if not isinstance(shape, tuple):
        raise refuse("S604", "`reshape` needs a shape")
    return parts[0].reshape([int(dim) for dim in shape if isinstance(dim, int)])


def _permute_rope(parts: list[Array], attrs: Mapping[str, Attr]) -> Array:
    """Turn rows of interleaved rotary pairs into two halves, per head."""
    x, heads = parts[0], _integer(attrs, "heads")
    size = x.shape[0] // heads
    paired = x.reshape(heads, size // 2, 2, *x.shape[1:])
    return np.ascontiguousarray(paired.swapaxes(1, 2)).reshape(x.shape)


TRANSFORMS: dict[str, Callable[[list[Array], Mapping[str, Attr]], Array]] = {
    "stack": _stack,
    "concat": _concat,
    "transpose": _transpose,
    "rows": _rows,
    "reshape": _reshape,
    "permute_rope": _permute_rope,
}


def _integer(attrs: Mapping[str, Attr], name: str, default: int | None = None) -> int:
    value = attrs.get(name, default)
    if not isinstance(value, int):
        raise refuse("S604", f"a weight's source needs an integer `{name}`")
    return value
