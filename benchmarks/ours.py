# SPDX-License-Identifier: Apache-2.0
"""Measurements of this project's engine: `python -m benchmarks.ours NAME [ARGUMENT …]`, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.process import PREFILL, PROMPT, STEPS, Result, each, peak_bytes, report, tokens, top
from device_model.engine.engine import Engine
from porting.checkpoint.tensors import Checkpoint
from porting.config.reader import read_config
from porting.origin.resolve import resolve
from porting.planning.plan import plan


def engine(directory: str, numerics: str) -> Engine:
    """Return our engine on a checkpoint."""
    path = Path(directory)
    checkpoint = Checkpoint.open(path)
    planned = plan(resolve(directory), read_config(path), checkpoint)
    return Engine(planned.graph, checkpoint, numerics)


def decode(directory: str) -> Result:
    """Decode token by token in bf16 numerics."""
    run, ids = engine(directory, "bf16").session(), tokens(PROMPT + STEPS + 4)
    run.step([ids[:PROMPT]], logits="last")
    times = each(lambda i: run.step([ids[i : i + 1]], logits="last"), PROMPT, STEPS)
    return {"seconds": float(np.median(times)), "peak_rss": peak_bytes()}


def prefill(directory: str, numerics: str) -> Result:
    """Run a prompt in one step, with all logits."""
    device, ids = engine(directory, numerics), tokens(PREFILL)
    sessions = [device.session() for _ in range(4)]
    times = each(lambda i: sessions[i].step([ids]), 0, len(sessions) - 1)
    (logits,) = device.session().step([ids])
    activation_bytes = sessions[0].activation_bytes
    return {
        "seconds": float(np.median(times)),
        "activation_bytes": activation_bytes,
        "top": top(logits),
    }


def context(directory: str) -> Result:
    """Decode behind contexts of growing length: seconds a token by context."""
    run, seconds = engine(directory, "bf16").session(), {}
    ids = tokens(4200)
    for length in (64, 512, 1024, 2048, 4096):
        while run.lengths[0] < length:
            more = min(512, length - run.lengths[0])
            run.step([ids[:more]], logits="last")
        times = each(lambda i: run.step([ids[i : i + 1]], logits="last"), 0, 12)
        seconds[str(length)] = float(np.median(times))
    kept = run.cache.kept_bytes / run.lengths[0]
    return {"seconds": seconds, "state_bytes_per_token": kept}


if __name__ == "__main__":
    report(decode, prefill, context)
