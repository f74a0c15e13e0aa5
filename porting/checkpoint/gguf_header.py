# SPDX-License-Identifier: Apache-2.0
"""Walk the header of a GGUF file, checking every count and length against the bytes that remain.

Only a file that passes is handed to other readers. Tensor data is not read, long arrays are stepped over.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from dsl.diagnostics import Refused, refuse
from porting.files.files import ModelFile, reading
from porting.files.strict_json import shown

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_KEYS = 4_096
MAX_TENSORS = 262_144
MAX_ARRAY = 4_194_304
MAX_KEPT_ARRAY = 4_096
MAX_NAME = 512
MAX_STRING = 16 * 2**20
MAX_RANK = 4
MAX_ALIGNMENT = 65_536
DEFAULT_ALIGNMENT = 32

STRING, ARRAY = 8, 9
SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}

# Tensor types by number: name, elements a block, bytes a block. A test compares them with the gguf package.
TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}


@dataclass(frozen=True, slots=True)
class GgufArray:
    """An array in the metadata; `values` is None where it holds strings, arrays, or is long."""

    item_type: int
    count: int
    values: tuple[int | float | bool, ...] | None = None


GgufValue = int | float | bool | str | GgufArray


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor's place in the file, or in which part of a split one; the fastest axis is last, as in numpy."""

    name: str
    type: int
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    part: int = 0

    @property
    def type_name(self) -> str:
        """The name of the storage type."""
        return TYPES[self.type][0]


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """All that a GGUF file says before its data; `types` are the numbers of the values' types."""

    version: int
    metadata: Mapping[str, GgufValue]
    types: Mapping[str, int]
    tensors: tuple[GgufTensor, ...]

    @property
    def architecture(self) -> str:
        """The architecture by llama.cpp's name, or nothing."""
        name = self.metadata.get("general.architecture", "")
        return name if isinstance(name, str) else ""


def read_gguf_header(file: ModelFile) -> GgufHeader:
    """Read and check the header of a GGUF file."""
    with file.open() as stream:
        return read_opened(file.name, stream)


def read_opened(name: str, stream: BinaryIO) -> GgufHeader:
    """Read and check the header of a GGUF file that is open; nothing else of it is touched."""
    size = os.fstat(stream.fileno()).st_size
    if size < len(MAGIC):
        raise refuse("S576", f"{name} has {size} bytes: not a GGUF file", place=name)
    with reading(name):
        data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    with data:
        return _Walker(name, data).header()


def check_sizes(header: GgufHeader, name: str) -> None:
    """Refuse a header whose counts do not fit its tensors, before anything is built from them."""
    architecture = header.architecture
    if not architecture:
        raise refuse("S573", f"{name} does not say its architecture", place=name)
    for key in ("block_count", "expert_count", "attention.head_count", "attention.head_count_kv"):
        value = header.metadata.get(f"{architecture}.{key}", 0)
        limit = len(header.tensors) if key == "block_count" else 2**16
        if isinstance(value, int) and not 0 <= value <= limit:
            message = (
                f"{name}: `{architecture}.{key}` is {value:,}; at most {limit:,} fits the file"
            )
            raise refuse("S573", message, place=name)


@dataclass(slots=True)
class _Walker:
    name: str
    data: mmap.mmap
    at: int = 0
    where: str = "the header"
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = len(self.data)

    def header(self) -> GgufHeader:
        if self.data[: len(MAGIC)] != MAGIC:
            raise refuse("S576", f"{self.name} does not begin with GGUF", place=self.name)
        self.at = len(MAGIC)
        version = self.number("I")
        if version not in VERSIONS:
            message = f"{self.name} has GGUF version {version}; versions 2 and 3 are read"
            raise refuse("S576", message, place=self.name)
        tensor_count = self.count("tensors", MAX_TENSORS, 24)
        key_count = self.count("keys", MAX_KEYS, 13)
        metadata, types = self.keys(key_count)
        tensors = self.tensors(tensor_count, self.alignment(metadata))
        return GgufHeader(int(version), metadata, types, tensors)

    def keys(self, count: int) -> tuple[dict[str, GgufValue], dict[str, int]]:
        metadata: dict[str, GgufValue] = {}
        types: dict[str, int] = {}
        for number in range(count):
            self.where = f"key {number}"
            key = self.string(MAX_NAME)
            self.where = f"key `{shown(key)}`"
            if key in metadata:
                raise self.malformed("stands twice")
            types[key] = int(self.number("I"))
            metadata[key] = self.value(types[key])
        return metadata, types

    def value(self, value_type: int) -> GgufValue:
        if value_type in SCALARS:
            return self.number(SCALARS[value_type])
        if value_type == STRING:
            return self.string(MAX_STRING)
        if value_type == ARRAY:
            return self.array()
        raise self.malformed(f"has the unknown type {value_type}")

    def array(self) -> GgufArray:
        item_type = int(self.number("I"))
        if item_type == STRING:
            count = self.count("strings", MAX_ARRAY, 8)
            for _ in range(count):
                self.skip(int(self.number("Q")))
            return GgufArray(item_type, count)
        if item_type not in SCALARS:
            raise self.malformed(f"is an array of type {item_type}, which is not read")
        width = struct.calcsize(SCALARS[item_type])
        count = self.count("items", MAX_ARRAY, width)
        if count > MAX_KEPT_ARRAY:
            self.skip(count * width)
            return GgufArray(item_type, count)
        values = struct.unpack_from(f"<{count}{SCALARS[item_type]}", self.data, self.at)
        self.skip(count * width)
        return GgufArray(item_type, count, values)

    def alignment(self, metadata: Mapping[str, GgufValue]) -> int:
        value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        self.where = "key `general.alignment`"
        if type(value) is not int or not 8 <= value <= MAX_ALIGNMENT or value & (value - 1):
            raise self.malformed(
                f"is {shown(value)}, not a power of two from 8 to {MAX_ALIGNMENT:,}"
            )
        return value

    def tensors(self, count: int, alignment: int) -> tuple[GgufTensor, ...]:
        entries = [self.entry(number, alignment) for number in range(count)]
        names = {entry.name for entry in entries}
        self.where = "the table of tensors"
        if len(names) != len(entries):
            raise self.malformed("has a name twice")
        start = -(-self.at // alignment) * alignment
        end = start
        placed = []
        for entry in sorted(entries, key=lambda x: (x.offset, x.nbytes)):
            self.where = f"tensor `{shown(entry.name)}`"
            offset = start + entry.offset
            if offset < end:
                raise self.malformed("overlaps the tensor before it", "S577")
            end = offset + entry.nbytes
            if end > self.size:
                fact = f"ends at byte {end:,}, but the file has {self.size:,}"
                raise self.malformed(fact, "S577")
            placed.append(GgufTensor(entry.name, entry.type, entry.shape, offset, entry.nbytes))
        return tuple(placed)

    def entry(self, number: int, alignment: int) -> GgufTensor:
        self.where = f"tensor {number}"
        name = self.string(MAX_NAME)
        self.where = f"tensor `{shown(name)}`"
        rank = int(self.number("I"))
        if rank > MAX_RANK:
            raise self.malformed(f"has {rank:,} axes; at most {MAX_RANK} are read")
        shape = tuple(int(self.number("Q")) for _ in range(rank))[::-1]
        tensor_type, offset = int(self.number("I")), int(self.number("Q"))
        if tensor_type not in TYPES:
            raise self.malformed(f"has the unknown type {tensor_type}")
        _, per_block, block_bytes = TYPES[tensor_type]
        if 0 in shape:
            raise self.malformed("has an axis of 0 elements")
        if not shape or shape[-1] % per_block:
            raise self.malformed(f"has a row that is no multiple of {per_block} elements")
        if offset % alignment:
            raise self.malformed(f"begins at {offset:,}, which is no multiple of {alignment}")
        return GgufTensor(
            name, tensor_type, shape, offset, math.prod(shape) // per_block * block_bytes
        )

    def number(self, code: str) -> int | float | bool:
        layout = f"<{code}"
        self.need(struct.calcsize(layout))
        value: int | float | bool = struct.unpack_from(layout, self.data, self.at)[0]
        self.at += struct.calcsize(layout)
        return value

    def string(self, limit: int) -> str:
        length = int(self.number("Q"))
        self.need(length)
        if length > limit:
            raise self.malformed(f"has a string of {length:,} bytes; at most {limit:,} are read")
        raw = self.data[self.at : self.at + length]
        self.at += length
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.malformed("has a string that is not UTF-8") from error

    def count(self, what: str, limit: int, least: int) -> int:
        """Read a count of things that take at least so many bytes each."""
        value = int(self.number("Q"))
        self.need(value * least)
        if value > limit:
            raise self.malformed(f"has {value:,} {what}; at most {limit:,} are read")
        return value

    def skip(self, length: int) -> None:
        self.need(length)
        self.at += length

    def need(self, length: int) -> None:
        left = self.size - self.at
        if length > left:
            raise self.malformed(f"needs {length:,} more bytes, but {left:,} remain", "S577")

    def malformed(self, fact: str, code: str = "S572") -> Refused:
        return refuse(code, f"{self.name}: {self.where} {fact}", place=self.name)
