# SPDX-License-Identifier: Apache-2.0
"""Write the tensors of a .gguf file as one safetensors file that keeps every value exactly.

Tensors of one name, but for the layer's number, get one format: the first of bf16, f16 and f32 that holds all of their
values. Values are dequantised some at a time; only a tensor whose elements move is held whole.
"""

from __future__ import annotations

import json
import math
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from porting.files.progress import Progress
from porting.origin.gguf_names import Piece
from porting.origin.gguf_values import Bytes, Floats, chunks

STAGE = "convert"
ALIGNMENT = 8
Bits = npt.NDArray[np.generic]


def _upper_half(values: Floats) -> Bits:
    return (values.view(np.uint32) >> np.uint32(16)).astype("<u2")


def _is_bf16(values: Floats) -> bool:
    return not np.any(values.view(np.uint32) & np.uint32(0xFFFF))


def _is_f16(values: Floats) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        again = values.astype(np.float16).astype(np.float32)
    return np.array_equal(again.view(np.uint32), values.view(np.uint32))


FORMATS: Mapping[str, tuple[int, Callable[[Floats], bool], Callable[[Floats], Bits]]] = {
    "BF16": (2, _is_bf16, _upper_half),
    "F16": (2, _is_f16, lambda values: values.astype("<f2")),
    "F32": (4, lambda _: True, lambda values: values.astype("<f4", copy=False)),
}
"""By the names of safetensors, in the order of preference: bytes, whether it holds these values, and their bits."""


def write_weights(
    pieces: Sequence[Piece], data: Sequence[Bytes], target: Path, progress: Progress
) -> Mapping[str, int]:
    """Write the pieces of a .gguf model, from the bytes of its parts, as a safetensors file.

    Returns the bytes in each format.
    """
    formats = _formats(pieces, data)
    ordered = sorted(pieces, key=lambda x: (-FORMATS[formats[x.pattern]][0], x.name))
    sizes: dict[str, int] = defaultdict(int)
    with target.open("wb") as file:
        file.write(_header(ordered, formats))
        for number, piece in enumerate(ordered):
            progress(STAGE, number, len(ordered))
            width, _, bits = FORMATS[formats[piece.pattern]]
            sizes[formats[piece.pattern]] += width * math.prod(piece.shape)
            for values in _moved(piece, data):
                file.write(np.ascontiguousarray(bits(values)).data)
    progress(STAGE, len(ordered), len(ordered))
    return dict(sizes)


def _formats(pieces: Sequence[Piece], data: Sequence[Bytes]) -> dict[str, str]:
    """Return the format of every pattern; a pattern's first value that a format cannot hold ends its trial."""
    by_pattern: dict[str, list[Piece]] = defaultdict(list)
    for piece in pieces:
        by_pattern[piece.pattern].append(piece)
    return {
        pattern: next(name for name, (_, holds, _) in FORMATS.items() if _all(holds, group, data))
        for pattern, group in by_pattern.items()
    }


def _all(holds: Callable[[Floats], bool], group: Sequence[Piece], data: Sequence[Bytes]) -> bool:
    if holds is FORMATS["F32"][1]:
        return True
    return all(holds(values) for piece in group for values in _values(piece, data))


def _values(piece: Piece, data: Sequence[Bytes]) -> Iterator[Floats]:
    """Yield a tensor's values in the file's order, without what llama.cpp's converter added to them."""
    for values in chunks(data[piece.tensor.part], piece.tensor):
        yield values + np.float32(piece.added) if piece.added else values


def _moved(piece: Piece, data: Sequence[Bytes]) -> Iterator[Floats]:
    if piece.order is None:
        yield from _values(piece, data)
        return
    whole = np.concatenate(list(_values(piece, data))).reshape(piece.tensor.shape)
    yield piece.order(whole)


def _header(ordered: Sequence[Piece], formats: Mapping[str, str]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for piece in ordered:
        name = formats[piece.pattern]
        start, end = end, end + FORMATS[name][0] * math.prod(piece.shape)
        entries[piece.name] = {
            "dtype": name,
            "shape": list(piece.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return struct.pack("<Q", len(text)) + text
