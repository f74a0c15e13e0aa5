# SPDX-License-Identifier: Apache-2.0
"""Weights whose four-bit numbers are indices of a table, as bitsandbytes stores its NF4 and FP4.

An element is the table's number times the largest size of its block, in float32; with nested quantisation that size is
itself a number of a table of 256, times a scale, plus an offset. Blocks run through the matrix row by row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np

from device_model.numbers.numerics import F32, Array
from device_model.numbers.packed import Packed
from dsl.diagnostics import Refused, refuse

MAX_STATE = 4096
"""Bytes of the JSON object beside a weight."""


def indexed(
    values: Array,
    sizes: Array,
    table: Array,
    state: Array,
    nested: tuple[Array, Array] | None,
    k: int,
) -> Packed | Array:
    """Return a weight [N, K] of bytes of two indices, the upper half first; `sizes` are its blocks' largest sizes.

    Stays packed where blocks end with rows, else it is written out in float32.
    """
    said = _said(state)
    shape, block = said.get("shape"), said.get("blocksize")
    octets = values.reshape(-1)
    if not isinstance(shape, list) or _whole(shape[:1]) < 0 or shape[1:] != [k]:
        raise _unlike(f"a weight of {k} columns says that its shape is {str(shape)[:80]}")
    count = shape[0] * k
    blocks = _blocks(count, block)
    if octets.dtype != np.uint8 or len(octets) != -(-count // 2) or table.shape != (16,):
        raise _unlike(f"a weight of {shape} has {len(octets)} bytes and a table of {table.shape}")
    if sizes.shape != (blocks,):
        raise _unlike(f"a weight of {shape} has {sizes.shape} sizes of blocks, not {blocks}")
    scales = sizes.astype(F32) if nested is None else _nested(sizes, *nested, said)
    numbers = table.astype(F32)
    if k % 2 == 0 and isinstance(block, int) and k % block == 0:
        turned = (octets >> np.uint8(4) | octets << np.uint8(4)).reshape(shape[0], k // 2)
        grid = scales.reshape(shape[0], k // block)
        return Packed(turned, grid, 1, block, four_bits="table", width=k, table=numbers)
    halves = np.stack([octets >> 4, octets & 15], axis=-1).reshape(-1)[:count]
    whole = numbers[halves]
    whole *= np.repeat(scales, min(_whole([block]), count))[:count]
    return whole.reshape(shape)


def _blocks(count: int, block: object) -> int:
    size = _whole([block])
    if size < 1:
        raise _unlike(f"a block of {str(block)[:80]} numbers")
    return -(-count // size)


def _whole(values: object) -> int:
    """Return the one whole number in a list, -1 where there is none."""
    match values:
        case [int(value)] if not isinstance(value, bool):
            return value
    return -1


def _nested(sizes: Array, scales: Array, table: Array, said: Mapping[str, object]) -> Array:
    """Return sizes of blocks that are stored as indices of a table of 256."""
    block, offset = said.get("nested_blocksize"), said.get("nested_offset")
    groups = _blocks(len(sizes), block)
    if isinstance(offset, bool) or not isinstance(offset, int | float) or not math.isfinite(offset):
        raise _unlike(f"the offset of sizes is {str(offset)[:80]}")
    if sizes.dtype != np.uint8 or table.shape != (256,) or scales.shape != (groups,):
        raise _unlike(f"{len(sizes)} sizes need {groups} scales and have {scales.shape}")
    each = min(_whole([block]), len(sizes))
    wide = np.repeat(scales.astype(F32), each)[: len(sizes)]
    return np.asarray(table.astype(F32)[sizes] * wide + F32.type(offset))


def _said(state: Array) -> Mapping[str, object]:
    """Return the JSON object in a tensor of bytes."""
    if state.dtype != np.uint8 or state.size > MAX_STATE:
        raise _unlike(f"what a weight says of itself are {state.size} of {state.dtype}")
    try:
        said = json.loads(state.tobytes())
    except (ValueError, RecursionError) as error:
        raise _unlike("what a weight says of itself is no JSON") from error
    if not isinstance(said, dict):
        raise _unlike("what a weight says of itself is no JSON object")
    return said


def _unlike(message: str) -> Refused:
    return refuse("S562", message)
