# SPDX-License-Identifier: Apache-2.0
"""Name the format of weights that are no safetensors as transformers writes them, by its maker, and say what would do.

A format is known by the names of its files, or by what config.json says of stored weights; no file is opened for it.
That a form of a known maker is read at all is for `packed_forms`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dsl.diagnostics import Diagnostic, Refused, refuse
from porting.checkpoint.index import few
from porting.checkpoint.packed_forms import METHOD, METHODS, SECTION
from porting.config.reader import NAME, ModelConfig
from porting.files.strict_json import shown

CONVERT = (
    "pickled weights can run code when read; where you trust them, convert them once: python -c "
    "\"from transformers import AutoModelForCausalLM as M; M.from_pretrained('IN').save_pretrained('OUT')\""
)
UNPACKED = (
    "port the model that it was made from, or one of the forms that are read: FP8, NVFP4, MXFP4, GPTQ, AWQ, "
    "bitsandbytes, compressed-tensors, GGUF"
)
ORIGINAL = "port the model that it was made from: this one is compiled for its runtime"
OLD = (
    "convert it once with transformers 4, which later ones cannot: from_pretrained('IN', from_tf=True), for Flax "
    "from_flax=True, then save_pretrained('OUT')"
)


@dataclass(frozen=True, slots=True)
class Foreign:
    """A format of weights: who makes it, patterns of files of which each must be there, and what would do."""

    maker: str
    files: tuple[str, ...]
    help: str
    pickled: bool = False

    def matches(self, names: Sequence[str]) -> list[str]:
        """Return the files of this format among some, none where one that it needs is not there."""
        each = [[name for name in names if re.fullmatch(file, name)] for file in self.files]
        return [name for several in each for name in several] if all(each) else []


FORMATS = (
    Foreign("a pipeline of diffusers, which makes pictures", (r"model_index\.json",),
           "run it with diffusers; a text model in a folder of its own inside may be ported by itself"),
    Foreign("GGUF", (r".+\.gguf",), "name the file: port FOLDER/FILE.gguf; of a split one any part"),
    Foreign("CTranslate2", (r"model\.bin", r"(shared_)?vocabulary\.(json|txt)"), ORIGINAL),
    Foreign("MLC LLM", (r"(ndarray-cache|tensor-cache|mlc-chat-config)\.json",), ORIGINAL),
    Foreign("TensorRT-LLM", (r"rank\d+\.(engine|safetensors)|.+\.engine",), ORIGINAL),
    Foreign("NVIDIA NeMo", (r".+\.nemo|model_weights|model_config\.yaml",),
           "convert it once with NeMo's own scripts for Hugging Face (convert_…_nemo_to_hf.py, or llm.export_ckpt)"),
    Foreign("Megatron", (r"latest_checkpointed_iteration\.txt|mp_rank_\d+(_\d+)?",),
           "convert it once with Megatron's own tools (tools/checkpoint/convert.py, or Megatron-Bridge)"),
    Foreign("DeepSpeed", (r"zero_to_fp32\.py|global_step\d+",),
           "put it together once: python zero_to_fp32.py . OUT --safe_serialization"),
    Foreign("torch's distributed checkpoints", (r".+\.distcp",),
           "put it together once: python -m torch.distributed.checkpoint.format_utils dcp_to_torch IN OUT.pt, and load "
           "that where you trust it, then save_pretrained"),
    Foreign("Mistral's own layout", (r"params\.json", r"consolidated.*\.safetensors(\.index\.json)?"),
           "take the files that transformers reads, which the hub mostly has beside them, or convert it once with "
           "transformers' convert_mistral_weights_to_hf.py"),
    Foreign("the layout of Meta and Mistral", (r"consolidated\.\d+\.pth",),
           "convert it once, where you trust it, with transformers' convert_llama_weights_to_hf.py (Mistral: "
           "convert_mistral_weights_to_hf.py)", pickled=True),
    Foreign("torch", (r"pytorch_model.*\.bin(\.index\.json)?",), CONVERT, pickled=True),
    Foreign("TensorFlow", (r"tf_model.*\.h5|.+\.h5|saved_model\.pb|.+\.ckpt(-\d+)?\.index",), OLD),
    Foreign("Flax", (r".+\.msgpack(\.index\.json)?",), OLD),
    Foreign("ONNX", (r".+\.onnx(_data)?|onnx",), ORIGINAL),
    Foreign("OpenVINO", (r"openvino_.+\.(xml|bin)",), ORIGINAL),
    Foreign("Core ML", (r".+\.(mlmodel|mlmodelc|mlpackage)",), ORIGINAL),
    Foreign("LiteRT", (r".+\.(tflite|task|litertlm)",), ORIGINAL),
    Foreign("ExecuTorch", (r".+\.pte",), ORIGINAL),
    Foreign("MLX", (r"weights(\.\d+)?\.npz",), "convert it once with mlx_lm, which writes safetensors"),
    Foreign("llama.cpp before GGUF", (r"ggml-.+\.bin",), "convert the original model anew: it is read as GGUF"),
    Foreign("torch", (r".+\.(bin|pt|pth|ckpt|pkl)",), CONVERT, pickled=True),
)  # fmt: skip
"""Formats by their files; the first one that fits is told."""

MAKERS: Mapping[str, str] = {
    "aqlm": "AQLM",
    "auto-round": "AutoRound",
    "bitnet": "BitNet",
    "eetq": "EETQ",
    "exl2": "ExLlamaV2 (EXL2)",
    "exl3": "ExLlamaV3 (EXL3)",
    "fouroversix": "Four Over Six",
    "fp_quant": "FP-Quant",
    "higgs": "HIGGS",
    "hqq": "HQQ",
    "intel/auto-round": "AutoRound",
    "marlin": "Marlin",
    "metal": "Metal",
    "quanto": "Quanto",
    "quip": "QuIP#",
    "sinq": "SINQ",
    "spqr": "SpQR",
    "torchao": "torchao",
    "vptq": "VPTQ",
}
"""Methods that `quantization_config` may name and that are not read, by their makers' names."""
READ_BY_FAMILIES = frozenset({"mxfp4"})
MLX_SECTION = "quantization."
MLX_HELP = (
    "port the model that it was made from, or write its weights out once: "
    "mlx_lm.convert --hf-path IN --mlx-path OUT -d"
)
MARLIN_KEYS: Mapping[str, object] = {"is_marlin_format": True, "checkpoint_format": "marlin"}
AGAIN = "port the model that it was made from, or the same words in the form of GPTQ"


def check_layout(names: Sequence[str]) -> None:
    """Refuse the files of a folder that are weights in a format of another kind (S578; S521 where it is pickled)."""
    for one in FORMATS:
        files = one.matches(names)
        if files and one.pickled:
            message = f"the folder has no safetensors, only pickled weights: {few(files)}"
            named = "" if one.maker == "torch" else f", {one.maker}"
            raise refuse("S521", f"{message}{named}", help=one.help)
        if files:
            raise refuse("S578", f"the folder holds {one.maker}: {few(files)}", help=one.help)


def check_method(config: ModelConfig) -> None:
    """Refuse a config whose weights are stored in a form that nothing here reads, by its maker's name (S578)."""
    values = config.values
    method = values.get(METHOD)
    for key, value in MARLIN_KEYS.items():
        if values.get(f"{SECTION}{key}") == value:
            raise _stored(config, f"{SECTION}{key}", "Marlin", AGAIN)
    if method is None and all(f"{MLX_SECTION}{key}" in values for key in ("bits", "group_size")):
        raise _stored(config, f"{MLX_SECTION}bits", "MLX", MLX_HELP)
    if not isinstance(method, str):
        return
    if method in METHODS or method in READ_BY_FAMILIES:
        return
    raise _stored(config, METHOD, MAKERS.get(method, shown(method, 40)), UNPACKED)


def _stored(config: ModelConfig, key: str, maker: str, help_: str) -> Refused:
    message = f"the weights are quantised by {maker}, which is not read"
    place = f"{NAME}: {config.origins.get(key, key)}"
    return Refused((Diagnostic("S578", message, config.span_of(key), place=place, help=help_),))
