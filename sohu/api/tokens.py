# SPDX-License-Identifier: Apache-2.0
"""Token ids as an array [B, S]: from a caller or a .npy file, within a vocabulary. Text is elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from dsl.diagnostics import refuse
from dsl.regular_file import open_regular
from porting.text.token_ids import token_array

MAX_BYTES = 2**30
MAGIC = b"\x93NUMPY"

# What numpy raises at a header that is none: it reads it as a literal of Python.
UNREADABLE = (
    OSError, ValueError, EOFError, SyntaxError, TokenError, TypeError, LookupError, ArithmeticError, RecursionError,
    MemoryError,
)  # fmt: skip

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
Tokens = npt.NDArray[np.int64]


def read_tokens(path: Path) -> npt.NDArray[np.generic]:
    """Return the array in a .npy file; raises `Refused` where there is none, or it is too large."""
    return read_array(path, MAX_BYTES, "S532")


def read_array(path: Path, limit: int, code: str) -> npt.NDArray[np.generic]:
    """Return the array in a .npy file of at most so many bytes, mapped; refuses anything else with the code."""
    try:
        with open_regular(path) as stream:
            if os.fstat(stream.fileno()).st_size > limit:
                raise refuse(code, f"more than {limit} bytes", place=str(path))
            if stream.read(len(MAGIC)) != MAGIC:
                raise refuse(code, "no .npy array: it does not begin as one", place=str(path))
            stream.seek(0)
            return _mapped(stream)
    except FileNotFoundError:
        raise refuse(code, "there is no such file", place=str(path)) from None
    except UNREADABLE as error:
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise refuse(code, f"no .npy array: {reason}", place=str(path)) from error


def _mapped(stream: BinaryIO) -> npt.NDArray[np.generic]:
    """Map the array in a .npy file that is open: `np.load` would open the file again, which may be another by then."""
    version = npy.read_magic(stream)
    if version not in HEADERS:
        raise ValueError(f"version {version[0]}.{version[1]} of the format is not read")
    shape, is_fortran, dtype = HEADERS[version](stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    order: Literal["C", "F"] = "F" if is_fortran else "C"
    return np.memmap(stream, dtype, "r", stream.tell(), shape, order)


def checked_tokens(tokens: npt.ArrayLike, limit: int, place: str) -> Tokens:
    """Return tokens as int64 [B, S]; raises `Refused` for other shapes, and for ids outside of [0, limit)."""
    array = token_array(tokens, ("BS",), place)
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= limit:
        wrong = low if low < 0 else high
        message = f"token {wrong} is not between 0 and {limit - 1}"
        raise refuse("S532", message, place=place)
    return array
