# SPDX-License-Identifier: Apache-2.0
"""Files of tokens: what is no array is refused in our words, and nobody is told to trust it."""

import numpy as np
import pytest

from dsl.diagnostics import Refused
from sohu.api.tokens import read_tokens


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\x93NUM", b"PK\x03\x04archive", b"\x93NUMPY\x01\x00\xff\xff"]
)
def test_what_is_no_array_is_refused(tmp_path, content):
    path = tmp_path / "t.npy"
    path.write_bytes(content)
    with pytest.raises(Refused) as refused:
        read_tokens(path)
    (diagnostic,) = refused.value.diagnostics
    assert diagnostic.code == "S532"
    assert "pickle" not in diagnostic.message


SHAPES = ("(-1,)", "(10**9,)", f"({10**30},)", "('a',)", "(1" + "0" * 5000 + ",)")
HEADERS = ("{'descr': '<i8',", "(((", "'''", "{1: 2}", "[" * 3000)


@pytest.mark.parametrize(
    "header",
    [*HEADERS, *(f"{{'descr': '<i8', 'fortran_order': False, 'shape': {x}}}" for x in SHAPES)],
    ids=range(len(HEADERS) + len(SHAPES)),
)
def test_a_header_that_is_none_is_refused(tmp_path, header):
    path = tmp_path / "t.npy"
    text = header.encode() + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(8))
    with pytest.raises(Refused) as refused:
        read_tokens(path)
    assert refused.value.diagnostics[0].code == "S532"


def test_an_array_comes_back(tmp_path):
    np.save(tmp_path / "t.npy", np.array([[1, 2]]))
    assert read_tokens(tmp_path / "t.npy").tolist() == [[1, 2]]
