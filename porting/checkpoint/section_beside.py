# SPDX-License-Identifier: Apache-2.0
"""Take what a file beside the weights says of how they are stored into a config that is silent about it.

AutoGPTQ, AutoAWQ and modelopt wrote files of their own before transformers gave config.json a section. A file that is
none of theirs is left to the refusal of `beside`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from porting.checkpoint.packed_forms import METHOD, SECTION
from porting.checkpoint.tensors import Checkpoint
from porting.config.reader import MAX_BYTES, ModelConfig
from porting.files.files import find_file
from porting.files.strict_json import parse_object

Raw = Mapping[str, object]
MAX_DEPTH = 8
AWQ_NAMES = {"q_group_size": "group_size", "w_bit": "bits"}


def with_section(config: ModelConfig, checkpoint: Checkpoint) -> ModelConfig:
    """Return a config with the section that a file beside it holds; itself where it has one, or no file is there."""
    if any(key.startswith(SECTION) for key in config.values):
        return config
    for name, read in FILES.items():
        file = find_file(checkpoint.directory, name)
        if file is None:
            continue
        section = read(parse_object(file.read(MAX_BYTES), name=name, code="S421"))
        if section is not None:
            return _added(config, name, section)
    return config


def _added(config: ModelConfig, name: str, section: Raw) -> ModelConfig:
    said = {f"{SECTION}{key}": value for key, value in _leaves(section, "", 0)}
    origins = {key: f"{name}: {key.removeprefix(SECTION)}" for key in said}
    return replace(config, values={**config.values, **said}, origins={**config.origins, **origins})


def _leaves(raw: Raw, start: str, depth: int) -> Iterator[tuple[str, object]]:
    for key, value in raw.items():
        if isinstance(value, Mapping) and depth < MAX_DEPTH:
            yield from _leaves(value, f"{start}{key}.", depth + 1)
        elif value is not None:
            yield f"{start}{key}", value


def file_of(config: ModelConfig) -> str:
    """Return the name of the file that says how weights are stored where it is not config.json."""
    name, mark, _ = config.origins.get(METHOD, "").partition(": ")
    return name if mark else ""


def _gptq(raw: Raw) -> Raw | None:
    return {"quant_method": "gptq", **raw} if "bits" in raw and "group_size" in raw else None


def _awq(raw: Raw) -> Raw | None:
    renamed = {AWQ_NAMES.get(key, key): value for key, value in raw.items()}
    return {"quant_method": "awq", **renamed} if "bits" in renamed else None


def _modelopt(raw: Raw) -> Raw | None:
    inner = raw.get("quantization")
    if not isinstance(inner, Mapping):
        return None
    return {"quant_method": "modelopt", "producer": raw.get("producer"), **inner}


FILES: Mapping[str, Callable[[Raw], Raw | None]] = {
    "quantize_config.json": _gptq,
    "quant_config.json": _awq,
    "hf_quant_config.json": _modelopt,
}
"""Files that say it, by their makers: what each says as a section, nothing where it is something else."""
