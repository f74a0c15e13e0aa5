"""Token ids as an array [B, S]: from a caller or a .npy file, within a vocabulary. Text is elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from tokenize import TokenError

import numpy as np
import numpy.typing as npt

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
            start = stream.read(len(MAGIC))
        if start != MAGIC:
            # numpy would take anything else for a pickle, and advise to trust it.
            raise refuse(code, "no .npy array: it does not begin as one", place=str(path))
        array: npt.NDArray[np.generic] = np.load(path, allow_pickle=False, mmap_mode="r")
    except UNREADABLE as error:
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise refuse(code, f"no .npy array: {reason}", place=str(path)) from error
    return array


def checked_tokens(tokens: npt.ArrayLike, limit: int, place: str) -> Tokens:
    """Return tokens as int64 [B, S]; raises `Refused` for other shapes, and for ids outside of [0, limit)."""
    array = token_array(tokens, ("BS",), place)
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= limit:
        wrong = low if low < 0 else high
        message = f"token {wrong} is not between 0 and {limit - 1}"
        raise refuse("S532", message, place=place)
    return array
