# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import os
import struct
import time

import ml_dtypes
import numpy as np
import pytest

from dsl.diagnostics import Refused, render_all
from porting.checkpoint.index import INDEX
from porting.checkpoint.safetensors_header import MAX_HEADER_BYTES
from porting.checkpoint.tensors import SINGLE, Checkpoint
from tests.checkpoints import safetensors_bytes, tensor_entry, tiny_llama, write_safetensors

GOOD = {
    "b": ("F32", [2, 2], np.arange(4, dtype="<f4").tobytes()),
    "a": ("BF16", [3], b"\x80\x3f" * 3),
}


def refusal(folder) -> Refused:
    start = time.perf_counter()
    with pytest.raises(Refused) as caught:
        Checkpoint.open(folder)
    assert time.perf_counter() - start < 2
    assert len(render_all(caught.value.diagnostics).splitlines()) < 30
    return caught.value


def single(folder, content: bytes):
    (folder / SINGLE).write_bytes(content)
    return folder


def sharded(folder, weight_map: object, **shards):
    for name, tensors in shards.items():
        write_safetensors(folder / f"{name}.safetensors", {x: ("U8", [1], b"\1") for x in tensors})
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def test_tensors_are_mapped_without_a_copy_and_read_only(tmp_path):
    write_safetensors(tmp_path / SINGLE, GOOD)
    checkpoint = Checkpoint.open(tmp_path)
    assert list(checkpoint.tensors) == ["a", "b"]
    b = checkpoint.read("b")
    assert b.dtype == np.float32
    assert b.tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert not b.flags.owndata
    assert not b.flags.writeable
    a = checkpoint.read("a")
    assert a.dtype == ml_dtypes.bfloat16
    assert a.astype(np.float32).tolist() == [1.0, 1.0, 1.0]
    info = checkpoint.tensors["a"]
    assert (info.dtype.name, info.shape, info.nbytes, info.file) == ("bf16", (3,), 6, SINGLE)


def test_misaligned_and_empty_tensors_are_readable(tmp_path):
    data = {
        "x": ("U8", [1], b"\1"),
        "y": ("F32", [1], struct.pack("<f", 2.5)),
        "z": ("F32", [0, 4], b""),
    }
    write_safetensors(tmp_path / SINGLE, data)
    checkpoint = Checkpoint.open(tmp_path)
    assert checkpoint.read("y").tolist() == [2.5]
    assert checkpoint.read("y").flags.aligned
    assert checkpoint.read("z").shape == (0, 4)


def test_packed_tensors_come_as_bytes(tmp_path):
    write_safetensors(tmp_path / SINGLE, {"x": ("F4", [2, 4], b"\1\2\3\4")})
    assert Checkpoint.open(tmp_path).read("x").tolist() == [[1, 2], [3, 4]]


def test_the_digest_tells_headers_apart(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    write_safetensors(one / SINGLE, GOOD)
    write_safetensors(two / SINGLE, GOOD)
    assert Checkpoint.open(one).digest == Checkpoint.open(two).digest
    write_safetensors(two / SINGLE, {"b": GOOD["b"]})
    assert Checkpoint.open(one).digest != Checkpoint.open(two).digest


def test_values_equal_those_of_the_safetensors_library(tmp_path):
    from safetensors import safe_open

    tiny_llama(tmp_path)
    checkpoint = Checkpoint.open(tmp_path)
    with safe_open(tmp_path / SINGLE, "np") as theirs:
        assert set(theirs.keys()) == set(checkpoint.tensors)
        for name in theirs.keys():  # noqa: SIM118 - not a mapping
            np.testing.assert_array_equal(theirs.get_tensor(name), checkpoint.read(name))


def test_shards_as_save_pretrained_writes_them(tmp_path):
    tiny_llama(tmp_path, max_shard_size="20KB")
    checkpoint = Checkpoint.open(tmp_path)
    assert len(checkpoint.files) > 1
    assert checkpoint.read("model.norm.weight").shape == (40,)


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("S523", b""),
        ("S523", b"1234567"),
        ("S523", struct.pack("<Q", 100) + b"{"),
        ("S522", struct.pack("<Q", 2**63) + b"{}"),
        ("S522", struct.pack("<Q", MAX_HEADER_BYTES + 1) + b"{}"),
        ("S522", safetensors_bytes(" {}")),
        ("S522", safetensors_bytes("[]")),
        ("S522", safetensors_bytes("{")),
        ("S522", safetensors_bytes('{"a":' + "[" * 50_000)),
        ("S522", safetensors_bytes('{"a": {}, "a": {}}')),
        (
            "S522",
            safetensors_bytes(
                '{"a": {"dtype": "U8", "dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}'
            ),
        ),
        ("S522", safetensors_bytes({"a": 1})),
        ("S522", safetensors_bytes({"a": tensor_entry("U8", [1], 0, 1) | {"more": 1}}, b"x")),
        ("S522", safetensors_bytes({"a": {"dtype": "U8", "shape": [1]}})),
        ("S522", safetensors_bytes({"": tensor_entry("U8", [1], 0, 1)}, b"x")),
        ("S522", safetensors_bytes({"\x1b[2J": tensor_entry("U8", [1], 0, 1)}, b"x")),
        ("S522", safetensors_bytes({"__metadata__": {"a": 1}})),
        ("S522", safetensors_bytes({"a": tensor_entry("U8", [-1], 0, 1)}, b"x")),
        ("S522", safetensors_bytes({"a": tensor_entry("U8", [1.0], 0, 1)}, b"x")),
        ("S522", safetensors_bytes({"a": tensor_entry("U8", [True], 0, 1)}, b"x")),
        ("S522", safetensors_bytes({"a": tensor_entry("U8", [1] * 99, 0, 1)}, b"x")),
        ("S524", safetensors_bytes({"a": tensor_entry("U8", [1], 1, 0)}, b"x")),
        (
            "S524",
            safetensors_bytes({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0]}}, b"x"),
        ),
        ("S525", safetensors_bytes({"a": tensor_entry("F32", [2], 0, 4)}, b"xxxx")),
        ("S525", safetensors_bytes({"a": tensor_entry("U8", [2**62, 2**62, 4], 0, 0)})),
        ("S525", safetensors_bytes({"a": tensor_entry("F4", [1], 0, 1)}, b"x")),
        ("S526", safetensors_bytes({"a": tensor_entry("F33", [1], 0, 4)}, b"xxxx")),
        ("S526", safetensors_bytes({"a": tensor_entry("F64", [1], 0, 8)}, b"x" * 8)),
        ("S523", safetensors_bytes({"a": tensor_entry("U8", [4], 0, 4)}, b"xxx")),
        ("S524", safetensors_bytes({"a": tensor_entry("U8", [4], 0, 4)}, b"xxxxx")),
        ("S524", safetensors_bytes({"a": tensor_entry("U8", [4], 1, 5)}, b"xxxxx")),
        (
            "S524",
            safetensors_bytes(
                {"a": tensor_entry("U8", [4], 0, 4), "b": tensor_entry("U8", [4], 2, 6)}, b"x" * 6
            ),
        ),
        (
            "S524",
            safetensors_bytes(
                {"a": tensor_entry("U8", [4], 0, 4), "b": tensor_entry("U8", [4], 0, 4)}, b"x" * 4
            ),
        ),
        ("S520", safetensors_bytes({})),
    ],
)
def test_malformed_headers_are_refused(tmp_path, code, content):
    caught = refusal(single(tmp_path, content))
    assert {d.code for d in caught.diagnostics} == {code}
    assert "\x1b" not in str(caught)


def test_a_cut_file_is_refused_with_both_sizes(tmp_path):
    write_safetensors(tmp_path / SINGLE, GOOD)
    whole = (tmp_path / SINGLE).stat().st_size
    os.truncate(tmp_path / SINGLE, whole - 3)
    caught = refusal(tmp_path)
    assert f"{whole:,}" in str(caught)
    assert f"{whole - 3:,}" in str(caught)


def test_every_byte_of_a_header_may_be_wrong(tmp_path):
    good = safetensors_bytes(
        {"a": tensor_entry("U8", [2], 0, 2), "b": tensor_entry("F16", [1], 2, 4)}, b"abcd"
    )
    for position in range(len(good) - 4):
        single(tmp_path, good[:position] + bytes([good[position] ^ 0x15]) + good[position + 1 :])
        try:
            Checkpoint.open(tmp_path)
        except Refused:
            continue


def test_a_tensor_in_two_files_is_read_where_they_hold_the_same(tmp_path):
    folder = sharded(tmp_path, {"a": "x.safetensors", "b": "y.safetensors"}, x=["a"], y=["a", "b"])
    checkpoint = Checkpoint.open(folder)
    assert list(checkpoint.tensors) == ["a", "b"]
    assert checkpoint.notes == ("several files hold the same bits of a",)


@pytest.mark.parametrize("other", [("U8", [1], b"\2"), ("U8", [2], b"\1\1"), ("I8", [1], b"\1")])
def test_a_tensor_in_two_files_that_differ_depends_on_their_order(tmp_path, other):
    folder = sharded(tmp_path, {"a": "x.safetensors", "b": "y.safetensors"}, x=["a"], y=["b"])
    write_safetensors(folder / "y.safetensors", {"a": other, "b": ("U8", [1], b"\1")})
    caught = refusal(folder)
    assert [d.code for d in caught.diagnostics] == ["S534"]
    assert "x.safetensors, y.safetensors" in str(caught)


def test_a_file_that_the_index_names_must_be_there(tmp_path):
    weight_map = {"a": "x.safetensors", "c": "y.safetensors"}
    caught = refusal(sharded(tmp_path, weight_map, x=["a"]))
    assert [d.code for d in caught.diagnostics] == ["S528"]
    assert "names y.safetensors, which is not in the folder" in str(caught)


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ({"a": "x.safetensors", "b": "y.safetensors", "c": "x.safetensors"}, "no file has"),
        ({"a": "x.safetensors", "c": "y.safetensors"}, "it does not name"),
        ({"a": "y.safetensors", "b": "x.safetensors"}, "it puts into another file"),
    ],
)
def test_of_an_index_only_the_files_count(tmp_path, weight_map, words):
    checkpoint = Checkpoint.open(sharded(tmp_path, weight_map, x=["a"], y=["b"]))
    assert {info.file for info in checkpoint.tensors.values()} == {"x.safetensors", "y.safetensors"}
    assert list(checkpoint.tensors) == ["a", "b"]
    assert any(words in note for note in checkpoint.notes)


def test_an_exact_index_needs_no_note(tmp_path):
    weight_map = {"a": "x.safetensors", "b": "y.safetensors"}
    assert Checkpoint.open(sharded(tmp_path, weight_map, x=["a"], y=["b"])).notes == ()


@pytest.mark.parametrize(
    "name",
    [
        "../x.safetensors",
        "/etc/passwd",
        "/tmp/x.safetensors",  # noqa: S108
        "a/b.safetensors",
        "a\\b.safetensors",
        "C:x.safetensors",
        "..",
        "",
        "x.safetensors\0",
        "x\n.safetensors",
        "pytorch_model.bin",
        7,
        None,
    ],
)
def test_an_index_cannot_lead_out_of_the_folder(tmp_path, name):
    caught = refusal(sharded(tmp_path, {"a": name}, x=["a"]))
    assert [d.code for d in caught.diagnostics] == ["S512"]


@pytest.mark.parametrize(
    "content", ["{}", '{"weight_map": []}', '{"weight_map": {}}', "[]", '{"a": 1, "a": 2}']
)
def test_malformed_indexes_are_refused(tmp_path, content):
    (tmp_path / INDEX).write_text(content)
    assert [d.code for d in refusal(tmp_path).diagnostics] == ["S527"]


def test_links_out_of_the_folder_are_refused(tmp_path):
    outside, folder = tmp_path / "secret.safetensors", tmp_path / "model"
    folder.mkdir()
    write_safetensors(outside, GOOD)
    (folder / SINGLE).symlink_to(outside)
    assert "S512" in str(refusal(folder))
    (folder / SINGLE).unlink()
    (folder / SINGLE).symlink_to(folder / "nowhere")
    assert "S513" in str(refusal(folder))


def test_links_within_the_folder_are_followed(tmp_path):
    write_safetensors(tmp_path / "real.safetensors", GOOD)
    (tmp_path / SINGLE).symlink_to("real.safetensors")
    assert len(Checkpoint.open(tmp_path).tensors) == 2


def test_the_layout_of_the_hub_cache_works(tmp_path):
    repository = tmp_path / "models--org--name"
    snapshot = repository / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    write_safetensors(repository / "blobs" / "0f0f", GOOD)
    (snapshot / SINGLE).symlink_to("../../blobs/0f0f")
    assert len(Checkpoint.open(snapshot).tensors) == 2
    write_safetensors(tmp_path / "other", GOOD)
    (snapshot / SINGLE).unlink()
    (snapshot / SINGLE).symlink_to("../../../other")
    assert "S512" in str(refusal(snapshot))


def test_a_pipe_or_a_folder_in_place_of_weights_is_refused(tmp_path):
    os.mkfifo(tmp_path / SINGLE)
    assert "S513" in str(refusal(tmp_path))
    (tmp_path / SINGLE).unlink()
    (tmp_path / SINGLE).mkdir()
    assert "S513" in str(refusal(tmp_path))


def test_pickled_weights_are_refused_with_the_way_to_convert_them(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    caught = refusal(tmp_path)
    assert [d.code for d in caught.diagnostics] == ["S521"]
    assert "pytorch_model.bin" in str(caught)
    assert "save_pretrained" in caught.diagnostics[0].help


def test_a_folder_without_weights_says_what_is_expected(tmp_path):
    assert "S520" in str(refusal(tmp_path))
    write_safetensors(tmp_path / "adapter_model.safetensors", GOOD)
    assert "only adapter_model.safetensors" in str(refusal(tmp_path))


def test_one_file_is_read_before_an_index(tmp_path):
    write_safetensors(tmp_path / SINGLE, GOOD)
    checkpoint = Checkpoint.open(sharded(tmp_path, {"c": "x.safetensors"}, x=["c"]))
    assert list(checkpoint.tensors) == ["a", "b"]
    assert checkpoint.notes == (
        "model.safetensors is read, as transformers does; model.safetensors.index.json beside it is not",
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model-00001-of-00002.safetensors", INDEX),
        ("gptq_model-4bit.safetensors", f"name it {SINGLE}"),
    ],
)
def test_safetensors_of_other_names_are_told_what_they_lack(tmp_path, name, words):
    write_safetensors(tmp_path / name, GOOD)
    (only,) = refusal(tmp_path).diagnostics
    assert only.code == "S520"
    assert words in only.help
