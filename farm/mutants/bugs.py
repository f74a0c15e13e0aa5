# SPDX-License-Identifier: Apache-2.0
"""Bugs that ports have had, as changes of a graph: a table of operators, each applied wherever it applies.

What is changed is what people get wrong by hand: a key misread, an operation forgotten, operands exchanged. Whether a
bug is noticed is `detection`'s question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from dsl.graph import Attr, Graph, TensorRef, Transform, Weight
from dsl.ops import OPS
from dsl.source import Span
from dsl.types import Axis
from farm.mutants.graph_edits import (
    Site,
    sites,
    skipped,
    with_attrs,
    with_node,
    with_operand,
    with_rings,
    with_source,
    with_types,
    without_operand,
)
from farm.mutants.regrouping import heads_interleaved, other_top

Change = Callable[[Site], Graph | None]


@dataclass(frozen=True, slots=True)
class Bug:
    """A graph with one mistake.

    `places` are the lines that a person would be content to be shown: the changed operation and, where something is
    missing or exchanged, the one that notices.
    """

    operator: str
    graph: Graph
    places: frozenset[Span]


@dataclass(frozen=True, slots=True)
class Operator:
    """A way to be wrong: the operations it may concern, and the change, None where it does not apply."""

    name: str
    ops: frozenset[str]
    change: Change


def number(value: Attr | None) -> float:
    """Return a numeric attribute, 0 where it is none."""
    return float(value) if isinstance(value, (int, float)) else 0.0


def _other_theta(site: Site) -> Graph:
    theta = number(site.node.attrs["theta"])
    return with_attrs(site, theta=10000.0 if theta != 10000.0 else 500000.0)


def _unscaled(site: Site) -> Graph | None:
    factors = site.node.attrs.get("factors")
    if isinstance(factors, tuple):
        return with_attrs(site, factors=(1.0,) * len(factors))
    if site.node.attrs["scaling"] == "default":
        return None
    return with_attrs(site, scaling="default")


def _whole_head_rotated(site: Site) -> Graph | None:
    """Rotate every coordinate of the head where only the first ones turn, and not by a list of factors."""
    if isinstance(site.node.attrs.get("factors"), tuple):
        return None
    graph = site.graph
    users = [s for s in sites(graph) if s.value("freqs") == site.node.outputs[0]]
    heads = {s.graph.values[s.node.inputs[0]].type.dims[-1] for s in users if s.node.op == "rope"}
    width = site.node.attrs["width"]
    whole = max((w for w in heads if isinstance(w, int)), default=0)
    if not isinstance(width, int) or whole <= width or whole % 2:
        return None
    made = site.result()
    wider = replace(made, axes=(Axis(whole // 2),))
    changed = with_attrs(site, width=whole)
    return with_types(changed, {site.node.outputs[0]: wider})


def _other_pairs(site: Site) -> Graph:
    half = site.node.attrs["pairing"] == "half"
    return with_attrs(site, pairing="interleaved" if half else "half")


def _amplitude_lost(site: Site) -> Graph | None:
    return with_attrs(site, scale=1.0) if number(site.node.attrs["scale"]) != 1.0 else None


def _operation_skipped(site: Site) -> Graph | None:
    """Leave the operation out, where its result has the type of what it is given."""
    given = site.node.inputs[0]
    same = site.graph.values[given].type == site.result()
    return skipped(site, site.node.operands[0]) if same else None


def _head_norm_skipped(site: Site) -> Graph | None:
    return _operation_skipped(site) if site.result().rank == 4 else None


def _layer_norm_skipped(site: Site) -> Graph | None:
    return _operation_skipped(site) if site.result().rank == 3 else None


def _other_offset(site: Site) -> Graph | None:
    if site.value("w") is None:
        return None
    return with_attrs(site, offset=0.0 if number(site.node.attrs["offset"]) else 1.0)


def _other_eps(site: Site) -> Graph:
    eps = number(site.node.attrs["eps"])
    return with_attrs(site, eps=1e-5 if eps >= 1e-4 else 1e-2)


def _unweighted(site: Site) -> Graph | None:
    return without_operand(site, "w") if site.value("w") is not None else None


def _unbiased_norm(site: Site) -> Graph | None:
    return without_operand(site, "b") if site.value("b") is not None else None


def _mean_kept(site: Site) -> Graph | None:
    """Divide by the root mean square where the mean should be subtracted too."""
    if site.value("b") is not None:
        return None
    attrs = {"eps": site.node.attrs["eps"], "offset": 0.0}
    return with_node(site, replace(site.node, op="rms_norm", attrs=attrs))


def _mean_subtracted(site: Site) -> Graph | None:
    if number(site.node.attrs["offset"]):
        return None
    return with_node(
        site, replace(site.node, op="layer_norm", attrs={"eps": site.node.attrs["eps"]})
    )


def _head_width(site: Site) -> float:
    width = site.graph.values[site.node.inputs[0]].type.dims[-1]
    return float(width) if isinstance(width, int) else 1.0


def _scores_unscaled(site: Site) -> Graph | None:
    scale = site.node.attrs.get("scale")
    used = _head_width(site) ** -0.5 if scale in (None, "none") else number(scale)
    return with_attrs(site, scale=1.0) if abs(used - 1.0) > 1e-9 else None


def _scores_by_width(site: Site) -> Graph | None:
    usual = _head_width(site) ** -0.5
    scale = site.node.attrs.get("scale")
    if scale in (None, "none") or abs(number(scale) / usual - 1.0) < 1e-9:
        return None
    return with_attrs(site, scale=usual)


def _scores_uncapped(site: Site) -> Graph | None:
    return with_attrs(site, softcap=0.0) if number(site.node.attrs["softcap"]) else None


def _window_by(step: int) -> Change:
    def change(site: Site) -> Graph | None:
        window = site.node.attrs["window"]
        if not isinstance(window, int) or window + step < 1 or not window:
            return None
        states = tuple(s.value for s in site.body.states)
        if step > 0:
            grown = with_rings(site, states, window + step - 1)
            again = next(s for s in sites(grown) if s.node is site.node)
            return with_attrs(again, window=window + step)
        return with_attrs(site, window=window + step)

    return change


def _unmasked(site: Site) -> Graph | None:
    return with_attrs(site, mask="none") if site.node.attrs["mask"] == "causal" else None


def _chunk_lost(site: Site) -> Graph | None:
    return with_attrs(site, chunk=0) if number(site.node.attrs.get("chunk")) else None


def _operand_lost(name: str) -> Change:
    def change(site: Site) -> Graph | None:
        return without_operand(site, name) if site.value(name) is not None else None

    return change


def _keys_for_values(site: Site) -> Graph | None:
    k, v = site.value("k"), site.value("v")
    if k is None or v is None or site.type("k") != site.type("v"):
        return None
    return with_operand(site, "v", k)


def _gate_and_up_exchanged(site: Site) -> Graph | None:
    """Exchange the two factors of a gated product before one of them is activated."""
    made, given = site.node.outputs[0], site.node.inputs[0]
    users = [u for u in site.users() if u.node.op == "multiply" and len(u.node.inputs) == 2]
    if not users:
        return None
    other = next((v for v in users[0].node.inputs if v != made), None)
    gate, up = site.maker(given), site.maker(other)
    if gate is None or up is None:
        return None
    if gate.node is up.node:
        return with_node(gate, replace(gate.node, outputs=gate.node.outputs[::-1]))
    first, second = gate.weight("w"), up.weight("w")
    if first is None or second is None or first.type != second.type:
        return None
    changed = with_source(site.graph, first, second.source)
    return with_source(changed, second, first.source)


PASSING = frozenset(spec.name for spec in OPS.values() if spec.passes)
"""Operations that hand on what they are given, so that a wrong value shows behind them."""

OTHER_ACTIVATION = {
    "silu": "gelu",
    "gelu": "silu",
    "gelu_tanh": "gelu",
    "relu": "silu",
    "sigmoid": "tanh",
    "tanh": "sigmoid",
    "quick_gelu": "gelu",
    "mish": "silu",
}
ACTIVATIONS = ("activation", *OTHER_ACTIVATION)


def _other_activation(site: Site) -> Graph:
    if site.node.op == "activation":
        return with_attrs(site, act=OTHER_ACTIVATION.get(str(site.node.attrs["act"]), "gelu"))
    return with_node(site, replace(site.node, op=OTHER_ACTIVATION[site.node.op]))


def _first_term_lost(site: Site) -> Graph | None:
    """Forget a sum's first term, such as a residual or a shared expert."""
    x, y = site.value("x"), site.value("y")
    if y is None or site.is_weight(x) or site.is_weight(y) or site.type("y") != site.result():
        return None
    return skipped(site, "y")


def _second_term_lost(site: Site) -> Graph | None:
    x, y = site.value("x"), site.value("y")
    if y is None or site.is_weight(x) or site.is_weight(y) or site.type("x") != site.result():
        return None
    return skipped(site, "x")


def _bias_lost(site: Site) -> Graph | None:
    y = site.value("y")
    if not site.is_weight(y) or site.type("x") != site.result():
        return None
    return skipped(site, "x")


def _factor_lost(site: Site) -> Graph | None:
    scalar = site.node.attrs.get("scalar")
    if not isinstance(scalar, (int, float)) or scalar == 1.0:
        return None
    return with_attrs(site, scalar=1.0)


def _share_unnormalised(site: Site) -> Graph | None:
    # A softmax over the chosen alone sums to one already.
    if (site.node.attrs["score"], site.node.attrs["order"]) == ("softmax", "after"):
        return None
    return with_attrs(site, normalize=not site.node.attrs["normalize"])


def _other_score(site: Site) -> Graph | None:
    other = {"softmax": "sigmoid", "sigmoid": "softmax"}.get(str(site.node.attrs["score"]))
    return None if other is None else with_attrs(site, score=other)


def _other_order(site: Site) -> Graph | None:
    other = {"before": "after", "after": "before"}.get(str(site.node.attrs["order"]))
    # Shares that are normalised afterwards are the same in either order.
    if other is None or site.node.attrs["score"] != "softmax" or site.node.attrs["normalize"]:
        return None
    return with_attrs(site, order=other)


def _share_unscaled(site: Site) -> Graph | None:
    return with_attrs(site, scale=1.0) if number(site.node.attrs["scale"]) != 1.0 else None


def _groups_ignored(site: Site) -> Graph | None:
    if number(site.node.attrs["groups"]) <= 1:
        return None
    return with_attrs(site, groups=1, top_groups=1)


def _experts_reversed(site: Site) -> Graph | None:
    weight = site.weight("w")
    if weight is None or not isinstance(weight.source, Transform):
        return None
    source = weight.source
    if source.function != "stack" or len(source.parts) < 2:
        return None
    return with_source(site.graph, weight, replace(source, parts=source.parts[::-1]))


def _position_by_one(site: Site) -> Graph:
    return with_attrs(site, offset=int(number(site.node.attrs.get("offset"))) + 1)


def _cap_lost(site: Site) -> Graph | None:
    return skipped(site, site.node.operands[0])


def _weight_of_another(site: Site) -> Graph | None:
    """Read the weight of the next operation of this kind that has one of the same type."""
    own = site.weight("w")
    if own is None:
        return None
    for other in site.body.weights:
        if _alike(own, other):
            return with_source(site.graph, own, other.source)
    return None


def _alike(own: Weight, other: Weight) -> bool:
    return own is not other and own.type == other.type and own.source != other.source


def _head_tied(site: Site) -> Graph | None:
    """Use the embedding where the model has a head of its own."""
    own = site.weight("w")
    if own is None or not site.node.path or site.node.path[-1] != "logits_head":
        return None
    table = next((s.weight("table") for s in sites(site.graph) if s.node.op == "gather"), None)
    if table is None or table is own or table.type != own.type:
        return None
    return with_source(site.graph, own, table.source)


def _wrong_part(site: Site) -> Graph | None:
    """Read the neighbouring rows of a fused tensor."""
    own = site.weight("w")
    if own is None or not isinstance(own.source, TensorRef) or own.source.region is None:
        return None
    for other in site.body.weights:
        source = other.source
        same = isinstance(source, TensorRef) and source.name == own.source.name
        if same and other is not own and other.type == own.type:
            return with_source(site.graph, own, source)
    return None


def _op(name: str, ops: str, change: Change) -> Operator:
    return Operator(name, frozenset(ops.split()), change)


OPERATORS: tuple[Operator, ...] = (
    _op("theta lost", "rope_frequencies", _other_theta),
    _op("rope scaling ignored", "rope_frequencies", _unscaled),
    _op("partial rotary ignored", "rope_frequencies", _whole_head_rotated),
    _op("rope pairs the other way", "rope", _other_pairs),
    _op("rope amplitude lost", "rope", _amplitude_lost),
    _op("rope forgotten", "rope", _operation_skipped),
    _op("learned position off by one", "positions sinusoids", _position_by_one),
    _op("norm of queries or keys forgotten", "rms_norm layer_norm", _head_norm_skipped),
    _op("norm forgotten", "rms_norm layer_norm", _layer_norm_skipped),
    _op("1+w and w exchanged", "rms_norm", _other_offset),
    _op("epsilon of another model", "rms_norm layer_norm", _other_eps),
    _op("norm without its weight", "rms_norm layer_norm", _unweighted),
    _op("norm without its bias", "layer_norm", _unbiased_norm),
    _op("rms norm for layer norm", "layer_norm", _mean_kept),
    _op("layer norm for rms norm", "rms_norm", _mean_subtracted),
    _op("scores unscaled", "attention", _scores_unscaled),
    _op("scores scaled by the head's width", "attention", _scores_by_width),
    _op("cap of scores dropped", "attention", _scores_uncapped),
    _op("window one longer", "attention", _window_by(1)),
    _op("window one shorter", "attention", _window_by(-1)),
    _op("future seen", "attention", _unmasked),
    _op("chunks ignored", "attention", _chunk_lost),
    _op("sinks dropped", "attention", _operand_lost("sinks")),
    _op("slopes dropped", "attention", _operand_lost("slopes")),
    _op("keys for values", "attention", _keys_for_values),
    _op("gate and up exchanged", " ".join(ACTIVATIONS), _gate_and_up_exchanged),
    _op("activation of another model", " ".join(ACTIVATIONS), _other_activation),
    _op("residual forgotten", "add", _first_term_lost),
    _op("branch forgotten", "add", _second_term_lost),
    _op("bias forgotten", "add", _bias_lost),
    _op("multiplier lost", "multiply divide", _factor_lost),
    _op("logits uncapped", "softcap", _cap_lost),
    _op("clamp dropped", "clamp", _operation_skipped),
    _op("share normalised or not", "route", _share_unnormalised),
    _op("softmax and sigmoid exchanged", "route", _other_score),
    _op("scores before or after the choice", "route", _other_order),
    _op("share unscaled", "route", _share_unscaled),
    _op("router's bias dropped", "route", _operand_lost("bias")),
    _op("groups of experts ignored", "route", _groups_ignored),
    _op("experts in reverse", "expert_matmul", _experts_reversed),
    _op(
        "weight of another",
        "matmul rms_norm layer_norm expert_matmul head_matmul",
        _weight_of_another,
    ),
    _op("query heads dealt out the other way", "attention", heads_interleaved),
    _op("one expert fewer or more", "route", other_top),
    _op("head tied", "matmul", _head_tied),
    _op("wrong part of a fused weight", "matmul", _wrong_part),
    _op("convolution dropped", "causal_conv", _operation_skipped),
)


def bugs(graph: Graph, each: int = 1) -> Iterator[Bug]:
    """Yield the bugs of a graph: every operator at up to `each` of the lines where it applies."""
    for operator in OPERATORS:
        seen: set[Span] = set()
        for site in sites(graph):
            if site.node.op not in operator.ops or site.node.span in seen or len(seen) >= each:
                continue
            changed = operator.change(site)
            if changed is None:
                continue
            seen.add(site.node.span)
            missing = all(other.node is not site.node for other in sites(changed))
            places = frozenset(_places(site, missing=missing))
            yield Bug(operator.name, changed, places)


def _places(site: Site, *, missing: bool = False) -> Iterator[Span]:
    """Yield where a change of an operation can be noticed first: there, or where its result is used.

    What is missing shows in what it should have been applied to as well: a product without its bias is a wrong product.
    """
    yield site.node.span
    users = site.users()
    if missing or not users:
        makers = (site.maker(value) for value in site.node.inputs)
        yield from (maker.node.span for maker in makers if maker is not None)
    for user in users:
        yield user.node.span
        if user.node.op in PASSING:
            yield from _places(user)
