"""Weights as GPTQ and AWQ store them, repacked once into rows of nibbles with a scale and a zero point a group.

An element is (q - z) * s in float32, which is exact for scales of 16 bits: q - z is a whole number of at most five
bits. Only nibbles move; no weight is widened here.
"""

from __future__ import annotations

import numpy as np

from device_model.numbers.numerics import Array
from device_model.numbers.packed import Packed, in_pairs
from dsl.diagnostics import Refused, refuse

WORD = 8
"""Four-bit numbers in a word of 32 bits."""
AWQ_SHIFTS = np.array([0, 16, 4, 20, 8, 24, 12, 28], np.uint32)
"""By how many bits each of eight rows is shifted in a word of AWQ."""
GPTQ_SHIFTS = np.arange(0, 32, 4, dtype=np.uint32)
PANEL_BYTES = 1 << 22
"""Words that are taken apart at a time."""
WRAPPED = 15
"""A stored zero point that lacks one and that libraries read as 0, as 16, or with a carry into its neighbour."""


def gptq(
    qweight: Array, qzeros: Array, scales: Array, g_idx: Array, group: int, added: int
) -> Packed:
    """Return a weight [N, K] of words [K / 8, N]; zero points [K / group, N / 8] lack `added` in the file."""
    depth, n = _matrix(qweight)
    k = depth * WORD
    _check(qzeros, scales, n, k, group)
    _check_order(g_idx, k, group)
    zeros = _apart(qzeros, GPTQ_SHIFTS)
    if added and (zeros == WRAPPED).any():
        message = "a zero point of GPTQ's first format is stored as -1, which libraries read in different ways"
        raise refuse(
            "S565", message, help="store it as gptq_v2, which keeps zero points as they are"
        )
    # A word's bytes hold the numbers of a row in order, the lower half first.
    octets = np.ascontiguousarray(qweight).view(np.uint8).reshape(depth, n, 4)
    values = np.ascontiguousarray(octets.swapaxes(0, 1)).reshape(n, k // 2)
    return _packed(values, scales, zeros + np.uint8(added), k, group)


def awq(qweight: Array, qzeros: Array, scales: Array, group: int) -> Packed:
    """Return a weight [N, K] of words [K, N / 8], with zero points [K / group, N / 8]."""
    k, across = _matrix(qweight)
    n = across * WORD
    _check(qzeros, scales, n, k, group)
    values = np.empty((n, -(-k // 2)), np.uint8)
    step = max(1, PANEL_BYTES // (4 * max(k, 1)))
    for start in range(0, across, step):
        rows = in_pairs(_apart(qweight[:, start : start + step], AWQ_SHIFTS).T)
        values[start * WORD : start * WORD + len(rows)] = rows
    return _packed(values, scales, _apart(qzeros, AWQ_SHIFTS), k, group)


def _packed(values: Array, scales: Array, zeros: Array, k: int, group: int) -> Packed:
    both = np.stack([scales.T.astype(np.float32), zeros.T.astype(np.float32)], axis=-1)
    return Packed(values, np.ascontiguousarray(both), 1, group, four_bits="u4", width=k)


def _apart(words: Array, shifts: Array) -> Array:
    """Return the eight four-bit numbers of each word, side by side along the last axis."""
    bits = np.ascontiguousarray(words).view(np.uint32)
    numbers = (bits[..., None] >> shifts) & np.uint32(15)
    return numbers.astype(np.uint8).reshape(len(words), -1)


def _matrix(words: Array) -> tuple[int, int]:
    if words.ndim != 2 or words.dtype != np.int32:
        raise _unlike("words", words, "a matrix of 32-bit integers")
    depth, across = words.shape
    return int(depth), int(across)


def _check(qzeros: Array, scales: Array, n: int, k: int, group: int) -> None:
    """Refuse scales or zero points that are not one a row and group."""
    if group < 1 or k % group or n % WORD:
        message = f"a weight of {n} rows and {k} columns has no whole words, or no whole groups of {group}"
        raise refuse("S562", message)
    if qzeros.dtype != np.int32 or qzeros.shape != (k // group, n // WORD):
        raise _unlike("zero points", qzeros, f"32-bit integers [{k // group}, {n // WORD}]")
    if scales.shape != (k // group, n):
        raise _unlike("scales", scales, f"[{k // group}, {n}]")


def _check_order(g_idx: Array, k: int, group: int) -> None:
    """Refuse columns that are not in the order of their groups."""
    if g_idx.shape != (k,):
        raise _unlike("the groups of columns", g_idx, f"[{k}]")
    wrong = np.flatnonzero(g_idx != np.arange(k) // group)
    if len(wrong):
        at = int(wrong[0])
        message = f"column {at} belongs to group {int(g_idx[at])}, not to {at // group}: act-order"
        help_ = "the device multiplies groups in order; quantise with desc_act false"
        raise refuse("S565", message, help=help_)


def _unlike(what: str, array: Array, wanted: str) -> Refused:
    return refuse("S562", f"{what} are {array.dtype}{list(array.shape)}; {wanted} are needed")
