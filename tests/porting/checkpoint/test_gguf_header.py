# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import struct
import time

import pytest

from dsl.diagnostics import Refused, render_all
from porting.checkpoint.gguf_header import TYPES, GgufArray, read_gguf_header
from porting.files.files import ModelFile
from tests.checkpoints import gguf_bytes, gguf_string

ARCHITECTURE = ("general.architecture", 8, gguf_string("llama"))
U64 = 2**64 - 1


def header(tmp_path, content: bytes):
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    return read_gguf_header(ModelFile(path.name, path, len(content)))


def refusal(tmp_path, content: bytes) -> Refused:
    start = time.perf_counter()
    with pytest.raises(Refused) as caught:
        header(tmp_path, content)
    assert time.perf_counter() - start < 0.5
    assert len(render_all(caught.value.diagnostics).splitlines()) < 10
    return caught.value


def array(item_type: int, count: int, raw: bytes = b"") -> tuple[str, int, bytes]:
    return ("a", 9, struct.pack("<IQ", item_type, count) + raw)


@pytest.mark.parametrize("version", [2, 3])
def test_a_small_file_is_read(tmp_path, version):
    keys = [
        ARCHITECTURE,
        ("n", 4, struct.pack("<I", 7)),
        ("f", 6, struct.pack("<f", 0.5)),
        ("b", 7, b"\1"),
        array(5, 2, struct.pack("<2i", -1, 1)),
        ("s", 9, struct.pack("<IQ", 8, 2) + gguf_string("x") + gguf_string("yy")),
    ]
    tensors = [("t", [3, 2], 0, 0), ("q", [64], 8, 32)]
    found = header(tmp_path, gguf_bytes(keys, tensors, b"\0" * (32 + 68), version=version))
    assert found.architecture == "llama"
    assert dict(found.metadata) == {
        "general.architecture": "llama",
        "n": 7,
        "f": 0.5,
        "b": True,
        "a": GgufArray(5, 2, (-1, 1)),
        "s": GgufArray(8, 2),
    }
    first, second = found.tensors
    assert (first.name, first.shape, first.nbytes, first.type_name) == ("t", (2, 3), 24, "F32")
    assert (second.nbytes, second.offset - first.offset) == (68, 32)


def test_a_tiny_file_with_a_huge_array_is_refused_at_once(tmp_path):
    content = (
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + gguf_string("a") + struct.pack("<IIQ", 9, 0, 2**63)
    )
    assert len(content) == 49
    assert [d.code for d in refusal(tmp_path, content).diagnostics] == ["S577"]


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("S576", b""),
        ("S576", b"GGU"),
        ("S576", b"PK\3\4" + b"\0" * 64),
        ("S576", gguf_bytes([], version=1)),
        ("S576", gguf_bytes([], version=3).replace(struct.pack("<I", 3), struct.pack(">I", 3), 1)),
        ("S577", b"GGUF" + struct.pack("<I", 3)),
        ("S577", b"GGUF" + struct.pack("<IQQ", 3, 0, U64)),
        ("S577", b"GGUF" + struct.pack("<IQQ", 3, U64, 0)),
        ("S577", b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, U64) + b"x" * 32),
        ("S577", gguf_bytes([array(8, U64)])),
        ("S577", gguf_bytes([array(8, 2, gguf_string("x") + struct.pack("<Q", 2**40))])),
        ("S577", gguf_bytes([array(12, 2**61)])),
        ("S572", gguf_bytes([array(9, 1, struct.pack("<IQ", 0, 0))])),
        ("S572", gguf_bytes([array(77, 1)])),
        ("S572", gguf_bytes([("a", 77, b"")])),
        ("S572", gguf_bytes([ARCHITECTURE, ARCHITECTURE])),
        ("S572", gguf_bytes([("a", 8, struct.pack("<Q", 1) + b"\xff")])),
        ("S572", gguf_bytes([("n" * 600, 7, b"\1")])),
        ("S572", gguf_bytes([("general.alignment", 4, struct.pack("<I", 0))])),
        ("S572", gguf_bytes([("general.alignment", 4, struct.pack("<I", 33))])),
        ("S572", gguf_bytes([("general.alignment", 8, gguf_string("32"))])),
        ("S572", gguf_bytes([], [("t", [1] * 5, 0, 0)], b"\0" * 32)),
        ("S572", gguf_bytes([], [("t", [1], 99, 0)], b"\0" * 32)),
        ("S572", gguf_bytes([], [("t", [33], 8, 0)], b"\0" * 64)),
        ("S572", gguf_bytes([], [("t", [], 0, 0)], b"\0" * 64)),
        ("S572", gguf_bytes([], [("t", [1], 0, 1)], b"\0" * 64)),
        ("S572", gguf_bytes([], [("t", [1], 0, 0), ("t", [1], 0, 32)], b"\0" * 64)),
        ("S577", gguf_bytes([], [("t", [8], 0, 0), ("u", [8], 0, 0)], b"\0" * 64)),
        ("S577", gguf_bytes([], [("t", [8], 0, 0)], b"\0" * 31)),
        ("S577", gguf_bytes([], [("t", [U64, U64, U64, U64], 0, 0)], b"\0" * 64)),
        ("S577", gguf_bytes([], [("t", [8], 0, 2**63)], b"\0" * 64)),
    ],
)
def test_malformed_files_are_refused(tmp_path, code, content):
    assert [d.code for d in refusal(tmp_path, content).diagnostics] == [code]


def test_every_cut_of_a_file_is_refused(tmp_path):
    whole = gguf_bytes([ARCHITECTURE, array(5, 3, b"\0" * 12)], [("t", [8], 0, 0)], b"\0" * 32)
    for length in range(len(whole)):
        refusal(tmp_path, whole[:length])


def test_a_million_strings_are_counted_and_not_kept(tmp_path):
    read = header(tmp_path, gguf_bytes([array(8, 1_000_000, b"\0" * 8_000_000)]))
    assert list(read.metadata.values()) == [GgufArray(8, 1_000_000)]


def test_our_table_of_types_is_that_of_the_gguf_package():
    from gguf.constants import GGML_QUANT_SIZES

    theirs = {int(kind): (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}
    assert theirs == TYPES
