# SPDX-License-Identifier: Apache-2.0
"""What `quantization_config` may say of how weights are stored: the methods, their keys, and what their values may be.

Where the tensors themselves say it, in `packed_layouts`, a key may say anything that fits them; what would change what
is computed is not here, and so stays unread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from porting.config.reader import ModelConfig

SECTION = "quantization_config."
METHOD = f"{SECTION}quant_method"
Values = Mapping[str, tuple[object, ...] | None]
"""What each key may be; None stands for any value, and a name that ends with a dot for all that begin with it."""

# Which modules were chosen, and who made the file: the tensors say it all.
_WHICH = "modules_to_not_convert modules_to_convert ignored_layers ignore exclude_modules exclude quantized_layers."
_MAKER = "producer. version quantization_status global_compression_ratio run_compressed"
# Inputs and caches are computed in the run's numerics, whatever a file's own kernels round them to.
_INPUTS = (
    "activation_scheme activation_scale_ub kv_cache_scheme kv_cache_scheme. kv_cache_quant_algo"
)
_FORMATS = (
    "float-quantized int-quantized naive-quantized pack-quantized nvfp4-pack-quantized mxfp4-pack-quantized "
    "mxfp8-quantized mixed-precision dense"
)
_ALGORITHMS = "FP8 FP8_PER_CHANNEL_PER_TOKEN FP8_PB_WO FP8_PB_REAL NVFP4 W4A16_NVFP4 MXFP4 MXFP8 MIXED_PRECISION"
_WEIGHTS: Values = {
    "num_bits": (1, 2, 4, 8),
    "type": ("int", "float"),
    "strategy": ("tensor", "channel", "group", "tensor_group", "block"),
    "dynamic": (False,),
    "actorder": ("group", "weight", "static", "dynamic", True, False),
    **dict.fromkeys(
        ["symmetric", "group_size", "block_structure", "observer", "scale_dtype", "zp_dtype"]
    ),
    "observer_kwargs.": None,
}
_GROUP: Values = {
    "targets": None,
    "format": tuple(_FORMATS.split()),
    **{f"weights.{key}": values for key, values in _WEIGHTS.items()},
    "input_activations.": None,
    "output_activations.": None,
}
FLOATS: Values = {
    **dict.fromkeys(f"{_WHICH} {_MAKER} {_INPUTS}".split()),
    "quant_method": ("fp8", "compressed-tensors", "modelopt", "modelopt_fp4", "fbgemm_fp8"),
    "fmt": ("e4m3", "float8_e4m3fn"),
    "scale_fmt": ("float", "ue8m0"),
    "dequantize": (False, True),
    "weight_block_size": None,
    "group_size": None,
    "format": tuple(_FORMATS.split()),
    "quant_algo": tuple(_ALGORITHMS.split()),
    "moe_quant_algo": tuple(_ALGORITHMS.split()),
    "sparsity_config.format": ("dense",),
    **{f"config_groups.*.{key}": values for key, values in _GROUP.items()},
}
"""Keys of floats and whole numbers with scales beside them."""
_QUARK = "global_quant_config. layer_quant_config. layer_type_quant_config. algo_config. algo_config quant_mode"
QUARK: Values = {
    **dict.fromkeys(f"{_WHICH} {_QUARK} kv_cache_quant_config.".split()),
    "quant_method": ("quark",),
    "export.weight_format": ("real_quantized",),
    "export.pack_method": None,
    "export.kv_cache_group": None,
    "export.min_kv_scale": None,
}

# How the numbers were found, and which kernels transformers takes.
_HOW = "damp_percent damp_auto_increment true_sequential static_groups mse act_group_aware dataset"
_GPTQ_WHICH = "lm_head modules_in_block_to_quantize block_name_to_quantize modules_to_not_convert"
_KERNELS = "use_exllama disable_exllama exllama_config. max_input_length use_cuda_fp16 backend"
_NAMES = (
    "model_name_or_path model_file_base_name model_seqlen tokenizer batch_size pad_token_id meta."
)
_OTHERS = "module_name_preceding_first_block cache_block_outputs sym group_size"
WORDS: Values = {
    **dict.fromkeys(f"{_HOW} {_GPTQ_WHICH} {_KERNELS} {_NAMES} {_OTHERS}".split()),
    "pack_dtype": ("int32",),
}
GPTQ: Values = {
    **WORDS,
    "bits": (2, 3, 4, 8),
    "quant_method": ("gptq",),
    "method": ("gptq",),
    "desc_act": (False, True),
    "checkpoint_format": ("gptq", "gptq_v2"),
    "format": ("gptq", "gptq_v2"),
    "is_marlin_format": (False,),
    "dynamic.": None,
}
AWQ: Values = {
    **WORDS,
    "bits": (4,),
    "quant_method": ("awq",),
    "method": ("awq",),
    "desc_act": (False,),
    "zero_point": (True,),
    "version": ("gemm", "GEMM", "gemv", "GEMV"),
    "checkpoint_format": ("gemm", "gemv"),
    "format": ("gemm", "gemv"),
    "do_fuse": None,
    "fuse_max_seq_len": None,
    "modules_to_fuse": None,
}
_LLM_INT8 = (
    "bnb_4bit_compute_dtype llm_int8_enable_fp32_cpu_offload llm_int8_has_fp16_weight llm_int8_threshold "
    "llm_int8_skip_modules"
)
BITSANDBYTES: Values = {
    "quant_method": ("bitsandbytes",),
    "_load_in_4bit": (False, True),
    "_load_in_8bit": (False, True),
    "load_in_4bit": (False, True),
    "load_in_8bit": (False, True),
    "bnb_4bit_quant_type": ("nf4", "fp4"),
    "bnb_4bit_use_double_quant": (False, True),
    "bnb_4bit_quant_storage": ("uint8",),
    **dict.fromkeys(_LLM_INT8.split()),
}
METHODS: Mapping[str, Values] = {
    **dict.fromkeys(
        ("fp8", "compressed-tensors", "modelopt", "modelopt_fp4", "fbgemm_fp8"), FLOATS
    ),
    "quark": QUARK,
    "gptq": GPTQ,
    "awq": AWQ,
    "bitsandbytes": BITSANDBYTES,
}
_ANY_GROUP = re.compile(r"^config_groups\.[^.]+\.")
USUAL_GROUP = 128
WHOLE_WIDTH = 0


@dataclass(frozen=True, slots=True)
class WeightGroup:
    """What compressed-tensors says of the weights of some modules; 0 columns in a group are all."""

    bits: int
    group: int
    rows: int
    columns: int


def method_of(config: ModelConfig) -> str:
    """Return the method that a config says its weights are stored by, nothing where it names none that is known."""
    method = config.values.get(METHOD)
    if method is None and config.values.get(f"{SECTION}producer.name") == "modelopt":
        return "modelopt"
    return method if isinstance(method, str) and method in METHODS else ""


def known_keys(config: ModelConfig, method: str) -> tuple[str, ...]:
    """Return the keys of the section that are understood, in full."""
    values = METHODS[method]
    return tuple(
        key
        for key, value in config.values.items()
        if key.startswith(SECTION) and _is_known(config, values, key.removeprefix(SECTION), value)
    )


def _is_known(config: ModelConfig, values: Values, key: str, value: object) -> bool:
    if key == "weight_block_size":
        return is_block(value)
    if key == "group_size":
        return is_size(value) or value == -1
    if key == "format" and method_of(config) in ("gptq", "awq"):
        other = config.values.get(f"{SECTION}checkpoint_format", value)
        return other == value and _allowed(values, key, value)
    return _allowed(values, key, value)


def _allowed(values: Values, key: str, value: object) -> bool:
    key = _ANY_GROUP.sub("config_groups.*.", key)
    setting = values.get(key, ())
    if setting == ():
        return any(key.startswith(name) for name in values if name.endswith("."))
    # Equality alone takes 1 for True.
    return setting is None or any(value == one and type(value) is type(one) for one in setting)


def is_block(value: object) -> bool:
    """Tell whether a value is two sizes."""
    return isinstance(value, list) and len(value) == 2 and all(map(is_size, value))


def is_size(value: object) -> bool:
    """Tell whether a value is a whole number of at least one."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def block_of(config: ModelConfig) -> tuple[int, int] | None:
    """Return how many rows and columns share a scale, where the config says it."""
    value = config.values.get(f"{SECTION}weight_block_size")
    if isinstance(value, list) and is_block(value):
        return value[0], value[1]
    sizes = {(g.rows, g.columns) for g in weight_groups(config) if g.rows}
    return next(iter(sizes)) if len(sizes) == 1 else None


def group_of(config: ModelConfig) -> int:
    """Return how many columns share a scale in GPTQ and AWQ, 0 where all do."""
    value = config.values.get(f"{SECTION}group_size", USUAL_GROUP)
    if value == -1:
        return WHOLE_WIDTH
    return value if isinstance(value, int) and is_size(value) else USUAL_GROUP


def weight_groups(config: ModelConfig) -> tuple[WeightGroup, ...]:
    """Return what a config of compressed-tensors or modelopt says of weights, in the order of its groups."""
    return tuple(_weight_groups(config))


def _weight_groups(config: ModelConfig) -> Iterator[WeightGroup]:
    start = f"{SECTION}config_groups."
    end = ".weights.num_bits"
    for key, bits in config.values.items():
        if not (key.startswith(start) and key.endswith(end) and isinstance(bits, int)):
            continue
        at = key.removesuffix("num_bits")
        group, block = (config.values.get(f"{at}{k}") for k in ("group_size", "block_structure"))
        rows, columns = block if isinstance(block, list) and is_block(block) else (0, 0)
        yield WeightGroup(
            bits, group if isinstance(group, int) and is_size(group) else WHOLE_WIDTH, rows, columns
        )
