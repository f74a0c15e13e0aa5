# SPDX-License-Identifier: Apache-2.0
"""Tables of shapes and times as files: Parquet or CSV in, the same out.

Reads whole tables into arrays, with bounds on their size. Meaning is the commands' business.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from dsl.diagnostics import refuse
from dsl.regular_file import open_regular
from porting.files.atomic import replace_file

MAX_BYTES = 1 << 30
MAX_ROWS = 20_000_000
MAX_COLUMNS = 256
MAX_CELLS = 60_000_000
MAX_TEXT = 1 << 28
SUFFIXES = (".parquet", ".csv")


def read_table(path: Path) -> pa.Table:
    """Return a table from a file; raises `Refused` where it is none, or too large."""
    check_suffix(path)
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > MAX_BYTES:
                raise refuse("S610", f"{path} has {size:,} bytes; {MAX_BYTES:,} are possible")
            table = _read(stream, path)
        table.validate(full=True)  # texts that are none, and places outside of a dictionary
        names = table.column_names
    except OSError as error:
        raise refuse("S610", f"{path} cannot be read: {error}") from None
    except (pa.ArrowException, ValueError) as error:
        raise refuse("S610", f"{path} is no table: {_line(error)}") from None
    if len(set(names)) != len(names):
        raise refuse("S610", f"{path} has two columns of one name")
    return table


def _read(stream: BinaryIO, path: Path) -> pa.Table:
    if path.suffix == ".csv":
        table = pyarrow.csv.read_csv(stream)
        _check_size(path, table.num_rows, table.num_columns, table.nbytes)
        return table
    with pyarrow.parquet.ParquetFile(stream) as file:
        facts, schema = file.metadata, file.schema_arrow
        groups = [facts.row_group(i).total_byte_size for i in range(facts.num_row_groups)]
        _check_size(path, facts.num_rows, facts.num_columns, sum(groups))
    # Words stay a dictionary: a few bytes of a file may stand for gigabytes of text.
    words = [field.name for field in schema if _is_text(field.type)]
    stream.seek(0)
    with pyarrow.parquet.ParquetFile(stream, read_dictionary=words) as file:
        return file.read()


def _check_size(path: Path, rows: int, count: int, nbytes: int) -> None:
    """Refuse a table that is too much for the memory, by what its file says of it before it is unpacked."""
    sizes = (
        ("rows", rows, MAX_ROWS),
        ("columns", count, MAX_COLUMNS),
        ("cells", rows * count, MAX_CELLS),
        ("bytes when unpacked", nbytes, MAX_BYTES),
    )
    for what, size, limit in sizes:
        if size > limit:
            raise refuse("S610", f"{path} has {size:,} {what}; {limit:,} are possible")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def columns(table: pa.Table) -> Mapping[str, NDArray[Any]]:
    """Return a table's columns as arrays: numbers as float64 with NaN for nothing, words as text.

    What is neither has no column; raises `Refused` (S610) where text would take more than `MAX_TEXT` bytes.
    """
    arrays = ((name, _array(name, table[name])) for name in table.column_names)
    return {name: array for name, array in arrays if array is not None}


def _array(name: str, column: pa.ChunkedArray) -> NDArray[Any] | None:
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), np.float64)
    if not pa.types.is_dictionary(kind) and not _is_text(kind):
        return None
    coded = (
        column.combine_chunks()
        if pa.types.is_dictionary(kind)
        else column.dictionary_encode().combine_chunks()
    )
    values = ["" if v is None else str(v) for v in coded.dictionary.to_pylist()] or [""]
    longest = max(map(len, values))
    if (size := 4 * longest * len(coded)) > MAX_TEXT:
        raise refuse(
            "S610", f"column {name} takes {size:,} bytes as text; {MAX_TEXT:,} are possible"
        )
    texts = np.asarray([*values, ""], dtype=np.str_)
    places = np.asarray(coded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False))
    return np.asarray(texts[places], np.str_)


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table whole or not at all; raises `Refused` where the file cannot be written."""
    check_suffix(path)
    sink = pa.BufferOutputStream()
    try:
        if path.suffix == ".csv":
            pyarrow.csv.write_csv(table, sink)
        else:
            pyarrow.parquet.write_table(table, sink)
    except pa.ArrowException as error:
        raise refuse(
            "S610", f"a column cannot be written as {path.suffix}: {_line(error)}"
        ) from None
    try:
        content = sink.getvalue().to_pybytes()
        replace_file(path, partial(_save, content))
    except OSError as error:
        raise refuse("S610", f"{path} cannot be written: {error}") from None


def with_columns(table: pa.Table, found: Mapping[str, NDArray[np.float64]]) -> pa.Table:
    """Return a table with these columns behind its own, or in their place."""
    for name, values in found.items():
        column = pa.array(values, pa.float64(), from_pandas=False)
        at = table.column_names.index(name) if name in table.column_names else -1
        table = table.append_column(name, column) if at < 0 else table.set_column(at, name, column)
    return table


def table_of(columns: Mapping[str, NDArray[Any]]) -> pa.Table:
    """Return arrays as a table: counts as integers, words as a dictionary."""
    return pa.table({name: _column(values) for name, values in columns.items()})


def _column(values: NDArray[Any]) -> pa.Array:
    if values.dtype.kind == "U":
        return pa.array(values).dictionary_encode()
    if values.dtype.kind in "iu":
        return pa.array(values, pa.int64())
    return pa.array(values)


def _save(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def check_suffix(path: Path) -> None:
    """Raise `Refused` where a file's name is not that of a table."""
    if path.suffix not in SUFFIXES:
        raise refuse("S610", f"{path} is neither .parquet nor .csv")


def _line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
