# SPDX-License-Identifier: Apache-2.0
"""What the zoo covers: families by the architectures they claim, model types by transformers' own mapping.

Nothing is kept by hand: a family counts from the moment its file is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from dsl.linking.program import Program
from farm.oracles.published_models import oracles, type_of
from farm.oracles.shrink import causal_types
from porting.planning.library import families, load_program


@lru_cache(maxsize=1)
def family_types() -> Mapping[str, Path]:
    """Return the causal model types that a family covers, with the family's file; the zoo is read once a process."""
    covered = families()
    return {
        model_type: covered[architecture]
        for model_type, architecture in causal_types().items()
        if architecture in covered
    }


def published_of(types: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the names of the published configs of each type that has some."""
    named: dict[str, list[str]] = {model_type: [] for model_type in types}
    for name in oracles():
        named.get(type_of(name), []).append(name)
    return {model_type: tuple(names) for model_type, names in named.items() if names}


def uncovered_types() -> tuple[str, ...]:
    """Return the causal model types that no family covers."""
    covered = family_types()
    return tuple(model_type for model_type in causal_types() if model_type not in covered)


def spec_lines(path: Path) -> int:
    """Return the length of a family's own file in lines, blank ones and comments left out."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return sum(1 for line in lines if line and not line.startswith("#"))


def texts(path: Path) -> tuple[str, ...]:
    """Return the texts that a family's program consists of: its own and those of the blocks it uses."""
    program: Program = load_program(path)
    return tuple(file.span.source.text for file in program.files)
