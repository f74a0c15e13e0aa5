"""How quantised checkpoints store a weight: what `quantization_config` may say, the tensors there are, the source.

FP8 with block scales as in DeepSeek-V3's and Qwen3's checkpoints; GPTQ and AWQ with four bits as AutoGPTQ, GPTQModel
and AutoAWQ write them. Which weights of a program are stored so is decided in `stored_form`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dsl.diagnostics import Diagnostic, Refused
from dsl.source import Span
from dsl.text import syntax as sx
from porting.checkpoint.safetensors_header import TensorInfo
from porting.config.reader import NAME, ModelConfig

SECTION = "quantization_config."
Values = Mapping[str, tuple[object, ...] | None]
"""What each key may be; None stands for any value, and a name that ends with a dot for all that begin with it."""
FP8: Values = {
    "quant_method": ("fp8",),
    "fmt": ("e4m3",),
    "activation_scheme": ("dynamic",),
    "modules_to_not_convert": None,
    "scale_fmt": ("float", "ue8m0"),
    "dequantize": (False, True),
}
# How the numbers were found, which modules were chosen, and which kernels transformers takes: the tensors say it all.
_HOW = "damp_percent damp_auto_increment true_sequential static_groups mse act_group_aware dataset"
_WHICH = "lm_head modules_in_block_to_quantize block_name_to_quantize modules_to_not_convert"
_KERNELS = "use_exllama disable_exllama exllama_config. max_input_length use_cuda_fp16 backend"
_NAMES = (
    "model_name_or_path model_file_base_name model_seqlen tokenizer batch_size pad_token_id meta."
)
_OTHERS = "module_name_preceding_first_block cache_block_outputs sym"
FOUR_BITS: Values = {
    **dict.fromkeys(f"{_HOW} {_WHICH} {_KERNELS} {_NAMES} {_OTHERS}".split()),
    "bits": (4,),
    "pack_dtype": ("int32",),
}
GPTQ: Values = {
    **FOUR_BITS,
    "quant_method": ("gptq",),
    "method": ("gptq",),
    "desc_act": (False,),
    "checkpoint_format": ("gptq", "gptq_v2"),
    "format": ("gptq", "gptq_v2"),
    "is_marlin_format": (False,),
}
AWQ: Values = {
    **FOUR_BITS,
    "quant_method": ("awq",),
    "method": ("awq",),
    "desc_act": (False,),
    "zero_point": (True,),
    "version": ("gemm", "GEMM"),
    "checkpoint_format": ("gemm",),
    "format": ("gemm",),
    "do_fuse": None,
    "fuse_max_seq_len": None,
    "modules_to_fuse": None,
}
USUAL_BLOCK = (128, 128)
USUAL_GROUP = 128
WHOLE_WIDTH = 0


@dataclass(frozen=True, slots=True)
class Form:
    """A way to store weights.

    The name of a tensor that is there for each packed weight ends with `mark` where the original's ends with
    `original`. `write` gives the source of an original name; `known` tells whether a key of the section is understood.
    With `turned` a weight that the original keeps as [in, out] is [out, in] like those of linear layers.
    """

    mark: str
    original: str
    write: Callable[[str, Span], sx.Call]
    known: Callable[[str, object], bool]
    turned: bool = False


def form_of(config: ModelConfig, tensors: Mapping[str, TensorInfo]) -> Form | None:
    """Return the form that a config says its weights are stored in, None where it is the usual one or not known."""
    method = config.values.get(f"{SECTION}quant_method")
    form = FORMS.get(method) if isinstance(method, str) else None
    return None if form is None else form(config, tensors)


def _fp8(config: ModelConfig, tensors: Mapping[str, TensorInfo]) -> Form:
    value = config.values.get(f"{SECTION}weight_block_size")
    rows, columns = value if isinstance(value, list) and _is_block(value) else USUAL_BLOCK

    def known(key: str, value: object) -> bool:
        return _is_block(value) if key == "weight_block_size" else _allowed(FP8, key, value)

    def write(name: str, span: Span) -> sx.Call:
        return _call("scaled", span, "f8e4m3", name, f"{name}_scale_inv", rows, columns)

    return Form("_scale_inv", "", write, known)


def _is_block(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_size, value))


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _gptq(config: ModelConfig, tensors: Mapping[str, TensorInfo]) -> Form:
    group = _group(config)
    _check_order(config, group)
    said = [config.values.get(f"{SECTION}{key}") for key in ("checkpoint_format", "format")]
    added = 0 if "gptq_v2" in said else 1
    scales = _scales(tensors)

    def write(name: str, span: Span) -> sx.Call:
        parts = (name.removesuffix("weight") + part for part in ("qweight", "qzeros", "scales"))
        index = f"{name.removesuffix('weight')}g_idx"
        return _call("gptq", span, scales, *parts, index, group, added)

    return Form(".qweight", ".weight", write, _in_groups(GPTQ, config), turned=True)


def _awq(config: ModelConfig, tensors: Mapping[str, TensorInfo]) -> Form:
    group, scales = _group(config), _scales(tensors)

    def write(name: str, span: Span) -> sx.Call:
        parts = (name.removesuffix("weight") + part for part in ("qweight", "qzeros", "scales"))
        return _call("awq", span, scales, *parts, group)

    return Form(".qweight", ".weight", write, _in_groups(AWQ, config), turned=True)


def _in_groups(values: Values, config: ModelConfig) -> Callable[[str, object], bool]:
    """Return the test of keys for four-bit numbers in groups."""
    formats = [config.values.get(f"{SECTION}{key}") for key in ("checkpoint_format", "format")]
    agree = None in formats or formats[0] == formats[1]

    def known(key: str, value: object) -> bool:
        if key == "group_size":
            return _is_size(value) or value == -1
        if key == "desc_act" and _group(config) == WHOLE_WIDTH:
            return True
        return _allowed(values, key, value) and (agree or key != "format")

    return known


def _group(config: ModelConfig) -> int:
    value = config.values.get(f"{SECTION}group_size", USUAL_GROUP)
    if value == -1:
        return WHOLE_WIDTH
    return value if isinstance(value, int) and _is_size(value) else USUAL_GROUP


def _check_order(config: ModelConfig, group: int) -> None:
    """Refuse act-order before any weight is read; with one group a row there is no order."""
    key = f"{SECTION}desc_act"
    if config.values.get(key) is not True or group == WHOLE_WIDTH:
        return
    message = f"`{key}` is true: the groups of columns are in act-order, which the device does not multiply in"
    help_ = "quantise with desc_act false, or port the original checkpoint"
    raise Refused((Diagnostic("S565", message, config.span_of(key), place=NAME, help=help_),))


def _scales(tensors: Mapping[str, TensorInfo]) -> str:
    """Return the data type of most scales."""
    counted = Counter(t.dtype.name for name, t in tensors.items() if name.endswith(".scales"))
    return counted.most_common(1)[0][0] if counted else "f16"


def _allowed(values: Values, key: str, value: object) -> bool:
    setting = values.get(key, ())
    if setting == ():
        return any(key.startswith(name) for name in values if name.endswith("."))
    return setting is None or value in setting


def _call(function: str, span: Span, *arguments: str | int) -> sx.Call:
    def written(value: str | int) -> sx.Expr:
        if isinstance(value, str):
            return sx.String(span, value)
        return sx.Number(span, value, str(value))

    return sx.Call(span, sx.Name(span, function), tuple(map(written, arguments)), ())


FORMS: Mapping[str, Callable[[ModelConfig, Mapping[str, TensorInfo]], Form]] = {
    "fp8": _fp8,
    "gptq": _gptq,
    "awq": _awq,
}
