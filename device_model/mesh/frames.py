# SPDX-License-Identifier: Apache-2.0
"""Frames: what goes over a link in one piece, with a checksum over all of it.

A frame says which session it is of, from which node, its number on the link, and up to which number the sender has
everything. Knows nothing of what it carries.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from device_model.mesh.refusals import no_message

Bytes: TypeAlias = "bytes | memoryview"

MAGIC, VERSION = b"sohu", 1
MAX_BODY = 1 << 30
_HEADER = struct.Struct(
    "<4sBBHQQQI"
)  # magic, version, kind, node, session, number, awaited, length of the body
_CHECK = struct.Struct("<I")
OVERHEAD = _HEADER.size + _CHECK.size
MAX_FRAME = MAX_BODY + OVERHEAD


class FrameKind(IntEnum):
    """What a frame is for: only data has a number of its own and is sent again."""

    DATA = 1
    GOT = 2
    MISSED = 3
    PULSE = 4


@dataclass(frozen=True, slots=True)
class LinkFrame:
    """A frame as its sender meant it; `awaited` is the number that the sender expects next from the other side."""

    kind: FrameKind
    node: int
    session: int
    number: int
    awaited: int
    body: Bytes = b""


def encoded(frame: LinkFrame) -> bytes:
    """Return the bytes of a frame; a body beyond `MAX_BODY` is a mistake of the program."""
    if len(frame.body) > MAX_BODY:
        raise ValueError(f"a body of {len(frame.body)} bytes; a frame carries {MAX_BODY}")
    head = _HEADER.pack(
        MAGIC, VERSION, frame.kind, frame.node, frame.session, frame.number, frame.awaited,
        len(frame.body),
    )  # fmt: skip
    check = zlib.crc32(frame.body, zlib.crc32(head))
    return b"".join((head, frame.body, _CHECK.pack(check)))


def decoded(data: Bytes) -> LinkFrame:
    """Return the frame that bytes hold, its body a view of them; anything else is refused (S644)."""
    if not OVERHEAD <= len(data) <= MAX_FRAME:
        raise no_message(f"{len(data)} bytes are no frame")
    magic, version, kind, node, session, number, awaited, length = _HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION:
        raise no_message(f"it is not of version {VERSION}")
    if length != len(data) - OVERHEAD:
        raise no_message(f"a body of {length} bytes in a frame of {len(data)}")
    view = memoryview(data)
    if _CHECK.unpack_from(data, len(data) - _CHECK.size)[0] != zlib.crc32(view[: -_CHECK.size]):
        raise no_message("its checksum is another")
    if kind not in FrameKind.__members__.values():
        raise no_message(f"frames of kind {kind} are not known")
    body = view[_HEADER.size : -_CHECK.size]
    return LinkFrame(FrameKind(kind), node, session, number, awaited, body)


def numbered(data: Bytes) -> tuple[int, int]:
    """Return kind and number of a frame of our own, unchecked: what faults are drawn by."""
    _, _, kind, _, _, number, _, _ = _HEADER.unpack_from(data)
    return kind, number
