"""Let weights come from the low precision that a checkpoint stores them in, as its config says.

A family names the tensors of the original checkpoint. Where a quantised one keeps others in their place or beside them,
each weight may come from both; the port then states which it is. Formats that a family names itself (mxfp4 of gpt-oss)
are not here; what the forms are is in `packed_forms`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce

from dsl.linking.program import Program, with_sources
from dsl.source import Source, Span
from dsl.stored_tensors import HOLE
from dsl.text import syntax as sx
from porting.checkpoint.packed_forms import SECTION, Form, form_of
from porting.checkpoint.safetensors_header import TensorInfo
from porting.config.reader import ModelConfig

STORED = "says how weights are stored, which is what the port's sources say"
_NUMBER = re.compile(r"\.[0-9]+(?=\.)")


def as_stored(
    program: Program, config: ModelConfig, tensors: Mapping[str, TensorInfo]
) -> tuple[Program, ModelConfig]:
    """Return the program with the sources of a quantised checkpoint, and the config without the keys that said so.

    Raises `Refused` for a form that is known not to work.
    """
    form = form_of(config, tensors)
    if form is None:
        return program, config
    said = [
        key
        for key, value in config.values.items()
        if key.startswith(SECTION) and form.known(key.removeprefix(SECTION), value)
    ]
    # Names that differ in a layer's or an expert's number alone are one name here.
    packed = {
        _NUMBER.sub(".0", name).removesuffix(form.mark) + form.original
        for name in tensors
        if name.endswith(form.mark)
    }

    def change(weight: sx.WeightSyntax) -> sx.Expr:
        if len(weight.type.axes) < 2:
            return weight.source
        both = [_both(one, packed, form) for one in sx.alternatives(weight.source)]
        return reduce(_either, both)

    return with_sources(program, change), _without(config, said)


def _without(config: ModelConfig, keys: Iterable[str]) -> ModelConfig:
    dropped = {config.origins[key]: STORED for key in keys}
    return replace(
        config,
        values={k: v for k, v in config.values.items() if config.origins[k] not in dropped},
        dropped={**config.dropped, **dropped},
    )


def _both(source: sx.Expr, packed: Collection[str], form: Form) -> sx.Expr:
    """Return a source or, before it, the same one of packed values, where the checkpoint has such."""
    start = source.span
    at = Source(f"{start.source.name} as stored, at {start.start}", start.text)
    made = _packed(source, packed, form, Span(at, 0, len(at.text)))
    return source if made is None else _either(made, source)


def _packed(source: sx.Expr, packed: Collection[str], form: Form, span: Span) -> sx.Expr | None:
    """Return a source with its tensors as they are stored, None where one of them is not packed."""
    if isinstance(source, sx.String):
        parts = HOLE.split(source.value)[::2]
        whole = source.value.endswith(form.original)
        if not whole or not any(_fits(parts, name) for name in packed):
            return None
        return form.write(source.value, span)
    if not isinstance(source, sx.Call):
        return None
    turned = _turned(source) if form.turned else source
    if turned is not source:
        return _packed(turned, packed, form, span)
    inner = [
        _packed(argument, packed, form, span)
        if isinstance(argument, sx.String | sx.Call)
        else argument
        for argument in source.arguments
    ]
    if any(argument is None for argument in inner):
        return None
    return replace(source, span=span, arguments=tuple(a for a in inner if a is not None))


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


def _either(first: sx.Expr, second: sx.Expr) -> sx.Expr:
    return sx.Binary(first.span, "or", first, second, first.span)
