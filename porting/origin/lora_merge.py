# SPDX-License-Identifier: Apache-2.0
"""Write a base checkpoint with an adapter's changes as one safetensors file: added in float64, kept in float32.

Tensors that do not change are copied as they are stored. Works through a weight some rows at a time.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from porting.checkpoint.safetensors_header import DTYPE_NAMES
from porting.checkpoint.tensors import Checkpoint
from porting.files.progress import Progress
from porting.origin.lora_changes import Change, Changes, LowRank, all_names

STAGE = "merge"
CHANGED = "F32"
ALIGNMENT = 8
AT_ONCE = 2**22
"""Elements of a weight that are held in float64 at once."""
FORMATS = {name: written for written, (_, name) in DTYPE_NAMES.items() if name}

Doubles = npt.NDArray[np.float64]
Row = tuple[str, str, tuple[int, ...], int]
"""A tensor of the result: its name, format, shape and bytes."""


def write_merged(
    base: Checkpoint, adapter: Checkpoint, made: Changes, target: Path, progress: Progress
) -> None:
    """Write the base with its changes as a safetensors file."""
    rows = sorted((_row(name, base, made) for name in all_names(base, made)), key=_order)
    with target.open("wb") as file:
        file.write(_header(rows))
        for number, (name, *_) in enumerate(rows):
            progress(STAGE, number, len(rows))
            change = made.by_name.get(name)
            if change is None or (change.product is None and change.instead is None):
                file.write(_bytes(base.read(name if change is None else change.source)))
            else:
                for values in merged(change, base, adapter):
                    file.write(_bytes(values.astype("<f4")))
    progress(STAGE, len(rows), len(rows))


def merged(change: Change, base: Checkpoint, adapter: Checkpoint) -> Iterator[Doubles]:
    """Yield the rows of a changed tensor in float64, some at a time."""
    weight = base.read(change.source) if change.instead is None else adapter.read(change.instead)
    if change.product is None:
        yield from (_wide(part) for part in np.array_split(weight, _parts(weight.size)))
        return
    product = change.product
    left, right = (_wide(adapter.read(name)) for name in (product.left, product.right))
    if product.turned:
        left, right = left.T, right.T
    if product.turned and product.magnitude is not None:
        yield _lengthened(
            _wide(weight) + product.scale * (left @ right), product, adapter, slice(None)
        )
        return
    step = max(1, AT_ONCE // max(1, weight.shape[1]))
    for start in range(0, len(weight), step):
        rows = slice(start, start + step)
        whole = _wide(weight[rows]) + product.scale * (left[rows] @ right)
        yield _lengthened(whole, product, adapter, rows)


def _lengthened(weight: Doubles, product: LowRank, adapter: Checkpoint, rows: slice) -> Doubles:
    """Give every output of a weight the length that DoRA learned for it."""
    if product.magnitude is None:
        return weight
    lengths = _wide(adapter.read(product.magnitude)).reshape(-1)
    axis = 0 if product.turned else 1
    own = lengths if product.turned else lengths[rows]
    weight *= np.expand_dims(own / np.linalg.norm(weight, axis=axis), axis)
    return weight


def _wide(values: npt.NDArray[np.generic]) -> Doubles:
    return values.astype(np.float64)


def _parts(size: int) -> int:
    return -(-size // AT_ONCE) or 1


def _row(name: str, base: Checkpoint, made: Changes) -> Row:
    change = made.by_name.get(name)
    info = base.tensors[name if change is None else change.source]
    if change is None or (change.product is None and change.instead is None):
        return name, FORMATS[info.dtype.name], info.shape, info.nbytes
    return name, CHANGED, info.shape, 4 * math.prod(info.shape)


def _order(row: Row) -> tuple[int, str]:
    """Put wide formats first, so that every tensor is aligned."""
    return -DTYPE_NAMES[row[1]][0], row[0]


def _bytes(values: npt.NDArray[np.generic]) -> memoryview:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def _header(rows: Sequence[Row]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, dtype, shape, nbytes in rows:
        start, end = end, end + nbytes
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return struct.pack("<Q", len(text)) + text
