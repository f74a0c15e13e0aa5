# SPDX-License-Identifier: Apache-2.0
"""Read the settings of a PEFT adapter, and refuse by name what is not a LoRA that adds to weights.

Every key is used, has no part in what a trained adapter computes, or is refused where it says something. Patterns are
a stranger's regular expressions: only those that match in bounded time are read. Opens no weights.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dsl.diagnostics import Refused, refuse
from porting.files.files import find_file
from porting.files.strict_json import kind, parse_object, shown

NAME = "adapter_config.json"
MAX_BYTES = 4 * 2**20
MERGE = (
    "where PEFT can merge it, let it: PeftModel.from_pretrained(BASE, ADAPTER).merge_and_unload(), "
    "save_pretrained, and port the result"
)
LORA = "LORA"
NOT_TRAINED_HERE = frozenset({None, "CAUSAL_LM"})
"""Tasks whose model is a causal one; others have heads that no port reads."""
PLAIN_STARTS = frozenset({True, False, None, "eva", "gaussian", "orthogonal"})
"""Ways to begin a training that leave the base's weights as they are; others change them when they load."""
NO_EFFECT = frozenset(
    {
        "auto_mapping", "corda_config", "eva_config", "exclude_modules", "inference_mode", "layers_pattern",
        "layers_to_transform", "loftq_config", "lora_dropout", "megatron_core", "peft_version", "qalora_group_size",
        "runtime_config",
    }
)  # fmt: skip
"""Keys that say how an adapter was trained, or where it was put, which the names of its tensors say too."""
USED = frozenset(
    {
        "alpha_pattern", "base_model_name_or_path", "bias", "fan_in_fan_out", "init_lora_weights", "lora_alpha",
        "modules_to_save", "peft_type", "r", "rank_pattern", "revision", "target_modules", "task_type", "use_dora",
        "use_rslora",
    }
)  # fmt: skip

_SAFE = re.compile(r"\^?[\w.\\*+|\-]{1,200}\$?", re.ASCII)
MAX_REPEATS = 3
MAX_PATTERNS = 4_096


Patterns = tuple[tuple[re.Pattern[str], float], ...]
"""Values for the modules whose names end as a pattern says; the first one counts."""


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """What an adapter says of itself; `targets` are names of modules, empty where a pattern chose them."""

    rank: int
    alpha: float
    is_rank_stabilised: bool
    is_dora: bool
    bias: str
    base: str | None
    revision: str | None
    targets: frozenset[str]
    whole: frozenset[str]
    rank_pattern: Patterns
    alpha_pattern: Patterns

    def rank_of(self, module: str) -> int:
        """Return the rank of a module's matrices."""
        return int(_chosen(self.rank_pattern, module, self.rank))

    def scale(self, module: str) -> float:
        """Return what the product of a module's matrices is multiplied by."""
        rank, alpha = self.rank_of(module), _chosen(self.alpha_pattern, module, self.alpha)
        return alpha / (math.sqrt(rank) if self.is_rank_stabilised else rank)

    def is_target(self, module: str) -> bool:
        """Tell whether the settings name a module, as far as they do."""
        return not self.targets or _ends_with(module, self.targets)

    def is_whole(self, module: str) -> bool:
        """Tell whether the adapter has a module of its own in the place of the base's."""
        return _ends_with(module, self.whole)


def read_settings(folder: Path) -> LoraSettings:
    """Return the settings of the adapter in a folder; raises `Refused` (S545)."""
    file = find_file(folder, NAME)
    if file is None:
        raise refuse("S545", f"there is no {NAME} in the adapter's folder", place=NAME)
    given = parse_object(file.read(MAX_BYTES), name=NAME, code="S545")
    _check_kind(given)
    for key, value in given.items():
        if key not in USED | NO_EFFECT and _says_something(value):
            raise bad(f"`{shown(key)}` = {shown(value)} is not read")
    return LoraSettings(
        rank=int(_number(given, "r", 8, whole=True)),
        alpha=_number(given, "lora_alpha", 8),
        is_rank_stabilised=_flag(given, "use_rslora"),
        is_dora=_flag(given, "use_dora"),
        bias=_text(given, "bias") or "none",
        base=_text(given, "base_model_name_or_path"),
        revision=_text(given, "revision"),
        targets=_names(given, "target_modules"),
        whole=_names(given, "modules_to_save"),
        rank_pattern=_pattern(given, "rank_pattern"),
        alpha_pattern=_pattern(given, "alpha_pattern"),
    )


def bad(fact: str) -> Refused:
    """Return the refusal of an adapter for a fact about it."""
    return refuse("S545", f"the adapter cannot be merged: {fact}", place=NAME, help=MERGE)


def _check_kind(given: Mapping[str, object]) -> None:
    method = given.get("peft_type")
    if method != LORA:
        says = f"its method is {shown(method)}" if method else f"{NAME} names no `peft_type`"
        raise bad(f"{says}; {LORA} is read")
    task = given.get("task_type")
    if task is not None and not (isinstance(task, str) and task in NOT_TRAINED_HERE):
        raise bad(f"it was trained for {shown(task)}, not for a causal language model")
    start = given.get("init_lora_weights", True)
    if not isinstance(start, bool | str | None) or start not in PLAIN_STARTS:
        raise bad(f"`init_lora_weights` = {shown(start)} changes the base's weights")


def _says_something(value: object) -> bool:
    return value not in (None, False, "", 0) and value not in ([], {})


def _chosen(patterns: Patterns, module: str, otherwise: float) -> float:
    return next((value for pattern, value in patterns if pattern.match(module)), otherwise)


def _ends_with(module: str, names: frozenset[str]) -> bool:
    parts = module.split(".")
    return any(".".join(parts[start:]) in names for start in range(len(parts)))


def _number(given: Mapping[str, object], key: str, otherwise: float, whole: bool = False) -> float:
    value = given.get(key, otherwise)
    if not _is_number(value) or (whole and not isinstance(value, int)):
        raise bad(f"`{key}` is {kind(value)}")
    return _checked(key, value)  # type: ignore[arg-type]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _checked(key: str, value: float) -> float:
    if not 0 < value <= 2**24:
        raise bad(f"`{shown(key)}` is {shown(value)}")
    return value


def _flag(given: Mapping[str, object], key: str) -> bool:
    value = given.get(key) or False
    if not isinstance(value, bool):
        raise bad(f"`{key}` is {kind(value)}")
    return value


def _text(given: Mapping[str, object], key: str) -> str | None:
    value = given.get(key)
    if value is not None and not isinstance(value, str):
        raise bad(f"`{key}` is {kind(value)}")
    return value


def _names(given: Mapping[str, object], key: str) -> frozenset[str]:
    """Return a list of names; a text is a pattern, and the names of the tensors say what it chose."""
    value = given.get(key) or []
    if isinstance(value, str) and key == "target_modules":
        return frozenset()
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise bad(f"`{key}` is {kind(value)} of other than names")
    return frozenset(value)


def _pattern(given: Mapping[str, object], key: str) -> Patterns:
    value = given.get(key) or {}
    if not isinstance(value, dict) or len(value) > MAX_PATTERNS:
        raise bad(f"`{key}` is {kind(value)}, or too long")
    return tuple((_safe(key, x), _pattern_value(key, item)) for x, item in value.items())


def _pattern_value(key: str, value: object) -> float:
    if not _is_number(value):
        raise bad(f"`{key}` has {kind(value)}")
    return _checked(key, value)  # type: ignore[arg-type]


def _safe(key: str, pattern: str) -> re.Pattern[str]:
    """Return what matches the end of a name as PEFT does, for patterns without groups and with few repetitions."""
    if not _SAFE.fullmatch(pattern) or sum(map(pattern.count, "*+")) > MAX_REPEATS:
        raise bad(f"`{key}` has the pattern {shown(pattern)}, which may take too long to match")
    try:
        return re.compile(rf"(.*\.)?({pattern})$")
    except re.error as error:
        raise bad(f"`{key}` has {shown(pattern)}, which is no pattern") from error
