# SPDX-License-Identifier: Apache-2.0
"""Normalisation over the last axis, in float32 inside and rounded once at the output.

Sums run in the declared order of `lanes`. Grouped and batch statistics are not here.
"""

from __future__ import annotations

import numpy as np

from device_model.machine import lanes, order
from device_model.machine.deferred import compiled
from device_model.machine.elementary import floats, read, size_of, write
from device_model.machine.vectors import F32
from device_model.numbers.numerics import Array, wide
from device_model.program.builder import Builder, kind_of
from device_model.program.call import Call, number
from device_model.program.instruction import Argument, Instruction
from device_model.program.kernel import Kernel, as_first
from device_model.program.places import Buffer, Fixed, Operation

RMS, LAYER = 0, 1


def reference_rms_norm(call: Call) -> tuple[Array, ...]:
    """Return x / sqrt(mean(x^2) + eps) * (offset + w)."""
    x = wide(call.array(0))
    eps, offset = np.float32(call.number("eps", 0.0)), np.float32(call.number("offset", 0.0))
    mean = order.squares(x) / np.float32(x.shape[-1])
    y = x * (np.float32(1.0) / np.sqrt(mean + eps))[..., None]
    w = call.optional("w")
    return (y if w is None else y * (offset + wide(w)),)


def reference_layer_norm(call: Call) -> tuple[Array, ...]:
    """Return (x - mean) / sqrt(variance + eps) * w + b."""
    x = wide(call.array(0))
    count = np.float32(x.shape[-1])
    centred = x - (order.total(x) / count)[..., None]
    variance = order.squares(centred) / count
    eps = np.float32(call.number("eps", 0.0))
    y = centred * (np.float32(1.0) / np.sqrt(variance + eps))[..., None]
    w, b = call.optional("w"), call.optional("b")
    y = y if w is None else y * wide(w)
    return (y if b is None else y + wide(b),)


_dot = lanes.dots(1, 1, F32)


@compiled
def norm(
    x: int, kind: int, w: int, w_kind: int, b: int, b_kind: int, out: int, out_kind: int,
    rows: int, width: int, mode: int, groups: int, eps: float, offset: float,
    part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Normalise this part's rows: x[rows, width] kind to out[rows, width] out_kind.

    w[groups, width] and b[groups, width], 0 where there is none, have a row for each of `groups` in turn.
    """
    sums = floats(scratch, 16)
    weight_at = scratch + 64
    bias_at = weight_at + 4 * width
    row_at = bias_at + 4 * width
    weight, bias, row = floats(weight_at, width), floats(bias_at, width), floats(row_at, width)
    count = np.float32(width)
    read_at = -1
    if mode == LAYER:
        for i in range(width):
            bias[i] = np.float32(1.0)
    for index in range(rows * part // parts, rows * (part + 1) // parts):
        read(x + index * width * size_of(kind), kind, row_at, width)
        if mode == LAYER:
            for i in range(width):
                bias[i] = np.float32(1.0)
            _dot(row_at, 0, bias_at, 0, width, scratch, 0)
            mean = sums[0] / count
            for i in range(width):
                row[i] = row[i] - mean
        _dot(row_at, 0, row_at, 0, width, scratch, 0)
        scale = np.float32(1.0) / np.sqrt(sums[0] / count + np.float32(eps))
        for i in range(width):
            row[i] = row[i] * scale
        group = index % groups
        if w != 0:
            if read_at != group:
                read(w + group * width * size_of(w_kind), w_kind, weight_at, width)
                for i in range(width):
                    weight[i] = np.float32(offset) + weight[i]
                read_at = group
            for i in range(width):
                row[i] = row[i] * weight[i]
        if b != 0:
            read(b + group * width * size_of(b_kind), b_kind, bias_at, width)
            for i in range(width):
                row[i] = row[i] + bias[i]
        write(row_at, out + index * width * size_of(out_kind), out_kind, width)


NORM = Instruction.of("norm", norm)


def _lower(target: Builder, operation: Operation, mode: int) -> bool:
    x = operation.inputs[0]
    (out,) = operation.outputs
    if not (isinstance(x, Buffer) and isinstance(out, Buffer)):
        return False
    parameters: dict[str, Argument] = {}
    given = [operation.operand("w"), operation.operand("b")]
    shapes = {p.array.shape for p in given if isinstance(p, Fixed)}
    if len(shapes) > 1:
        return False
    (shape,) = shapes or {(x.width,)}
    for name, parameter in zip("wb", given, strict=True):
        if parameter is not None and not isinstance(parameter, Fixed):
            return False
        parameters[name] = 0 if parameter is None else target.at(parameter)
        parameters[f"{name}_kind"] = 0 if parameter is None else kind_of(parameter.array.dtype)
    target.reserve(64 + 3 * 4 * x.width)
    offset = number(operation.attrs, "offset", 0.0) if mode == RMS else 0.0
    target.emit(
        NORM, parameters, x=target.at(x), kind=kind_of(x.dtype), out=target.at(out),
        out_kind=kind_of(out.dtype), rows=target.tokens(x.elements // x.width), width=x.width,
        mode=mode, groups=shape[0] if len(shape) > 1 else 1,
        eps=number(operation.attrs, "eps", 0.0), offset=offset,
    )  # fmt: skip
    return True


def lower_rms_norm(target: Builder, operation: Operation) -> bool:
    """Emit a root-mean-square norm with a weight over the last axis, if it has one."""
    return _lower(target, operation, RMS)


def lower_layer_norm(target: Builder, operation: Operation) -> bool:
    """Emit a layer norm with a weight and a bias over the last axis, if it has them."""
    return _lower(target, operation, LAYER)


KERNELS: dict[str, Kernel] = {
    "rms_norm": Kernel(reference_rms_norm, lower_rms_norm, as_first),
    "layer_norm": Kernel(reference_layer_norm, lower_layer_norm, as_first),
}
