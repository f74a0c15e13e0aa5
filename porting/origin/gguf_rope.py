# SPDX-License-Identifier: Apache-2.0
"""Recover the rope scaling that a .gguf file expresses by a tensor of factors alone.

Only settings that reproduce the stored factors are accepted: nothing is fitted.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from dsl.diagnostics import refuse
from porting.checkpoint.gguf_header import GgufTensor
from porting.checkpoint.gguf_parts import GgufModel

ROPE_FACTORS = "rope_freqs.weight"


def llama3_scaling(
    factors: npt.NDArray[np.float32], theta: float, head_dim: int
) -> Mapping[str, object] | None:
    """Return the llama3 rope scaling that gives exactly these factors, if the published settings do.

    llama.cpp stores each frequency's divisor and forgets the parameters; transformers' reader drops both.
    """
    candidate = {"factor": float(factors.max()), "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    length = 8192
    frequencies = theta ** -(np.arange(0, head_dim, 2) / head_dim)
    if factors.shape != frequencies.shape or candidate["factor"] <= 1.0:
        return None
    turns = length * frequencies / (2 * np.pi)
    smooth = np.clip((turns - 1.0) / (4.0 - 1.0), 0.0, 1.0)
    expected = 1.0 / ((1 - smooth) / candidate["factor"] + smooth)
    if not np.allclose(factors, expected, rtol=1e-5, atol=0):
        return None
    return {"rope_type": "llama3", **candidate, "original_max_position_embeddings": length}


def rope_scaling(model: GgufModel, theta: float, head_dim: int) -> Mapping[str, object] | None:
    """Return the rope scaling that a file expresses by a tensor of factors, or refuse an unknown one."""
    tensor = next((x for x in model.header.tensors if x.name == ROPE_FACTORS), None)
    if tensor is None:
        return None
    factors = _factors(model, tensor)
    if np.all(factors == 1.0):
        return None
    scaling = llama3_scaling(factors, theta, head_dim)
    if scaling is None:
        message = f"{model.name} scales its rotary frequencies by `{ROPE_FACTORS}` in a way that is not known"
        raise refuse("S574", message, place=model.name, help="port the original safetensors model")
    return scaling


def small_values(model: GgufModel, name: str) -> list[float] | None:
    """Return the values of a list among a file's tensors, None where there is none of this name."""
    tensor = next((x for x in model.header.tensors if x.name == name), None)
    return None if tensor is None else [float(x) for x in _factors(model, tensor)]


def _factors(model: GgufModel, tensor: GgufTensor) -> npt.NDArray[np.float32]:
    if tensor.type_name != "F32" or len(tensor.shape) != 1:
        message = f"`{tensor.name}` is {tensor.type_name} {list(tensor.shape)}, not a list of F32"
        raise refuse("S574", message, place=model.name)
    stream = model.streams[tensor.part]
    stream.seek(tensor.offset)
    return np.frombuffer(stream.read(tensor.nbytes), "<f4").astype(np.float32)
