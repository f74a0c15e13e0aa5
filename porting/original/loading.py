"""Let transformers load a model folder as it lies: its own config file, its own way to every weight.

What could lead out of the folder or choose code is refused before, and the arguments of the loading overrule what is
left; no key is filtered and no tensor renamed. Weights in forms that transformers has no exact way to are written out
by the formats' definition (`dequantise`). Works on whatever libraries it is handed and imports none itself.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from dsl.diagnostics import refuse
from porting.checkpoint.beside import check_beside
from porting.checkpoint.index import INDEX
from porting.checkpoint.tensors import Checkpoint
from porting.config.forbidden_keys import check_keys
from porting.config.reader import MAX_BYTES, NAME
from porting.files.files import find_file
from porting.files.strict_json import parse_object, shown
from porting.original import dequantise
from porting.original.lengths import LAYERS

OWN = "--reference judges by a reference of your own; `sohu explain own-architecture` shows how"
EAGER: Mapping[str, object] = {
    "attn_implementation": "eager",
    "experts_implementation": "eager",
    "local_files_only": True,
    "trust_remote_code": False,
}
OWN_METHODS = frozenset({"mxfp4"})
"""Stored forms that transformers writes out exactly."""


def checked_config(checkpoint: Checkpoint, adapter: Path | None = None) -> dict[str, object]:
    """Return the folder's config as plain JSON, checked for what transformers must not be let loose on.

    An adapter in the folder is refused unless it is the one that is asked for.
    """
    file = find_file(checkpoint.directory, NAME)
    if file is None:
        raise refuse("S511", f"there is no {NAME} in the model folder")
    raw = parse_object(file.read(MAX_BYTES), name=NAME, code="S421")
    check_keys(raw, name=NAME)
    is_quantised = bool(raw.get("quantization_config") or _beside(checkpoint))
    check_beside(checkpoint, is_quantised=is_quantised, adapter=adapter)
    inner = raw.get("text_config")
    for part in (raw, inner if isinstance(inner, dict) else {}):
        for key in LAYERS:
            _check_depth(key, part.get(key, 1), len(checkpoint.tensors))
    return raw


def _check_depth(key: str, layers: object, tensors: int) -> None:
    """Refuse more layers than there are tensors: they would all be made before anything else is looked at."""
    if isinstance(layers, int) and layers <= tensors:
        return
    message = f"`{key}` is {shown(layers)}, but there are {tensors} tensors"
    raise refuse("S551", message, place=NAME)


def open_config(transformers: Any, folder: Path, raw: Mapping[str, object]) -> Any:
    """Return transformers' config of a folder; a type that it does not know is that of the class the file names."""
    known = transformers.models.auto.configuration_auto.CONFIG_MAPPING
    if raw.get("model_type") in known:
        return transformers.AutoConfig.from_pretrained(folder, **EAGER)
    names = raw.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    causal = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if not isinstance(name, str) or name not in causal.values():
        message = f"transformers knows neither the type {shown(raw.get('model_type'))} nor a causal model {shown(name)}"
        raise refuse("S551", message, place=NAME, help=OWN)
    named = getattr(transformers, name).config_class.model_type
    return transformers.AutoConfig.from_pretrained(folder, model_type=named, **EAGER)


def load_model(transformers: Any, folder: Path, config: Any, dtype: Any) -> Any:
    """Return the model with the weights of a folder; refuses one of which transformers would invent a part."""
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder,
        config=config,
        dtype=dtype,
        use_safetensors=True,
        output_loading_info=True,
        # Else it is read from the folder, and one that is invalid keeps the model from loading.
        generation_config=transformers.GenerationConfig(),
        **EAGER,
    )
    check_weights(info)
    return model.eval()


@contextmanager
def readable(
    torch: Any, transformers: Any, safetensors: Any, checkpoint: Checkpoint, config: Any
) -> Iterator[Path]:
    """Give the folder whose weights transformers is to read: the model's own, or one with its stored forms written out.

    In that case the config loses its section on quantisation.
    """
    section = _section(config) or _beside(checkpoint)
    method = dequantise.method_of(section)
    if not section or method in OWN_METHODS:
        yield checkpoint.directory
        return
    if method not in dequantise.METHODS:
        known = ", ".join(sorted(OWN_METHODS.union(dequantise.METHODS)))
        message = (
            f"the weights are stored as {shown(method)}; the forms that can be read are {known}"
        )
        raise refuse("S551", message, place=NAME)
    for part in (config, config.get_text_config(decoder=True)):
        if hasattr(part, "quantization_config"):
            del part.quantization_config
    turned = _turned(torch, transformers, config)
    with tempfile.TemporaryDirectory(prefix="sohu-") as name:
        _write_whole(torch, safetensors, checkpoint, section, turned, Path(name))
        yield Path(name)


def _section(config: Any) -> Mapping[str, object]:
    """Return what the config says of stored forms, where transformers looks for it."""
    for part in (config, config.get_text_config(decoder=True)):
        section = getattr(part, "quantization_config", None)
        if section is not None:
            return section if isinstance(section, dict) else {"quant_method": str(section)}
    return {}


def _beside(checkpoint: Checkpoint) -> Mapping[str, object]:
    """Return what files beside the config say of stored forms."""

    def read(name: str) -> Mapping[str, object] | None:
        file = find_file(checkpoint.directory, name)
        return None if file is None else parse_object(file.read(MAX_BYTES), name=name, code="S421")

    return dequantise.section_beside(read)


def _turned(torch: Any, transformers: Any, config: Any) -> tuple[str, ...]:
    """Return the names of a model's modules whose weights transformers keeps as [in, out]."""
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    kind = transformers.pytorch_utils.Conv1D
    return tuple(name for name, module in model.named_modules() if isinstance(module, kind))


def _write_whole(
    torch: Any,
    safetensors: Any,
    checkpoint: Checkpoint,
    section: Mapping[str, object],
    turned: tuple[str, ...],
    folder: Path,
) -> None:
    weight_map: dict[str, str] = {}
    with ExitStack() as stack:
        opened = {
            file.name: stack.enter_context(safetensors.safe_open(file.path, framework="pt"))
            for file in checkpoint.files.values()
        }

        def read(tensor: str) -> Any:
            return opened[checkpoint.tensors[tensor].file].get_tensor(tensor)

        whole = dequantise.shards(
            torch, section, list(checkpoint.tensors), read, lambda name: name.endswith(turned)
        )
        for number, tensors in enumerate(whole):
            file_name = f"whole-{number}.safetensors"
            safetensors.torch.save_file(
                dict(tensors), folder / file_name, metadata={"format": "pt"}
            )
            weight_map |= dict.fromkeys(tensors, file_name)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


def check_weights(info: Mapping[str, Any]) -> None:
    """Refuse a model of which transformers invented a part: it fills what the checkpoint lacks at random."""
    for problem in ("missing_keys", "mismatched_keys"):
        names = sorted(str(name) for name in info.get(problem, ()))
        if names:
            first = ", ".join(shown(name) for name in names[:3])
            message = f"the checkpoint does not fit the config: {len(names)} {problem.replace('_', ' ')}: {first}"
            raise refuse("S551", message)
