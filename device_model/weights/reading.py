# SPDX-License-Identifier: Apache-2.0
"""Weights in memory: reading tensors by name and evaluating where a weight comes from.

A plain tensor stays the array that the reader returned, which is a view of a mapped file; only a transformation that
moves elements copies. Files are not opened here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from itertools import chain, compress
from typing import Protocol

import numpy as np

from device_model.numbers.numerics import F32, STORAGE, Array, cast
from device_model.numbers.packed import E8M0_BIAS, MX_BLOCK, Packed
from device_model.program.call import integer
from device_model.weights.packed_parts import PACKED, Parts, plain
from dsl.diagnostics import Refused, refuse
from dsl.graph import Attr, Graph, TensorRef, Weight, WeightSource
from dsl.stored_tensors import instance, tensors
from dsl.symbolic import Dim
from dsl.types import DType


class TensorReader(Protocol):
    """Where tensors come from."""

    def read(self, name: str) -> Array:
        """Return a tensor read-only, in its stored format; raises `KeyError` for an unknown name."""
        ...


class Fill(Enum):
    """What the elements of a tensor are: numbers, factors near 1, any patterns, exponents of two as bytes.

    Of groups of four-bit numbers also the middle ones as zero points, scales, and the numbers of the groups; of
    bitsandbytes what it says of a weight in JSON.
    """

    NUMBERS = "numbers"
    FACTORS = "factors"
    PATTERNS = "patterns"
    EXPONENTS = "exponents"
    MIDDLES = "middles"
    STEPS = "steps"
    GROUPS = "groups"
    STATE = "state"


FILLS: Mapping[str, tuple[Fill, ...]] = {
    "scaled": (Fill.NUMBERS, Fill.FACTORS),
    "mxfp4": (Fill.PATTERNS, Fill.EXPONENTS),
    "gptq": (Fill.PATTERNS, Fill.MIDDLES, Fill.STEPS, Fill.GROUPS),
    "awq": (Fill.PATTERNS, Fill.MIDDLES, Fill.STEPS),
    "awq_rows": (Fill.PATTERNS, Fill.MIDDLES, Fill.STEPS),
    "fp4": (Fill.PATTERNS, Fill.FACTORS),
    "integers": (Fill.PATTERNS, Fill.STEPS, Fill.MIDDLES, Fill.GROUPS),
    "bitsandbytes": (
        Fill.PATTERNS,
        Fill.FACTORS,
        Fill.FACTORS,
        Fill.STATE,
        Fill.FACTORS,
        Fill.FACTORS,
    ),
    "inverse": (Fill.FACTORS,),
}
"""What the parts of a packed weight hold."""
FOUR_BITS_DEVIATION = 2.93
"""The deviation of four-bit floats whose patterns are equally likely."""
WHOLE_DEVIATION = 4.61
"""The same of whole numbers of four bits."""
BYTES: Mapping[str, type] = {"u8": np.uint8, "e8m0": np.uint8, "i8": np.int8}
"""Formats of a byte that no float is cast to."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The stored shape and format of a tensor, and what it holds.

    `group` is the columns that share a scale, `bits` the width of whole numbers.
    """

    dims: tuple[int, ...]
    dtype: DType
    fill: Fill = Fill.NUMBERS
    group: int = 1
    bits: int = 4


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
        array = _random(shape, generator)
        array.flags.writeable = False
        return array


def _random(shape: Shape, generator: np.random.Generator) -> Array:
    """Return numbers of a deviation that does not grow with the width, whole or in the parts of a packed weight."""
    if shape.fill is Fill.PATTERNS:
        size = STORAGE[shape.dtype.name].itemsize
        patterns = generator.integers(0, 256, (*shape.dims[:-1], shape.dims[-1] * size), np.uint8)
        return patterns.view(STORAGE[shape.dtype.name])
    if shape.fill is Fill.MIDDLES:
        return np.broadcast_to(_middles(shape.bits, shape.dims[-1]), shape.dims).copy()
    if shape.fill is Fill.STATE:
        raise ValueError(
            "what bitsandbytes says of a weight cannot be made up: run it on its own weights"
        )
    if shape.fill is Fill.GROUPS:
        return (np.arange(shape.dims[0]) // shape.group).astype(np.int32)
    if shape.fill is Fill.EXPONENTS:
        width = shape.dims[-1] * MX_BLOCK
        middle = E8M0_BIAS + round(-np.log2(FOUR_BITS_DEVIATION * width**0.5))
        return generator.integers(middle - 1, middle + 2, shape.dims, np.uint8)
    if shape.dtype.name in BYTES:
        # Exponents of two as scales, or whole numbers.
        low, high = (E8M0_BIAS, E8M0_BIAS + 1) if shape.fill is Fill.FACTORS else (0, 256)
        return generator.integers(low, high, shape.dims, np.uint8).view(BYTES[shape.dtype.name])
    values = np.asarray(generator.standard_normal(shape.dims, dtype=np.float32))
    if shape.fill is Fill.STEPS:
        step = WHOLE_DEVIATION * 2.0 ** (shape.bits - 4) * (shape.dims[0] * shape.group) ** 0.5
        return cast((1 + np.float32(0.1) * values) / np.float32(step), STORAGE[shape.dtype.name])
    if len(shape.dims) > 1 and shape.fill is Fill.NUMBERS:
        values *= np.float32(shape.dims[-1] ** -0.5)
    else:
        values *= np.float32(0.1)
        values += np.float32(1.0)
    return cast(values, STORAGE[shape.dtype.name])


def _middles(bits: int, words: int) -> Array:
    """Return zero points a half below the middle of patterns of some bits, in words."""
    numbers = np.full(32, (1 << (bits - 1)) - 1)
    stream = (numbers[:, None] >> np.arange(bits) & 1).astype(np.uint8).reshape(-1)
    return np.resize(np.packbits(stream, bitorder="little").view(np.int32), words)


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
            fills = dict(_fills(weight.source))
            for layer in layers:
                for name, ref in tensors(weight.source, layer):
                    dtype = ref.dtype or weight.type.dtype
                    shape = Shape(_stored(ref, weight), dtype, *fills[ref.name])
                    shapes[name] = _larger(shapes.get(name, shape), shape)
    return shapes


def _fills(
    origin: WeightSource, fill: Fill = Fill.NUMBERS, group: int = 1, bits: int = 4
) -> Iterator[tuple[str, tuple[Fill, int, int]]]:
    """Yield what the tensors of a source hold, in which groups and bits, by their names with holes."""
    if isinstance(origin, TensorRef):
        yield origin.name, (fill, group, bits)
        return
    inner = FILLS.get(origin.function, (fill,) * len(origin.parts))
    if origin.function == "integers":
        there = (True, True, bool(origin.attrs["zeros"]), bool(origin.attrs["index"]))
        inner = tuple(compress(inner, there))
    inner = inner[: len(origin.parts)]
    group, bits = (
        integer(origin.attrs, key, usual) for key, usual in (("group", group), ("bits", bits))
    )
    for part, own in zip(origin.parts, inner, strict=True):
        yield from _fills(part, own, group, bits)


def _stored(ref: TensorRef, weight: Weight) -> tuple[int, ...]:
    """Return the least shape of a tensor that a reference can be read from."""
    dims: list[Dim | None] = list(ref.shape or weight.type.dims)
    if None in dims and ref.region is None:
        dims = list(ref.read)
    if ref.region is not None and dims[ref.region.axis] is None:
        dims[ref.region.axis] = ref.region.stop * ref.region.groups
    bound = tuple(dim for dim in dims if isinstance(dim, int))
    if len(bound) != len(dims):
        raise ValueError(f"`{weight.name}` has a dimension without a value: bind the program first")
    return bound


def _larger(a: Shape, b: Shape) -> Shape:
    return replace(a, dims=tuple(max(x, y) for x, y in zip(a.dims, b.dims, strict=True)))


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
        rounds = ({**loops, variable: index} for index in range(count))
        return _stacked((source(part, reader, layer, indices) for indices in rounds), count)
    if origin.function not in TRANSFORMS:
        raise ValueError(f"the device cannot evaluate `{origin.function}` of a weight")
    parts = [source(part, reader, layer, loops) for part in origin.parts]
    return TRANSFORMS[origin.function](parts, origin.attrs)


def _stack(parts: Parts, attrs: Mapping[str, Attr]) -> Array | Packed:
    return _stacked(iter(parts), len(parts))


def _stacked(parts: Iterator[Array | Packed], count: int) -> Array | Packed:
    """Return parts along a new leading axis, holding no more than one of them beside it; packed if all are."""
    first = next(parts)
    if not isinstance(first, Packed):
        return _stacked_whole(chain((first,), parts), np.empty((count, *first.shape), first.dtype))
    values, scales = (np.empty((count, *a.shape), a.dtype) for a in (first.values, first.scales))
    for index, part in enumerate(chain((first,), parts)):
        if not (isinstance(part, Packed) and part.is_like(first)):
            # Some may only be written out: then all are.
            packed = replace(first, values=values[:index], scales=scales[:index])
            before = (packed.part(at) for at in range(index))
            whole = np.empty((count, *first.shape), F32)
            return _stacked_whole(chain(before, (part,), parts), whole)
        values[index], scales[index] = part.values, part.scales
    return replace(first, values=values, scales=scales)


def _stacked_whole(parts: Iterator[Array | Packed], whole: Array) -> Array:
    for index, part in enumerate(parts):
        whole[index] = part.panel(0, len(part)) if isinstance(part, Packed) else part
    return whole


def _join(parts: Parts, attrs: Mapping[str, Attr]) -> Array:
    return np.concatenate(plain(parts))


def _transpose(parts: Parts, attrs: Mapping[str, Attr]) -> Array | Packed:
    (x,) = parts
    return x.swapped() if isinstance(x, Packed) else np.ascontiguousarray(x.swapaxes(-1, -2))


def _part(parts: Parts, attrs: Mapping[str, Attr]) -> Array | Packed:
    """Take a range of each of equal groups of one axis; of a packed weight, of whole blocks of rows."""
    (x,), axis = parts, integer(attrs, "axis", 0)
    rows = len(x.shape) - 2
    if isinstance(x, Packed) and axis <= rows:
        # One scale for all rows is that of each part of them.
        one = axis == rows and x.rows >= x.shape[axis]
        each = x.rows if axis == rows and not one else 1
        ends = {key: integer(attrs, key) for key in ("start", "stop")}
        each_group = x.shape[axis] // integer(attrs, "groups", 1)
        cut = any(end % each for end in (*ends.values(), each_group))
        if cut or (each > 1 and integer(attrs, "step", 1) > 1):
            raise _cut(x)
        blocks = {**attrs, **{key: end // each for key, end in ends.items()}}
        values = _taken(x.values, attrs)
        scales = x.scales if one else _taken(x.scales, blocks)
        # A part of what was repacked must not hold all of it; a part of a file may.
        if x.has_zero_points:
            values, scales = values.copy(), scales.copy()
        return replace(x, values=values, scales=scales)
    return _taken(plain([x])[0], attrs)


def _cut(x: Packed) -> Refused:
    message = f"a packed weight of {list(x.shape)} is read in parts that cut through its blocks of {x.rows} rows"
    return refuse("S562", message)


def _taken(x: Array, attrs: Mapping[str, Attr]) -> Array:
    taken = slice(integer(attrs, "start"), integer(attrs, "stop"), integer(attrs, "step", 1))
    axis, groups = integer(attrs, "axis", 0), integer(attrs, "groups", 1)
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    grouped = x.reshape(*before, groups, x.shape[axis] // groups, *after)
    part = grouped[(*(slice(None),) * (axis + 1), taken)]
    return np.ascontiguousarray(part.reshape(*before, -1, *after))


def _fold(parts: Parts, attrs: Mapping[str, Attr]) -> Array | Packed:
    """Split the leading axis into groups; of a packed weight, into groups of whole blocks of rows."""
    groups = integer(attrs, "groups")
    (x,) = parts
    if not isinstance(x, Packed):
        return x.reshape(groups, -1, *x.shape[1:])
    one = x.rows >= len(x)
    if len(x) % (groups if one else groups * x.rows):
        raise _cut(x)
    grid = np.repeat(x.scales, groups, axis=0) if one else x.scales
    values, scales = (a.reshape(groups, -1, *a.shape[1:]) for a in (x.values, grid))
    return replace(x, values=values, scales=scales)


def _flat(parts: Parts, attrs: Mapping[str, Attr]) -> Array:
    """Join the two leading axes."""
    (x,) = plain(parts)
    return x.reshape(-1, *x.shape[2:])


def _half_pairs(parts: Parts, attrs: Mapping[str, Attr]) -> Array:
    """Turn rows of neighbouring rotary pairs into two halves, per head."""
    (x,), heads = plain(parts), integer(attrs, "heads")
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
    **PACKED,
}
