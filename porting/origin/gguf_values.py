# SPDX-License-Identifier: Apache-2.0
"""Dequantise the blocks of a GGUF tensor to float32 by the format's definition, some rows at a time.

Sources: ggml-quants.c and ggml-common.h of llama.cpp. Every product here is exact in float32 (a 16-bit scale has 11
bits, times a scale of at most 7 and a number of at most 8); the types with an offset or a minimum round once, when it
is added. Types whose numbers are points of a table are in `gguf_grids`. Opens no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from porting.checkpoint.gguf_header import TYPES, GgufTensor
from porting.origin.gguf_grids import GRIDS

Blocks = npt.NDArray[np.void]
Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.integer]
Block = tuple[np.dtype[np.void], Callable[[Blocks], Floats]]
"""How a block lies in the file, and what makes its numbers of it: [blocks] to [blocks, elements]."""

CHUNK = 2**20
"""Elements that are dequantised at once."""
FOUR_BIT_FLOATS = np.array([0, 1, 2, 3, 4, 6, 8, 12], np.float32)
FOUR_BIT_FLOATS = np.concatenate([FOUR_BIT_FLOATS, -FOUR_BIT_FLOATS])
"""Twice the numbers of e2m1; the scales are halved."""
UNEVEN = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32
)
POWERS_OF_THREE = np.array([1, 3, 9, 27, 81], np.uint8)[:, None]


def chunks(data: Bytes, tensor: GgufTensor) -> Iterator[Floats]:
    """Yield the elements of a tensor in order, flat, some at a time; raises `KeyError` for a type that is not read."""
    layout, numbers = BLOCKS[tensor.type_name]
    blocks = data[tensor.offset : tensor.offset + tensor.nbytes].view(layout)
    step = max(1, CHUNK // TYPES[tensor.type][1])
    for start in range(0, len(blocks), step):
        yield numbers(blocks[start : start + step]).reshape(-1)


def _layout(*fields: tuple[str, str] | tuple[str, str, int]) -> np.dtype[np.void]:
    return np.dtype(list(fields))


def _column(scale: npt.NDArray[np.float16]) -> Floats:
    """Return the scales of blocks as a column."""
    return scale.astype(np.float32)[:, None]


def _spread(packed: Bytes, width: int, bits: int) -> npt.NDArray[np.uint8]:
    """Unpack numbers of some bits; the lowest ones of `width` bytes come first, then the next."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    parts = packed.reshape(len(packed), -1, 1, width) >> shifts
    return (parts & np.uint8(2**bits - 1)).reshape(len(packed), -1)


def _fifth_bits(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    bits = (words[:, None] >> np.arange(32, dtype=np.uint32)) & np.uint32(1)
    return bits.astype(np.uint8) << np.uint8(4)


def _grouped(numbers: Integers, groups: int) -> Floats:
    return numbers.astype(np.float32).reshape(len(numbers), groups, -1)


def _flat(values: Floats) -> Floats:
    return values.reshape(len(values), -1)


def _f32(blocks: Blocks) -> Floats:
    return blocks["x"].astype(np.float32)


def _bf16(blocks: Blocks) -> Floats:
    return (blocks["x"].astype(np.uint32) << np.uint32(16)).view(np.float32)


def _q4_0(blocks: Blocks) -> Floats:
    return _column(blocks["d"]) * (_spread(blocks["qs"], 16, 4).astype(np.float32) - np.float32(8))


def _q4_1(blocks: Blocks) -> Floats:
    return _column(blocks["d"]) * _spread(blocks["qs"], 16, 4) + _column(blocks["m"])


def _q5_0(blocks: Blocks) -> Floats:
    numbers = _spread(blocks["qs"], 16, 4) | _fifth_bits(blocks["qh"])
    return _column(blocks["d"]) * (numbers.astype(np.float32) - np.float32(16))


def _q5_1(blocks: Blocks) -> Floats:
    numbers = _spread(blocks["qs"], 16, 4) | _fifth_bits(blocks["qh"])
    return _column(blocks["d"]) * numbers + _column(blocks["m"])


def _q8_0(blocks: Blocks) -> Floats:
    return _column(blocks["d"]) * blocks["qs"].astype(np.float32)


def _q2_k(blocks: Blocks) -> Floats:
    scales = _column(blocks["d"]) * (blocks["scales"] & 15)
    least = _column(blocks["dmin"]) * (blocks["scales"] >> 4)
    numbers = _grouped(_spread(blocks["qs"], 32, 2), 16)
    return _flat(scales[:, :, None] * numbers - least[:, :, None])


def _q3_k(blocks: Blocks) -> Floats:
    packed = blocks["scales"]
    low, high = _spread(packed[:, :8], 8, 4), _spread(packed[:, 8:], 4, 2)
    scales = _column(blocks["d"]) * ((low | high << 4).astype(np.float32) - np.float32(32))
    # A number is 4 lower where its bit of the mask is 0.
    lower = np.float32(4) * (_spread(blocks["hmask"], 32, 1) ^ 1)
    numbers = _spread(blocks["qs"], 32, 2) - lower
    return _flat(scales[:, :, None] * _grouped(numbers, 16))


def _six_bits(packed: Bytes) -> tuple[Bytes, Bytes]:
    """Return the eight scales and eight minima that are packed in twelve bytes."""
    scales, least, both = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    later_scales = both & 15 | scales >> 6 << 4
    later_least = both >> 4 | least >> 6 << 4
    return np.hstack([scales & 63, later_scales]), np.hstack([least & 63, later_least])


def _by_six_bits(blocks: Blocks, numbers: Integers) -> Floats:
    of_scales, of_least = _six_bits(blocks["scales"])
    scales, least = _column(blocks["d"]) * of_scales, _column(blocks["dmin"]) * of_least
    return _flat(scales[:, :, None] * _grouped(numbers, 8) - least[:, :, None])


def _q4_k(blocks: Blocks) -> Floats:
    return _by_six_bits(blocks, _spread(blocks["qs"], 32, 4))


def _q5_k(blocks: Blocks) -> Floats:
    return _by_six_bits(blocks, _spread(blocks["qs"], 32, 4) | _spread(blocks["qh"], 32, 1) << 4)


def _q6_k(blocks: Blocks) -> Floats:
    numbers = _spread(blocks["ql"], 64, 4) | _spread(blocks["qh"], 32, 2) << 4
    scales = _column(blocks["d"]) * blocks["scales"]
    return _flat(scales[:, :, None] * (_grouped(numbers, 16) - np.float32(32)))


def _threes(packed: Bytes, width: int, count: int) -> Bytes:
    """Unpack digits of base 3: a byte is a fraction of 256, and its multiples by powers of 3 shift the digits."""
    turned = packed.reshape(len(packed), -1, 1, width) * POWERS_OF_THREE[:count]
    return (turned.astype(np.uint16) * 3 >> 8).astype(np.uint8).reshape(len(packed), -1)


def _tq1_0(blocks: Blocks) -> Floats:
    first, then = blocks["qs"][:, :32], blocks["qs"][:, 32:]
    parts = [_threes(first, 32, 5), _threes(then, 16, 5), _threes(blocks["qh"], 4, 4)]
    return _column(blocks["d"]) * (np.hstack(parts).astype(np.float32) - np.float32(1))


def _tq2_0(blocks: Blocks) -> Floats:
    return _column(blocks["d"]) * (_spread(blocks["qs"], 32, 2).astype(np.float32) - np.float32(1))


def _mxfp4(blocks: Blocks) -> Floats:
    half = np.ldexp(np.float32(1), blocks["e"].astype(np.int32) - 128)[:, None]
    return half * FOUR_BIT_FLOATS[_spread(blocks["qs"], 16, 4)]


def _nvfp4(blocks: Blocks) -> Floats:
    exponent, mantissa = (blocks["d"] >> 3 & 15).astype(np.int32), blocks["d"] & 7
    whole = np.where(exponent == 0, mantissa, mantissa + 8).astype(np.float32)
    half = np.ldexp(whole, np.maximum(exponent, 1) - 11)
    half[blocks["d"] == 0x7F] = 0
    numbers = FOUR_BIT_FLOATS[_spread(blocks["qs"], 8, 4)]
    return _flat(half[:, :, None] * numbers.reshape(len(blocks), 4, 16))


def _iq4_nl(blocks: Blocks) -> Floats:
    return _column(blocks["d"]) * UNEVEN[_spread(blocks["qs"], 16, 4)]


def _iq4_xs(blocks: Blocks) -> Floats:
    low = _spread(blocks["scales_l"], 1, 4)
    high = blocks["scales_h"][:, None] >> np.arange(0, 16, 2, dtype=np.uint16) & 3
    scales = _column(blocks["d"]) * ((low | high << 4).astype(np.float32) - np.float32(32))
    numbers = UNEVEN[_spread(blocks["qs"], 16, 4)]
    return _flat(scales[:, :, None] * numbers.reshape(len(blocks), 8, 32))


_D, _M, _DMIN = ("d", "<f2"), ("m", "<f2"), ("dmin", "<f2")
_SIXES = ("scales", "u1", 12)

BLOCKS: Mapping[str, Block] = {
    "F32": (_layout(("x", "<f4", 1)), _f32),
    "F16": (_layout(("x", "<f2", 1)), _f32),
    "BF16": (_layout(("x", "<u2", 1)), _bf16),
    "Q4_0": (_layout(_D, ("qs", "u1", 16)), _q4_0),
    "Q4_1": (_layout(_D, _M, ("qs", "u1", 16)), _q4_1),
    "Q5_0": (_layout(_D, ("qh", "<u4"), ("qs", "u1", 16)), _q5_0),
    "Q5_1": (_layout(_D, _M, ("qh", "<u4"), ("qs", "u1", 16)), _q5_1),
    "Q8_0": (_layout(_D, ("qs", "i1", 32)), _q8_0),
    "Q2_K": (_layout(("scales", "u1", 16), ("qs", "u1", 64), _D, _DMIN), _q2_k),
    "Q3_K": (_layout(("hmask", "u1", 32), ("qs", "u1", 64), _SIXES, _D), _q3_k),
    "Q4_K": (_layout(_D, _DMIN, _SIXES, ("qs", "u1", 128)), _q4_k),
    "Q5_K": (_layout(_D, _DMIN, _SIXES, ("qh", "u1", 32), ("qs", "u1", 128)), _q5_k),
    "Q6_K": (_layout(("ql", "u1", 128), ("qh", "u1", 64), ("scales", "i1", 16), _D), _q6_k),
    "TQ1_0": (_layout(("qs", "u1", 48), ("qh", "u1", 4), _D), _tq1_0),
    "TQ2_0": (_layout(("qs", "u1", 64), _D), _tq2_0),
    "MXFP4": (_layout(("e", "u1"), ("qs", "u1", 16)), _mxfp4),
    "NVFP4": (_layout(("d", "u1", 4), ("qs", "u1", 32)), _nvfp4),
    "IQ4_NL": (_layout(_D, ("qs", "u1", 16)), _iq4_nl),
    "IQ4_XS": (_layout(_D, ("scales_h", "<u2"), ("scales_l", "u1", 4), ("qs", "u1", 128)), _iq4_xs),
    **GRIDS,
}
