# SPDX-License-Identifier: Apache-2.0
"""The demo's real weights on meshes: the bits of one chip in every mode, and how long chips take as threads.

`python -m benchmarks.mesh_demo [--tokens 512] [--tp 2 3 4 8] [--numerics f32 bf16]`. The status is 1 where a bit
differs. Times are processor seconds and seconds on the clock of this process; nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from device_model.engine.engine import Engine, Session
from device_model.mesh.engine import MeshEngine, MeshSession
from device_model.numbers.numerics import Array
from porting.checkpoint.tensors import Checkpoint
from porting.config.reader import read_config
from porting.origin.resolve import resolve
from porting.planning.plan import plan

VOCABULARY, CHUNK = 49152, 37
AnySteps = Session | MeshSession


def whole(session: AnySteps, ids: Array) -> list[Array]:
    """Return the logits of all tokens fed at once."""
    return session.step([ids])


def in_chunks(session: AnySteps, ids: Array) -> list[Array]:
    """Return the logits of tokens fed in chunks."""
    parts = [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]
    return [session.step([part])[0] for part in parts]


def by_token(session: AnySteps, ids: Array) -> list[Array]:
    """Return the logits of tokens fed one by one."""
    return [session.step([ids[at : at + 1]])[0] for at in range(len(ids))]


MODES: Mapping[str, Callable[[AnySteps, Array], list[Array]]] = {
    "whole": whole, "in chunks": in_chunks, "token by token": by_token,
}  # fmt: skip


def ragged(engine: Engine | MeshEngine, ids: Array) -> list[Array]:
    """Return the logits of sequences of unlike lengths in one batch."""
    lengths = (len(ids), 1, len(ids) // 2, 17)
    return engine.session(len(lengths)).step([ids[:length] for length in lengths])


def results(engine: Engine | MeshEngine, ids: Array) -> dict[str, list[Array]]:
    """Return the logits of every mode."""
    made = {name: mode(engine.session(), ids) for name, mode in MODES.items()}
    return {**made, "ragged": ragged(engine, ids)}


def same(left: Sequence[Array], right: Sequence[Array]) -> bool:
    """Tell whether results have the same bits."""
    return all(
        np.array_equal(a.view(np.uint32), b.view(np.uint32))
        for a, b in zip(left, right, strict=True)
    )


def timed(engine: Engine | MeshEngine, ids: Array) -> tuple[float, float]:
    """Return seconds on the clock of a prefill, and of one decode step, the least of some."""
    prefills, steps = [], []
    for _ in range(3):
        session = engine.session()
        start = time.perf_counter()
        session.step([ids], "last")
        prefills.append(time.perf_counter() - start)
        for at in range(8):
            start = time.perf_counter()
            session.step([ids[at : at + 1]], "last")
            steps.append(time.perf_counter() - start)
    return min(prefills), min(steps)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare the bits of meshes with one chip's, and print times beside them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mesh_demo", description=__doc__)
    parser.add_argument("--tokens", type=int, default=512, metavar="N")
    parser.add_argument("--tp", type=int, nargs="+", default=[2, 3, 4, 8], metavar="CHIPS")
    parser.add_argument("--numerics", nargs="+", default=["f32", "bf16"])
    options = parser.parse_args(arguments)
    origin = resolve("demo")
    checkpoint = Checkpoint.open(Path(origin.directory))
    graph = plan(origin, read_config(Path(origin.directory)), checkpoint).graph
    ids = np.random.default_rng(0).integers(0, VOCABULARY, options.tokens)
    differs = False
    for numerics in options.numerics:
        one = Engine(graph, checkpoint, numerics, threads=1)
        expected = results(one, ids)
        prefill, step = timed(one, ids)
        print(
            f"{numerics} one chip, one thread: prefill {prefill:.2f} s, decode {1e3 * step:.1f} ms",
            flush=True,
        )
        for chips in options.tp:
            mesh = MeshEngine(graph, checkpoint, numerics, {"tp": chips})
            made = results(mesh, ids)
            told = [
                f"{mode} {'same' if same(made[mode], expected[mode]) else 'DIFFERS'}"
                for mode in made
            ]
            differs |= any("DIFFERS" in word for word in told)
            prefill, step = timed(mesh, ids)
            times = f"prefill {prefill:.2f} s, decode {1e3 * step:.1f} ms"
            print(f"{numerics} tp={chips}: {', '.join(told)}; {times}", flush=True)
    return int(differs)


if __name__ == "__main__":
    sys.exit(main())
