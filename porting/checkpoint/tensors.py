"""Open a folder of safetensors files as one checkpoint: checked headers first, tensors mapped when asked for.

Copies no weights, converts no dtypes and knows no model. Pickled weights are refused, never read.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt

from dsl.diagnostics import Diagnostic, Refused, refuse
from porting.checkpoint.safetensors_header import Header, TensorInfo, digest_parts, read_header
from porting.files.files import ModelFile, find_file, is_plain_name, list_names
from porting.files.strict_json import kind, parse_object, shown

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_INDEX_BYTES = 64 * 2**20
MAX_DIAGNOSTICS = 8
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
CONVERT = (
    "pickled weights can run code when read; where you trust them, convert them once: python -c "
    "\"from transformers import AutoModelForCausalLM as M; M.from_pretrained('IN').save_pretrained('OUT')\""
)

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


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """The tensors of a model folder; `digest` identifies their headers, not their values.

    Only of an `extent` of `VALUES` are tensors read; where there is nothing, only planning makes do with it.
    """

    directory: Path
    tensors: Mapping[str, TensorInfo]
    files: Mapping[str, ModelFile]
    digest: str
    extent: Extent = Extent.VALUES
    _maps: dict[str, mmap.mmap] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, directory: Path) -> Checkpoint:
        """Read and check the headers of the folder's weights."""
        headers = _headers(directory)
        tensors = {tensor.name: tensor for header in headers.values() for tensor in header.tensors}
        digest = hashlib.sha256()
        for part in digest_parts(headers):
            digest.update(part)
        files = {name: header.file for name, header in headers.items()}
        return cls(directory, dict(sorted(tensors.items())), files, digest.hexdigest())

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
            flat = flat.copy()
            flat.flags.writeable = False
        return flat.reshape(shape)

    def same_bits(self, one: str, other: str) -> bool:
        """Tell whether two tensors hold the same bytes."""
        first, second = (self.read(name).reshape(-1).view(np.uint8) for name in (one, other))
        return bool(first.data == second.data)

    def _map(self, file: str) -> mmap.mmap:
        if file not in self._maps:
            with self.files[file].open() as stream:
                self._maps[file] = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[file]


def _headers(directory: Path) -> dict[str, Header]:
    single, index = find_file(directory, SINGLE), find_file(directory, INDEX)
    if single is not None and index is not None:
        message = f"the folder has both {SINGLE} and {INDEX}; one checkpoint is expected"
        raise refuse("S520", message, help="remove the one that is not meant")
    if single is not None:
        return {SINGLE: _one(read_header(single))}
    if index is not None:
        return _sharded(directory, index)
    raise _no_weights(directory)


def _one(header: Header) -> Header:
    if not header.tensors:
        raise refuse("S520", f"{header.file.name} holds no tensors", place=header.file.name)
    return header


def _no_weights(directory: Path) -> Refused:
    names = list_names(directory)
    pickles = [name for name in names if name.endswith(PICKLES)]
    if pickles:
        message = f"the folder has no safetensors, only pickled weights: {_few(pickles)}"
        return refuse("S521", message, help=CONVERT)
    others = [name for name in names if name.endswith(".safetensors")]
    message = f"the folder has neither {SINGLE} nor {INDEX}"
    if others:
        message = f"{message}, only {_few(others)}"
    return refuse("S520", message, help="MODEL is a folder as written by save_pretrained")


def _sharded(directory: Path, index: ModelFile) -> dict[str, Header]:
    weight_map = read_weight_map(index)
    headers: dict[str, Header] = {}
    diagnostics: list[Diagnostic] = []
    for shard in sorted(set(weight_map.values())):
        file = find_file(directory, shard)
        if file is None:
            message = f"{INDEX} names {shown(shard)}, which is not in the folder"
            diagnostics.append(
                Diagnostic("S528", message, place=INDEX, help="fetch the missing file")
            )
            continue
        try:
            headers[shard] = read_header(file)
        except Refused as refused:
            diagnostics += refused.diagnostics
    if not diagnostics:
        diagnostics += _disagreements(weight_map, headers)
    if diagnostics:
        raise Refused(diagnostics[:MAX_DIAGNOSTICS])
    return headers


def read_weight_map(index: ModelFile) -> dict[str, str]:
    """Return the shard of every tensor as an index file gives it, all of them plain file names."""
    data = parse_object(index.read(MAX_INDEX_BYTES), name=index.name, code="S527")
    weight_map = data.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        has = kind(weight_map) if "weight_map" in data else "missing"
        message = f"`weight_map` of {index.name} must name a file for each tensor; it is {has}"
        raise refuse(
            "S527", message if weight_map != {} else f"{message} without any", place=index.name
        )
    for tensor, shard in weight_map.items():
        if (
            not isinstance(shard, str)
            or not shard.endswith(".safetensors")
            or not is_plain_name(shard)
        ):
            message = f"`weight_map` puts tensor `{shown(tensor)}` into {shown(shard)!r}"
            hint = "each value is the name of a .safetensors file in the same folder"
            raise refuse("S512", message, place=index.name, help=hint)
    return weight_map


def _disagreements(
    weight_map: Mapping[str, str], headers: Mapping[str, Header]
) -> list[Diagnostic]:
    shards: dict[str, list[str]] = {}
    for shard, header in headers.items():
        for tensor in header.tensors:
            shards.setdefault(tensor.name, []).append(shard)
    twice = [name for name, files in shards.items() if len(files) > 1]
    missing = [name for name in weight_map if name not in shards]
    unlisted = [name for name in shards if name not in weight_map]
    moved = [n for n, files in shards.items() if weight_map.get(n, files[0]) not in files]
    problems = (
        (twice, "more than one file has"),
        (missing, f"{INDEX} lists, but no file has"),
        (unlisted, f"a file has, but {INDEX} does not list"),
        (moved, f"{INDEX} puts into another file"),
    )
    return [
        Diagnostic("S528", f"{words} {_few(names)}", place=INDEX)
        for names, words in problems
        if names
    ]


def _few(names: list[str], limit: int = 3) -> str:
    text = ", ".join(shown(name) for name in names[:limit])
    return text if len(names) <= limit else f"{text} and {len(names) - limit:,} more"
