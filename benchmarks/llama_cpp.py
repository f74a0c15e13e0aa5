# SPDX-License-Identifier: Apache-2.0
"""Measurements of llama.cpp on a 4-bit file, with the peers' Python: `-m benchmarks.llama_cpp NAME FILE`."""

from __future__ import annotations

import os
from importlib.metadata import version

import numpy as np
from llama_cpp import Llama

from benchmarks.process import PREFILL, Result, peer_decode, peer_prefill, report


def versions() -> Result:
    """Name what was measured."""
    return {"llama-cpp-python": version("llama-cpp-python")}


class Packed:
    """A .gguf file and one sequence."""

    def __init__(self, path: str, *, all_logits: bool) -> None:
        threads = len(os.sched_getaffinity(0))
        self._model = Llama(
            path, n_ctx=2 * PREFILL, n_batch=PREFILL, n_ubatch=PREFILL, n_threads=threads,
            n_threads_batch=threads, logits_all=all_logits, verbose=False,
        )  # fmt: skip

    def restart(self) -> None:
        """Forget the sequence."""
        self._model.reset()

    def step(self, ids: np.ndarray) -> np.ndarray:
        """Take the next tokens and return their logits, which only prefill asks for."""
        self._model.eval(ids.tolist())
        scores: np.ndarray = self._model.scores
        return scores[: self._model.n_tokens]


def decode(path: str) -> Result:
    """Decode token by token."""
    return peer_decode(Packed(path, all_logits=False))


def prefill(path: str) -> Result:
    """Run a prompt in one step, with all logits."""
    return peer_prefill(Packed(path, all_logits=True))


if __name__ == "__main__":
    report(versions, decode, prefill)
