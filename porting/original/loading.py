# SPDX-License-Identifier: Apache-2.0
"""Let transformers load a model folder as it lies: its own config file, its own way to every weight.

What could lead out of the folder or choose code is refused before, and the arguments of the loading overrule what is
left; no key is filtered and no tensor renamed. Weights in forms that transformers has no exact way to are written out
by the formats' definition (`dequantise`). Works on whatever libraries it is handed and imports none itself.
"""

from __future__ import annotations

import copy
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
DEPTHS = (*LAYERS, "depth", "encoder_layers", "num_global_layers")
MOST_LAYERS = 256
"""Of a tower, which need not be in the checkpoint."""
MOST_BESIDE = 20_000_000_000
"""Parameters of towers for pictures or sound; those of 2026 have up to 6 thousand million."""
OWN_METHODS = frozenset({"mxfp4"})
"""Stored forms that transformers writes out exactly."""


def checked_config(checkpoint: Checkpoint, adapter: Path | None = None) -> dict[str, object]:
    """Return the folder's config as plain JSON, checked for what transformers must not be let loose on.

    An adapter in the folder is refused unless it is the one that is asked for.
    """
    file = find_file(checkpoint.directory, NAME)
    if file is None:
        raise refuse("S511", f"there is no {NAME} in the model folder")
    raw = parse_object(file.read(MAX_BYTES), name=NAME, code="S421", constants=True)
    check_keys(raw, name=NAME)
    is_quantised = bool(raw.get("quantization_config") or _beside(checkpoint))
    check_beside(checkpoint, is_quantised=is_quantised, adapter=adapter)
    for part in _parts(raw):
        is_text = part is raw or part is raw.get("text_config")
        most = len(checkpoint.tensors) if is_text else max(len(checkpoint.tensors), MOST_LAYERS)
        for key in DEPTHS:
            _check_depth(key, part.get(key, 1), most)
    return raw


def _parts(raw: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """Yield a config and those inside of it."""
    yield raw
    for value in raw.values():
        if isinstance(value, dict):
            yield from _parts(value)


def _check_depth(key: str, layers: object, most: int) -> None:
    """Refuse more layers than there are tensors: they would all be made before anything else is looked at."""
    if isinstance(layers, int) and layers <= most:
        return
    message = f"`{key}` is {shown(layers)}, which is more than the {most} layers that there can be"
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


def load_model(torch: Any, transformers: Any, folder: Path, config: Any, dtype: Any) -> Any:
    """Return the model with the weights of a folder; refuses one of which transformers would invent a part.

    What text does not pass may be missing in a model that reads other things too: it is made NaN, which would show.
    """
    kind = auto_class(transformers, config)
    _check_size(torch, kind, config)
    has_others = config.get_text_config() is not config
    model, info = kind.from_pretrained(
        folder,
        config=config,
        dtype=dtype,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=has_others,
        # Else it is read from the folder, and one that is invalid keeps the model from loading.
        generation_config=transformers.GenerationConfig(),
        **EAGER,
    )
    model.eval()
    if not (has_others and _is_complete_for_text(torch, model, info)):
        check_weights(info)
    return model


def auto_class(transformers: Any, config: Any) -> Any:
    """Return what makes the model of a config: a causal one, else one that reads text beside other things."""
    causal = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING
    if type(config) in causal:
        return transformers.AutoModelForCausalLM
    return transformers.AutoModelForMultimodalLM


def empty_model(torch: Any, kind: Any, config: Any) -> Any:
    """Return the model of a config without memory for its weights; no config chooses how it is computed."""
    chosen = {key: value for key, value in EAGER.items() if key.endswith("_implementation")}
    with torch.device("meta"):
        return kind.from_config(copy.deepcopy(config), **chosen)


def _check_size(torch: Any, kind: Any, config: Any) -> None:
    """Refuse a model whose parts beside the text model are larger than any: no tensor need stand for them."""
    if config.get_text_config() is config:
        return
    model = empty_model(torch, kind, config)
    inside = {id(p) for p in model.get_decoder().parameters()}
    size = sum(p.numel() for p in model.parameters() if id(p) not in inside)
    if size > MOST_BESIDE:
        message = (
            f"{size:,} parameters stand beside the text model; at most {MOST_BESIDE:,} are made"
        )
        raise refuse("S551", message, place=NAME)


def _is_complete_for_text(torch: Any, model: Any, info: Mapping[str, Any]) -> bool:
    """Make what transformers invented NaN, and tell whether text is computed without it."""
    invented = {*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])}
    with torch.no_grad():
        for name in sorted(invented):
            value = model.get_parameter_or_buffer(name)
            if value.is_floating_point():
                value.fill_(float("nan"))
        logits = model(input_ids=torch.tensor([[0, 1]]), use_cache=False).logits
    return bool(torch.isfinite(logits).all())


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
    model = empty_model(torch, auto_class(transformers, config), config)
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
