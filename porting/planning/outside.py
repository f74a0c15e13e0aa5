# SPDX-License-Identifier: Apache-2.0
"""Say of a model that is no causal language model what it is, what is missing, and what would do.

Which classes and types are of which kind is data (`model_zoo/outside.toml`), by the names that transformers gives
them. Asked only about classes that no family claims; what a family of somebody's own claims is never outside.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from dsl.diagnostics import Diagnostic, Refused
from dsl.regular_file import read_shipped
from porting.config.reader import NAME, ModelConfig
from porting.files.strict_json import shown
from porting.planning.library import ZOO

TABLE = "outside.toml"
CAUSAL = ("ForCausalLM", "LMHeadModel")
"""What the names of classes of causal language models end with, whatever their type."""


@dataclass(frozen=True, slots=True)
class Outside:
    """A kind of model that is outside: what it is, what a port of it lacks, what to do, and how it is known."""

    holds: str
    lacks: str
    does: str
    ends: tuple[str, ...]
    types: frozenset[str] = frozenset()
    without: tuple[str, ...] = ()
    more: Mapping[str, str] = field(default_factory=dict)
    """What else some types lack."""

    def has_class(self, name: str) -> bool:
        """Tell whether a class is of this kind, by how its name ends."""
        return name.endswith(self.ends) and not (self.without and name.endswith(self.without))

    def missing(self, model_type: str) -> str:
        """Return what a port of a model of a type would need."""
        more = self.more.get(model_type)
        return self.lacks if more is None else f"{self.lacks}, {more}"


@lru_cache(maxsize=1)
def kinds() -> tuple[Outside, ...]:
    """Return the kinds that are outside, in the order in which they are tried."""
    data = tomllib.loads(read_shipped(ZOO / TABLE))
    return tuple(
        Outside(
            row["holds"],
            row["lacks"],
            row["does"],
            tuple(row["ends"]),
            frozenset(row.get("types", ())),
            tuple(row.get("without", ())),
            row.get("more", {}),
        )
        for row in data["kinds"]
    )


def kind_of(architecture: str, model_type: str) -> Outside | None:
    """Return the kind that a class is of, None for a causal language model and for what nothing is known of.

    The class says more than the type: a classifier on BERT is a classifier. A bare `…Model` is what its type is.
    """
    if architecture.endswith(CAUSAL):
        return None
    *named, bare = kinds()
    by_class = next((kind for kind in named if kind.has_class(architecture)), None)
    by_type = next((kind for kind in named if model_type in kind.types), None)
    return by_class or by_type or (bare if bare.has_class(architecture) else None)


def refusal(config: ModelConfig) -> Refused | None:
    """Return the refusal (S549) of a model that is outside, None where it is not known to be."""
    kind = kind_of(config.architecture, config.model_type)
    if kind is None:
        return None
    message = f"{shown(config.architecture)} is outside: it is {kind.holds}"
    notes = (f"what is missing: {kind.missing(config.model_type)}",)
    return Refused(
        (
            Diagnostic(
                "S549",
                message,
                config.span_of("architectures"),
                place=f"{NAME}: architectures",
                notes=notes,
                help=kind.does,
            ),
        )
    )
