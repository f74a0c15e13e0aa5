# SPDX-License-Identifier: Apache-2.0
"""Open a folder of safetensors files as one checkpoint: checked headers first, tensors mapped when asked for.

Copies no weights, converts no dtypes and knows no model. Pickled weights are refused, never read.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt

from dsl.diagnostics import Refused, refuse
from porting.checkpoint.foreign import check_layout
from porting.checkpoint.index import INDEX, Indexed, few, read_indexed
from porting.checkpoint.safetensors_header import Header, TensorInfo, digest_parts, read_header
from porting.files.files import ModelFile, find_file, list_names, reading
from porting.files.strict_json import shown

SINGLE = "model.safetensors"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PART = re.compile(r"-[0-9]{5}-of-[0-9]{5}\.safetensors$")
PIECE = 8 * 2**20
FIRST_PIECE = 64 * 2**10
"""Bytes that are read at once where values are looked at; little at first, since most that differ do so at once."""
MAX_LOOKED = 16 * 2**30

# Packed 4-bit values are handed out as the bytes that hold them.
NUMPY: dict[str, npt.DTypeLike] = {
    "f32": np.float32,
    "bf16": ml_dtypes.bfloat16,
    "f16": np.float16,
    "f8e4m3": ml_dtypes.float8_e4m3fn,
    "f8e5m2": ml_dtypes.float8_e5m2,
    "e8m0": ml_dtypes.float8_e8m0fnu,
    "f4e2m1": np.uint8,
    "i8": np.int8,
    "u8": np.uint8,
    "i32": np.int32,
    "i64": np.int64,
    "bool": np.bool_,
}


class Extent(Enum):
    """How much of a checkpoint is at hand."""

    VALUES = "values"
    HEADERS = "headers"
    NOTHING = "nothing"


class Allowance:
    """The bytes whose values may still be looked at before anything runs; headers claim what they like."""

    def __init__(self, left: int = MAX_LOOKED) -> None:
        """Allow so many bytes."""
        self.left = left

    def spend(self, info: TensorInfo) -> None:
        """Take a tensor's bytes; raises `Refused` (S535) where they are too many."""
        self.left -= info.nbytes
        if self.left < 0:
            message = f"`{shown(info.name)}` has {info.nbytes:,} bytes: too many to see whether it may be left"
            hint = f"at most {MAX_LOOKED:,} bytes of what no weight needs are compared; take it out of the file"
            raise refuse("S535", message, place=info.file, help=hint)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """The tensors of a model folder; `digest` identifies their headers, not their values.

    Only of an `extent` of `VALUES` are tensors read; where there is nothing, only planning makes do with it.
    `notes` say which files were read where there was a choice.
    """

    directory: Path
    tensors: Mapping[str, TensorInfo]
    files: Mapping[str, ModelFile]
    digest: str
    extent: Extent = Extent.VALUES
    notes: tuple[str, ...] = ()
    _maps: dict[str, mmap.mmap] = field(default_factory=dict, repr=False)
    _allowance: Allowance = field(default_factory=Allowance, repr=False)

    @classmethod
    def open(cls, directory: Path) -> Checkpoint:
        """Read and check the headers of the folder's weights."""
        return cls._of(directory, _headers(directory))

    @classmethod
    def open_file(cls, directory: Path, name: str) -> Checkpoint:
        """Read and check the header of one file of a folder, whatever it is called."""
        file = find_file(directory, name)
        if file is None:
            raise refuse("S520", f"there is no file {shown(name)}")
        return cls._of(directory, Indexed({file.name: _one(read_header(file))}, {}, ()))

    @classmethod
    def _of(cls, directory: Path, indexed: Indexed) -> Checkpoint:
        headers = indexed.headers
        tensors = {tensor.name: tensor for header in headers.values() for tensor in header.tensors}
        digest = hashlib.sha256()
        for part in digest_parts(headers):
            digest.update(part)
        files = {name: header.file for name, header in headers.items()}
        allowance = Allowance()
        notes = (*indexed.notes, *_doubled(files, indexed, allowance))
        known = dict(sorted(tensors.items()))
        return cls(directory, known, files, digest.hexdigest(), notes=notes, _allowance=allowance)

    @classmethod
    def absent(cls, directory: Path) -> Checkpoint:
        """Return what stands for a checkpoint of which nothing is at hand."""
        return cls(directory, {}, {}, "", Extent.NOTHING)

    def read(self, name: str) -> npt.NDArray[np.generic]:
        """Return a tensor as a read-only view of its file; copied only if the file misaligns it."""
        info = self.tensors[name]
        dtype = np.dtype(NUMPY[info.dtype.name])
        shape = info.shape
        if info.dtype.bits < 8:
            shape = (*shape[:-1], shape[-1] * info.dtype.bits // 8)
        if info.nbytes == 0:
            return np.empty(shape, dtype)
        flat = np.frombuffer(
            self._map(info.file), dtype, info.nbytes // dtype.itemsize, info.offset
        )
        if not flat.flags.aligned:
            try:
                flat = flat.copy()
            except MemoryError as error:
                message = f"`{shown(name)}` must be copied, since it is not aligned: {info.nbytes:,} bytes"
                raise refuse("S535", message, place=info.file) from error
            flat.flags.writeable = False
        return flat.reshape(shape)

    def pieces(self, name: str) -> Iterator[npt.NDArray[np.generic]]:
        """Yield a tensor's values, flat, some at a time; no more than one piece is held."""
        info = self.tensors[name]
        self._allowance.spend(info)
        dtype = np.dtype(NUMPY[info.dtype.name])
        for piece in _pieces(self.files[info.file], info):
            yield np.frombuffer(piece, dtype)

    def same_bits(self, one: str, other: str) -> bool:
        """Tell whether two tensors hold the same bytes."""
        return _same_bits(self.files, self.tensors[one], self.tensors[other], self._allowance)

    def _map(self, file: str) -> mmap.mmap:
        if file not in self._maps:
            with self.files[file].open() as stream, reading(file):
                self._maps[file] = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[file]


def _headers(directory: Path) -> Indexed:
    single, index = find_file(directory, SINGLE), find_file(directory, INDEX)
    if single is not None:
        beside = f"{SINGLE} is read, as transformers does; {INDEX} beside it is not"
        notes = () if index is None else (beside,)
        return Indexed({SINGLE: _one(read_header(single))}, {}, notes)
    if index is not None:
        return read_indexed(directory, index)
    raise _no_weights(directory)


def _pieces(file: ModelFile, info: TensorInfo) -> Iterator[bytes]:
    size, done = FIRST_PIECE, 0
    with file.open() as stream:
        stream.seek(info.offset)
        while done < info.nbytes:
            with reading(file.name):
                piece = stream.read(min(size, info.nbytes - done))
            if not piece:
                message = (
                    f"{file.name} ends within `{shown(info.name)}`: it changed while it was read"
                )
                raise refuse("S523", message, place=file.name)
            yield piece
            done, size = done + len(piece), PIECE


def _same_bits(
    files: Mapping[str, ModelFile], one: TensorInfo, other: TensorInfo, allowance: Allowance
) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    pairs = zip(_pieces(files[one.file], one), _pieces(files[other.file], other), strict=False)
    for number, (a, b) in enumerate(pairs):
        if a != b:
            return False
        if number == 0:
            # Those that differ do so at once, and cost nothing.
            allowance.spend(one)
            allowance.spend(other)
    return True


def _doubled(
    files: Mapping[str, ModelFile], indexed: Indexed, allowance: Allowance
) -> Iterator[str]:
    """Yield a note on tensors that several files have, all alike; refuse what depends on the order of reading."""
    for name, infos in indexed.doubled.items():
        first, *others = infos
        if all(_same_bits(files, first, other, allowance) for other in others):
            continue
        places = ", ".join(shown(info.file) for info in infos)
        message = f"`{shown(name)}` is in {places}, and not the same: which is meant depends on the order of reading"
        raise refuse("S534", message, place=INDEX, help="remove all but one of them")
    if indexed.doubled:
        yield f"several files hold the same bits of {few(list(indexed.doubled))}"


def _one(header: Header) -> Header:
    if not header.tensors:
        raise refuse("S520", f"{header.file.name} holds no tensors", place=header.file.name)
    return header


def require_weights(directory: Path) -> None:
    """Refuse a folder without weights that are read, as opening it would, before its config is looked at."""
    if find_file(directory, SINGLE) is None and find_file(directory, INDEX) is None:
        raise _no_weights(directory)


def _no_weights(directory: Path) -> Refused:
    """Return what is wrong with a folder without weights; raises where they are another maker's (S578, S521)."""
    names = list_names(directory)
    check_layout(names)
    others = [name for name in names if name.endswith(".safetensors")]
    message = f"the folder has neither {SINGLE} nor {INDEX}"
    if others:
        message = f"{message}, only {few(others)}"
    return refuse("S520", message, help=_named(others))


def _named(others: Sequence[str]) -> str:
    """Return what to do about a folder that has only these safetensors."""
    parts = [name for name in others if PART.search(name)]
    if parts:
        return f"they are parts of one checkpoint: fetch its {INDEX} as well"
    if len(others) == 1 and others[0] != ADAPTER_WEIGHTS:
        return f"if it holds the whole model, name it {SINGLE}"
    return "MODEL is a folder as written by save_pretrained"
