# SPDX-License-Identifier: Apache-2.0
"""Make a PyTorch model multiply with weights in low precision, by torch's own casts: the reference of such runs.

Weights of layers and, where the numerics say so, rows of activations are quantised and widened again around every
linear product; routers and the head are left alone. Works on whatever `torch` it is handed and imports none itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from device_model.numbers.precision import Operand, Overflow, Product, Scale, ScaleRounding

BLOCK = 32
ROUTERS = frozenset({"gate", "router"})
"""Modules of transformers whose weight chooses experts."""
FLOATS: Mapping[str, str] = {"f8e4m3": "float8_e4m3fn", "f8e5m2": "float8_e5m2"}
INTEGERS: Mapping[str, float] = {"i8": 127.0, "i4": 7.0}
LARGEST_FOUR_BITS = 6.0


@contextmanager
def products(torch: Any, layers: Any, product: Product, kept: dict[int, Any]) -> Iterator[None]:
    """Replace the linear products with weights of the layers, in this thread; `kept` holds weights once quantised."""
    known = _weights(layers)

    class Low(torch.overrides.TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, func: Any, _types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            named = kwargs or {}
            if func is torch.nn.functional.linear and args[1].data_ptr() in known:
                return _linear(torch, product, kept, *args, **named)
            return func(*args, **named)

    with Low():
        yield


def _weights(layers: Any) -> frozenset[int]:
    """Return the addresses of the layers' matrices, each expert's by itself."""
    pointers: set[int] = set()
    for layer in layers:
        for name, parameter in layer.named_parameters():
            if ROUTERS & set(name.split(".")) or parameter.dim() not in (2, 3):
                continue
            matrices = parameter if parameter.dim() == 3 else (parameter,)
            pointers.update(matrix.data_ptr() for matrix in matrices)
    return frozenset(pointers)


def _linear(
    torch: Any, product: Product, kept: dict[int, Any], x: Any, weight: Any, bias: Any = None
) -> Any:
    linear, address = torch.nn.functional.linear, weight.data_ptr()
    if address not in kept:
        low = quantised(torch, weight.float(), product.weight)
        kept[address] = low if product.activation else low.to(weight.dtype)
    low = kept[address]
    if product.activation is None:
        return linear(x, low, bias)
    rows = quantised(torch, x.float(), product.activation)
    return linear(rows, low, None if bias is None else bias.float()).to(x.dtype)


def quantised(torch: Any, x: Any, operand: Operand) -> Any:
    """Return float32 numbers as an operand holds them, with their scales along the last axis."""
    if operand.scale is Scale.NONE:
        return _rounded(torch, x, operand)
    k = x.shape[-1]
    size = {Scale.BLOCK: BLOCK, Scale.GROUP: operand.group}.get(operand.scale, k)
    padded = torch.nn.functional.pad(x, (0, -k % size))
    groups = padded.reshape(*x.shape[:-1], -1, size)
    top = groups.abs().amax(-1, keepdim=True)
    scale = top / _largest(torch, operand)
    if operand.scale is Scale.BLOCK:
        if operand.rounding is ScaleRounding.UP:
            exponent = torch.ceil(torch.log2(scale))
        else:
            most = torch.tensor(_largest(torch, operand))
            exponent = torch.floor(torch.log2(top)) - torch.floor(torch.log2(most))
        scale = torch.exp2(exponent.clamp(-127, 127))
    scale = torch.where(top == 0, torch.ones_like(scale), scale)
    low = _rounded(torch, groups / scale, operand) * scale
    return low.reshape(padded.shape)[..., :k]


def _largest(torch: Any, operand: Operand) -> float:
    if operand.format in INTEGERS:
        return INTEGERS[operand.format]
    if operand.format in FLOATS:
        return float(torch.finfo(getattr(torch, FLOATS[operand.format])).max)
    return LARGEST_FOUR_BITS


def _rounded(torch: Any, x: Any, operand: Operand) -> Any:
    most = _largest(torch, operand)
    if operand.format in INTEGERS:
        return torch.round(x).clamp(-most, most)
    if operand.format in FLOATS:
        kept = x if operand.overflow is Overflow.NONFINITE else x.clamp(-most, most)
        return kept.to(getattr(torch, FLOATS[operand.format])).float()
    # Four bits: steps of a half below 2, of 1 below 4, of 2 above; torch has no cast to them.
    size = x.abs()
    step = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0))
    return torch.copysign((torch.round(size / step) * step).clamp(max=most), x)
