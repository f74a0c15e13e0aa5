"""Run programs on the device model for the command line: logits of given tokens, and greedy text."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device_model.chips.chip import device
from device_model.engine.engine import Engine
from device_model.numbers.catalogue import numerics_named
from device_model.numbers.numerics import Numerics
from device_model.weights.reading import RandomReader, TensorReader, shapes_of
from dsl.counting.footprint import footprint
from dsl.diagnostics import Refused, refuse
from dsl.graph import Graph
from dsl.symbolic import evaluate
from porting.files.atomic import replace_file
from porting.files.progress import Progress, silent
from porting.pipeline import Stages, open_checkpoint, read_port
from porting.planning.bound import bound_graph
from porting.text.tokenizer import TextCodec, load_tokenizer
from porting.validate import compile_kernels

MAX_TOKENS_BYTES = 2**30
RANDOM = "random:"

Tokens = npt.NDArray[np.int64]


def run_tokens(
    path: Path,
    tokens: Path,
    logits: Path,
    *,
    numerics: Numerics,
    chunk: int | None,
    weights: str | None,
    progress: Progress = silent,
) -> tuple[int, ...]:
    """Write the logits, float32 [B, S, V], of the tokens, int [B, S]; returns their shape."""
    graph = bound_graph(path)
    rows = read_tokens(tokens, vocabulary(graph))
    reader = _reader(path, graph, weights, progress)
    compile_kernels(progress)
    session = Engine(graph, reader, numerics).session(sequences=len(rows))
    length = rows.shape[1]
    size = chunk or length
    parts = []
    for start in range(0, length, size):
        progress("device", start, length)
        parts.append(np.stack(session.step(list(rows[:, start : start + size]))))
    progress("device", length, length)
    result = np.concatenate(parts, axis=1).astype(np.float32)
    try:
        replace_file(logits, lambda stream: np.save(stream, result, allow_pickle=False))
    except OSError as error:
        raise refuse("S530", f"cannot write `{logits}`: {error.strerror}") from error
    return result.shape


def generate(
    folder: Path,
    prompt: str,
    max_new_tokens: int,
    *,
    numerics: Numerics,
    system: str = "",
    progress: Progress = silent,
) -> Iterator[str]:
    """Yield the greedy answer to a prompt, piece by piece.

    The system message is empty unless one is given, so that no template's own one speaks for the user.
    """
    existing = read_port(folder)
    graph = bound_graph(folder)
    opened = open_checkpoint(existing, Stages(), progress)
    codec = load_tokenizer(opened.origin.directory)
    compile_kernels(progress)
    session = Engine(graph, opened.checkpoint, numerics).session(sequences=1)

    def tokens() -> Iterator[int]:
        step: Tokens = np.asarray(_encoded(codec, prompt, system), np.int64)
        for _ in range(max_new_tokens):
            token = int(session.step([step], logits="last")[0][-1].argmax())
            if token in codec.stop_ids:
                return
            yield token
            step = np.asarray([token], np.int64)

    return codec.decode_stream(tokens())


def _encoded(codec: TextCodec, prompt: str, system: str) -> list[int]:
    try:
        return codec.encode_chat(prompt, system)
    except Refused:
        if system:
            raise
        return codec.encode_chat(prompt)  # some templates know no system role


def vocabulary(graph: Graph) -> int:
    """Return the number of tokens that a program's logits range over."""
    size = graph.outputs[0].type.axes[-1].dim
    if not isinstance(size, int):
        raise TypeError("the program is not bound")
    return size


def read_tokens(path: Path, limit: int) -> Tokens:
    """Return a [B, S] array of token ids from a .npy file; raises `Refused` for anything else."""
    try:
        if path.stat().st_size > MAX_TOKENS_BYTES:
            raise refuse("S532", f"more than {MAX_TOKENS_BYTES} bytes", place=str(path))
        found = np.load(path, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise refuse("S532", f"no .npy array: {reason}", place=str(path)) from error
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind not in "iu":
        shown = (
            f"{found.dtype} {list(found.shape)}" if isinstance(found, np.ndarray) else "an archive"
        )
        raise refuse("S532", f"the tokens are {shown}; int [B, S] is needed", place=str(path))
    if not found.size:
        raise refuse("S532", f"the tokens are empty: {list(found.shape)}", place=str(path))
    low, high = int(found.min()), int(found.max())
    if low < 0 or high >= limit:
        wrong = low if low < 0 else high
        message = f"token {wrong} is not between 0 and {limit - 1}"
        raise refuse("S532", message, place=str(path))
    return np.asarray(found, np.int64)


def numerics_of(name: str, device_name: str | None) -> Numerics:
    """Return a run's numerics, as a device computes them if one is named; raises `Refused`."""
    return numerics_named(name, None if device_name is None else device(device_name))


def _reader(path: Path, graph: Graph, weights: str | None, progress: Progress) -> TensorReader:
    if weights is None:
        if not path.is_dir():
            message = f"`{path}` is a text without a checkpoint"
            raise refuse("S533", message, help="--weights random:7 runs it on random weights")
        return open_checkpoint(read_port(path), Stages(), progress).checkpoint
    seed = weights.removeprefix(RANDOM)
    if not weights.startswith(RANDOM) or not seed.isdigit() or len(seed) > 9:
        raise refuse("S533", f"--weights is `{weights}`", help="write --weights random:7")
    _fits_memory(graph)
    return RandomReader(shapes_of(graph), int(seed))


def _fits_memory(graph: Graph) -> None:
    """Refuse to make random weights that this machine cannot hold; they are drawn in float32."""
    elements = evaluate(footprint(graph).parameters, dict.fromkeys(graph.mesh, 1))
    needed, memory = 4 * int(elements), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        message = f"random weights take {needed:,} bytes; this machine has {memory:,}"
        raise refuse(
            "S533", message, help="make the dimensions smaller; sohu cost needs no weights"
        )
