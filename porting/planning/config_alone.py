# SPDX-License-Identifier: Apache-2.0
"""Plan where a config is at hand and the weights are not: which data type they have, and how they would be stored.

Makes no tensors and judges none: what a checkpoint lacks or has too many of is seen where its headers are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, product

from dsl.graph import Graph, TensorRef
from dsl.inference.inference import infer
from dsl.linking.program import Program
from dsl.stored_tensors import tensors as tensors_of
from dsl.types import DTYPES
from porting.checkpoint.packed_assumed import assumed_parts
from porting.checkpoint.packed_forms import SECTION, method_of
from porting.checkpoint.safetensors_header import TensorInfo
from porting.config.reader import ModelConfig

DTYPE_NAMES = {"bfloat16": "bf16", "float32": "f32", "float16": "f16"}
"""The names that transformers gives to storage formats."""
DTYPE_KEYS = ("dtype", "text_config.dtype")
USUAL = "bf16"
EXCEPT_KEYS = ("modules_to_not_convert", "ignore", "exclude_modules", "ignored_layers")
"""Where quantisers list the modules that they leave as they are."""
REGEX = "re:"
PLAIN_REGEX = re.compile(r"\^?((?:[\w-]|\\?\.|\.\*)+)\$?")
"""The regular expressions that are read: names with wildcards, and one choice of words. Others match nothing."""
CHOICE = re.compile(r"\((?:\?:)?([\w|-]{1,256})\)")
MAX_PATTERNS = 4096
MAX_STARS = 3
ROUTERS = re.compile(r"\.(gate|router|wg|shared_expert_gate)(\.\w+)*\.weight")
"""Matrices that choose experts, which quantisers leave as they are."""


def dtype_of(*configs: ModelConfig) -> tuple[str, tuple[str, ...]]:
    """Return the float format that a config says its weights have, and a note where none says one."""
    for config in configs:
        for key in DTYPE_KEYS:
            said = config.values.get(key)
            if isinstance(said, str) and said in DTYPE_NAMES:
                return DTYPE_NAMES[said], ()
    return USUAL, (f"the config names no data type of the weights: {USUAL} is assumed",)


def assumed_tensors(
    program: Program, config: ModelConfig, values: Mapping[str, object]
) -> tuple[dict[str, TensorInfo], tuple[str, ...]]:
    """Return tensors that show how a quantised checkpoint of this config is stored, none where it is not quantised.

    Quantised are the matrices of layers, except routers and the modules that the config leaves out, with the sizes
    and data types that the config implies. A note says of how many the config does not give the form.
    """
    if not method_of(config):
        return {}, ()
    checked = infer(program.family(), program.blocks, values)
    if checked.graph is None:
        return {}, ()
    kept = LeftOut.of(config)
    made: dict[str, TensorInfo] = {}
    whole = 0
    for ref, names in _matrices(checked.graph):
        packed = not ROUTERS.search(names[0]) and not kept.has(names[0])
        shape = tuple(size if isinstance(size, int) else 0 for size in ref.shape)
        for name in names:
            parts = assumed_parts(config, name, shape) if packed else {}
            whole += packed and not parts
            made |= parts or {name: TensorInfo(name, ref.dtype or DTYPES[USUAL], shape, "", 0, 0)}
    note = f"{whole} quantised matrices count as if they were not: the config does not say what is stored"
    return made, (note,) if whole else ()


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The modules that a config says are not quantised: paths or parts of paths, and patterns with `*`."""

    names: frozenset[str]
    patterns: re.Pattern[str] | None

    @classmethod
    def of(cls, config: ModelConfig) -> LeftOut:
        """Return what a config leaves out."""
        lists = (config.values.get(f"{SECTION}{key}") for key in EXCEPT_KEYS)
        said = [x for value in lists if isinstance(value, list) for x in value[:MAX_PATTERNS]]
        globs = {glob for item in said if isinstance(item, str) for glob in _as_globs(item)}
        wild = sorted(glob for glob in globs if 0 < glob.count("*") <= MAX_STARS)
        either = "|".join(".*".join(map(re.escape, glob.split("*"))) for glob in wild)
        names = frozenset(glob for glob in globs if glob and "*" not in glob)
        return cls(names, re.compile(either) if wild else None)

    def has(self, tensor: str) -> bool:
        """Tell whether a tensor's module is left out."""
        parts = tensor.split(".")
        paths = combinations(range(len(parts)), 2)
        if any(".".join(parts[start:end]) in self.names for start, end in paths):
            return True
        module = tensor.rpartition(".")[0]
        return self.patterns is not None and self.patterns.fullmatch(module) is not None


def _as_globs(pattern: str) -> list[str]:
    """Return a pattern with `*` for any characters, one for each choice; none for an expression that says more."""
    if not pattern.startswith(REGEX):
        return [pattern]
    text = pattern.removeprefix(REGEX)
    choice = CHOICE.search(text)
    texts = [text]
    if choice is not None:
        texts = [
            text[: choice.start()] + way + text[choice.end() :] for way in choice[1].split("|")
        ]
    plain = [PLAIN_REGEX.fullmatch(one) for one in texts]
    return [one[1].replace(".*", "*").replace("\\.", ".") for one in plain if one]


def _matrices(graph: Graph) -> Iterator[tuple[TensorRef, list[str]]]:
    """Yield the tensors that the matrices of layers read, with the names that each has in a stack."""
    for body, layers in graph.bodies():
        if body is graph.body:
            continue
        for layer, weight in product(layers, body.weights):
            if len(weight.type.axes) < 2:
                continue
            names: dict[TensorRef, list[str]] = {}
            for name, ref in tensors_of(weight.source, layer):
                names.setdefault(ref, []).append(name)
            yield from names.items()
