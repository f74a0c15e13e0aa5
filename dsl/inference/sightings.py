# SPDX-License-Identifier: Apache-2.0
"""What the places of a text were seen to stand for while it was inferred: types of tensors, values of the rest.

For readers of texts. Nothing that is inferred depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dsl.graph import StateArray
from dsl.inference.graph_builder import GraphBuilder
from dsl.inference.scope import LayerIndex, Meaning, Poison, Tensor
from dsl.linking.static import show
from dsl.source import Span
from dsl.symbolic import text

MAX_SIGHTINGS = 4
"""As many as a reader takes in; a block that is called everywhere has many more."""


@dataclass(slots=True)
class Sightings:
    """By place, each thing it was seen to stand for, once, in the order of the paths."""

    shown: dict[Span, tuple[str, ...]] = field(default_factory=dict)

    def add(self, place: Span, meaning: Meaning, builder: GraphBuilder) -> None:
        """Record a sighting; what was reported before, or differs by layer, is none."""
        before = self.shown.get(place, ())
        if isinstance(meaning, (Poison, LayerIndex)) or len(before) >= MAX_SIGHTINGS:
            return
        words = _words(meaning, builder)
        if words not in before:
            self.shown[place] = (*before, words)


def _words(meaning: Meaning, builder: GraphBuilder) -> str:
    if isinstance(meaning, Tensor):
        return ", ".join(str(builder.type_of(value)) for value in meaning.ids)
    if isinstance(meaning, StateArray):
        return f"{text(meaning.count)} of {meaning.type}"
    return show(meaning)
