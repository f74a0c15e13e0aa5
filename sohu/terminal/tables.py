"""Tables of shapes and times as files: Parquet or CSV in, the same out.

Reads whole tables into arrays, with bounds on their size. Meaning is the commands' business.
"""

from __future__ import annotations

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
from porting.files.atomic import replace_file

MAX_BYTES = 1 << 30
MAX_ROWS = 20_000_000
MAX_COLUMNS = 256
SUFFIXES = (".parquet", ".csv")


def read_table(path: Path) -> pa.Table:
    """Return a table from a file; raises `Refused` where it is none, or too large."""
    check_suffix(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise refuse("S610", f"{path} has {size:,} bytes; {MAX_BYTES:,} are possible")
        table = _read(path)
        names = table.column_names
    except OSError as error:
        raise refuse("S610", f"{path} cannot be read: {error}") from None
    except (pa.ArrowException, ValueError) as error:
        raise refuse("S610", f"{path} is no table: {_line(error)}") from None
    if len(set(names)) != len(names):
        raise refuse("S610", f"{path} has two columns of one name")
    return table


def _read(path: Path) -> pa.Table:
    if path.suffix == ".csv":
        return pyarrow.csv.read_csv(path)
    with pyarrow.parquet.ParquetFile(path) as file:
        found = file.metadata
        if found.num_rows > MAX_ROWS or found.num_columns > MAX_COLUMNS:
            shown = f"{found.num_rows:,} rows and {found.num_columns:,} columns"
            limit = f"{MAX_ROWS:,} and {MAX_COLUMNS:,} are possible"
            raise refuse("S610", f"{path} has {shown}; {limit}")
        return file.read()


def columns(table: pa.Table) -> Mapping[str, NDArray[Any]]:
    """Return a table's columns as arrays: numbers as float64 with NaN for nothing, everything else as text."""
    return {name: _array(table[name]) for name in table.column_names}


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), np.float64)
    return np.asarray(["" if v is None else str(v) for v in column.to_pylist()], dtype=np.str_)


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table whole or not at all; raises `Refused` where the file cannot be written."""
    check_suffix(path)
    sink = pa.BufferOutputStream()
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, sink)
    else:
        pyarrow.parquet.write_table(table, sink)
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
