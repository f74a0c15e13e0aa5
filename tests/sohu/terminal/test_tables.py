# SPDX-License-Identifier: Apache-2.0
"""Tables whose bytes are no text, or whose columns the other format has no room for."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dsl.diagnostics import Refused
from sohu.terminal import tables


def _text(content: bytes, offsets: list[int]) -> pa.Array:
    """Return a column of text that nobody checked."""
    places = pa.array(offsets, pa.int32()).buffers()[1]
    return pa.Array.from_buffers(
        pa.string(), len(offsets) - 1, [None, places, pa.py_buffer(content)]
    )


def test_text_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"m": pa.array([1, 2]), "s": _text(b"a\xff", [0, 1, 2])}), path)
    with pytest.raises(Refused, match=r"S610.*Invalid UTF8"):
        tables.read_table(path)


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"m,\xff\n1,2\n")
    with pytest.raises(Refused, match="S610"):
        tables.write_table(tables.read_table(path), tmp_path / "o.csv")


@pytest.mark.parametrize("cell", [[1], {"a": 1}, b"\xff"])
def test_what_a_format_has_no_room_for_is_refused(tmp_path: Path, cell: object) -> None:
    path, out = tmp_path / "t.parquet", tmp_path / "o.csv"
    pq.write_table(pa.table({"m": [1], "x": [cell]}), path)
    with pytest.raises(Refused, match=r"S610: a column cannot be written as \.csv"):
        tables.write_table(tables.read_table(path), out)
    assert not out.exists()
