# SPDX-License-Identifier: Apache-2.0
"""Let weights come from the low precision that a checkpoint stores them in, as its tensors and its config say.

A family names the tensors of the original checkpoint. Where a quantised one keeps others in their place or beside them,
each weight may come from both; the port then states which it is. Formats that a family names itself (mxfp4 of gpt-oss)
are not here; how the tensors store a weight is in `packed_layouts`, what the config may say in `packed_forms`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TypeAlias

from dsl.linking.program import Program, with_sources, with_unused
from dsl.source import Source, Span
from dsl.stored_tensors import HOLE
from dsl.text import syntax as sx
from porting.checkpoint.packed_forms import known_keys, method_of
from porting.checkpoint.packed_layouts import Layout, M, Said, Template, W, layouts_of
from porting.checkpoint.packed_rest import check_agreement, notes_on, rest_of
from porting.checkpoint.safetensors_header import TensorInfo
from porting.config.reader import ModelConfig

STORED = "says how weights are stored, which is what the port's sources say"
_NUMBER = re.compile(r"\.[0-9]+(?=\.)")
MAX_LAYOUTS = 4
"""How many ways to store the weights of one name there may be in one checkpoint."""

Pick: TypeAlias = Callable[[str], Layout | None]
"""Which layout the tensor of a name with holes has."""
Groups: TypeAlias = Mapping[tuple[Layout | None, ...], Sequence[int]]
"""The layers in which the tensors of a source are stored alike."""
Layouts: TypeAlias = Mapping[str, Mapping[int, Layout | None]]
"""How weights of one name, but for numbers, are stored in each layer; None is as they were, -1 is outside of layers."""


@dataclass(frozen=True, slots=True)
class AsStored:
    """A program with the sources of a quantised checkpoint, the config without the keys that said so, and notes."""

    program: Program
    config: ModelConfig
    notes: tuple[str, ...] = ()


def as_stored(program: Program, config: ModelConfig, tensors: Mapping[str, TensorInfo]) -> AsStored:
    """Return the program that reads a checkpoint's weights as they are stored.

    Raises `Refused` where config and tensors contradict each other (S537).
    """
    method = method_of(config)
    if not method:
        return AsStored(program, config)
    layouts = layouts_of(tensors, Said.of(config, method))
    check_agreement(config, layouts)
    by_name = _by_name(layouts, tensors)

    def change(weight: sx.WeightSyntax) -> sx.Expr:
        if len(weight.type.axes) < 2:
            return weight.source
        several = (_all(one, by_name) for one in sx.alternatives(weight.source))
        return reduce(_either, (source for sources in several for source in sources))

    changed = with_sources(program, change)
    rest = rest_of(tensors, layouts)
    changed = with_unused(changed, rest)
    notes = notes_on(config, layouts, rest)
    return AsStored(changed, _without(config, known_keys(config, method)), notes)


def _by_name(layouts: Mapping[str, Layout], tensors: Iterable[str]) -> Layouts:
    """Return how the weights of each name are stored, layer by layer; of a layer's experts the first one's is taken."""
    made: dict[str, dict[int, Layout | None]] = {}
    for name, layout in layouts.items():
        made.setdefault(_NUMBER.sub(".0", name), {}).setdefault(_layer(name), layout)
    for name in tensors:
        known = made.get(_NUMBER.sub(".0", name))
        if known is not None and name not in layouts:
            known.setdefault(_layer(name), None)
    return made


def _layer(name: str) -> int:
    """Return the first number in a tensor's name, which is the layer's."""
    number = _NUMBER.search(name)
    return int(number.group()[1:]) if number else -1


def _without(config: ModelConfig, keys: Iterable[str]) -> ModelConfig:
    dropped = {config.origins[key]: STORED for key in keys}
    return replace(
        config,
        values={k: v for k, v in config.values.items() if config.origins[k] not in dropped},
        dropped={**config.dropped, **dropped},
    )


def _all(source: sx.Expr, layouts: Layouts) -> Iterator[sx.Expr]:
    """Yield the sources of packed values that the checkpoint has in place of one, and then that one."""
    yield from _in_layers(source, layouts)
    made: list[sx.Expr] = []
    for choice in range(MAX_LAYOUTS):

        def pick(name: str, choice: int = choice) -> Layout | None:
            ordered = _several(name, layouts)
            return ordered[min(choice, len(ordered) - 1)] if ordered else None

        one = _packed(source, pick, _at(source, choice))
        if one is not None and one not in made:
            made.append(one)
    yield from made
    yield source


def _at(source: sx.Expr, choice: int) -> Span:
    """Return the place of a source that is written here, each its own."""
    start = source.span
    at = Source(f"{start.source.name} as stored ({choice}), at {start.start}", start.text)
    return Span(at, 0, len(at.text))


def _several(name: str, layouts: Layouts) -> list[Layout]:
    """Return the ways in which weights of a name with holes are stored, those of most tensors first."""
    fitting = _fitting(name, layouts)
    counted = Counter(one for layers in fitting for one in layers.values() if one is not None)
    return sorted(counted, key=lambda one: (-one.count, -counted[one]))


def _fitting(name: str, layouts: Layouts) -> list[Mapping[int, Layout | None]]:
    parts = HOLE.split(name)[::2]
    return [layers for packed, layers in layouts.items() if _fits(parts, packed)]


def _in_layers(source: sx.Expr, layouts: Layouts) -> Iterator[sx.Expr]:
    """Yield the source that is another one in some layers, where the file has different ways in different layers."""
    fitting = {text: fits for text in _names(source) if (fits := _fitting(text, layouts))}
    # A name with holes may stand for several modules, each with layers of its own.
    variants = [_distinct(several) for several in fitting.values()]
    made: list[tuple[int, sx.Expr]] = []
    for choice in range(max(map(len, variants), default=0)):
        ways = [several[min(choice, len(several) - 1)] for several in variants]
        groups: dict[tuple[Layout | None, ...], list[int]] = {}
        for layer in sorted({x for way in ways for x in way}):
            groups.setdefault(tuple(way.get(layer) for way in ways), []).append(layer)
        one = _by_groups(source, tuple(fitting), groups, _at(source, MAX_LAYOUTS + choice))
        if one is not None:
            _, *named = _ordered(groups)
            made.append((-sum(len(layers) for _, layers in named), one))
    # Of two that fit the layers which they name, the one that names more is right.
    yield from (one for _, one in sorted(made, key=lambda item: item[0]))


def _distinct(several: Sequence[Mapping[int, Layout | None]]) -> list[Mapping[int, Layout | None]]:
    """Return the different ways of layers, no more than a few."""
    made: list[Mapping[int, Layout | None]] = []
    for one in several:
        if one not in made and len(made) < MAX_LAYOUTS:
            made.append(one)
    return made


def _ordered(groups: Groups) -> list[tuple[tuple[Layout | None, ...], Sequence[int]]]:
    """Return groups of layers, that of most packed ones first, which is the one that need not be named."""
    return sorted(groups.items(), key=lambda item: (None in item[0], -len(item[1]), tuple(item[1])))


def _by_groups(
    source: sx.Expr,
    names: Sequence[str],
    groups: Groups,
    span: Span,
) -> sx.Expr | None:
    """Return the source that is another one in the layers of each group, None where all are alike or one cannot be."""
    made: sx.Expr | None = None
    if len(groups) < 2:
        return None
    for taken, layers in _ordered(groups):
        one = _one(source, dict(zip(names, taken, strict=True)), span)
        if one is None:
            return None
        made = one if made is None else _chosen(layers, one, made, span)
    return made


def _one(source: sx.Expr, picked: Mapping[str, Layout | None], span: Span) -> sx.Expr | None:
    """Return a source with each tensor as it is picked, itself where none is packed."""
    if all(layout is None for layout in picked.values()):
        return source
    return _packed(source, lambda name: picked.get(name), span)  # noqa: PLW0108 - one of two overloads


def _chosen(layers: Sequence[int], one: sx.Expr, other: sx.Expr, span: Span) -> sx.Expr:
    numbers = tuple(sx.Number(span, layer, str(layer)) for layer in layers)
    arguments = (sx.Listing(span, numbers), one, other)
    return sx.Call(span, sx.Name(span, "in_layers"), arguments, ())


def _names(source: sx.Expr) -> Iterator[str]:
    """Yield the names of the tensors in a source."""
    if isinstance(source, sx.String):
        yield source.value
    if isinstance(source, sx.Call):
        for argument in source.arguments:
            yield from _names(argument)


def _packed(source: sx.Expr, pick: Pick, span: Span) -> sx.Expr | None:
    """Return a source with its tensors as they are stored, None where one of them is not packed."""
    if isinstance(source, sx.String):
        one = pick(source.value)
        return None if one is None else _written(one.source, source.value, span)
    if not isinstance(source, sx.Call):
        return None
    turned = _turned(source)
    if turned is not source:
        (name,) = _names(turned)
        layout = pick(name)
        if layout is not None and layout.turned:
            return _packed(turned, pick, span)
    arguments = [
        _packed(argument, pick, span) if isinstance(argument, sx.String | sx.Call) else argument
        for argument in source.arguments
    ]
    if any(argument is None for argument in arguments):
        return None
    return replace(source, span=span, arguments=tuple(a for a in arguments if a is not None))


def _turned(source: sx.Call) -> sx.Call | sx.String:
    """Return a transposed tensor, or transposed columns of one, as they are where the tensor itself is transposed."""
    if source.function.id != "transpose" or len(source.arguments) != 1:
        return source
    (inner,) = source.arguments
    if isinstance(inner, sx.String):
        return inner
    if not (isinstance(inner, sx.Call) and inner.function.id == "columns"):
        return source
    if not isinstance(inner.arguments[0], sx.String):
        return source
    return replace(inner, function=replace(inner.function, id="rows"))


def _fits(parts: Sequence[str], name: str) -> bool:
    """Tell whether a name has these parts in order, from its start to its end, whatever is between them."""
    first, *others = parts
    if not others:
        return name == first
    at = len(first)
    for part in others[:-1]:
        start = name.find(part, at)
        if start < 0:
            return False
        at = start + len(part)
    last = others[-1]
    return name.startswith(first) and name.endswith(last) and len(name) - len(last) >= at


def _written(template: Template, name: str, span: Span) -> sx.Expr:
    """Return a template as a source of the tensors that store the weight of a name."""
    match template:
        case str():
            text = template.replace(W, name).replace(M, name.removesuffix("weight"))
            return sx.String(span, text)
        case int():
            return sx.Number(span, template, str(template))
    function, *arguments = template
    written = tuple(_written(argument, name, span) for argument in arguments)
    return sx.Call(span, sx.Name(span, str(function)), written, ())


def _either(first: sx.Expr, second: sx.Expr) -> sx.Expr:
    return sx.Binary(first.span, "or", first, second, first.span)
