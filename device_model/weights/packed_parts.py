# SPDX-License-Identifier: Apache-2.0
"""Packed weights of the parts that a file stores them in, by the function that a source names.

Which bytes these are is `reading`'s affair; how words are taken apart is in `numbers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import ml_dtypes
import numpy as np

from device_model.numbers.integers import awq, awq_rows, gptq, integers
from device_model.numbers.numerics import Array
from device_model.numbers.packed import Packed, mxfp4
from device_model.numbers.tables import indexed
from device_model.program.call import integer
from dsl.graph import Attr

Parts: TypeAlias = Sequence[Array | Packed]
E8M0 = np.dtype(ml_dtypes.float8_e8m0fnu)


def plain(parts: Parts) -> list[Array]:
    """Return parts that no function may have packed."""
    arrays = [part for part in parts if not isinstance(part, Packed)]
    if len(arrays) != len(parts):
        raise ValueError("the device cannot move the elements of a packed weight")
    return arrays


def _scaled(parts: Parts, attrs: Mapping[str, Attr]) -> Packed:
    values, scales = plain(parts)
    rows, columns = (
        integer(attrs, key) or int(size)
        for key, size in zip(("rows", "columns"), values.shape[-2:], strict=True)
    )
    return Packed(values, _factors(scales), rows, columns)


def _factors(scales: Array) -> Array:
    """Return scales as a packed weight keeps them: float32, or exponents of two as bytes."""
    if scales.dtype in (np.uint8, E8M0):
        return scales.view(np.uint8)
    return scales.astype(np.float32, copy=False)


def _column(parts: Parts, attrs: Mapping[str, Attr]) -> Array:
    (x,) = plain(parts)
    return x[..., None]


def _divided(parts: Parts, attrs: Mapping[str, Attr]) -> Array:
    (x,) = plain(parts)
    return x.astype(np.float32) / np.float32(integer(attrs, "by"))


def _inverse(parts: Parts, attrs: Mapping[str, Attr]) -> Array:
    (x,) = plain(parts)
    with np.errstate(divide="ignore"):
        return np.float32(1) / x.astype(np.float32)


def _mxfp4(parts: Parts, attrs: Mapping[str, Attr]) -> Packed:
    values, scales = plain(parts)
    return mxfp4(values, scales)


def _fp4(parts: Parts, attrs: Mapping[str, Attr]) -> Packed:
    """Return four-bit floats; scales that are scaled themselves are multiplied out."""
    values, scales = parts
    (numbers,) = plain([values])
    factors = scales.panel(0, len(scales)) if isinstance(scales, Packed) else _factors(scales)
    width, columns = 2 * int(numbers.shape[-1]), integer(attrs, "columns")
    return Packed(numbers.view(np.uint8), factors, 1, columns, four_bits="f4e2m1", width=width)


def _gptq(parts: Parts, attrs: Mapping[str, Attr]) -> Array | Packed:
    values, zeros, scales, index = plain(parts)
    group, added, bits = (integer(attrs, key, 4) for key in ("group", "added", "bits"))
    return gptq(values, zeros, scales, index, group, added, bits)


def _awq(parts: Parts, attrs: Mapping[str, Attr]) -> Packed:
    values, zeros, scales = plain(parts)
    return awq(values, zeros, scales, integer(attrs, "group"))


def _awq_rows(parts: Parts, attrs: Mapping[str, Attr]) -> Packed:
    values, zeros, scales = plain(parts)
    return awq_rows(values, zeros, scales, integer(attrs, "group"))


def _integers(parts: Parts, attrs: Mapping[str, Attr]) -> Array | Packed:
    values, scales, *others = plain(parts)
    rest = iter(others)
    zeros, index = (next(rest) if attrs[key] else None for key in ("zeros", "index"))
    k, bits, group = (integer(attrs, key) for key in ("columns", "bits", "group"))
    return integers(values, scales, zeros, index, (k, bits, group))


def _bitsandbytes(parts: Parts, attrs: Mapping[str, Attr]) -> Array | Packed:
    values, sizes, table, state, *others = plain(parts)
    nested = (others[0], others[1]) if others else None
    return indexed(values, sizes, table, state, nested, integer(attrs, "columns"))


PACKED: Mapping[str, Callable[[Parts, Mapping[str, Attr]], Array | Packed]] = {
    "scaled": _scaled,
    "column": _column,
    "divided": _divided,
    "inverse": _inverse,
    "mxfp4": _mxfp4,
    "fp4": _fp4,
    "gptq": _gptq,
    "awq": _awq,
    "awq_rows": _awq_rows,
    "integers": _integers,
    "bitsandbytes": _bitsandbytes,
}
"""What makes a weight, or the scales of one, of stored parts."""
