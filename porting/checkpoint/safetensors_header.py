# SPDX-License-Identifier: Apache-2.0
"""Read the header of one safetensors file and check all of it against the file's size.

Stricter than the format's own reader: duplicate keys are refused too. No tensor data is read here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dsl.diagnostics import Diagnostic, Refused, refuse
from dsl.types import DTYPES, DType
from porting.files.files import ModelFile, reading
from porting.files.strict_json import kind, parse_object, shown

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 16 * 2**20
"""Of one file; the format allows 100 MB, which a reader in Python turns into more than a gigabyte."""
MAX_RANK = 8
MAX_TENSOR_NAME = 512
MAX_DIAGNOSTICS = 8
METADATA = "__metadata__"
TENSOR_KEYS = frozenset({"dtype", "shape", "data_offsets"})

# The format's names; those without a counterpart in the language still have a size to check.
DTYPE_NAMES: dict[str, tuple[int, str]] = {
    "BOOL": (8, "bool"),
    "F4": (4, "f4e2m1"),
    "F6_E2M3": (6, ""),
    "F6_E3M2": (6, ""),
    "U8": (8, "u8"),
    "I8": (8, "i8"),
    "F8_E5M2": (8, "f8e5m2"),
    "F8_E4M3": (8, "f8e4m3"),
    "F8_E8M0": (8, "e8m0"),
    "F8_E4M3FNUZ": (8, ""),
    "F8_E5M2FNUZ": (8, ""),
    "I16": (16, ""),
    "U16": (16, ""),
    "F16": (16, "f16"),
    "BF16": (16, "bf16"),
    "I32": (32, "i32"),
    "U32": (32, ""),
    "F32": (32, "f32"),
    "C64": (64, ""),
    "F64": (64, ""),
    "I64": (64, "i64"),
    "U64": (64, ""),
}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a checkpoint: what it is and where its bytes lie, counted from the start of its file."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    file: str
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """The header of one file: its bytes as they stand and its tensors in the order of their data."""

    file: ModelFile
    raw: bytes
    tensors: tuple[TensorInfo, ...]


def read_header(file: ModelFile) -> Header:
    """Read and check the header of one safetensors file."""
    with file.open() as stream, reading(file.name):
        raw = stream.read(header_length(file, stream.read(LENGTH_BYTES)))
    return parse_header(file, raw)


def parse_header(file: ModelFile, raw: bytes) -> Header:
    """Check the header of a file, given as its bytes; the file need not be here."""
    if not raw.startswith(b"{"):
        message = f"the header of {file.name} does not begin with {{"
        raise refuse("S522", message, place=file.name, help="is it a safetensors file?")
    data = parse_object(raw, name=f"header of {file.name}", code="S522")
    _check_metadata(file, data.pop(METADATA, {}))
    start = LENGTH_BYTES + len(raw)
    diagnostics: list[Diagnostic] = []
    tensors: list[TensorInfo] = []
    for name, value in data.items():
        try:
            tensors.append(_tensor(file, start, name, value))
        except Refused as refused:
            diagnostics += refused.diagnostics
    if diagnostics:
        raise Refused(diagnostics[:MAX_DIAGNOSTICS])
    tensors.sort(key=lambda tensor: (tensor.offset, tensor.nbytes))
    _check_coverage(file, start, tensors)
    return Header(file, raw, tuple(tensors))


def header_length(file: ModelFile, first: bytes) -> int:
    """Return the length of a file's header, as its first bytes give it and its size allows."""
    if file.size < LENGTH_BYTES:
        message = f"{file.name} has {file.size} bytes: too few for the length of a header"
        raise refuse("S523", message, place=file.name, help="fetch or copy the file again")
    length = int.from_bytes(first[:LENGTH_BYTES], "little")
    if length > MAX_HEADER_BYTES:
        message = f"{file.name} says its header has {length:,} bytes; at most {MAX_HEADER_BYTES:,} are read"
        raise refuse("S522", message, place=file.name, help="is it a safetensors file?")
    if length > file.size - LENGTH_BYTES:
        expected = LENGTH_BYTES + length
        raise _truncated(file, f"its header alone ends at byte {expected:,}")
    return length


def _truncated(file: ModelFile, fact: str) -> Refused:
    message = f"{file.name} is cut short: it has {file.size:,} bytes, but {fact}"
    return refuse("S523", message, place=file.name, help="fetch or copy the file again")


def _check_metadata(file: ModelFile, metadata: object) -> None:
    if isinstance(metadata, dict) and all(isinstance(text, str) for text in metadata.values()):
        return
    message = f"{METADATA} of {file.name} is not an object of strings"
    raise refuse("S522", message, place=file.name)


def _tensor(file: ModelFile, start: int, name: str, value: object) -> TensorInfo:
    place = f"{file.name}, tensor {shown(name)}"
    if not name or len(name) > MAX_TENSOR_NAME or not name.isprintable():
        message = f"the tensor name `{shown(name)}` is empty, too long or unprintable"
        raise refuse("S522", message, place=file.name)
    if not isinstance(value, dict) or value.keys() != TENSOR_KEYS:
        has = (
            ", ".join(sorted(shown(key, 20) for key in value)[:6])
            if isinstance(value, dict)
            else kind(value)
        )
        message = f"tensor `{shown(name)}` must have dtype, shape and data_offsets; it has {has or 'nothing'}"
        raise refuse("S522", message, place=place)
    bits, dtype = _dtype(name, value["dtype"], place)
    shape = _naturals(value["shape"], f"shape of tensor `{shown(name)}`", place)
    begin, end = _offsets(name, value["data_offsets"], place)
    total_bits = math.prod(shape) * bits
    if total_bits % 8 or total_bits // 8 != end - begin:
        message = (
            f"tensor `{shown(name)}` has {end - begin:,} bytes, but its shape "
            f"{list(shape)} of {value['dtype']} takes {total_bits / 8:,.10g}"
        )
        raise refuse("S525", message, place=place)
    return TensorInfo(name, dtype, shape, file.name, start + begin, end - begin)


def _dtype(name: str, value: object, place: str) -> tuple[int, DType]:
    if not isinstance(value, str) or value not in DTYPE_NAMES:
        message = f"tensor `{shown(name)}` has the unknown dtype {shown(value, 40)}"
        raise refuse("S526", message, place=place, help=_known())
    bits, ours = DTYPE_NAMES[value]
    if not ours:
        message = f"tensor `{shown(name)}` is stored as {value}, which no operation reads"
        raise refuse("S526", message, place=place, help=_known())
    return bits, DTYPES[ours]


def _known() -> str:
    names = ", ".join(name for name, (_, ours) in DTYPE_NAMES.items() if ours)
    return f"a checkpoint may hold {names}"


def _naturals(value: object, what: str, place: str) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > MAX_RANK:
        message = f"the {what} is not a list of at most {MAX_RANK} sizes"
        raise refuse("S522", message, place=place)
    if not all(type(size) is int and 0 <= size < 2**63 for size in value):
        raise refuse("S522", f"the {what} is {shown(value, 40)}, not whole numbers", place=place)
    return tuple(value)


def _offsets(name: str, value: object, place: str) -> tuple[int, int]:
    offsets = _naturals(value, f"data_offsets of tensor `{shown(name)}`", place)
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        message = (
            f"the data_offsets of tensor `{shown(name)}` are {list(offsets)}, not [begin, end]"
        )
        raise refuse("S524", message, place=place)
    return offsets[0], offsets[1]


def _check_coverage(file: ModelFile, start: int, tensors: list[TensorInfo]) -> None:
    expected = start
    for previous, tensor in _pairs(tensors):
        if tensor.offset == expected:
            expected += tensor.nbytes
            continue
        before = f"`{shown(previous.name)}`" if previous else "the header"
        what = "overlaps" if tensor.offset < expected else "leaves a hole after"
        gap = abs(tensor.offset - expected)
        message = f"tensor `{shown(tensor.name)}` {what} {before} by {gap:,} bytes"
        raise refuse("S524", message, place=file.name)
    if file.size < expected:
        raise _truncated(file, f"its tensors end at byte {expected:,}")
    if file.size > expected:
        message = f"{file.name} has {file.size:,} bytes, but its tensors end at byte {expected:,}"
        raise refuse("S524", message, place=file.name)


def _pairs(tensors: list[TensorInfo]) -> Iterator[tuple[TensorInfo | None, TensorInfo]]:
    yield from zip([None, *tensors], tensors, strict=False)


def digest_parts(headers: Mapping[str, Header]) -> Iterator[bytes]:
    """Yield the bytes that identify a checkpoint: each file's name, size and header, sorted by name."""
    for name, header in sorted(headers.items()):
        yield f"{name}\0{header.file.size}\0{len(header.raw)}\0".encode()
        yield header.raw
