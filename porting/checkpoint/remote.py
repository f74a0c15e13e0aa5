# SPDX-License-Identifier: Apache-2.0
"""Know a checkpoint by its headers alone, where its files are elsewhere and parts of them can be fetched.

Every header is checked against the size of its file, as of a file that is here. How bytes are fetched is not known
here, and no weights are asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dsl.diagnostics import refuse
from porting.checkpoint.safetensors_header import (
    LENGTH_BYTES,
    Header,
    digest_parts,
    header_length,
    parse_header,
)
from porting.checkpoint.tensors import Checkpoint, Extent
from porting.files.files import ModelFile
from porting.files.progress import Progress
from porting.files.strict_json import shown

Fetch = Callable[[str, int, int], tuple[bytes, int]]
"""Gives the bytes of a file from one place up to another, and the size of the whole file."""
FIRST = 100_000
"""Bytes that are asked for at first: most headers are shorter."""
AT_ONCE = 8
STAGE = "fetch headers"


def open_remote(
    directory: Path, names: Iterable[str], fetch: Fetch, progress: Progress
) -> Checkpoint:
    """Return the checkpoint of files that are elsewhere; `directory` holds what lies beside them."""
    wanted = sorted(set(names))
    headers: dict[str, Header] = {}
    progress(STAGE, 0, len(wanted))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for header in pool.map(lambda name: _header(name, fetch), wanted):
            headers[header.file.name] = header
            progress(STAGE, len(headers), len(wanted))
    _check_once(headers)
    tensors = {tensor.name: tensor for header in headers.values() for tensor in header.tensors}
    digest = hashlib.sha256()
    for part in digest_parts(headers):
        digest.update(part)
    files = {name: header.file for name, header in headers.items()}
    known = dict(sorted(tensors.items()))
    return Checkpoint(directory, known, files, digest.hexdigest(), Extent.HEADERS)


def _header(name: str, fetch: Fetch) -> Header:
    data, size = fetch(name, 0, FIRST)
    file = ModelFile(name, Path(name), size)
    end = LENGTH_BYTES + header_length(file, data)
    if end > len(data):
        more, _ = fetch(name, len(data), end)
        data += more
    return parse_header(file, data[LENGTH_BYTES:end])


def _check_once(headers: Mapping[str, Header]) -> None:
    """Refuse two files that have one tensor."""
    first: dict[str, str] = {}
    for file, header in headers.items():
        for tensor in header.tensors:
            other = first.setdefault(tensor.name, file)
            if other != file:
                message = f"`{shown(tensor.name)}` is in {other} and in {file}"
                raise refuse("S528", message, place=file)
