# SPDX-License-Identifier: Apache-2.0
"""Weights in whole numbers of a few bits with scales for groups of columns: GPTQ's, AWQ's, compressed-tensors'.

An element is (q - z) * s in float32, which is exact for scales of 16 bits: q - z is a whole number of at most nine
bits. Numbers of up to four bits are repacked once into rows of nibbles, eight bits around their middle stay bytes; what
neither holds, columns out of the order of their groups above all, is written out in float32.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from device_model.numbers.numerics import F32, Array
from device_model.numbers.packed import Packed, in_pairs
from dsl.diagnostics import Refused, refuse

WORD_BITS = 32
WORD = 8
"""Four-bit numbers in a word of 32 bits."""
AWQ_SHIFTS = np.array([0, 16, 4, 20, 8, 24, 12, 28], np.uint32)
"""By how many bits each of eight rows is shifted in a word of AWQ."""
PANEL_BYTES = 1 << 22
"""Bytes of numbers that are taken apart at a time."""
EIGHT_BITS, MIDDLE = 8, 128


def gptq(
    qweight: Array,
    qzeros: Array,
    scales: Array,
    g_idx: Array,
    group: int,
    added: int,
    bits: int = 4,
) -> Packed | Array:
    """Return a weight [N, K] of words [K * bits / 32, N]; zero points [K / group, N * bits / 32] lack `added`."""
    depth, n = _matrix(qweight)
    k = depth * WORD_BITS // bits
    _check(qzeros, scales, n, k, group, bits)
    zeros = _stream(qzeros, bits)[:, :n]
    if added and (zeros == 2**bits - 1).any():
        message = "a zero point of GPTQ's first format is stored as -1, which libraries read in different ways"
        raise refuse(
            "S565", message, help="store it as gptq_v2, which keeps zero points as they are"
        )
    zeros = zeros.astype(np.int32) + added
    if bits == WORD_BITS // WORD:
        # A word's bytes hold the numbers of a row in order, the lower half first.
        octets = np.ascontiguousarray(qweight).view(np.uint8).reshape(depth, n, 4)
        nibbles = np.ascontiguousarray(octets.swapaxes(0, 1)).reshape(n, k // 2)
        return _grouped(nibbles, scales.T, zeros.T, g_idx, (k, bits, group))
    numbers = np.empty((n, k), np.uint8)
    for rows in _panels(n, k):
        numbers[rows] = _stream(np.ascontiguousarray(qweight[:, rows].T), bits)[:, :k]
    return _grouped(numbers, scales.T, zeros.T, g_idx, (k, bits, group))


def awq(qweight: Array, qzeros: Array, scales: Array, group: int) -> Packed:
    """Return a weight [N, K] of words [K, N / 8], with zero points [K / group, N / 8]."""
    k, across = _matrix(qweight)
    n = across * WORD
    _check(qzeros, scales, n, k, group, 4)
    values = np.empty((n, -(-k // 2)), np.uint8)
    step = max(1, PANEL_BYTES // (4 * max(k, 1)))
    for start in range(0, across, step):
        rows = in_pairs(_apart(qweight[:, start : start + step], AWQ_SHIFTS).T)
        values[start * WORD : start * WORD + len(rows)] = rows
    return _nibbles(values, scales.T, _apart(qzeros, AWQ_SHIFTS).T, k, group)


def awq_rows(qweight: Array, qzeros: Array, scales: Array, group: int) -> Packed:
    """Return a weight [N, K] of words [N, K / 8]; zero points and scales of a row are padded."""
    n, depth = _matrix(qweight)
    k = depth * WORD
    count = _count(k, group)
    if qzeros.dtype != np.int32 or scales.shape != (n, WORD * qzeros.shape[-1]):
        raise _unlike("scales", scales, f"[{n}, {WORD * qzeros.shape[-1]}]")
    zeros = _stream(qzeros, 4)
    if zeros.shape[1] < count:
        raise _unlike("zero points", qzeros, f"at least {count} a row")
    values = np.ascontiguousarray(qweight).view(np.uint8).reshape(n, k // 2)
    return _nibbles(values, scales[:, :count], zeros[:, :count], k, group)


def integers(
    values: Array,
    scales: Array,
    zeros: Array | None,
    index: Array | None,
    how: tuple[int, int, int],
) -> Packed | Array:
    """Return a weight [N, K] of words [N, K * bits / 32], with zero points [N * bits / 32, K / group] if it has any.

    `index` is the group of each column, where they are not in order; `how` is K, bits and group.
    """
    k, bits, group = how
    n, depth = _matrix(values)
    count = _count(k, group)
    if depth != -(-k * bits // WORD_BITS) or scales.shape != (n, count):
        raise _unlike("scales", scales, f"[{n}, {count}]")
    if zeros is None:
        points: Array = np.full((n, count), 1 << (bits - 1), np.uint8)
    else:
        points = _stream(np.ascontiguousarray(zeros.T), bits)[:, :n].T
    if points.shape != (n, count):
        raise _unlike("zero points", points, f"[{n}, {count}]")
    octets = np.ascontiguousarray(values).view(np.uint8).reshape(n, 4 * depth)
    if bits == WORD_BITS // WORD:
        return _grouped(octets[:, : -(-k // 2)], scales, points, index, how)
    numbers = octets if bits == EIGHT_BITS else _stream(values, bits)
    return _grouped(numbers[:, :k], scales, points, index, how)


def _grouped(
    numbers: Array, scales: Array, zeros: Array, index: Array | None, how: tuple[int, int, int]
) -> Packed | Array:
    """Return a weight of numbers [N, K], of four bits in pairs; scales and zero points are [N, K / group]."""
    k, bits, group = how
    order = np.arange(k) // group
    index = order if index is None else _checked(index, k, scales.shape[1])
    in_order = np.array_equal(index, order)
    if in_order and bits < EIGHT_BITS:
        pairs = numbers if bits == WORD_BITS // WORD else in_pairs(numbers)
        return _nibbles(pairs, scales, zeros, k, group)
    if in_order and (zeros == MIDDLE).all():
        centred = (numbers ^ np.uint8(MIDDLE)).view(np.int8)
        return Packed(centred, np.ascontiguousarray(scales, F32), 1, group)
    out = np.empty((len(numbers), k), F32)
    factors, points = (np.ascontiguousarray(a, F32) for a in (scales, zeros))
    for rows in _panels(len(numbers), 4 * k):
        panel = numbers[rows]
        if bits == WORD_BITS // WORD:
            panel = np.stack([panel & 15, panel >> 4], axis=-1).reshape(len(panel), -1)[:, :k]
        out[rows] = (panel - points[rows][:, index]) * factors[rows][:, index]
    return out


def _nibbles(values: Array, scales: Array, zeros: Array, k: int, group: int) -> Packed:
    both = np.stack([scales.astype(np.float32), zeros.astype(np.float32)], axis=-1)
    return Packed(values, np.ascontiguousarray(both), 1, group, four_bits="u4", width=k)


def _panels(rows: int, row_bytes: int) -> Iterator[slice]:
    step = max(1, PANEL_BYTES // max(row_bytes, 1))
    return (slice(start, min(rows, start + step)) for start in range(0, rows, step))


def _apart(words: Array, shifts: Array) -> Array:
    """Return the eight four-bit numbers of each word, side by side along the last axis."""
    bits = np.ascontiguousarray(words).view(np.uint32)
    numbers = (bits[..., None] >> shifts) & np.uint32(15)
    return numbers.astype(np.uint8).reshape(len(words), -1)


def _stream(words: Array, bits: int) -> Array:
    """Return the numbers of rows of words, the lowest bits first; a number may cross from one to the next."""
    rows = np.ascontiguousarray(words).view(np.uint32)
    count = rows.shape[1] * WORD_BITS // bits
    first, shift = np.divmod(np.arange(count) * bits, WORD_BITS)
    mask = np.uint32((1 << bits) - 1)
    out = (rows[:, first] >> shift.astype(np.uint32)) & mask
    crossing = np.flatnonzero(shift + bits > WORD_BITS)
    if len(crossing):
        rest = (WORD_BITS - shift[crossing]).astype(np.uint32)
        out[:, crossing] |= (rows[:, first[crossing] + 1] << rest) & mask
    return np.asarray(out.astype(np.uint8))


def _matrix(words: Array) -> tuple[int, int]:
    if words.ndim != 2 or words.dtype != np.int32:
        raise _unlike("words", words, "a matrix of 32-bit integers")
    depth, across = words.shape
    return int(depth), int(across)


def _count(k: int, group: int) -> int:
    if group < 1 or k % group:
        raise refuse("S562", f"{k} columns are no whole groups of {group}")
    return k // group


def _check(qzeros: Array, scales: Array, n: int, k: int, group: int, bits: int) -> None:
    """Refuse scales or zero points that are not one a row and group."""
    if group < 1 or k % group or n * bits % WORD_BITS:
        message = f"a weight of {n} rows and {k} columns has no whole words, or no whole groups of {group}"
        raise refuse("S562", message)
    wanted = (k // group, n * bits // WORD_BITS)
    if qzeros.dtype != np.int32 or qzeros.shape != wanted:
        raise _unlike("zero points", qzeros, f"32-bit integers {list(wanted)}")
    if scales.shape != (k // group, n):
        raise _unlike("scales", scales, f"[{k // group}, {n}]")


def _checked(index: Array, k: int, groups: int) -> Array:
    """Return the group of each column, each of them one that there is."""
    if index.shape != (k,):
        raise _unlike("the groups of columns", index, f"[{k}]")
    wrong = np.flatnonzero((index < 0) | (index >= groups))
    if len(wrong):
        at = int(wrong[0])
        message = f"column {at} belongs to group {int(index[at])} of {groups}"
        raise refuse("S565", message, help="the file's g_idx is damaged: fetch it again")
    return index


def _unlike(what: str, array: Array, wanted: str) -> Refused:
    return refuse("S562", f"{what} are {array.dtype}{list(array.shape)}; {wanted} are needed")
