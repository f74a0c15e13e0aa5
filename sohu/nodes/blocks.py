# SPDX-License-Identifier: Apache-2.0
"""Blocks over a socket: a length and so many bytes; and what a driver and its nodes tell each other in them.

Whoever connects shows the secret of the run first. It keeps strangers on the same machine out; it does not encrypt.
"""

from __future__ import annotations

import hmac
import json
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from device_model.mesh.fabric import Array, Exchange
from device_model.mesh.frames import MAX_FRAME
from device_model.mesh.messages import decoded, encoded_part
from device_model.mesh.refusals import Head, no_message
from dsl.diagnostics import Refused

Words: TypeAlias = Mapping[str, Any]
Address: TypeAlias = tuple[str, int]

_LENGTH = struct.Struct("<Q")
MAX_WORDS = 1 << 24
PIECE = 1 << 20
SECRET_S, MAX_HELLO = 2.0, 4096
"""How long someone who connects has to show the secret, and in how many bytes."""
CARRIED = Exchange(0, "logits", ())


def send_block(connection: socket.socket, data: bytes) -> None:
    """Send a block whole."""
    connection.sendall(
        _LENGTH.pack(len(data)) + data if len(data) < PIECE else _LENGTH.pack(len(data))
    )
    if len(data) >= PIECE:
        connection.sendall(data)


def read_block(
    connection: socket.socket, limit: int = MAX_FRAME, heard: Callable[[], None] = lambda: None
) -> bytearray | None:
    """Return the next block, nothing where the other side has closed; one beyond the limit is refused (S644).

    `heard` is called for every piece that comes. Space is made as bytes come, not as they are announced.
    """
    head = _exactly(connection, _LENGTH.size, heard)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > limit:
        raise no_message(f"a block of {length} bytes, of {limit} at most")
    return _exactly(connection, length, heard)


def _exactly(connection: socket.socket, length: int, heard: Callable[[], None]) -> bytearray | None:
    data = bytearray()
    while len(data) < length:
        piece = connection.recv(min(length - len(data), PIECE))
        if not piece:
            return None
        data += piece
        heard()
    return data


@dataclass(frozen=True, slots=True)
class Told:
    """What a driver and a node tell each other: words, and an array where there is one."""

    words: Words
    array: Array | None = field(default=None, compare=False)

    def text(self, name: str) -> str:
        """Return a word; another kind of thing is refused (S644)."""
        value = self.words.get(name)
        if not isinstance(value, str):
            raise no_message(f"`{name}` is no word")
        return value

    def number(self, name: str) -> int:
        """Return a whole number that is not negative; another kind of thing is refused (S644)."""
        value = self.words.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise no_message(f"`{name}` is no number")
        return value

    def numbers(self, name: str) -> tuple[int, ...]:
        """Return whole numbers that are not negative; another kind of thing is refused (S644)."""
        value = self.words.get(name)
        if not isinstance(value, list) or not all(type(n) is int and n >= 0 for n in value):
            raise no_message(f"`{name}` is no list of numbers")
        return tuple(value)


def tell(connection: socket.socket, told: Told) -> None:
    """Send words, and the array."""
    words = json.dumps(dict(told.words)).encode()
    array = told.array
    body = b"" if array is None else encoded_part(Head.of(0, CARRIED, 0, array), array)
    send_block(connection, _LENGTH.pack(len(words)) + words + body)


def hear(connection: socket.socket, limit: int = MAX_FRAME) -> Told | None:
    """Return what the other side tells, nothing where it has closed; anything else is refused (S644)."""
    block = read_block(connection, limit)
    if block is None:
        return None
    length = _LENGTH.unpack_from(block)[0] if len(block) >= _LENGTH.size else MAX_WORDS + 1
    if length > min(MAX_WORDS, len(block) - _LENGTH.size):
        raise no_message("words that are cut off")
    end = _LENGTH.size + length
    try:
        words = json.loads(block[_LENGTH.size : end])
    except (ValueError, RecursionError):
        raise no_message("words that are no JSON") from None
    if not isinstance(words, dict):
        raise no_message("words without names")
    return Told(words, _array(memoryview(block)[end:]))


def connected(address: Address, secret: str, words: Words) -> socket.socket:
    """Return a connection to whoever listens there, having shown the secret and said who one is."""
    connection = socket.create_connection(address, SECRET_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    tell(connection, Told({**words, "secret": secret}))
    connection.settimeout(None)
    return connection


def accepted(listener: socket.socket, secret: str) -> tuple[socket.socket, Told] | None:
    """Return the next connection whose side shows the secret, with what it says; nothing where it does not."""
    connection, _ = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(SECRET_S)
    try:
        told = hear(connection, MAX_HELLO)
        shown = told is not None and hmac.compare_digest(told.text("secret"), secret)
    except (OSError, Refused, TypeError):
        told, shown = None, False
    if told is None or not shown:
        connection.close()
        return None
    connection.settimeout(None)
    return connection, told


def _array(body: memoryview) -> Array | None:
    if not len(body):
        return None
    message = decoded(body)
    if isinstance(message, Refused):
        raise no_message("a failure in place of an array")
    return message[1]
