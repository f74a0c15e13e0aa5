# SPDX-License-Identifier: Apache-2.0
"""Dequantise the GGUF types whose numbers are points of a table: IQ1_S to IQ3_S, by the format's definition.

The tables themselves, 256 to 2,048 points each, are data of the format that the gguf package ships; the arithmetic is
here. Opens no file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import numpy.typing as npt

Blocks = npt.NDArray[np.void]
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.integer]

DELTA = np.float32(0.125)
NIBBLES = np.array([0, 4], np.uint8)
EIGHT_BITS = np.arange(8, dtype=np.uint8)


@cache
def points(type_name: str) -> Floats:
    """Return the table of a type: [points, numbers in each]."""
    from gguf import quants  # noqa: PLC0415 - comes with the extra `reference`

    kind = getattr(quants, type_name)
    kind.init_grid()
    return np.asarray(kind.grid[0, 0], np.float32)


def _column(scale: npt.NDArray[np.float16]) -> Floats:
    return scale.astype(np.float32)[:, None]


def _nibbles(packed: Integers) -> Floats:
    """Return the low half of each byte and then its high half: [blocks, bytes] to [blocks, 2 bytes]."""
    return (packed[:, :, None] >> NIBBLES & 15).reshape(len(packed), -1).astype(np.float32)


def _signs(masks: Integers) -> Floats:
    """Return the signs that the bits of masks say, eight each."""
    return np.where(masks[..., None] >> EIGHT_BITS & 1, np.float32(-1), np.float32(1))


def _even_masks(indices: Integers) -> Integers:
    """Return masks of seven bits with an eighth that makes the number of signs even."""
    seven = np.bitwise_and(indices, 127).astype(np.uint8)
    parity = np.bitwise_and(np.bitwise_count(seven), np.uint8(1))
    return np.bitwise_or(seven, np.left_shift(parity, np.uint8(7)))


def _four_sevens(words: npt.NDArray[np.uint32]) -> Integers:
    return _even_masks(words[..., None] >> np.array([0, 7, 14, 21], np.uint32) & 127)


def _scaled(scales: Floats, numbers: Floats, signs: Floats) -> Floats:
    """Multiply groups of numbers by their signs and by one scale each."""
    return _times(scales, (numbers.reshape(signs.shape) * signs).reshape(*scales.shape, -1))


def _times(scales: Floats, groups: Floats) -> Floats:
    """Multiply groups of numbers, [blocks, groups, numbers], by one scale each."""
    return np.multiply(scales[..., None], groups).reshape(len(scales), -1)


def _iq2_xxs(blocks: Blocks) -> Floats:
    words = blocks["qs"].reshape(len(blocks), 8, 2)
    scales = np.float32(0.25) * (np.float32(0.5) + (words[..., 1] >> 28).astype(np.float32))
    which = np.ascontiguousarray(words[..., 0]).view(np.uint8)
    numbers = points("IQ2_XXS")[which]
    return _scaled(_column(blocks["d"]) * scales, numbers, _signs(_four_sevens(words[..., 1])))


def _iq2_xs(blocks: Blocks) -> Floats:
    scales = np.float32(0.25) * (np.float32(0.5) + _nibbles(blocks["scales"]))
    numbers = points("IQ2_XS")[blocks["qs"] & 511]
    return _scaled(_column(blocks["d"]) * scales, numbers, _signs(_even_masks(blocks["qs"] >> 9)))


def _iq2_s(blocks: Blocks) -> Floats:
    scales = np.float32(0.25) * (np.float32(0.5) + _nibbles(blocks["scales"]))
    high = (blocks["qh"][:, :, None] >> np.array([0, 2, 4, 6], np.uint8) & 3).astype(np.uint16)
    numbers = points("IQ2_S")[blocks["qs"] | high.reshape(len(blocks), -1) << 8]
    return _scaled(_column(blocks["d"]) * scales, numbers, _signs(blocks["signs"]))


def _iq3_xxs(blocks: Blocks) -> Floats:
    words = blocks["scales"]
    scales = np.float32(0.5) * (np.float32(0.5) + (words >> 28).astype(np.float32))
    numbers = points("IQ3_XXS")[blocks["qs"]]
    return _scaled(_column(blocks["d"]) * scales, numbers, _signs(_four_sevens(words)))


def _iq3_s(blocks: Blocks) -> Floats:
    scales = np.float32(1) + np.float32(2) * _nibbles(blocks["scales"])
    high = (blocks["qh"][:, :, None] >> EIGHT_BITS & 1).astype(np.uint16).reshape(len(blocks), -1)
    numbers = points("IQ3_S")[blocks["qs"] | high << 8]
    return _scaled(_column(blocks["d"]) * scales, numbers, _signs(blocks["signs"]))


def _iq1_s(blocks: Blocks) -> Floats:
    words = blocks["qh"]
    scales = np.float32(1) + np.float32(2) * (words >> 12 & 7).astype(np.float32)
    moved = np.where(words & 0x8000, -DELTA, DELTA)[:, :, None]
    high = (words[:, :, None] >> np.array([0, 3, 6, 9], np.uint16) & 7).reshape(len(blocks), -1)
    numbers = points("IQ1_S")[blocks["qs"] | high << 8].reshape(len(blocks), 8, -1) + moved
    return _times(_column(blocks["d"]) * scales, numbers)


def _iq1_m(blocks: Blocks) -> Floats:
    words = blocks["scales"]
    # The block's own scale is in the highest four bits of the four words.
    quarters = (words & np.uint16(0xF000)) >> np.array([12, 8, 4, 0], np.uint16)
    whole = np.bitwise_or.reduce(quarters, axis=1).view(np.float16)
    threes = (words[:, :, None] >> np.array([0, 3, 6, 9], np.uint16) & 7).reshape(len(blocks), -1)
    scales = np.float32(1) + np.float32(2) * threes.astype(np.float32)
    halves = (blocks["qh"][:, :, None] >> NIBBLES & 15).reshape(len(blocks), -1)
    moved = np.where(halves & 8, -DELTA, DELTA)[:, :, None]
    numbers = points("IQ1_M")[blocks["qs"] | (halves & 7).astype(np.uint16) << 8] + moved
    return _times(_column(whole) * scales, numbers.reshape(len(blocks), 16, -1))


def _layout(*fields: tuple[str, str] | tuple[str, str, int]) -> np.dtype[np.void]:
    return np.dtype(list(fields))


_D = ("d", "<f2")

GRIDS: Mapping[str, tuple[np.dtype[np.void], Callable[[Blocks], Floats]]] = {
    "IQ2_XXS": (_layout(_D, ("qs", "<u4", 16)), _iq2_xxs),
    "IQ2_XS": (_layout(_D, ("qs", "<u2", 32), ("scales", "u1", 8)), _iq2_xs),
    "IQ2_S": (
        _layout(_D, ("qs", "u1", 32), ("signs", "u1", 32), ("qh", "u1", 8), ("scales", "u1", 8)),
        _iq2_s,
    ),
    "IQ3_XXS": (_layout(_D, ("qs", "u1", 64), ("scales", "<u4", 8)), _iq3_xxs),
    "IQ3_S": (
        _layout(_D, ("qs", "u1", 64), ("qh", "u1", 8), ("signs", "u1", 32), ("scales", "u1", 4)),
        _iq3_s,
    ),
    "IQ1_S": (_layout(_D, ("qs", "u1", 32), ("qh", "<u2", 8)), _iq1_s),
    "IQ1_M": (_layout(("qs", "u1", 32), ("qh", "u1", 16), ("scales", "<u2", 4)), _iq1_m),
}
