# SPDX-License-Identifier: Apache-2.0
"""Measurements of transformers, eager, with the same weights: `python -m benchmarks.eager NAME [ARGUMENT …]`."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks.process import PREFILL, PROMPT, STEPS, Result, each, peak_bytes, report, tokens


def model(directory: str, dtype: str) -> Any:
    """Return the same weights in transformers, eager."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=getattr(torch, dtype), attn_implementation="eager", local_files_only=True
    )
    loaded.eval()
    return loaded


def decode(directory: str) -> Result:
    """Decode token by token with transformers in bfloat16."""
    loaded, ids = model(directory, "bfloat16"), torch.tensor(tokens(PROMPT + STEPS + 4))[None]
    with torch.no_grad():
        cache = loaded(input_ids=ids[:, :PROMPT], use_cache=True).past_key_values

        def step(i: int) -> None:
            loaded(input_ids=ids[:, i : i + 1], past_key_values=cache, use_cache=True)

        times = each(step, PROMPT, STEPS)
    return {"seconds": float(np.median(times)), "peak_rss": peak_bytes()}


def prefill(directory: str, dtype: str) -> Result:
    """Run a prompt in one forward pass with transformers, with all logits."""
    loaded, ids = model(directory, dtype), torch.tensor(tokens(PREFILL))[None]
    with torch.no_grad():
        loaded(input_ids=ids, use_cache=True)
        times = each(lambda _: loaded(input_ids=ids, use_cache=True), 0, 3)
    return {"seconds": float(np.median(times))}


if __name__ == "__main__":
    report(decode, prefill)
