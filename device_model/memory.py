"""Weights in memory: reading tensors by name and evaluating where a weight comes from.

A plain tensor stays the array that the reader returned, which is a view of a mapped file; only a transformation that
moves elements copies. Files are not opened here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from device_model.kernels.call import integer
from device_model.numerics import STORAGE, Array, cast
from device_model.packed import Packed, mxfp4, stacked
from dsl.diagnostics import refuse
from dsl.graph import Attr, Graph, TensorRef, Weight, WeightSource
from dsl.sources import instance, tensors
from dsl.symbolic import Dim
from dsl.types import DType

Parts: TypeAlias = Sequence[Array | Packed]


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

    A size that the program leaves open is taken as the end of the furthest part that is read.
    """
    shapes: dict[str, Shape] = {}
    for body, layers in graph.bodies():
        for weight in body.weights:
            for layer in layers:
                for name, ref in tensors(weight.source, layer):
                    shape = Shape(_stored(ref, weight), ref.dtype or weight.type.dtype)
                    shapes[name] = _larger(shapes.get(name, shape), shape)
    return shapes


def _stored(ref: TensorRef, weight: Weight) -> tuple[int, ...]:
    """Return the least shape of a tensor that a reference can be read from."""
    dims: list[Dim | None] = list(ref.shape or weight.type.dims)
    if ref.region is not None and dims[ref.region.axis] is None:
        dims[ref.region.axis] = ref.region.stop * ref.region.groups
    bound = tuple(dim for dim in dims if isinstance(dim, int))
    if len(bound) != len(dims):
        raise ValueError(f"`{weight.name}` has a dimension without a value: bind the program first")
    return bound


def _larger(a: Shape, b: Shape) -> Shape:
    return Shape(tuple(max(x, y) for x, y in zip(a.dims, b.dims, strict=True)), a.dtype)


def evaluate(weight: Weight, reader: TensorReader, layer: int) -> Array | Packed:
    """Return the array of a weight for a layer; raises `Refused` where it does not have the declared shape."""
    array = source(weight.source, reader, layer, {})
    if tuple(array.shape) != tuple(weight.type.dims):
        declared = ", ".join(str(dim) for dim in weight.type.dims)
        raise refuse(
            "S562", f"`{weight.name}` is declared [{declared}] and has {list(array.shape)}"
        )
    return array


def source(
    origin: WeightSource, reader: TensorReader, layer: int, loops: Mapping[str, int]
) -> Array | Packed:
    """Evaluate a source; holes in a tensor's name are filled with the loops' indices and the layer."""
    if isinstance(origin, TensorRef):
        return reader.read(instance(origin.name, layer, loops))
    if origin.function == "stack" and "count" in origin.attrs:
        variable, count = str(origin.attrs["variable"]), integer(origin.attrs, "count")
        (part,) = origin.parts
        rounds = [{**loops, variable: index} for index in range(count)]
        return _stack([source(part, reader, layer, indices) for indices in rounds], {})
    if origin.function not in TRANSFORMS:
        raise ValueError(f"the device cannot evaluate `{origin.function}` of a weight")
    parts = [source(part, reader, layer, loops) for part in origin.parts]
    return TRANSFORMS[origin.function](parts, origin.attrs)


def _plain(parts: Parts) -> list[Array]:
    """Return parts that no function may have packed."""
    arrays = [part for part in parts if not isinstance(part, Packed)]
    if len(arrays) != len(parts):
        raise ValueError("the device cannot move the elements of a packed weight")
    return arrays


def _stack(parts: Parts, attrs: Mapping[str, Attr]) -> Array | Packed:
    packed = [part for part in parts if isinstance(part, Packed)]
    return stacked(packed) if packed else np.stack(_plain(parts))


def _scaled(parts: Parts, attrs: Mapping[str, Attr]) -> Packed:
    values, scales = _plain(parts)
    return Packed(values, scales, integer(attrs, "rows"), integer(attrs, "columns"))


def _mxfp4(parts: Parts, attrs: Mapping[str, Attr]) -> Packed:
    values, scales = _plain(parts)
    return mxfp4(values, scales)


def _join(parts: Parts, attrs: Mapping[str, Attr]) -> Array:
    return np.concatenate(_plain(parts))


def _transpose(parts: Parts, attrs: Mapping[str, Attr]) -> Array | Packed:
    (x,) = parts
    return x.swapped() if isinstance(x, Packed) else np.ascontiguousarray(x.swapaxes(-1, -2))


def _part(parts: Parts, attrs: Mapping[str, Attr]) -> Array:
    """Take a range of each of equal groups of one axis; a view where it is contiguous."""
    taken = slice(integer(attrs, "start"), integer(attrs, "stop"), integer(attrs, "step", 1))
    axis, groups = integer(attrs, "axis", 0), integer(attrs, "groups", 1)
    (x,) = _plain(parts)
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    grouped = x.reshape(*before, groups, x.shape[axis] // groups, *after)
    part = grouped[(*(slice(None),) * (axis + 1), taken)]
    return np.ascontiguousarray(part.reshape(*before, -1, *after))


def _fold(parts: Parts, attrs: Mapping[str, Attr]) -> Array:
    """Split the leading axis into groups."""
    groups = integer(attrs, "groups")
    (x,) = _plain(parts)
    return x.reshape(groups, -1, *x.shape[1:])


def _flat(parts: Parts, attrs: Mapping[str, Attr]) -> Array:
    """Join the two leading axes."""
    (x,) = _plain(parts)
    return x.reshape(-1, *x.shape[2:])


def _half_pairs(parts: Parts, attrs: Mapping[str, Attr]) -> Array:
    """Turn rows of neighbouring rotary pairs into two halves, per head."""
    (x,), heads = _plain(parts), integer(attrs, "heads")
    size = x.shape[0] // heads
    paired = x.reshape(heads, size // 2, 2, *x.shape[1:])
    return np.ascontiguousarray(paired.swapaxes(1, 2)).reshape(x.shape)


TRANSFORMS: dict[str, Callable[[Parts, Mapping[str, Attr]], Array | Packed]] = {
    "stack": _stack,
    "join": _join,
    "transpose": _transpose,
    "part": _part,
    "fold": _fold,
    "flat": _flat,
    "half_pairs": _half_pairs,
    "scaled": _scaled,
    "mxfp4": _mxfp4,
}
