# SPDX-License-Identifier: Apache-2.0
"""Say which tensors of a base checkpoint an adapter changes, and into what; from names, shapes and settings alone.

Every tensor of the adapter is used or the adapter is refused. Names in an adapter are those of modules; the base's
tensor is that module's, with or without the name of the model's body in front. Values are looked at only to see
whether a tensor that the adapter holds whole differs from the base's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
import numpy.typing as npt

from porting.checkpoint.safetensors_header import TensorInfo
from porting.checkpoint.tensors import Checkpoint
from porting.files.strict_json import shown
from porting.origin.lora_settings import LoraSettings, bad

PREFIX = "base_model.model."
FLOATS = frozenset({"bf16", "f16", "f32"})
BODIES = ("model.", "transformer.")
"""What stands before the names of a model's body, and not always in a file of it."""
INSIDE = (
    ("model.language_model.", "language_model.model."),
    ("language_model.model.", "model.language_model."),
    ("lm_head.", "language_model.lm_head."),
    ("language_model.lm_head.", "lm_head."),
)
"""How names begin in models that hold a text model, as modules and in files, older and newer."""
HEAD = "lm_head"
EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings")
"""The last part of the name of a module that embeds tokens."""
TURNING_TYPES = frozenset({"gpt2", "openai-gpt"})
TURNED = frozenset({"c_attn", "c_fc", "c_proj", "q_attn"})
"""Modules that transformers keeps as [in, out], in the types above."""

_LORA = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)(?:\.weight)?"
)
_WHOLE = re.compile(r"(?P<module>.+?)(?:\.base_layer)?\.(?P<part>weight|bias)")


@dataclass(frozen=True, slots=True)
class LowRank:
    """Two matrices of the adapter whose product, scaled, is added to a weight [rows, columns].

    `left` is [rows, rank] and `right` [rank, columns], each turned first where it says so. With `magnitude` every row
    is then given that length, or every column where the weight is `turned`.
    """

    left: str
    right: str
    scale: float
    turned: bool = False
    magnitude: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A tensor of the result: the base's `source`, or the adapter's `instead`, and what is added to it."""

    name: str
    source: str
    product: LowRank | None = None
    instead: str | None = None


SAME = Change("", "")
"""A tensor that the adapter holds as the base does."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What an adapter changes, by the names of the result; `unties` tells that head and embedding part."""

    by_name: Mapping[str, Change] = field(default_factory=dict)
    unties: bool = False


def changes(
    settings: LoraSettings, adapter: Checkpoint, base: Checkpoint, model_type: str
) -> Changes:
    """Return what an adapter changes in a base; raises `Refused` (S545) for what cannot be placed."""
    parts: dict[str, dict[str, str]] = {}
    wholes: list[tuple[str, str, str]] = []
    for name in adapter.tensors:
        stem = name.removeprefix(PREFIX)
        lora, whole = _LORA.fullmatch(stem), _WHOLE.fullmatch(stem)
        if stem == name or not (lora or whole):
            raise bad(f"nothing is known of its tensor `{shown(name)}`")
        if lora:
            parts.setdefault(lora["module"], {})[lora["part"]] = name
        elif whole:
            wholes.append((whole["module"], whole["part"], name))
    made = chain(
        (_added(settings, module, names, adapter, base, model_type) for module, names in parts.items()),
        (_replaced(settings, *whole, adapter, base) for whole in wholes),
    )  # fmt: skip
    by_name: dict[str, Change] = {}
    for change in made:
        known = by_name.get(change.name)
        if change is SAME:
            continue
        if known is not None and (known.instead is not None or change.instead is None):
            raise bad(f"`{shown(change.name)}` is changed twice")
        by_name[change.name] = change if known is None else replace(known, instead=change.instead)
    if not by_name:
        raise bad("it has no tensors that change its base")
    return _untied(by_name, base)


def _added(
    settings: LoraSettings,
    module: str,
    names: Mapping[str, str],
    adapter: Checkpoint,
    base: Checkpoint,
    model_type: str,
) -> Change:
    if not settings.is_target(module):
        raise bad(f"it has matrices for `{shown(module)}`, which `target_modules` does not name")
    kinds = {part.removesuffix("_A").removesuffix("_B") for part in names} - {
        "lora_magnitude_vector"
    }
    kind = next(iter(kinds)) if len(kinds) == 1 else ""
    first, second = names.get(f"{kind}_A"), names.get(f"{kind}_B")
    if first is None or second is None:
        raise bad(f"`{shown(module)}` lacks one of its two matrices")
    magnitude = names.get("lora_magnitude_vector")
    if settings.is_dora != (magnitude is not None):
        raise bad(f"`{shown(module)}` and `use_dora` disagree about magnitudes")
    is_embedding = kind == "lora_embedding"
    if is_embedding and magnitude is not None:
        raise bad(f"`{shown(module)}` is an embedding with magnitudes (DoRA)")
    turned = model_type in TURNING_TYPES and module.rsplit(".", 1)[-1] in TURNED
    name, source = _place(module, "weight", base)
    rank = settings.rank_of(module)
    _check_shapes(module, source, (first, second), rank, is_embedding or turned, adapter, base)
    left, right = (first, second) if is_embedding or turned else (second, first)
    product = LowRank(left, right, settings.scale(module), is_embedding or turned, magnitude)
    _check_magnitude(module, product, adapter, base.tensors[source])
    return Change(name, source, product)


def _replaced(
    settings: LoraSettings,
    module: str,
    part: str,
    name: str,
    adapter: Checkpoint,
    base: Checkpoint,
) -> Change:
    """Return the change of a weight or bias that the adapter holds whole."""
    last = module.rsplit(".", 1)[-1]
    is_saved = last == HEAD or last in EMBEDDINGS
    if not (settings.is_whole(module) or is_saved or (part == "bias" and settings.bias != "none")):
        raise bad(f"it has `{shown(name)}`, which its settings do not name")
    place, source = _place(module, part, base)
    if adapter.tensors[name].shape != base.tensors[source].shape:
        shapes = (
            f"{list(adapter.tensors[name].shape)}, the base's {list(base.tensors[source].shape)}"
        )
        raise bad(f"`{shown(name)}` is {shapes}: the base was resized")
    if not settings.is_whole(module) and part == "weight":
        if _same_values(adapter.read(name), base.read(source)):
            return SAME
        if not _has_head(base):
            raise bad(f"`{shown(name)}` is not the base's, where head and embedding are one")
    return Change(place, source, instead=name)


def _same_values(one: npt.NDArray[np.generic], other: npt.NDArray[np.generic]) -> bool:
    return all(
        np.array_equal(a.astype(np.float32), b.astype(np.float32))
        for a, b in zip(one, other, strict=True)
    )


def _has_head(base: Checkpoint) -> bool:
    return any(name.rsplit(".", 2)[-2:] == [HEAD, "weight"] for name in base.tensors)


def _place(module: str, part: str, base: Checkpoint) -> tuple[str, str]:
    """Return the name that a module's tensor has in the result, and the base's tensor that it comes from."""
    names = [f"{module}.{part}"]
    for body in BODIES:
        names.append(names[0].removeprefix(body))
        names.append(f"{body}{names[0]}")
    names += [new + names[0].removeprefix(old) for old, new in INSIDE if names[0].startswith(old)]
    name = next((n for n in names if n in base.tensors), None)
    if name is None and module.rsplit(".", 1)[-1] == HEAD and part == "weight":
        # A head that is tied has no tensor of its own.
        return names[0], _embedding(base)
    if name is None:
        raise bad(f"the base has no weight of its own for `{shown(module)}`")
    if base.tensors[name].dtype.name not in FLOATS:
        raise bad(f"the base's `{shown(name)}` is packed; port the adapter on the unpacked model")
    return name, name


def _embedding(base: Checkpoint) -> str:
    names = [n for n in base.tensors if n.removesuffix(".weight").rsplit(".", 1)[-1] in EMBEDDINGS]
    if len(names) != 1:
        raise bad(f"its head is tied, and the base has {len(names)} embeddings")
    return names[0]


def _check_shapes(
    module: str,
    source: str,
    matrices: tuple[str, str],
    rank: int,
    swapped: bool,
    adapter: Checkpoint,
    base: Checkpoint,
) -> None:
    """Refuse matrices A [rank, in] and B [out, rank] that do not fit the weight [out, in], or [in, out]."""
    shape = base.tensors[source].shape
    if len(shape) != 2:
        raise bad(f"the base's `{shown(source)}` is {list(shape)}, not a matrix")
    outs, ins = shape[::-1] if swapped else shape
    for name, wanted in zip(matrices, ((rank, ins), (outs, rank)), strict=True):
        info = adapter.tensors[name]
        if info.shape != wanted or info.dtype.name not in FLOATS:
            message = f"`{shown(name)}` is {info.dtype}{list(info.shape)}; [{wanted[0]}, {wanted[1]}] of floats fits"
            raise bad(f"{message} `{shown(module)}` and its rank")


def _check_magnitude(
    module: str, product: LowRank, adapter: Checkpoint, weight: TensorInfo
) -> None:
    if product.magnitude is None:
        return
    outs = weight.shape[1 if product.turned else 0]
    info = adapter.tensors[product.magnitude]
    if info.shape not in {(outs,), (outs, 1), (1, outs)} or info.dtype.name not in FLOATS:
        raise bad(f"the magnitudes of `{shown(module)}` are {info.dtype}{list(info.shape)}")


def _untied(by_name: dict[str, Change], base: Checkpoint) -> Changes:
    """Return the changes, with both ends of a tied pair as tensors of their own where one of them changes."""
    ends = [n for n in by_name if n == f"{HEAD}.weight" or _is_embedding(n)]
    if _has_head(base) or not ends:
        return Changes(by_name)
    if f"{HEAD}.weight" not in by_name:
        by_name[f"{HEAD}.weight"] = Change(f"{HEAD}.weight", _embedding(base))
    return Changes(by_name, unties=True)


def _is_embedding(name: str) -> bool:
    return name.removesuffix(".weight").rsplit(".", 1)[-1] in EMBEDDINGS


def all_names(base: Checkpoint, made: Changes) -> Iterator[str]:
    """Yield the names of the result's tensors: the base's, and those that the changes add."""
    yield from base.tensors
    yield from (name for name in made.by_name if name not in base.tensors)
