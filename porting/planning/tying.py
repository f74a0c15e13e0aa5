# SPDX-License-Identifier: Apache-2.0
"""Let the file decide whether a model's head is its embedding, as transformers' loading does.

Where the config ties them and the file holds both with different values, they are two; where it holds the head alone,
the embedding is the head. Where the config does not tie them, nothing is made up for one that is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from dsl.diagnostics import Severity
from dsl.graph import Graph
from dsl.inference.inference import Checked, infer
from dsl.linking.program import Program
from porting.checkpoint.accounting import Accounted
from porting.checkpoint.naming import renamed
from porting.checkpoint.safetensors_header import TensorInfo

TIED = "tie_word_embeddings"
UNTIED = (
    "the config ties the head to the embedding, and the file holds both with different values: both are read, as "
    "transformers does"
)
SWAPPED = "the config ties the head to the embedding, and the file holds the head alone: it is read as both"


@dataclass(frozen=True, slots=True)
class Bound:
    """A program bound to a config, and what became of the tensors of a checkpoint."""

    program: Program
    checked: Checked
    accounted: Accounted


def as_tied(
    bound: Bound,
    values: Mapping[str, object],
    tensors: Mapping[str, TensorInfo],
    account: Callable[[Graph], Accounted],
) -> Bound:
    """Return a program as its checkpoint has head and embedding; the program as it is where they fit the config."""
    uses = [u for u in bound.checked.uses if u.key == TIED and u.value is True]
    first = bound.accounted.account
    if not uses or not (first.unused or first.missing):
        return bound
    apart = infer(bound.program.family(), bound.program.blocks, {**values, TIED: False}, tensors)
    if apart.graph is None:
        return bound
    accounted = account(apart.graph)
    if _fits(accounted):
        return Bound(bound.program, apart, _noted(accounted, UNTIED))
    heads = set(accounted.account.consumed) - set(first.consumed)
    if len(heads) != 1 or len(first.missing) != 1 or tuple(heads) != first.unused:
        return bound
    swapped = renamed(bound.program, dict(zip(first.missing, heads, strict=True)))
    checked = infer(swapped.family(), swapped.blocks, values, tensors)
    if checked.graph is None:
        return bound
    accounted = account(checked.graph)
    return Bound(swapped, checked, _noted(accounted, SWAPPED)) if _fits(accounted) else bound


def _fits(accounted: Accounted) -> bool:
    return not any(d.severity is Severity.ERROR for d in accounted.diagnostics)


def _noted(accounted: Accounted, note: str) -> Accounted:
    return replace(accounted, notes=(note, *accounted.notes))
