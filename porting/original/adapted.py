# SPDX-License-Identifier: Apache-2.0
"""Attach a PEFT adapter to a loaded original: each module's weight becomes what PEFT's definition makes of it.

Read and computed apart from the port's merge, in float64, on transformers' own modules; the result has the format of
the weight that it replaces. Works on whatever libraries it is handed and imports none itself.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dsl.diagnostics import Refused, refuse
from porting.files.files import find_file, list_names
from porting.files.strict_json import parse_object, shown

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MAX_BYTES = 4 * 2**20
MAX_REPEATS = 3
"""Of a pattern, which is a stranger's: more may take too long to match."""
PREFIX = "base_model.model."
MARK = re.compile(r"\.(lora_[A-Za-z_]+?)(?:\.weight)?$")
EXPERT = re.compile(
    r"(?P<block>.+)\.(?:mlp|block_sparse_moe)\.experts\.(?P<number>[0-9]{1,6})\.(?P<part>w[123]|(?:gate|up|down)_proj)"
)
"""An expert's module in transformers before version 5, where adapters were trained."""
GATES, DOWN = frozenset({"w1", "gate_proj"}), frozenset({"w2", "down_proj"})
RENAMED = (
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head", "lm_head"),
)
"""Modules of models with a text model inside, before and since transformers 4.52."""
PLAIN = re.compile(r"[\w.\\^$|*+-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Adapted:
    """An original that is a model and an adapter: the model's folder or .gguf file, and the adapter's folder."""

    base: Path
    adapter: Path

    def files(self) -> list[Path]:
        """Return the adapter's own files."""
        return [self.adapter / CONFIG, self.adapter / WEIGHTS]


def attach(torch: Any, transformers: Any, safetensors: Any, model: Any, folder: Path) -> None:
    """Give a model's modules the weights that they have with the adapter in a folder."""
    given, weights = find_file(folder, CONFIG), find_file(folder, WEIGHTS)
    if given is None or weights is None:
        raise _unfit(f"there is no {CONFIG if given is None else WEIGHTS}")
    settings = parse_object(given.read(MAX_BYTES), name=CONFIG, code="S551")
    if settings.get("peft_type") != "LORA":
        raise _unfit("it is no LoRA")
    by_module: dict[str, dict[str, Any]] = {}
    with safetensors.safe_open(weights.path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - not a mapping
            mark = MARK.search(name)
            stem = name[: mark.start()] if mark else name.rpartition(".")[0]
            kind = mark[1] if mark else name.rpartition(".")[2]
            module = stem.removeprefix(PREFIX).removesuffix(".base_layer")
            by_module.setdefault(module, {})[kind] = file.get_tensor(name).double()
    conv = transformers.pytorch_utils.Conv1D
    for name, parts in by_module.items():
        _attach(torch, model, name, parts, settings, conv)


def _attach(
    torch: Any,
    model: Any,
    name: str,
    parts: Mapping[str, Any],
    settings: Mapping[str, Any],
    conv: Any,
) -> None:
    module = _module(model, name)
    if module is None:
        if not _attach_to_expert(model, name, parts, settings):
            raise _unfit(f"the original has no module `{shown(name)}`")
        return
    if "bias" in parts:
        module.bias = torch.nn.Parameter(parts["bias"].to(module.bias.dtype), requires_grad=False)
    # Where no matrices stand beside it, it is the whole module's.
    weight = parts.get("weight", module.weight.detach().double())
    merged = _merged(torch, name, module, weight, parts, settings, conv)
    if merged.shape != module.weight.shape:
        raise _unfit(f"`{shown(name)}` has another shape")
    # A new parameter, so that one that was tied to this weight keeps its own.
    module.weight = torch.nn.Parameter(merged.to(module.weight.dtype), requires_grad=False)


def _module(model: Any, name: str) -> Any:
    """Return a module by its name, or by what newer classes call it that hold a text model; None if there is none."""
    for old, new in (("", ""), *RENAMED):
        if name.startswith(old):
            try:
                return model.get_submodule(new + name.removeprefix(old))
            except AttributeError:
                continue
    return None


def _attach_to_expert(
    model: Any, name: str, parts: Mapping[str, Any], settings: Mapping[str, Any]
) -> bool:
    """Change one expert's part of a weight that transformers holds for all; tell whether there is such a weight.

    Rows of the gate come first, then those beside it, as transformers puts them together when it loads.
    """
    match = EXPERT.fullmatch(name)
    if match is None or set(parts) != {"lora_A", "lora_B"}:
        return False
    try:
        experts = model.get_submodule(f"{match['block']}.mlp.experts")
    except AttributeError:
        return False
    is_down = match["part"] in DOWN
    weight = getattr(experts, "down_proj" if is_down else "gate_up_proj", None)
    if weight is None or not int(match["number"]) < len(weight):
        return False
    own = weight.data[int(match["number"])]
    if not is_down:
        own = own.chunk(2)[0 if match["part"] in GATES else 1]
    delta = _scaling(settings, name) * (parts["lora_B"] @ parts["lora_A"])
    if own.shape != delta.shape:
        raise _unfit(f"`{shown(name)}` has another shape")
    own.copy_((own.double() + delta).to(own.dtype))
    return True


def _merged(
    torch: Any,
    name: str,
    module: Any,
    weight: Any,
    parts: Mapping[str, Any],
    settings: Mapping[str, Any],
    conv: Any,
) -> Any:
    if "lora_embedding_A" in parts:
        a, b = parts["lora_embedding_A"], parts["lora_embedding_B"]
        return weight + _scaling(settings, name) * (b @ a).T
    if "lora_A" not in parts:
        return weight
    delta = _scaling(settings, name) * (parts["lora_B"] @ parts["lora_A"])
    turned = isinstance(module, conv)
    whole = (weight.T if turned else weight) + delta
    if "lora_magnitude_vector" in parts:
        length = torch.linalg.vector_norm(whole, dim=1, keepdim=True)
        whole = parts["lora_magnitude_vector"].reshape(-1, 1) / length * whole
    return whole.T.contiguous() if turned else whole


def _scaling(settings: Mapping[str, Any], module: str) -> float:
    rank = _matched(settings.get("rank_pattern"), module, settings.get("r", 8))
    alpha = _matched(settings.get("alpha_pattern"), module, settings.get("lora_alpha", 8))
    return float(alpha) / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _matched(patterns: Any, module: str, otherwise: Any) -> Any:
    for pattern, value in (patterns or {}).items():
        if _compiled(pattern).match(module):
            return value
    return otherwise


@lru_cache(maxsize=8_192)
def _compiled(pattern: str) -> re.Pattern[str]:
    if not PLAIN.fullmatch(pattern) or sum(map(pattern.count, "*+")) > MAX_REPEATS:
        raise _unfit(f"the pattern {shown(pattern)} may take too long to match")
    return re.compile(rf"(.*\.)?({pattern})$")


@contextmanager
def alone(folder: Path) -> Iterator[Path]:
    """Give a base's folder without the adapter's files, which transformers would attach where PEFT is installed."""
    if not any(name.startswith("adapter_") for name in list_names(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="sohu-") as name:
        for other in list_names(folder):
            if not other.startswith("adapter_"):
                (Path(name) / other).symlink_to((folder / other).resolve())
        yield Path(name)


def _unfit(fact: str) -> Refused:
    return refuse("S551", f"the adapter does not fit the original: {fact}", place=WEIGHTS)
