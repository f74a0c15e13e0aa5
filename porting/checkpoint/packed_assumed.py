# SPDX-License-Identifier: Apache-2.0
"""In which tensors a checkpoint would store a weight, as far as its config alone says it.

For planning without weights: names, shapes and formats, no bytes. What a config leaves open is as its method writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

from dsl.types import DTYPES
from porting.checkpoint.packed_forms import SECTION, WHOLE_WIDTH, method_of
from porting.checkpoint.packed_layouts import USUAL_BLOCK, WORD_BITS, Said
from porting.checkpoint.safetensors_header import TensorInfo
from porting.config.reader import ModelConfig

Shape = tuple[int, ...]
Parts = Mapping[str, tuple[str, Shape]]
"""The format and shape of each tensor; `W` and `M` are the weight's name and its module's."""
W, M = "W", "M."
NVFP4_COLUMNS, MX_COLUMNS = 16, 32
ALGORITHM = f"{SECTION}quant_algo"


def assumed_parts(config: ModelConfig, name: str, shape: Shape) -> dict[str, TensorInfo]:
    """Return the tensors that store a weight of a name and shape; the weight as it was where that is not known."""
    made: dict[str, TensorInfo] = {}
    for part, (dtype, size) in _parts(config, shape).items():
        own = part.replace(W, name) if part.startswith(W) else _of_module(name, part)
        made[own] = TensorInfo(own, DTYPES[dtype], size, "", 0, 0)
    return made


# A mixture of experts has tens of thousands of weights, and few shapes.
@lru_cache(maxsize=1024)
def _parts(config: ModelConfig, shape: Shape) -> Parts:
    method = method_of(config)
    return ASSUMED[method](config, Said.of(config, method), shape) if method else {}


def _of_module(name: str, part: str) -> str:
    return name.removesuffix("weight") + part.removeprefix(M)


def _up(size: int, by: int) -> int:
    return -(-size // max(by, 1))


def _floats(config: ModelConfig, said: Said, shape: Shape) -> Parts:
    algorithm = config.values.get(ALGORITHM) or config.values.get(f"{SECTION}moe_quant_algo")
    if said.method == "compressed-tensors":
        return _compressed(config, said, shape)
    *outer, n, k = shape
    if algorithm in ("NVFP4", "W4A16_NVFP4"):
        scales = (*outer, n, _up(k, NVFP4_COLUMNS))
        return {
            W: ("u8", (*outer, n, k // 2)),
            f"{W}_scale": ("f8e4m3", scales),
            f"{W}_scale_2": ("f32", ()),
        }
    if said.method in ("modelopt", "modelopt_fp4"):
        return {W: ("f8e4m3", shape), f"{W}_scale": ("f32", ())}
    if said.method == "fbgemm_fp8":
        return {W: ("f8e4m3", shape), f"{W}_scale": ("f32", (*outer, n, 1))}
    rows, columns = said.block or (USUAL_BLOCK, USUAL_BLOCK)
    grid = (*outer, _up(n, rows), _up(k, columns))
    return {W: ("f8e4m3", shape), f"{W}_scale_inv": ("f32", grid)}


def _compressed(config: ModelConfig, said: Said, shape: Shape) -> Parts:
    """Return what the first group of compressed-tensors says, whose scales have the weight's old format."""
    if not said.groups or len(shape) != 2:
        return {}
    (n, k), first = shape, said.groups[0]
    kind, strategy = (_of_first(config, key) for key in ("type", "strategy"))
    if kind == "float" and first.bits == 4:
        nvfp4 = first.group == NVFP4_COLUMNS
        grid = (n, _up(k, NVFP4_COLUMNS if nvfp4 else MX_COLUMNS))
        parts = {f"{M}weight_packed": ("u8", (n, k // 2))}
        parts[f"{M}weight_scale"] = ("f8e4m3" if nvfp4 else "u8", grid)
        return parts | ({f"{M}weight_global_scale": ("f32", (1,))} if nvfp4 else {})
    counts: Mapping[str, Shape] = {"tensor": (1,), "channel": (n, 1)}
    scales: Shape = counts.get(
        strategy, (_up(n, first.rows or 1), _up(k, first.columns or first.group or k))
    )
    packed = f"{SECTION}format" in config.values and "pack-quantized" in str(
        config.values[f"{SECTION}format"]
    )
    if packed or first.bits < 8:
        words = _up(k * first.bits, WORD_BITS)
        return {f"{M}weight_packed": ("i32", (n, words)), f"{M}weight_scale": ("bf16", scales)}
    dtype = "i8" if kind == "int" else "f8e4m3"
    return {W: (dtype, shape), f"{W}_scale": ("bf16", scales)}


def _of_first(config: ModelConfig, key: str) -> str:
    """Return what the first of a config's groups says of weights."""
    start, end = f"{SECTION}config_groups.", f".weights.{key}"
    said = (v for k, v in config.values.items() if k.startswith(start) and k.endswith(end))
    return str(next(said, ""))


def _as_it_was(config: ModelConfig, said: Said, shape: Shape) -> Parts:
    return {}


def _gptq(config: ModelConfig, said: Said, shape: Shape) -> Parts:
    if len(shape) != 2:
        return {}
    n, k = shape
    groups = 1 if said.group == WHOLE_WIDTH else _up(k, said.group)
    return {
        f"{M}qweight": ("i32", (_up(k * said.bits, WORD_BITS), n)),
        f"{M}qzeros": ("i32", (groups, _up(n * said.bits, WORD_BITS))),
        f"{M}scales": ("f16", (groups, n)),
        f"{M}g_idx": ("i32", (k,)),
    }


def _awq(config: ModelConfig, said: Said, shape: Shape) -> Parts:
    if len(shape) != 2:
        return {}
    n, k = shape
    groups = 1 if said.group == WHOLE_WIDTH else _up(k, said.group)
    return {
        f"{M}qweight": ("i32", (k, _up(n, 8))),
        f"{M}qzeros": ("i32", (groups, _up(n, 8))),
        f"{M}scales": ("f16", (groups, n)),
    }


ASSUMED: Mapping[str, Callable[[ModelConfig, Said, Shape], Parts]] = {
    **dict.fromkeys(
        ("fp8", "compressed-tensors", "modelopt", "modelopt_fp4", "fbgemm_fp8"), _floats
    ),
    "quark": _as_it_was,
    "gptq": _gptq,
    "awq": _awq,
    "bitsandbytes": _as_it_was,
}
