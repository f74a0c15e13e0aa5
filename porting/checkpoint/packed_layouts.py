# SPDX-License-Identifier: Apache-2.0
"""How the tensors of a quantised checkpoint store each weight: which of them there are, in which shapes and formats.

Gives for each weight the source that reads it. Whether config and file agree where both say something is checked when
the source's tensors are compared with the file's; values are not read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from porting.checkpoint.packed_forms import (
    SECTION,
    WHOLE_WIDTH,
    WeightGroup,
    block_of,
    group_of,
    is_size,
    weight_groups,
)
from porting.checkpoint.safetensors_header import TensorInfo
from porting.config.reader import ModelConfig

Template: TypeAlias = "str | int | tuple[Template, ...]"
"""A source function with its arguments; `W` stands for the original weight's name, `M` for its module's with a dot."""
W, M = "<weight>", "<module>."
WORD_BITS = 32
USUAL_BLOCK = 128
STATE = ".quant_state.bitsandbytes__"
TABLE_BLOCKS = (64, 128, 256, 512, 1024, 2048, 4096, 32)
"""How many numbers share a size in bitsandbytes, the usual one first."""
SCALES = ("f16", "bf16", "f32")
LOW = frozenset({"f8e4m3", "f8e5m2", "i8", "u8", "f4e2m1"})
"""Formats of elements that are nothing without scales."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How one weight is stored.

    `count` is how many tensors it is stored in; with `turned` a weight that the original keeps as [in, out] is
    [out, in] like those of linear layers.
    """

    source: Template
    count: int
    turned: bool = False

    @property
    def has_one_scale(self) -> bool:
        """Tell whether elements of a byte have one scale for all, or one a row, that is no grid of blocks."""
        match self.source:
            case ("scaled", _, _, ("column", *_), int(), 0):
                return True
        return False

    @property
    def name(self) -> str:
        """Return what the form is called in a note: the source's function, with the format of elements."""
        match self.source:
            case ("scaled", str(dtype), *_):
                return dtype
            case ("integers", _, int(bits), *_):
                return f"whole numbers of {bits} bits"
            case (str(function), *_):
                return function
        return "tensors"


@dataclass(frozen=True, slots=True)
class Said:
    """What a config says of stored weights, for what the tensors leave open."""

    method: str
    block: tuple[int, int] | None
    group: int
    bits: int
    is_second: bool
    groups: tuple[WeightGroup, ...]
    has_rules: bool

    @classmethod
    def of(cls, config: ModelConfig, method: str) -> Said:
        """Return what a config says."""
        values = config.values
        formats = [values.get(f"{SECTION}{key}") for key in ("checkpoint_format", "format")]
        bits = values.get(f"{SECTION}bits")
        return cls(
            method,
            block_of(config),
            group_of(config),
            bits if isinstance(bits, int) and is_size(bits) else 4,
            "gptq_v2" in formats,
            weight_groups(config),
            any(key.startswith(f"{SECTION}dynamic") for key in values),
        )


Tensors: TypeAlias = Mapping[str, TensorInfo]
Read: TypeAlias = Callable[[str, Tensors, Said], Layout | None]


def layouts_of(tensors: Tensors, said: Said) -> dict[str, Layout]:
    """Return how the weights that are stored in low precision are, by the names of the originals."""
    return dict(_layouts(tensors, said))


def _layouts(tensors: Tensors, said: Said) -> Iterator[tuple[str, Layout]]:
    for name in tensors:
        for mark, (original, read) in MARKS.items():
            if not name.endswith(mark):
                continue
            weight = name.removesuffix(mark) + original
            layout = read(weight, tensors, said)
            if layout is not None:
                yield weight, layout
            break


def _of_module(weight: str, part: str) -> str:
    return f"{weight.removesuffix('weight')}{part}"


def _beside(scale: str) -> Read:
    """Return the reading of a weight with scales of this name beside it: FP8, eight-bit whole numbers, FP4 in bytes."""

    def read(weight: str, tensors: Tensors, said: Said) -> Layout | None:
        info, scales = tensors.get(weight), tensors[f"{weight}{scale}"]
        if info is None or info.dtype.name not in LOW:
            return None
        factor = f"{weight}_scale_2"
        if scales.dtype.name == "f8e4m3" and factor in tensors:
            second = _number(f"{W}_scale_2", tensors[factor])
            return _nvfp4(W, f"{W}{scale}", second, _width(info, scales))
        if info.dtype.name == "u8" and scales.dtype.name in ("u8", "e8m0"):
            exponents = ("stored", scales.dtype.name, f"{W}{scale}")
            return Layout(("fp4", W, exponents, _width(info, scales)), 2)
        if info.dtype.name == "u8":
            return None
        return _scaled(info, f"{W}{scale}", scales, said)

    return read


def _width(info: TensorInfo, scales: TensorInfo) -> int:
    """Return how many columns share a scale where two elements are in a byte."""
    if not (info.shape and scales.shape and scales.shape[-1]):
        return 1
    return max(1, 2 * info.shape[-1] // scales.shape[-1])


def _nvfp4(values: Template, scale: str, second: Template, columns: int) -> Layout:
    scales = ("scaled", "f8e4m3", scale, second, 0, 0)
    return Layout(("fp4", values, scales, columns), 3)


def _number(name: str, info: TensorInfo) -> Template:
    """Return one number as a matrix of one row and column, as many axes as the file gives it."""
    source: Template = name if info.dtype.name == "f32" else ("stored", info.dtype.name, name)
    for _ in range(2 - min(len(info.shape), 2)):
        source = ("column", source)
    return source


def _scaled(info: TensorInfo, name: str, scales: TensorInfo, said: Said) -> Layout:
    """Return how elements of a byte with scales are read: one scale, one a row, or one a block."""
    source = _number(name, scales)
    if len(info.shape) < 2 or len(scales.shape) < 2:
        single = scales.shape in ((), (1,))
        if not single:
            source = (
                "column",
                name if scales.dtype.name == "f32" else ("stored", scales.dtype.name, name),
            )
        return Layout(("scaled", info.dtype.name, W, source, 0 if single else 1, 0), 2)
    block = said.block or (None, None)
    rows, columns = (
        _side(size, count, own)
        for size, count, own in zip(info.shape[-2:], scales.shape[-2:], block, strict=True)
    )
    return Layout(("scaled", info.dtype.name, W, source, rows, columns), 2)


def _side(size: int, count: int, said: int | None) -> int:
    """Return how many rows or columns share a scale, by what is said if it fits, 0 for all of them."""
    if said is not None:
        return said
    if count in (1, size):
        return 0 if count == 1 else 1
    if -(-size // USUAL_BLOCK) == count or not count or size % count:
        return USUAL_BLOCK
    return size // count


def _qweight(weight: str, tensors: Tensors, said: Said) -> Layout | None:
    return _awq(weight, tensors, said) if said.method == "awq" else _gptq(weight, tensors, said)


def _gptq(weight: str, tensors: Tensors, said: Said) -> Layout | None:
    if said.method != "gptq":
        return None
    parts = tuple(f"{M}{part}" for part in ("qweight", "qzeros", "scales", "g_idx"))
    scales = _dtype(tensors.get(_of_module(weight, "scales")))
    bits, group = said.bits, said.group
    if said.has_rules:
        bits, group = _measured(weight, tensors) or (bits, group)
    ends = (group, 0 if said.is_second else 1, *(() if bits == 4 else (bits,)))
    return Layout(("gptq", scales, *parts, *ends), 4, turned=True)


def _measured(weight: str, tensors: Tensors) -> tuple[int, int] | None:
    """Return the bits and the columns of a group that the shapes of a weight's parts tell."""
    parts = [tensors.get(_of_module(weight, part)) for part in ("qweight", "scales", "g_idx")]
    shapes = [part.shape for part in parts if part is not None]
    if len(shapes) < 3 or not all(shapes) or not all(shape[0] for shape in shapes):
        return None
    (words, *_), (count, *_), (k, *_) = shapes
    return WORD_BITS * words // k, WHOLE_WIDTH if count == 1 else k // count


def _awq(weight: str, tensors: Tensors, said: Said) -> Layout | None:
    parts = tuple(f"{M}{part}" for part in ("qweight", "qzeros", "scales"))
    infos = [tensors.get(_of_module(weight, part)) for part in ("qweight", "qzeros")]
    shapes = [info.shape for info in infos if info is not None]
    scales = _dtype(tensors.get(_of_module(weight, "scales")))
    # Rows of words are input columns for `gemm`, output rows for `gemv`; zero points have the latter alike.
    is_gemv = len(shapes) == 2 and shapes[0][:1] == shapes[1][:1] and shapes[0] != shapes[1]
    if is_gemv:
        return Layout(("awq_rows", scales, *parts, said.group), 3, turned=True)
    return Layout(("awq", scales, *parts, said.group), 3, turned=True)


def _dtype(info: TensorInfo | None) -> str:
    """Return the format of scales, the usual one where what stands for them cannot be scales."""
    return info.dtype.name if info is not None and info.dtype.name in SCALES else "f16"


def _weight_packed(weight: str, tensors: Tensors, said: Said) -> Layout | None:
    """Return how compressed-tensors packs a weight: whole numbers in words, or FP4 in bytes."""
    info = tensors[_of_module(weight, "weight_packed")]
    scales = tensors.get(_of_module(weight, "weight_scale"))
    if scales is None:
        return None
    values, scale = f"{M}weight_packed", f"{M}weight_scale"
    factor = tensors.get(_of_module(weight, "weight_global_scale"))
    if info.dtype.name == "u8" and factor is not None:
        second = ("inverse", _number(f"{M}weight_global_scale", factor))
        return _nvfp4(values, scale, second, _width(info, scales))
    if info.dtype.name == "u8":
        exponents = ("stored", scales.dtype.name, scale)
        return Layout(("fp4", values, exponents, _width(info, scales)), 2)
    bits, group = _fitting(info, scales, said.groups)
    others = [
        f"{M}{part}" if _of_module(weight, part) in tensors else ""
        for part in ("weight_zero_point", "weight_g_idx")
    ]
    source: Template = ("integers", scales.dtype.name, bits, values, scale, *others, group)
    return Layout(source, 2 + sum(map(bool, others)))


def _fitting(
    info: TensorInfo, scales: TensorInfo, groups: tuple[WeightGroup, ...]
) -> tuple[int, int]:
    """Return bits and columns of a group, of those that the config names the ones that fit the words."""
    words = info.shape[-1] if info.shape else 0
    count = scales.shape[-1] if scales.shape else 0
    for one in groups:
        if one.group and -(-one.group * count * one.bits // WORD_BITS) == words:
            return one.bits, one.group
    whole = [one for one in groups if not one.group and count == 1]
    said = [(one.bits, one.group) for one in whole or groups]
    return said[0] if said else (4, USUAL_BLOCK)


def _llm_int8(weight: str, tensors: Tensors, said: Said) -> Layout | None:
    """Return how bitsandbytes stores eight bits: each row's largest size as the scale of 127."""
    if weight not in tensors:
        return None
    source = ("scaled", "i8", W, ("divided", ("column", f"{M}SCB"), 127), 1, 0)
    return Layout(source, 2, turned=True)


def _absmax(weight: str, tensors: Tensors, said: Said) -> Layout | None:
    """Return how bitsandbytes stores four bits: indices of a table and sizes of blocks, which may be nested."""
    info = tensors.get(weight)
    states = [f"{STATE}{kind}" for kind in ("nf4", "fp4") if f"{weight}{STATE}{kind}" in tensors]
    if info is None or len(states) != 1:
        return None
    nested = [f"{W}.nested_absmax", f"{W}.nested_quant_map"]
    nested = nested if f"{weight}.nested_absmax" in tensors else ["", ""]
    count, blocks = 2 * math.prod(info.shape), math.prod(tensors[f"{weight}.absmax"].shape)
    fitting = [size for size in TABLE_BLOCKS if -(-count // size) == blocks]
    parts = (f"{W}.absmax", f"{W}.quant_map", f"{W}{states[0]}", *nested)
    source: Template = ("bitsandbytes", W, *parts, fitting[0] if fitting else TABLE_BLOCKS[0])
    return Layout(source, 4 + 2 * bool(nested[0]), turned=True)


MARKS: Mapping[str, tuple[str, Read]] = {
    ".qweight": (".weight", _qweight),
    ".weight_packed": (".weight", _weight_packed),
    ".SCB": (".weight", _llm_int8),
    ".absmax": ("", _absmax),
    "_scale_inv": ("", _beside("_scale_inv")),
    "_scale": ("", _beside("_scale")),
}
"""What the name of one tensor of each stored weight ends with, where the original's ends with something else."""
