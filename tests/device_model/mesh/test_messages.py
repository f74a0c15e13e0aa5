# SPDX-License-Identifier: Apache-2.0
"""What goes over a link: it comes back as it was, and bytes that are no message are refused before anything is made."""

from __future__ import annotations

import struct
from contextlib import suppress

import numpy as np
import pytest

from device_model.mesh import frames
from device_model.mesh.fabric import Array, Exchange
from device_model.mesh.frames import OVERHEAD, FrameKind, LinkFrame
from device_model.mesh.messages import (
    DTYPES,
    decoded,
    decoded_places,
    encoded_failure,
    encoded_part,
    encoded_places,
)
from device_model.mesh.refusals import Head
from dsl.diagnostics import Refused, refuse

WHAT = Exchange(7, "all_reduce", (0, 3, 5), "llama.sohu:41")


def message(part: Array) -> tuple[Head, bytes]:
    head = Head.of(2, WHAT, 3, part)
    return head, encoded_part(head, part)


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 4), (3,), (2, 3, 4)])
def test_a_part_comes_back(name: str, shape: tuple[int, ...]):
    size = int(np.prod(shape)) * DTYPES[name].itemsize
    bits = np.arange(size, dtype=np.uint8) % 2
    part = np.frombuffer(bits.tobytes(), DTYPES[name]).reshape(shape)
    head, body = message(part)
    answer = decoded(body)
    assert not isinstance(answer, Refused)
    assert answer[0] == head
    assert answer[0].what.span == WHAT.span
    assert answer[1].tobytes() == part.tobytes()
    assert answer[1].shape == shape
    assert not answer[1].flags.writeable


def test_a_part_that_is_not_contiguous_comes_back():
    part = np.arange(12, dtype=np.int32).reshape(3, 4).T
    answer = decoded(message(part)[1])
    assert not isinstance(answer, Refused)
    assert np.array_equal(answer[1], part)


def test_a_failure_comes_back():
    failure = refuse("S640", "chips are out of step")
    answer = decoded(encoded_failure(failure.diagnostics))
    assert isinstance(answer, Refused)
    assert str(answer) == str(failure)


def test_places_come_back():
    places = {0: "step 1", 3: "é" * 400}
    assert decoded_places(encoded_places(places)) == {0: "step 1", 3: "é" * 256}


@pytest.mark.parametrize(
    ("at", "value", "why"),
    [
        ("<B", (0, 9), "kind 9"),
        ("<H", (15, 65), "more words"),
        ("<H", (16, 60_000), "more words"),
        ("<H", (18, 60_000), "more words"),
        ("<B", (20, 250), "type 250"),
        ("<B", (21, 8), "cut off|bytes for"),
        ("<Q", (22 + 10 + 13 + 6, 1 << 62), "bytes for"),
        ("<Q", (22 + 10 + 13 + 6, 0), "bytes for"),
    ],
)
def test_a_head_that_cannot_be_is_refused(at: str, value: tuple[int, int], why: str):
    body = bytearray(message(np.zeros(2, np.float32))[1])
    struct.pack_into(at, body, *value)
    with pytest.raises(Refused, match=f"S644.*({why})"):
        decoded(bytes(body))


@pytest.mark.parametrize(
    "body",
    [b"", b"\x02", b"\x02[]", b"\x02{}", b"\x02[1]", b"\x02" + b"[" * 60_000, b"\x02" * 70_000],
)
def test_a_failure_that_says_nothing_is_refused(body: bytes):
    with pytest.raises(Refused, match="S644"):
        decoded(body)


def test_random_bytes_are_refused_or_understood():
    draws = np.random.default_rng(5)
    whole = message(np.zeros((2, 3), np.float32))[1]
    for _ in range(3000):
        body = bytearray(whole)
        for _ in range(draws.integers(1, 7)):
            body[draws.integers(len(body))] = draws.integers(256)
        for decode in (decoded, decoded_places):
            with suppress(Refused):
                decode(bytes(body[: draws.integers(len(body) + 1)]))


def test_every_flipped_bit_of_a_frame_is_noticed():
    data = frames.encoded(LinkFrame(FrameKind.DATA, 3, 99, 12, 4, b"abcdefgh"))
    assert bytes(frames.decoded(data).body) == b"abcdefgh"
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Refused, match="S644"):
            frames.decoded(bytes(damaged))


@pytest.mark.parametrize("size", [0, OVERHEAD - 1, OVERHEAD, OVERHEAD + 9])
def test_what_is_no_frame_is_refused(size: int):
    with pytest.raises(Refused, match="S644"):
        frames.decoded(b"\0" * size)
