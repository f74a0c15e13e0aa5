# SPDX-License-Identifier: Apache-2.0
"""Write the tokenizer in a .gguf file as Hugging Face's files, as transformers reads it.

A rule for splitting text that transformers does not know is named in the notes. Weights and config are elsewhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dsl.diagnostics import Refused
from dsl.regular_file import read_regular
from porting.checkpoint.gguf_header import GgufHeader
from porting.files.strict_json import shown
from porting.original.reference import gguf_reader, refusing

TOKENS = "tokenizer.ggml.tokens"
MAX_SETTINGS = 2**24
SPLITTING = "tokenizer.ggml.pre"

# Splitting rules that transformers takes for GPT-2's: rightly, and but for digits, which stand alone.
SPLITS_LIKE_GPT2 = frozenset({"default", "gpt-2", "gpt2"})
DIGITS_APART = frozenset({"smollm"})


def write_tokenizer(
    transformers: Any, header: GgufHeader, folder: Path, name: str, target: Path
) -> tuple[str, ...]:
    """Write the tokenizer of the file of this name in a folder; returns notes about it."""
    if TOKENS not in header.metadata:
        return ("the file has no tokenizer",)
    try:
        with refusing("S573", "read the tokenizer"):
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, gguf_file=name, local_files_only=True, trust_remote_code=False
            )
            notes = _set_splitting(tokenizer, header)
            tokenizer.save_pretrained(target)
    except Refused as refused:
        return (f"without tokenizer: {refused.diagnostics[0].message}",)
    path = target / "tokenizer_config.json"
    values = json.loads(read_regular(path, MAX_SETTINGS))
    for key in ("is_local", "local_files_only"):
        values.pop(key, None)
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return notes


def _set_splitting(tokenizer: Any, header: GgufHeader) -> tuple[str, ...]:
    """Split text as the vocabulary's merges were learned, or note that the rule is not known."""
    from tokenizers import pre_tokenizers  # noqa: PLC0415 - transformers brings it

    rule = header.metadata.get(SPLITTING, "default")
    _, _, known = gguf_reader()
    is_bytes = header.metadata.get("tokenizer.ggml.model") == "gpt2"
    if not is_bytes or rule in SPLITS_LIKE_GPT2 or rule in known:
        return ()
    if rule not in DIGITS_APART:
        return (f"text is split as by GPT-2: the rule {shown(rule)} is not known",)
    digits = pre_tokenizers.Digits(individual_digits=True)
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pieces])
    return ()
