# SPDX-License-Identifier: Apache-2.0
"""Rows of text: what the user wants judged, and house texts in several scripts, in the model's own tokens.

A folder without a tokenizer has no text; only a prompt of the user's makes that an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dsl.diagnostics import Refused
from dsl.extras import require
from dsl.regular_file import read_shipped
from porting.text.token_ids import token_array
from porting.verdict.rows import Row, Wanted

if TYPE_CHECKING:
    from porting.text.tokenizer import TextCodec

TEXTS = Path(__file__).with_name("texts.txt")
BETWEEN = "%%"
MAX_PROMPT = 4096
TEXT_TOKENS = 96


@dataclass(frozen=True, slots=True, eq=False)
class OwnRows:
    """Rows that a user wants judged beside ours: prompts, and rows of token ids."""

    prompts: tuple[str, ...] = ()
    tokens: tuple[npt.NDArray[np.int64], ...] = ()


def own_rows(prompts: Sequence[str], tokens: Sequence[npt.ArrayLike]) -> OwnRows:
    """Return a user's rows; raises `Refused` for what is no array [S] or [B, S] of whole numbers."""
    rows: list[npt.NDArray[np.int64]] = []
    for given in tokens:
        array = token_array(given, ("S", "BS"))
        rows += list(array.reshape(-1, array.shape[-1]))
    return OwnRows(tuple(prompts), tuple(rows))


def wanted_rows(directory: Path, own: OwnRows) -> Wanted:
    """Return the rows of text and tokens to judge; raises `Refused` where a prompt cannot be encoded."""
    codec = _codec(directory, needed=bool(own.prompts))
    rows = [Row(f"own tokens {n}", tokens) for n, tokens in enumerate(own.tokens, 1)]
    if codec is None:
        return Wanted(tuple(rows))
    encoded = [codec.encode_chat(prompt)[:MAX_PROMPT] for prompt in own.prompts]
    rows += [Row(f"own prompt {n}", np.array(ids, np.int64)) for n, ids in enumerate(encoded, 1)]
    first, *others = read_shipped(TEXTS).split(BETWEEN)
    texts = [codec.encode(first.strip()), *(_as_message(codec, text.strip()) for text in others)]
    return Wanted(tuple(rows), tuple(tuple(ids[:TEXT_TOKENS]) for ids in texts))


def _as_message(codec: TextCodec, text: str) -> list[int]:
    """Return a text under the chat template, special tokens and all; as it is where the template does not take it."""
    try:
        return codec.encode_chat(text)
    except Refused:
        return codec.encode(text)


def _codec(directory: Path, *, needed: bool) -> TextCodec | None:
    from porting.text.tokenizer import load_tokenizer  # noqa: PLC0415 - tokenizers, which only text needs

    require("tokenizers")  # without it text would be left out in silence
    try:
        return load_tokenizer(directory)
    except Refused:
        if needed:
            raise
        return None
