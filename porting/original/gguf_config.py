# SPDX-License-Identifier: Apache-2.0
"""Return transformers' config of the model in a .gguf file; where its reader knows too little, by tables of ours.

The port and its judge share it, and both call it transformers': names of config keys, the type of an architecture that
the reader does not know, and the scaling of a rotation. Works on whatever libraries it is handed and imports none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsl.diagnostics import Refused, refuse
from porting.checkpoint.gguf_header import GgufArray, GgufHeader, GgufValue
from porting.files.strict_json import shown

HELP = "port the original safetensors model"
FACTORS_LONG, FACTORS_SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
SCALING = "rope.scaling."
WINDOW, PATTERN = "attention.sliding_window", "attention.sliding_window_pattern"
LEGACY_FACTOR = "rope.scale_linear"
ORIGINAL = "original_max_position_embeddings"
ATTENTION = f"{SCALING}attn_factor"
TAKES_FACTOR = frozenset({"longrope", "yarn"})
NO_EFFECT = frozenset({f"{SCALING}finetuned"})

Factors = Callable[[str], Sequence[float] | None]
"""The values of a small tensor by its name, None where there is none."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """What transformers' reader is told of an architecture: config keys by llama.cpp's, and the type of the model.

    `fixed` are settings that no key says, `layer_type` that of every layer; `required` are keys whose absence
    llama.cpp and transformers take otherwise. `table` is the reader's name of the architecture, where it has another.
    """

    keys: Mapping[str, str | None]
    model_type: str = ""
    fixed: Mapping[str, object] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    layer_type: str = ""
    table: str = ""


_USUAL: Mapping[str, str | None] = {
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "rope.dimension_count": None,
    "rope.freq_base": "rope_theta",
    "vocab_size": "vocab_size",
}
_LAYER_NORM = {
    **{k: v for k, v in _USUAL.items() if k != "attention.layer_norm_rms_epsilon"},
    "attention.layer_norm_epsilon": "layer_norm_eps",
    "logit_scale": "logit_scale",
}
_EXPERTS = {"expert_used_count": "num_experts_per_tok"}
_MULTIPLIERS = {
    "attention.scale": "attention_multiplier",
    "embedding_scale": "embedding_multiplier",
    "logit_scale": "logits_scaling",
    "residual_scale": "residual_multiplier",
}

ADDED: Mapping[str, Architecture] = {
    "arcee": Architecture(_USUAL),
    "cohere2": Architecture(
        {**_LAYER_NORM, "attention.sliding_window": "sliding_window"},
        required=("logit_scale", "attention.sliding_window"),
    ),
    "command-r": Architecture(
        {k: v for k, v in _LAYER_NORM.items() if k != "attention.key_length"},
        "cohere",
        required=("logit_scale",),
    ),
    "ernie4_5": Architecture(_USUAL),
    "exaone4": Architecture(_USUAL, fixed={"sliding_window": None}, layer_type="full_attention"),
    "exaone4 with windows": Architecture(
        {**_USUAL, WINDOW: "sliding_window", PATTERN: None}, required=(PATTERN,)
    ),
    "gemma": Architecture(_USUAL),
    "glm4": Architecture(_USUAL),
    "granite": Architecture({**_USUAL, **_MULTIPLIERS}, required=tuple(_MULTIPLIERS)),
    # A file of the name "mistral" is read as that type, whose windows no key says.
    "llama": Architecture({}, "llama"),
    "llama with experts": Architecture(
        {**_EXPERTS, "expert_count": "num_local_experts"}, "mixtral", table="llama"
    ),
    "olmo2": Architecture(_USUAL),
    "olmoe": Architecture({**_USUAL, **_EXPERTS, "expert_count": "num_experts"}),
    "phi3": Architecture({"attention.sliding_window": "sliding_window"}),
    "qwen2moe": Architecture(
        {
            "expert_feed_forward_length": "moe_intermediate_size",
            "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
        },
        required=("expert_feed_forward_length", "expert_shared_feed_forward_length"),
        table="qwen2_moe",
    ),
    "qwen3moe": Architecture(
        {"expert_feed_forward_length": "moe_intermediate_size"},
        required=("expert_feed_forward_length",),
        table="qwen3_moe",
    ),
    "seed_oss": Architecture(_USUAL),
    "smollm3": Architecture(_USUAL),
    "stablelm": Architecture({"rope.freq_base": "rope_theta"}),
}
"""By llama.cpp's names: those that transformers' reader does not know, or knows in part."""
PROCESSORS: Mapping[str, str] = {
    "arcee": "llama",
    "gemma": "gemma2",
    "granite": "llama",
    "olmoe": "qwen2moe",
    "smollm3": "llama",
}
"""Architectures whose values llama.cpp's converter changes as it does another's, which the reader takes back."""


def read_config(
    transformers: Any, loader: Any, path: Path, header: GgufHeader, factors: Factors
) -> Any:
    """Return the config of the model in a file that transformers' reader may open by its path."""
    own = _own(header)
    _check_required(header, own)
    with known(loader, header):
        values = loader.load_gguf_checkpoint(str(path), return_tensors=False)["config"]
    values |= own.fixed
    if own.layer_type:
        values["layer_types"] = [own.layer_type] * int(values.get("num_hidden_layers", 0))
    if PATTERN in own.required:
        values["layer_types"] = _layer_types(header)
    if own.model_type:
        values["model_type"] = own.model_type
    for key, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise _refused(header, f"has {value} for `{shown(key)}`")
    mapping = transformers.models.auto.configuration_auto.CONFIG_MAPPING
    if values.get("model_type") not in mapping:
        raise _refused(header, "is of no type that transformers knows")
    # A type's own may lie beyond a file's vocabulary; what is padded is never run.
    values.setdefault("pad_token_id", None)
    if values.get("sliding_window") == 0:
        values["sliding_window"] = None
    config = mapping[values["model_type"]].from_dict(values)
    _scale_rotation(config, header, factors)
    return config


@contextmanager
def known(loader: Any, header: GgufHeader) -> Iterator[None]:
    """Let transformers' reader know a file's architecture by the table."""
    keys, names, processors = (
        loader.GGUF_TO_TRANSFORMERS_MAPPING["config"],
        loader.GGUF_SUPPORTED_ARCHITECTURES,
        loader.TENSOR_PROCESSORS,
    )
    before = dict(keys), list(names), dict(processors)
    own, name = _own(header), header.architecture
    keys[own.table or name] = {**keys.get(own.table or name, {}), **own.keys}
    names.append(name)
    if name in PROCESSORS:
        processors[name] = processors[PROCESSORS[name]]
    if name == "llama" and has_experts(header):
        processors[name] = _both(loader)
    try:
        yield
    finally:
        keys.clear()
        keys.update(before[0])
        names[:] = before[1]
        processors.clear()
        processors.update(before[2])


def _own(header: GgufHeader) -> Architecture:
    name = header.architecture
    window = header.metadata.get(f"{name}.{WINDOW}", 0)
    suffixes = (
        *((" with experts",) if has_experts(header) else ()),
        *((" with windows",) if isinstance(window, int) and window > 0 else ()),
        "",
    )
    rows = (ADDED.get(f"{name}{suffix}") for suffix in suffixes)
    return next((row for row in rows if row is not None), Architecture({}))


def windows(header: GgufHeader) -> tuple[bool, ...]:
    """Return which layers of a file have a window, as far as it says so: by a list, or by every how many none has."""
    said = header.metadata.get(f"{header.architecture}.{PATTERN}")
    layers = header.metadata.get(f"{header.architecture}.block_count", 0)
    if isinstance(said, GgufArray):
        return tuple(bool(x) for x in said.values or ())
    if isinstance(said, int) and said > 0 and isinstance(layers, int):
        return tuple((layer + 1) % said != 0 for layer in range(layers))
    return ()


def _layer_types(header: GgufHeader) -> list[str]:
    names = {True: "sliding_attention", False: "full_attention"}
    return [names[has_window] for has_window in windows(header)]


def has_experts(header: GgufHeader) -> bool:
    """Tell whether a file says that its layers have experts."""
    count = header.metadata.get(f"{header.architecture}.expert_count", 0)
    return isinstance(count, int) and count > 0


def renamed(gguf: Any, header: GgufHeader) -> Mapping[Any, str]:
    """Return the architectures that the package's maps of names know by another type's name."""
    return {gguf.MODEL_ARCH.LLAMA: "mixtral"} if _own(header).model_type == "mixtral" else {}


def _both(loader: Any) -> Any:
    """Return the reader's ways back of rotated rows and of experts as one."""

    class Both(loader.Qwen2MoeTensorProcessor):  # type: ignore[misc]
        config: Any

        def process(self, weights: Any, name: str, **others: Any) -> Any:
            if ".attn_q." in name or ".attn_k." in name:
                rows = loader.LlamaTensorProcessor(config=self.config)
                return rows.process(weights, name, **others)
            return super().process(weights, name, **others)

    return Both


def scaling_keys(header: GgufHeader) -> frozenset[str]:
    """Return the keys of a file's rotation that its config takes up, without the name of the architecture."""
    said = _said(header)
    return frozenset({LEGACY_FACTOR, *SCALARS_READ, *NO_EFFECT} & set(said))


SCALARS_READ = frozenset(
    f"{SCALING}{key}"
    for key in (
        "type", "factor", "original_context_length", "attn_factor", "yarn_beta_fast", "yarn_beta_slow",
    )
)  # fmt: skip


def _said(header: GgufHeader) -> Mapping[str, GgufValue]:
    prefix = f"{header.architecture}."
    return {
        key.removeprefix(prefix): value
        for key, value in header.metadata.items()
        if key.startswith(prefix)
    }


def _check_required(header: GgufHeader, own: Architecture) -> None:
    said = _said(header)
    for key in own.required:
        if key not in said:
            raise _refused(header, f"has no `{header.architecture}.{key}`")


def _scale_rotation(config: Any, header: GgufHeader, factors: Factors) -> None:
    """Give a config the scaling that the keys of a file say; as llama.cpp reads them, a factor alone is linear."""
    said = _said(header)
    long, short = factors(FACTORS_LONG), factors(FACTORS_SHORT)
    factor = _number(header, said, f"{SCALING}factor") or _number(header, said, LEGACY_FACTOR)
    kind = said.get(f"{SCALING}type", "longrope" if long is not None else "linear")
    if kind == "none" or (kind == "linear" and factor in (None, 0.0, 1.0)):
        made: dict[str, object] = {}
    elif kind == "linear":
        made = {"rope_type": "linear", "factor": factor}
    elif kind == "yarn" and factor is not None:
        made = _yarn(header, said, factor)
    elif kind == "longrope" and long is not None and short is not None:
        made = _longrope(header, said, long, short)
    else:
        raise _refused(header, f"scales its rotation by {shown(kind)} in a way that is not read")
    if (long is not None or short is not None) and made.get("rope_type") != "longrope":
        raise _refused(header, "has factors of a rotation that its scaling does not use")
    if made.get("rope_type") not in TAKES_FACTOR and _number(header, said, ATTENTION) not in (
        None,
        1.0,
    ):
        # llama.cpp multiplies queries and keys by it whatever the type.
        raise _refused(header, f"has `{header.architecture}.{ATTENTION}` without a use for it")
    every = getattr(config, "rope_parameters", None) or {}
    if made and not every:
        raise _refused(header, "scales a rotation that its type does not have")
    if made:
        if hasattr(config, ORIGINAL) and ORIGINAL in made:
            setattr(config, ORIGINAL, made[ORIGINAL])
        # Where layers of a window have a rotation of their own, it is not scaled.
        every.get("full_attention", every).update(made)


def _yarn(header: GgufHeader, said: Mapping[str, GgufValue], factor: float) -> dict[str, object]:
    """Return YaRN's settings: llama.cpp multiplies the usual factor of attention by one of the file's."""
    own = _number(header, said, ATTENTION)
    usual = 1.0 + 0.1 * math.log(factor) if factor > 1.0 else 1.0
    made: dict[str, object] = {"rope_type": "yarn", "factor": factor}
    original = _number(header, said, f"{SCALING}original_context_length")
    if original is not None:
        made[ORIGINAL] = int(original)
    if own is not None and own != 1.0:
        made["attention_factor"] = own * usual
    for key in ("beta_fast", "beta_slow"):
        beta = _number(header, said, f"{SCALING}yarn_{key}")
        if beta is not None:
            made[key] = beta
    return made


def _longrope(
    header: GgufHeader, said: Mapping[str, GgufValue], long: Sequence[float], short: Sequence[float]
) -> dict[str, object]:
    original = _number(header, said, f"{SCALING}original_context_length")
    attention = _number(header, said, ATTENTION)
    if original is None or attention is None:
        raise _refused(header, "has factors of a rotation without its original length or scale")
    return {
        "rope_type": "longrope",
        "long_factor": list(long),
        "short_factor": list(short),
        ORIGINAL: int(original),
        "attention_factor": attention,
    }


def _number(header: GgufHeader, said: Mapping[str, GgufValue], key: str) -> float | None:
    value = said.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**31:
        raise _refused(header, f"has no number in `{header.architecture}.{key}`")
    return float(value)


def _refused(header: GgufHeader, fact: str) -> Refused:
    return refuse("S574", f"the {shown(header.architecture)} file {fact}", help=HELP)
