"""Let weights come from the low precision that a checkpoint stores them in, as its config says.

A family names the tensors of the original checkpoint. Where a quantised one keeps scales beside them, each weight may
come from both; the port then states which it is. Formats that a family names itself (mxfp4 of gpt-oss) are not here.

FP8 with block scales: `quantization_config` as in DeepSeek-V3's and Qwen3's FP8 checkpoints; transformers reads it in
integrations/finegrained_fp8.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce

from dsl import syntax as sx
from dsl.program import Program, with_sources
from dsl.source import Source, Span
from dsl.stored_tensors import HOLE
from porting.config.reader import ModelConfig

SECTION = "quantization_config."
SCALES = "_scale_inv"
STORED = "says how weights are stored, which is what the port's sources say"
# What each key may be; None stands for any value.
FP8: Mapping[str, tuple[object, ...] | None] = {
    "quant_method": ("fp8",),
    "fmt": ("e4m3",),
    "activation_scheme": ("dynamic",),
    "weight_block_size": None,
    "modules_to_not_convert": None,
    "scale_fmt": ("float", "ue8m0"),
    "dequantize": (False, True),
}
USUAL_BLOCK = (128, 128)
_NUMBER = re.compile(r"\.[0-9]+(?=\.)")


def as_stored(
    program: Program, config: ModelConfig, names: Iterable[str]
) -> tuple[Program, ModelConfig]:
    """Return the program with the sources of a quantised checkpoint, and the config without the keys that said so."""
    if config.values.get(f"{SECTION}quant_method") != "fp8":
        return program, config
    said = [
        key
        for key, value in config.values.items()
        if key.startswith(SECTION) and _is_known(key.removeprefix(SECTION), value)
    ]
    # Names that differ in a layer's or an expert's number alone are one name here.
    scales = {_NUMBER.sub(".0", name) for name in names if name.endswith(SCALES)}
    block = _block(config)

    def change(weight: sx.WeightSyntax) -> sx.Expr:
        if len(weight.type.axes) < 2:
            return weight.source
        both = [_both(one, scales, block) for one in sx.alternatives(weight.source)]
        return reduce(_either, both)

    return with_sources(program, change), _without(config, said)


def _is_known(key: str, value: object) -> bool:
    if key == "weight_block_size":
        return _is_block(value)
    allowed = FP8.get(key, ())
    return allowed is None or value in allowed


def _block(config: ModelConfig) -> tuple[int, int]:
    value = config.values.get(f"{SECTION}weight_block_size")
    return (value[0], value[1]) if isinstance(value, list) and _is_block(value) else USUAL_BLOCK


def _is_block(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in value)
    )


def _without(config: ModelConfig, keys: Iterable[str]) -> ModelConfig:
    dropped = {config.origins[key]: STORED for key in keys}
    return replace(
        config,
        values={k: v for k, v in config.values.items() if config.origins[k] not in dropped},
        dropped={**config.dropped, **dropped},
    )


def _both(source: sx.Expr, scales: Iterable[str], block: tuple[int, int]) -> sx.Expr:
    """Return a source or, before it, the same one of scaled values, where the checkpoint has such scales."""
    start = source.span
    at = Source(f"{start.source.name} as stored, at {start.start}", start.text)
    span = Span(at, 0, len(at.text))
    scaled = _scaled(source, scales, block, span)
    return source if scaled is None else _either(scaled, source)


def _fits(parts: Sequence[str], name: str) -> bool:
    """Tell whether a name has these parts in order, from its start to its end, whatever is between them."""
    first, *others = parts
    if not others:
        return name == first
    at = len(first)
    for part in others[:-1]:
        found = name.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    last = others[-1]
    return name.startswith(first) and name.endswith(last) and len(name) - len(last) >= at


def _either(first: sx.Expr, second: sx.Expr) -> sx.Expr:
    return sx.Binary(first.span, "or", first, second, first.span)


def _scaled(
    source: sx.Expr, scales: Iterable[str], block: tuple[int, int], span: Span
) -> sx.Expr | None:
    """Return a source with its tensors scaled, None where one of them has no scales."""
    if isinstance(source, sx.String):
        parts = HOLE.split(source.value)[::2]
        if not any(_fits(parts, name.removesuffix(SCALES)) for name in scales):
            return None
        words = ("f8e4m3", source.value, source.value + SCALES)
        numbers = (sx.Number(span, n, str(n)) for n in block)
        arguments: tuple[sx.Expr, ...] = (*(sx.String(span, word) for word in words), *numbers)
        return sx.Call(span, sx.Name(span, "scaled"), arguments, ())
    if not isinstance(source, sx.Call):
        return None
    inner = [
        _scaled(argument, scales, block, span)
        if isinstance(argument, sx.String | sx.Call)
        else argument
        for argument in source.arguments
    ]
    if any(argument is None for argument in inner):
        return None
    return replace(source, span=span, arguments=tuple(a for a in inner if a is not None))
