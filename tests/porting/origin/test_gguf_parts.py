# SPDX-License-Identifier: Apache-2.0
"""Split .gguf files are one model; what lacks a part, or is no model, is refused by its name."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from dsl.diagnostics import Refused
from porting.checkpoint.gguf_parts import open_gguf, part_paths
from porting.checkpoint.tensors import Checkpoint
from porting.origin import conversions, gguf
from porting.original.reference import Reference
from porting.verdict.kept import Kept
from tests.checkpoints import gguf_bytes, gguf_string
from tests.gguf_models import KINDS, write

STRING, UINT16, INT32 = 8, 2, 5
TOKENS = np.random.default_rng(5).integers(3, 100, 24).tolist()


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SOHU_CACHE", str(tmp_path / "cache"))


def split(whole: Path, folder: Path, count: int = 3) -> list[Path]:
    """Split a file as llama-gguf-split does: all keys in the first part, tensors in order."""
    from gguf import GGUFReader, GGUFWriter

    read = GGUFReader(whole)
    names = [folder / f"m-{n:05d}-of-{count:05d}.gguf" for n in range(1, count + 1)]
    for number, path in enumerate(names):
        writer = GGUFWriter(path, "llama")
        for key, field in read.fields.items() if number == 0 else ():
            if not key.startswith("GGUF.") and key != "general.architecture":
                writer.add_key_value(key, field.contents(), field.types[0])
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", count)
        writer.add_int32("split.tensors.count", len(read.tensors))
        for tensor in read.tensors[number::count]:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return names


@pytest.fixture
def whole(tmp_path):
    write(KINDS["llama"], tmp_path / "folder", tmp_path / "m.gguf", "Q8_0")
    return tmp_path / "m.gguf"


def test_any_part_of_a_split_file_is_the_whole_model(tmp_path, whole):
    parts = split(whole, tmp_path)
    one = Checkpoint.open(gguf.convert(whole).directory)
    made = {gguf.convert(part) for part in parts}
    assert len(made) == 1
    other = Checkpoint.open(made.pop().directory)
    assert set(one.tensors) == set(other.tensors)
    for name in one.tensors:
        np.testing.assert_array_equal(one.read(name), other.read(name))
    judges = [Reference.load(path, "float64") for path in (whole, parts[1])]
    first, second = (judge.logits([TOKENS])[0].logits for judge in judges)
    np.testing.assert_array_equal(first, second)


def test_parts_are_found_by_links_as_in_the_hubs_cache(tmp_path, whole):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    for number, part in enumerate(split(whole, tmp_path)):
        part.rename(tmp_path / "blobs" / str(number))
        (tmp_path / "snapshot" / part.name).symlink_to(tmp_path / "blobs" / str(number))
    path = tmp_path / "snapshot" / "m-00002-of-00003.gguf"
    assert gguf.convert(path).directory.is_dir()


def test_what_is_kept_of_an_original_depends_on_every_part(tmp_path, whole, monkeypatch):
    monkeypatch.setattr("porting.verdict.kept.LEAST_BYTES", 0)
    parts = split(whole, tmp_path)
    before = Kept.of(parts[0], tmp_path / "kept")
    with parts[2].open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x55")
    assert Kept.of(parts[0], tmp_path / "kept") != before


def test_missing_parts_are_named(tmp_path, whole):
    first, second, third = split(whole, tmp_path)
    second.unlink()
    third.unlink()
    words = r"S543.*part 1 of 3 of a split file; missing beside it: m-00002-of-00003\.gguf, m-00003"
    with pytest.raises(Refused, match=words):
        gguf.convert(first)


def keys(number: int, count: int, *more: tuple[str, int, bytes]) -> list[tuple[str, int, bytes]]:
    return [
        ("general.architecture", STRING, gguf_string("llama")),
        ("split.no", UINT16, struct.pack("<H", number)),
        ("split.count", UINT16, struct.pack("<H", count)),
        *more,
    ]


TENSOR = [("t", [8], 0, 0)]


@pytest.mark.parametrize(
    ("name", "first", "second", "words"),
    [
        ("x.gguf", keys(0, 2), None, "which its name does not say"),
        ("x-00002-of-00002.gguf", keys(0, 2), None, "which its name does not say"),
        ("x-00001-of-00002.gguf", keys(0, 2), keys(0, 2), "not say that it is part 2 of 2"),
        ("x-00001-of-00002.gguf", keys(0, 2), keys(1, 3), "not say that it is part 2 of 2"),
        ("x-00001-of-00002.gguf", keys(0, 2), keys(1, 2), "has the tensor `t` of an earlier part"),
        (
            "x-00001-of-00002.gguf",
            keys(0, 2),
            keys(1, 2, ("llama.block_count", INT32, b"\1\0\0\0")),
            "says `llama.block_count` otherwise",
        ),
        ("x-00001-of-60000.gguf", keys(0, 60000), None, "has 60,000 parts; at most 512"),
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path, name, first, second, words):
    (tmp_path / name).write_bytes(gguf_bytes(first, TENSOR, b"\0" * 32))
    if second is not None:
        (tmp_path / "x-00002-of-00002.gguf").write_bytes(gguf_bytes(second, TENSOR, b"\0" * 32))
    with pytest.raises(Refused, match=f"S543.*{words}"), open_gguf(tmp_path / name):
        pass


def test_the_first_part_says_how_many_tensors_there_are(tmp_path):
    count = ("split.tensors.count", INT32, b"\3\0\0\0")
    for number, name in enumerate(("a", "b")):
        raw = gguf_bytes(keys(number, 2, count), [(name, [8], 0, 0)], b"\0" * 32)
        (tmp_path / f"x-0000{number + 1}-of-00002.gguf").write_bytes(raw)
    with (
        pytest.raises(Refused, match="are to have 3 tensors, and have 2"),
        open_gguf(tmp_path / "x-00001-of-00002.gguf"),
    ):
        pass


@pytest.mark.parametrize(
    ("metadata", "tensors", "words"),
    [
        ({"general.type": "mmproj", "general.architecture": "clip"}, TENSOR, "sees or hears"),
        ({"general.architecture": "clip"}, TENSOR, "sees or hears"),
        ({"general.type": "adapter", "general.architecture": "llama"}, TENSOR, "an adapter"),
        ({"general.type": "imatrix"}, TENSOR, "a quantiser measured"),
        ({"general.architecture": "controlvector"}, TENSOR, "a control vector"),
        (
            {"general.architecture": "llama", "tokenizer.ggml.model": "llama"},
            [],
            "a vocabulary alone",
        ),
        ({"general.architecture": "llama"}, [], "no tensor"),
    ],
)
def test_files_that_hold_no_model_say_what_they_hold(tmp_path, metadata, tensors, words):
    rows = [(key, STRING, gguf_string(value)) for key, value in metadata.items()]
    (tmp_path / "m.gguf").write_bytes(gguf_bytes(rows, tensors, b"\0" * 32))
    with pytest.raises(Refused, match=f"S544.*holds .*{words}"):
        gguf.convert(tmp_path / "m.gguf")


@pytest.mark.parametrize(
    ("name", "count"),
    [("m.gguf", 1), ("m-00001-of-00001.gguf", 1), ("m-00002-of-00004.gguf", 4), ("m\n.gguf", 1)],
)
def test_a_name_says_how_many_parts_there_are(tmp_path, name, count):
    paths = part_paths(tmp_path / name)
    assert len(paths) == count
    assert tmp_path / name in paths


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, whole, monkeypatch):
    build = gguf.build

    def change(*arguments):
        notes = build(*arguments)
        os.utime(whole, ns=(1, 1))
        return notes

    monkeypatch.setattr(gguf, "build", change)
    with pytest.raises(Refused, match=r"S513.*changed while it was read"):
        gguf.convert(whole)


def spoil_notes(folder: Path) -> None:
    record = folder / conversions.RECORD
    record.write_text(record.read_text().replace('"notes": [', '"notes": 5, "n": ['))


def spoil_sha(folder: Path) -> None:
    record = folder / conversions.RECORD
    record.write_text(record.read_text().replace(folder.name, "0" * 64))


def make_fifo(folder: Path) -> None:
    (folder / conversions.RECORD).unlink()
    os.mkfifo(folder / conversions.RECORD)


def open_to_all(folder: Path) -> None:
    folder.chmod(0o777)


def open_a_file(folder: Path) -> None:
    (folder / "model.safetensors").chmod(0o666)


def link_to_an_open_folder(folder: Path) -> None:
    other = folder.with_name("elsewhere")
    folder.rename(other)
    other.chmod(0o777)
    folder.symlink_to(other)


@pytest.mark.parametrize(
    "spoil", [spoil_notes, spoil_sha, make_fifo, open_to_all, open_a_file, link_to_an_open_folder]
)
def test_a_conversion_that_another_could_have_made_is_not_believed(tmp_path, whole, spoil):
    folder = gguf.convert(whole).directory
    (folder / "config.json").write_text("{}")
    assert conversions.recorded(folder) is not None
    spoil(folder)
    assert conversions.recorded(folder) is None
    again = gguf.convert(whole)
    assert (again.directory / "config.json").read_text() != "{}"
    assert conversions.recorded(again.directory) == again.notes


def test_a_conversion_of_another_user_is_not_believed(tmp_path, whole, monkeypatch):
    folder = gguf.convert(whole).directory
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert (conversions.recorded(folder) is None) == (folder.stat().st_uid != 0)


def test_a_cache_that_others_can_write_is_refused(tmp_path, whole):
    (tmp_path / "cache").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other").chmod(0o777)
    (tmp_path / "cache" / "gguf").symlink_to(tmp_path / "other")
    with pytest.raises(Refused, match=r"S575.*can be written by others"):
        gguf.convert(whole)


def test_a_conversion_without_room_is_refused_before_it_begins(tmp_path, whole, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(Refused, match=r"S575.*bytes of the cache or more, and 1,000 are free"):
        gguf.convert(whole)
    assert list((tmp_path / "cache" / "gguf").iterdir()) == []


def test_an_own_cache_is_closed_to_others(tmp_path, whole):
    (tmp_path / "cache" / "gguf").mkdir(parents=True)
    (tmp_path / "cache" / "gguf").chmod(0o775)
    gguf.convert(whole)
    assert (tmp_path / "cache" / "gguf").stat().st_mode & 0o022 == 0


def test_a_model_with_a_mistake_in_one_part_is_another(tmp_path, whole):
    parts = split(whole, tmp_path)
    before = gguf.convert(parts[0])
    with parts[1].open("r+b") as stream:
        stream.seek(-2, os.SEEK_END)
        stream.write(b"\x11\x22")
    assert gguf.convert(parts[0]).sha256 != before.sha256


def test_axes_of_nothing_are_refused(tmp_path):
    path = tmp_path / "m.gguf"
    row = [("general.architecture", STRING, gguf_string("llama"))]
    path.write_bytes(gguf_bytes(row, [("t", [0, 2**63], 0, 0)], b"\0" * 32))
    with pytest.raises(Refused, match=r"S572.*has an axis of 0 elements"):
        gguf.convert(path)
