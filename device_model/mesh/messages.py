# SPDX-License-Identifier: Apache-2.0
"""Messages between nodes, as bytes: a part with its head, a failure, where the ranks of a node are.

What comes is hostile until it is decoded: sizes are checked before anything is made of them, and an array is a view of
the bytes. The checksum is the frame's.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from math import prod

import ml_dtypes
import numpy as np

from device_model.mesh.fabric import Array, Exchange
from device_model.mesh.frames import MAX_BODY, Bytes
from device_model.mesh.refusals import MESH, Head, no_message
from dsl.diagnostics import Diagnostic, Refused

_NAMES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "bfloat16", "float8_e4m3fn", "float8_e5m2",
)  # fmt: skip
DTYPES = {n: np.dtype(getattr(ml_dtypes, n) if hasattr(ml_dtypes, n) else n) for n in _NAMES}
MAX_RANKS, MAX_DIMS, MAX_WORD, MAX_SPAN, MAX_FAILURE = 4096, 8, 64, 512, 1 << 16

_PART, _FAILURE = 1, 2
_FIXED = struct.Struct(
    "<BQIHBHHBB"
)  # part, step, number, rank; lengths of op, span, group; dtype, dims
_PLACE = struct.Struct("<HH")  # rank, length of its place


def encoded_part(head: Head, part: Array) -> bytes:
    """Return the bytes of a part; its data in C order, little-endian."""
    op, span = _cut(head.what.op, MAX_WORD), _cut(head.what.span, MAX_SPAN)
    group = head.what.group
    if len(group) > MAX_RANKS or part.ndim > MAX_DIMS or head.dtype not in DTYPES:
        raise ValueError(f"no message carries {head}")
    fixed = _FIXED.pack(
        _PART, head.step, head.what.number, head.rank, len(op), len(span), len(group),
        _NAMES.index(head.dtype), part.ndim,
    )  # fmt: skip
    numbers = struct.pack(f"<{len(group)}H{part.ndim}Q", *group, *part.shape)
    data = np.ascontiguousarray(part).reshape(-1).view(np.uint8).data
    return b"".join((fixed, op, span, numbers, data))


def encoded_failure(diagnostics: Sequence[Diagnostic]) -> bytes:
    """Return the bytes that tell a failure."""
    told = [{"code": d.code, "message": d.message[:4096]} for d in diagnostics[:8]]
    return bytes([_FAILURE]) + json.dumps(told).encode()


def decoded(body: Bytes) -> tuple[Head, Array] | Refused:
    """Return what a message says: a part with its head, or a failure; else it is refused (S644)."""
    kind = body[0] if len(body) else 0
    if kind == _PART:
        return _part(memoryview(body))
    if kind == _FAILURE:
        return _failure(body)
    raise no_message(f"messages of kind {kind} are not known")


def encoded_places(places: Mapping[int, str]) -> bytes:
    """Return the bytes that say where ranks are."""
    texts = ((rank, _cut(text, MAX_SPAN)) for rank, text in places.items())
    return b"".join(_PLACE.pack(rank, len(text)) + text for rank, text in texts)


def decoded_places(body: Bytes) -> dict[int, str]:
    """Return where ranks say that they are."""
    places: dict[int, str] = {}
    at = 0
    while at < len(body):
        if len(body) - at < _PLACE.size or len(places) >= MAX_RANKS:
            raise no_message("places that are cut off")
        rank, length = _PLACE.unpack_from(body, at)
        text = body[at + _PLACE.size : at + _PLACE.size + length]
        if len(text) != length or length > MAX_SPAN:
            raise no_message("places that are cut off")
        places[rank] = _text(text)
        at += _PLACE.size + length
    return places


def _part(body: memoryview) -> tuple[Head, Array]:
    if len(body) < _FIXED.size:
        raise no_message("a part that is cut off")
    _, step, number, rank, op, span, ranks, dtype, dims = _FIXED.unpack_from(body)
    if op > MAX_WORD or span > MAX_SPAN or ranks > MAX_RANKS or dims > MAX_DIMS:
        raise no_message("a head with more words or numbers than a head has")
    if dtype >= len(_NAMES):
        raise no_message(f"arrays of type {dtype} are not known")
    words = _FIXED.size + op
    numbers = words + span
    start = numbers + 2 * ranks + 8 * dims
    if len(body) < start:
        raise no_message("a head that is cut off")
    (*group,) = struct.unpack_from(f"<{ranks}H", body, numbers)
    shape = struct.unpack_from(f"<{dims}Q", body, numbers + 2 * ranks)
    kept = DTYPES[_NAMES[dtype]]
    if max(shape, default=0) > MAX_BODY or prod(shape) * kept.itemsize != len(body) - start:
        raise no_message(f"{len(body) - start} bytes for {_NAMES[dtype]} {list(shape)}")
    what = Exchange(
        number, _text(body[_FIXED.size : words]), tuple(group), _text(body[words:numbers])
    )
    part = np.frombuffer(body, np.uint8, offset=start).view(kept).reshape(shape)
    return Head(step, what, rank, _NAMES[dtype], shape), part


def _failure(body: Bytes) -> Refused:
    if len(body) > MAX_FAILURE:
        raise no_message(f"a failure of {len(body)} bytes")
    try:
        told = json.loads(bytes(body[1:]))
        failure = [Diagnostic(str(d["code"]), str(d["message"]), place=MESH) for d in told]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise no_message("a failure that says nothing") from None
    if not failure:
        raise no_message("a failure that says nothing")
    return Refused(failure)


def _cut(text: str, limit: int) -> bytes:
    return text.encode()[:limit].decode(errors="ignore").encode()


def _text(data: Bytes) -> str:
    try:
        return bytes(data).decode()
    except UnicodeDecodeError:
        raise no_message("words that are no text") from None
