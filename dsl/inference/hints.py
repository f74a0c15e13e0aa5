# SPDX-License-Identifier: Apache-2.0
"""What is said beside a fault: a weight that would fit, and the values of the names that a message mentions.

Whether there is a fault is decided elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dsl.inference.calls import Argument
from dsl.inference.graph_builder import GraphBuilder
from dsl.inference.scope import LayerIndex, Poison, Scope, Tensor
from dsl.linking.binding import KeyUse, is_dim_name
from dsl.linking.static import MeshAxis, Unknown, show
from dsl.ops.spec import OpSpec, Site, Violation
from dsl.source import Span
from dsl.text import syntax as sx
from dsl.types import DType, TensorType

_WORD = re.compile(r"[A-Za-z_]\w*")
_STRING = re.compile(r'"[^"\n]*"')


def fitting(
    builder: GraphBuilder,
    at: str,
    spec: OpSpec,
    arguments: Mapping[str, Argument],
    site: Site,
    scope: Scope,
) -> str:
    """Return a help line with another weight that has a name here and would fit."""
    if at not in arguments or isinstance(site.types.get(at), tuple):
        return ""
    given = arguments[at].exprs[0]
    if not isinstance(given, sx.Name) or not _is_weight(builder, given, scope):
        return ""
    named = {m.ids for m in scope.names.values() if isinstance(m, Tensor)}
    given_type = site.types.get(at)
    weights = [w for w in builder.frame.weights if (w.value,) in named]
    # One with the same axes in another order is more likely meant than one with others.
    weights.sort(
        key=lambda w: not isinstance(given_type, TensorType) or _axes(w.type) != _axes(given_type)
    )
    for weight in weights:
        if weight.type == given_type:
            continue
        trial = Site(
            site.op, {**site.types, at: weight.type}, site.attrs, site.facts,
            site.batch, site.seq, site.context, [],
        )  # fmt: skip
        try:
            spec.infer(trial)
        except Violation:
            continue
        return f"`{weight.name}` is {weight.type} and fits here"
    return ""


def _is_weight(builder: GraphBuilder, name: sx.Name, scope: Scope) -> bool:
    meaning, weights = scope.names.get(name.id), builder.frame.weights
    return isinstance(meaning, Tensor) and any(meaning.ids == (w.value,) for w in weights)


def _axes(type_: TensorType) -> list[str]:
    return sorted(str(axis) for axis in type_.axes)


def meaning_of(
    uses: tuple[KeyUse, ...], message: str, scope: Scope, *places: Span
) -> tuple[str, ...]:
    """Return a note with the values of the scalars and dimensions that a message and its places name."""
    shown = _STRING.sub("", "\n".join([message, *(place.text for place in places)]))
    own = set(_WORD.findall("\n".join([message, *(place.text for place in places[:1])])))
    keys = {u.name: u for u in uses}
    meanings = []
    for word in dict.fromkeys(_WORD.findall(shown)):
        value = scope.names.get(word)
        if word not in own and not is_dim_name(word):
            continue  # of a place in another block, where the name may mean something else
        if isinstance(value, (Tensor, Poison, MeshAxis, LayerIndex, DType, Unknown, type(None))):
            continue
        if word == show(value):
            continue
        use = keys.get(word)
        key = f"{use.key} = " if use is not None and use.value == value else ""
        meanings.append(f"{word} is {key}{show(value)}")
    return ("; ".join(meanings),) if meanings else ()
