# SPDX-License-Identifier: Apache-2.0
"""Run a bound program on the device model: its engine, logits of given tokens, ids of prompts. Chooses no token."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from device_model.engine.engine import Logits
from device_model.mesh.limits import check_chips
from device_model.mesh.opening import AnyEngine
from device_model.mesh.opening import open_engine as open_on
from device_model.numbers.numerics import Array, Numerics
from device_model.weights.reading import RandomReader, TensorReader, shapes_of
from dsl.counting.footprint import footprint
from dsl.diagnostics import Refused, refuse
from dsl.graph import Graph
from dsl.symbolic import evaluate
from dsl.whole_numbers import whole_number
from porting.checkpoint import accounting
from porting.checkpoint.own_weights import open_weights
from porting.checkpoint.tensors import Checkpoint
from porting.files.progress import Progress
from porting.files.strict_json import shown
from porting.pipeline import Stages, open_checkpoint, read_port
from porting.text.tokenizer import TextCodec, load_tokenizer
from porting.verdict.compiling import compile_kernels
from sohu.api.tokens import Tokens

RANDOM = "random:"
LARGEST_SEED = 10**9 - 1
ON_RANDOM = "--weights mine.safetensors, or random ones: --weights random:7; in Python weights=…"


class Steps(Protocol):
    """Sequences that tokens are added to, wherever they are."""

    def step(self, rows: Sequence[Array], logits: Logits = "all") -> list[Array]:
        """Add tokens to the sequences and return each one's results, float32 [S, V]."""
        ...

    @property
    def lengths(self) -> tuple[int, ...]:
        """Return the context of each sequence."""
        ...


class Sessions(Protocol):
    """An engine, as far as it starts sequences."""

    def session(self, sequences: int = 1) -> Steps:
        """Start sequences without context."""
        ...


def open_engine(
    path: Path, graph: Graph, numerics: Numerics, weights: str | None,
    mesh: Mapping[str, int], progress: Progress,
) -> AnyEngine:  # fmt: skip
    """Return a program's engine on its port's checkpoint, or on random weights; raises `Refused` where it has neither.

    The kernels are compiled last, when nothing of the input can be refused any more.
    """
    check_chips(mesh)
    reader = reader_of(path, graph, weights, progress)
    compile_kernels(progress)
    return open_on(graph, reader, numerics, mesh)


def logits_of(
    engine: Sessions, tokens: Tokens, chunk: int | None, progress: Progress
) -> npt.NDArray[np.float32]:
    """Return the logits, float32 [B, S, V], of tokens [B, S], fed `chunk` at a time where that is given."""
    session = engine.session(sequences=len(tokens))
    length = tokens.shape[1]
    size = chunk or length
    parts = []
    for start in range(0, length, size):
        progress("device", start, length)
        parts.append(np.stack(session.step(list(tokens[:, start : start + size]))))
    progress("device", length, length)
    return np.concatenate(parts, axis=1).astype(np.float32)


def codec_of(folder: Path, progress: Progress) -> TextCodec:
    """Return the tokenizer of the model that a port was made from."""
    opened = open_checkpoint(read_port(folder), Stages(), progress)
    return load_tokenizer(opened.origin.directory)


@dataclass(frozen=True, slots=True)
class Places:
    """What a model has places for: ids below `rows`, and sequences of at most `longest` tokens, None for any."""

    rows: int
    longest: int | None

    def checked(self, ids: Sequence[int], codec: TextCodec, shorter: str) -> tuple[int, ...]:
        """Return a prompt's ids; raises `Refused` (S548) where there is no place, with the way to a shorter prompt."""
        beyond = next((i for i in ids if not 0 <= i < self.rows), None)
        if beyond is not None:
            token = shown(codec.token(beyond) or "")
            message = (
                f"the tokenizer makes id {beyond} of `{token}`; the model has {self.rows:,} tokens"
            )
            raise refuse("S548", message, help="is it the tokenizer of another model?")
        if self.longest is not None and len(ids) > self.longest:
            message = (
                f"the prompt has {len(ids):,} tokens; the model has positions for {self.longest:,}"
            )
            raise refuse("S548", message, help=shorter)
        return tuple(ids)


def encoded(codec: TextCodec, prompt: str, system: str | None, *, raw: bool) -> list[int]:
    """Return a prompt's ids; raises `Refused` where none can be made (S547), or no system message be heard (S558)."""
    if raw:
        return codec.encode(prompt)
    if system is not None:
        codec.require_template()
    return codec.encode_chat(prompt, system)


def reader_of(
    path: Path, graph: Graph, weights: str | None, progress: Progress
) -> TensorReader:  # fmt: skip
    """Return the weights of a program: its port's, some of the user's, or random ones; raises `Refused` for none."""
    if weights is None:
        if not path.is_dir():
            message = f"`{path}` is a text without a checkpoint"
            raise refuse("S533", message, help=ON_RANDOM)
        return open_checkpoint(read_port(path), Stages(), progress).checkpoint
    if not weights.startswith(RANDOM):
        return _own_weights(Path(weights), graph)
    seed = whole_number(weights.removeprefix(RANDOM), LARGEST_SEED)
    if seed is None:
        raise refuse("S533", f"`{weights[:80]}` names no weights", help=ON_RANDOM)
    _fits_memory(graph)
    return RandomReader(shapes_of(graph), seed)


def _own_weights(path: Path, graph: Graph) -> Checkpoint:
    """Return weights that the user names; raises `Refused` with everything that does not fit the program."""
    checkpoint = open_weights(path)
    accounted = accounting.account(graph, checkpoint.tensors, checkpoint)
    if accounted.diagnostics:
        raise Refused(accounted.diagnostics)
    return checkpoint


def _fits_memory(graph: Graph) -> None:
    """Refuse to make random weights that this machine cannot hold; they are drawn in float32."""
    elements = evaluate(footprint(graph).parameters, dict.fromkeys(graph.mesh, 1))
    needed, memory = 4 * int(elements), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        message = f"random weights take {needed:,} bytes; this machine has {memory:,}"
        raise refuse(
            "S533", message, help="make the dimensions smaller; sohu cost needs no weights"
        )
