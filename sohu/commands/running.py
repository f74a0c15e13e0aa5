# SPDX-License-Identifier: Apache-2.0
"""`sohu run`: tokens in a file, logits in a file."""

from __future__ import annotations

import argparse

import numpy as np

from dsl.diagnostics import refuse
from porting.files.atomic import replace_file
from porting.files.progress import Progress
from sohu.api.model import load
from sohu.api.tokens import checked_tokens, read_tokens
from sohu.commands.on_nodes import placed


def run_tokens(options: argparse.Namespace, progress: Progress) -> tuple[int, ...]:
    """Write the logits, float32 [B, S, V], of the tokens, int [B, S]; returns their shape."""
    model = load(options.path)
    tokens = read_tokens(options.tokens)
    with placed(options, model, options.weights):
        logits = model.run(
            checked_tokens(tokens, model.vocabulary, str(options.tokens)),
            numerics=options.numerics,
            device=options.device,
            mesh=options.mesh,
            chunk=options.chunk,
            weights=options.weights,
            progress=progress,
        )
    try:
        replace_file(options.logits, lambda out: np.save(out, logits, allow_pickle=False))
    except OSError as error:
        raise refuse("S530", f"cannot write `{options.logits}`: {error.strerror}") from error
    return logits.shape
