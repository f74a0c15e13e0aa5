# SPDX-License-Identifier: Apache-2.0
"""Read the files of a checkpoint's index, and settle where index and files disagree as transformers does.

Of an index transformers takes the files' names alone, and of the files all that they hold. Values are not read here:
whether a tensor that two files hold is one tensor is for `tensors` to see.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dsl.diagnostics import Diagnostic, Refused, refuse
from porting.checkpoint.safetensors_header import Header, TensorInfo, read_header
from porting.files.files import ModelFile, find_file, is_plain_name
from porting.files.strict_json import kind, parse_object, shown

INDEX = "model.safetensors.index.json"
MAX_INDEX_BYTES = 64 * 2**20
MAX_HEADERS_BYTES = 64 * 2**20
"""What the headers of all files may take: some 500,000 tensors, five times those of DeepSeek-V3 in blocks of FP8."""
MAX_DIAGNOSTICS = 8


@dataclass(frozen=True, slots=True)
class Indexed:
    """The headers of an index's files, and where they and the index disagree without consequence.

    `doubled` holds the tensors that several files have, each in the order in which transformers reads the files.
    """

    headers: Mapping[str, Header]
    doubled: Mapping[str, tuple[TensorInfo, ...]]
    notes: tuple[str, ...]


def read_indexed(directory: Path, index: ModelFile) -> Indexed:
    """Read the headers of every file that an index names; raises `Refused` where one is missing or wrong."""
    weight_map = read_weight_map(index)
    headers: dict[str, Header] = {}
    diagnostics: list[Diagnostic] = []
    total = 0
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
            continue
        total += len(headers[shard].raw)
        if total > MAX_HEADERS_BYTES:
            message = f"the headers of the files take more than {MAX_HEADERS_BYTES:,} bytes"
            raise refuse("S522", message, place=INDEX)
    if diagnostics:
        raise Refused(diagnostics[:MAX_DIAGNOSTICS])
    places: dict[str, list[TensorInfo]] = {}
    for header in headers.values():
        for tensor in header.tensors:
            places.setdefault(tensor.name, []).append(tensor)
    doubled = {name: tuple(infos) for name, infos in places.items() if len(infos) > 1}
    return Indexed(headers, doubled, tuple(_disagreements(weight_map, places)))


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
    weight_map: Mapping[str, str], places: Mapping[str, list[TensorInfo]]
) -> Iterator[str]:
    gone = [name for name in weight_map if name not in places]
    unlisted = [name for name in places if name not in weight_map]
    moved = [
        name
        for name, infos in places.items()
        if name in weight_map and weight_map[name] not in {info.file for info in infos}
    ]
    facts = (
        (gone, "no file has, as if it did not name them"),
        (unlisted, "it does not name are read all the same"),
        (moved, "it puts into another file are read where they are"),
    )
    for names, words in facts:
        if names:
            yield f"{INDEX} is not exact: tensors that {words}: {few(names)}"


def few(names: list[str], limit: int = 3) -> str:
    """Return the first of some names, and how many more there are."""
    text = ", ".join(shown(name) for name in names[:limit])
    return text if len(names) <= limit else f"{text} and {len(names) - limit:,} more"
