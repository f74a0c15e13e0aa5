"""Let weights come from the low precision that a checkpoint stores them in, as its tensors and its config say.

A family names the tensors of the original checkpoint. Where a quantised one keeps others in their place or beside them,
each weight may come from both; the port then states which it is. Formats that a family names itself (mxfp4 of gpt-oss)
are not here; how the tensors store a weight is in `packed_layouts`, what the config may say in `packed_forms`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

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

Layouts = Mapping[str, tuple[Layout, ...]]


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
    by_name = _by_name(layouts)

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


def _by_name(layouts: Mapping[str, Layout]) -> Layouts:
    """Return the ways to store weights of one name, but for a layer's or an expert's number; of most tensors first."""
    counted: dict[str, Counter[Layout]] = {}
    for name, layout in layouts.items():
        counted.setdefault(_NUMBER.sub(".0", name), Counter())[layout] += 1
    return {
        name: tuple(sorted(counts, key=lambda one: (-one.count, -counts[one]))[:MAX_LAYOUTS])
        for name, counts in counted.items()
    }


def _without(config: ModelConfig, keys: Iterable[str]) -> ModelConfig:
    dropped = {config.origins[key]: STORED for key in keys}
    return replace(
        config,
        values={k: v for k, v in config.values.items() if config.origins[k] not in dropped},
        dropped={**config.dropped, **dropped},
    )


def _all(source: sx.Expr, layouts: Layouts) -> Iterator[sx.Expr]:
    """Yield the sources of packed values that the checkpoint has in place of one, and then that one."""
    start = source.span
    at = Source(f"{start.source.name} as stored, at {start.start}", start.text)
    span = Span(at, 0, len(at.text))
    made: list[sx.Expr] = []
    for choice in range(MAX_LAYOUTS):
        one = _packed(source, layouts, choice, span)
        if one is not None and one not in made:
            made.append(one)
    yield from made
    yield source


def _packed(source: sx.Expr, layouts: Layouts, choice: int, span: Span) -> sx.Expr | None:
    """Return a source with its tensors as they are stored, None where one of them is not packed."""
    if isinstance(source, sx.String):
        one = _layout(source.value, layouts, choice)
        return None if one is None else _written(one.source, source.value, span)
    if not isinstance(source, sx.Call):
        return None
    turned = _turned(source)
    if turned is not source:
        inner = _packed(turned, layouts, choice, span)
        if inner is not None and _is_turned(turned, layouts, choice):
            return inner
    arguments = [
        _packed(argument, layouts, choice, span)
        if isinstance(argument, sx.String | sx.Call)
        else argument
        for argument in source.arguments
    ]
    if any(argument is None for argument in arguments):
        return None
    return replace(source, span=span, arguments=tuple(a for a in arguments if a is not None))


def _layout(name: str, layouts: Layouts, choice: int) -> Layout | None:
    """Return one of the ways in which weights of a name with holes are stored."""
    parts = HOLE.split(name)[::2]
    fitting = dict.fromkeys(
        layout for packed, several in layouts.items() if _fits(parts, packed) for layout in several
    )
    ordered = sorted(fitting, key=lambda layout: -layout.count)
    return ordered[min(choice, len(ordered) - 1)] if ordered else None


def _is_turned(source: sx.Expr, layouts: Layouts, choice: int) -> bool:
    """Tell whether the tensor in a source is stored as that of a linear layer, whatever the original is."""
    while isinstance(source, sx.Call):
        source = source.arguments[0]
    layout = _layout(source.value, layouts, choice) if isinstance(source, sx.String) else None
    return layout is not None and layout.turned


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
