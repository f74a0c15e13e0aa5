# SPDX-License-Identifier: Apache-2.0
"""What comes over a socket is bounded before it is read, and who does not show the secret is not heard."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from dsl.diagnostics import Refused
from sohu.nodes import blocks
from sohu.nodes.blocks import Told, accepted, connected, hear, read_block, send_block, tell

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_words_and_an_array_come_over(ends: Ends):
    logits = np.arange(5, dtype=np.float32)
    tell(ends[0], Told({"does": "step", "tokens": [1, 2]}, logits))
    told = hear(ends[1])
    assert told is not None
    assert told.array is not None
    assert (told.text("does"), told.numbers("tokens")) == ("step", (1, 2))
    assert np.array_equal(told.array, logits)


def test_a_closed_side_has_nothing_to_say(ends: Ends):
    ends[0].sendall(struct.pack("<Q", 100) + b"half")
    ends[0].close()
    assert hear(ends[1]) is None


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (struct.pack("<Q", 1 << 62), "a block of"),
        (struct.pack("<QQ", 8, 9), "cut off"),
        (struct.pack("<Q", 2) + b"{}", "cut off"),
        (struct.pack("<QQ", 10, 2) + b"[]", "without names"),
        (struct.pack("<QQ", 10, 2) + b"{x", "no JSON"),
        (struct.pack("<QQ", 10 + 9, 2) + b"{}" + b"\x09" * 9, "kind 9"),
        (struct.pack("<QQ", 90_008, 90_000) + b"[" * 90_000, "no JSON"),
    ],
)
def test_what_is_no_telling_is_refused(ends: Ends, data: bytes, why: str):
    ends[0].sendall(data)
    with pytest.raises(Refused, match=f"S644.*{why}"):
        hear(ends[1])


@pytest.mark.parametrize("value", [None, "1", -1, True, 1.5, [1, -1], ["a"]])
def test_words_of_another_kind_are_refused(value: object):
    told = Told({"n": value})
    with pytest.raises(Refused, match="S644"):
        told.number("n")
    with pytest.raises(Refused, match="S644"):
        told.numbers("n")


def test_only_who_shows_the_secret_is_heard(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(blocks, "SECRET_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()[:2]
        strangers = [
            connected(address, "guess", {}),
            socket.create_connection(address),  # says nothing
            socket.create_connection(address),
        ]
        send_block(strangers[2], json.dumps({"secret": "x" * 9000}).encode())
        assert [accepted(listener, "right") for _ in strangers] == [None] * 3
        with connected(address, "right", {"node": 3}):
            came = accepted(listener, "right")
            assert came is not None
            assert came[1].number("node") == 3
            came[0].close()
        for stranger in strangers:
            stranger.close()


def test_a_long_block_is_heard_piece_by_piece(ends: Ends, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(blocks, "PIECE", 100)
    heard: list[int] = []
    send_block(ends[0], b"x" * 1000)
    block = read_block(ends[1], heard=lambda: heard.append(1))
    assert block == b"x" * 1000
    assert len(heard) >= 10
