# SPDX-License-Identifier: Apache-2.0
"""Read JSON from untrusted files: no duplicate keys, no huge integers, NaN and infinity where asked for, no surprise.

Knows nothing of models: callers say which file it is, which code to refuse with, and check what the data means.
"""

from __future__ import annotations

import json
import math
import re

from dsl.diagnostics import refuse

MAX_INTEGER_DIGITS = 19
MAX_SHOWN = 80

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]", re.ASCII)


def parse_object(
    data: bytes,
    *,
    name: str,
    code: str,
    digits: int = MAX_INTEGER_DIGITS,
    constants: bool = False,
) -> dict[str, object]:
    """Return the JSON object in a file's bytes, or refuse with the code and the file's name.

    With `constants`, NaN and Infinity are floats, as Python writes and reads them.
    """
    text = decode(data, name=name, code=code)
    value = _parse(text, name=name, code=code, digits=digits, constants=constants)
    if not isinstance(value, dict):
        raise refuse(code, f"{name} holds {kind(value)}, not a JSON object", place=name)
    return value


def decode(data: bytes, *, name: str, code: str) -> str:
    """Return a file's bytes as UTF-8 text, or refuse."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"{name} is not UTF-8 text: byte {error.start} is 0x{data[error.start]:02x}"
        raise refuse(code, message, place=name) from error


def shown(value: object, limit: int = MAX_SHOWN) -> str:
    """Return a value from a file as short printable text, fit for a message."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = text[: limit + 1]
    if not text.isprintable():
        text = text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= limit else f"{text[:limit]}…"


def kind(value: object) -> str:
    """Return what sort of JSON value this is, in words."""
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    names |= {list: "a list", dict: "an object", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _parse(text: str, *, name: str, code: str, digits: int, constants: bool) -> object:
    try:
        value: object = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=float if constants else _constant,
            parse_float=_finite,
            parse_int=lambda text: _small(text, digits),
        )
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        where = f"{name}:{error.lineno}:{error.colno}"
        raise refuse(code, f"{name} is not JSON: {error.msg}", place=where) from error
    except _Unacceptable as error:
        raise refuse(code, f"{name}: {error}", place=name) from error
    except UnicodeEncodeError as error:
        raise refuse(
            code, f"{name} has half of a surrogate pair in a string", place=name
        ) from error
    except RecursionError as error:
        raise refuse(code, f"{name} is nested too deeply to read", place=name) from error
    return value


class _Unacceptable(Exception):
    """What JSON allows, or Python reads, and we do not accept."""


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise _Unacceptable(f"the key `{shown(key)}` stands twice in one object")
        seen.add(key)
    return members


def _constant(word: str) -> object:
    raise _Unacceptable(f"{word} is not a JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _Unacceptable(f"the number {shown(digits, 30)} is too large for a float")
    return value


def _small(text: str, digits: int) -> int:
    if len(text.lstrip("-")) > digits:
        raise _Unacceptable(f"the integer {shown(text, 30)} has more than {digits} digits")
    return int(text)
