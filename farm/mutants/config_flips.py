# SPDX-License-Identifier: Apache-2.0
"""Flip every key of a tiny model's config: what changes the original must change the port alike, or be refused.

The weights stay the same, so a flip that asks for other tensors is no case.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from device_model.engine.engine import Engine
from dsl.diagnostics import Refused
from farm.oracles.tiny import tiny
from porting.checkpoint.tensors import Checkpoint
from porting.config.reader import NAME, read_config
from porting.origin.resolve import resolve
from porting.original.reference import Reference, refusing
from porting.planning.plan import plan
from porting.verdict.rows import sample_rows

CHANGED = 1e-5
"""A smaller change of the logits may be rounding."""
AGREES = 1e-4
"""The reference runs in float32 here, and so does the port."""
KEPT = frozenset(
    {"architectures", "model_type", "dtype", "torch_dtype", "transformers_version", "vocab_size"}
)
WORDS: Mapping[str, tuple[str, ...]] = {
    "activation": ("gelu", "silu", "relu"),
    "act": ("gelu", "silu", "relu"),
    "score": ("softmax", "sigmoid"),
}
"""Other values of keys that hold words, by a part of the key's name."""

DEAD, FOLLOWED, REFUSED, SILENT, WRONG = "dead", "followed", "refused", "silent", "wrong"


@dataclass(frozen=True, slots=True)
class Flip:
    """What became of one key with another value.

    `dead`: the original does not change; `followed`: both change alike; `refused`: the port says so; `silent`: the port
    does not change; `wrong`: it changes to something else. The last two are faults of the family.
    """

    model_type: str
    key: str
    value: object
    verdict: str
    error: float = 0.0

    @property
    def faulty(self) -> bool:
        """Tell whether the family is wrong about this key."""
        return self.verdict in (SILENT, WRONG)


def flips(model_type: str) -> Iterator[Flip]:
    """Yield what becomes of every key of a type's tiny config."""
    with tempfile.TemporaryDirectory() as name:
        folder = tiny(Path(name), model_type, dtype="float32")
        config = json.loads((folder / NAME).read_text(encoding="utf-8"))
        reference = Reference.load(folder, "float32")
        row = sample_rows(reference.vocab_size, reference.special_tokens())[0]
        base = _original(reference, row)
        for path, value in _leaves(config):
            for other in _others(path[-1], value):
                (folder / NAME).write_text(json.dumps(_with(config, path, other)), encoding="utf-8")
                verdict = _verdict(folder, row, base)
                if verdict is not None:
                    yield Flip(model_type, ".".join(path), other, *verdict)


def _verdict(folder: Path, row: Any, base: Any) -> tuple[str, float] | None:
    """Return the verdict with the port's error, None where the original itself cannot run so."""
    try:
        changed = Reference.load(folder, "float32")
        with refusing("S551", "run this model"):
            wanted = _original(changed, row)
    except Refused:
        return None
    if not np.isfinite(wanted).all():
        return None
    if wanted.shape == base.shape and _distance(wanted, base) < CHANGED:
        return DEAD, 0.0
    try:
        checkpoint = Checkpoint.open(folder)
        graph = plan(resolve(str(folder)), read_config(folder), checkpoint).graph
        got = Engine(graph, checkpoint, numerics="f32").session().step([row])[0]
    except Refused:
        return REFUSED, 0.0
    error = _distance(got, wanted)
    if error <= AGREES:
        return FOLLOWED, error
    return (SILENT if _distance(got, base) <= AGREES else WRONG), error


def _original(reference: Reference, row: Any) -> Any:
    return reference.logits([row.tolist()])[0].logits.astype(np.float64)


def _distance(got: Any, wanted: Any) -> float:
    if got.shape != wanted.shape or not np.isfinite(got).all():
        return float("inf")
    scale = float(np.sqrt(np.mean(wanted**2)))
    return float(np.sqrt(np.mean((got - wanted) ** 2))) / max(scale, 1e-30)


def _leaves(
    config: Mapping[str, Any], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in config.items():
        if key in KEPT or key.endswith("_token_id"):
            continue
        if isinstance(value, dict):
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


def _others(key: str, value: Any) -> Iterator[Any]:
    """Yield other values that a key might have."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
        if value > 1:
            yield value - 1
    elif isinstance(value, float):
        yield value * 1.5 if value else 0.5
    elif isinstance(value, str):
        yield from (w for part, words in WORDS.items() if part in key for w in words if w != value)
    elif isinstance(value, list) and len(value) > 1 and value[0] != value[-1]:
        yield [value[-1], *value[1:-1], value[0]]


def _with(config: Mapping[str, Any], path: Sequence[str], value: object) -> dict[str, Any]:
    first, *rest = path
    return {**config, first: _with(config[first], rest, value) if rest else value}
