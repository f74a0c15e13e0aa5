# SPDX-License-Identifier: Apache-2.0
"""Rows of the table of cases: what depends on where a token stands."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from device_model.numbers.numerics import Array
from dsl.graph import Attr
from tests.device_model.graphs import B, C, S, tensor
from tests.device_model.kernels.kernel_draw import SIZES, WIDTHS, Case, Draw

LONGEST = 100
"""Positions that a learned table has, before its offset."""


def frequencies(attrs: dict[str, Attr], width: int, theta: float, factor: float) -> list[float]:
    """Return rotary frequencies one by one."""
    found = []
    for j in range(width // 2):
        f = theta ** (-2 * j / width)
        if attrs["scaling"] == "linear":
            f /= factor
        if attrs["scaling"] == "llama3":
            smooth = min(max((512 * f / (2 * math.pi) - 1) / 3, 0), 1)
            f = (1 - smooth) * f / factor + smooth * f
        if attrs["scaling"] == "yarn":
            first, last = (
                width * math.log(512 / (turns * 2 * math.pi)) / (2 * math.log(theta))
                for turns in (32, 1)
            )
            first, last = max(math.floor(first), 0), min(math.ceil(last), width - 1)
            ramp = min(max((j - first) / (last - first or 0.001), 0), 1)
            f = f * (1 - ramp) + f / factor * ramp
        found.append(f)
    return found


def rope(d: Draw) -> Case:
    h, half = d.size(1, 2, 5), d.size(1, 2, 4, 16, 32)
    e = 2 * half + d.size(0, 0, 1, 6)
    theta, scale, factor = d.size(100, 10000), d.size(1, 2) * 0.75, d.size(2, 8)
    pairing = "half" if d.chance() else "interleaved"
    attrs: dict[str, Attr] = {
        "scaling": ("default", "linear", "llama3", "yarn")[d.size(0, 1, 2, 3)],
        "factor": float(factor), "original_max_position_embeddings": 512.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    }  # fmt: skip
    x, table = d.rows(h, e)
    (freqs,) = d.flow.ops(
        "rope_frequencies", (), (half,), width=2 * half, theta=float(theta), **attrs
    )
    y = d.flow.op("rope", (x, freqs), B, h, S, e, at=C, scale=scale, pairing=pairing)
    inverse = np.array(frequencies(attrs, 2 * half, theta, factor))

    def formula(ids: Array) -> Array:
        turn = scale * np.exp(1j * np.arange(len(ids))[:, None] * inverse)[:, None]
        out = table[ids].copy()
        if pairing == "half":
            z = (out[..., :half] + 1j * out[..., half : 2 * half]) * turn
            out[..., : 2 * half] = np.concatenate([z.real, z.imag], -1)
        else:
            z = (out[..., 0 : 2 * half : 2] + 1j * out[..., 1 : 2 * half : 2]) * turn
            out[..., 0 : 2 * half : 2], out[..., 1 : 2 * half : 2] = z.real, z.imag
        return out

    return d.case(y, formula, exact=False)


def positions(d: Draw) -> Case:
    offset, width = d.size(0, 2, 17), d.size(*WIDTHS)
    place = d.flow.op("positions", (d.ids,), B, S, at=C, offset=offset)
    d.flow.values[place] = replace(d.flow.values[place], type=tensor("i32", B, S))
    name, table = d.weight(LONGEST + offset, width)
    y = d.flow.op("gather", (name, place), B, S, width)
    return d.case(y, lambda ids: table[offset : offset + len(ids)])


def sinusoids(d: Draw) -> Case:
    ends, half, theta = d.chance(), d.size(2, 3, 8, 65), d.size(100, 10000)
    order = ("sin_cos", "cos_sin", "interleaved")[d.size(0, 1, 2)]
    offset, width = d.size(0, 2), 2 * half
    y = d.flow.op(
        "sinusoids", (d.ids,), B, S, width, at=C, width=width, offset=offset, theta=float(theta),
        ends=ends, order=order,
    )  # fmt: skip
    d.flow.values[y] = replace(d.flow.values[y], type=tensor("f32", B, S, width))

    def formula(ids: Array) -> Array:
        out = np.empty((len(ids), width))
        for p in range(len(ids)):
            for j in range(half):
                angle = (p + offset) * theta ** (-j / (half - 1 if ends else half))
                at = (2 * j, 2 * j + 1) if order == "interleaved" else (j, half + j)
                sin, cos = at[::-1] if order == "cos_sin" else at
                out[p, sin], out[p, cos] = math.sin(angle), math.cos(angle)
        return out

    return replace(d.case(y, formula), roundings=0)


def position_scale(d: Draw) -> Case:
    h, e = d.size(1, 3), d.size(*SIZES, 2049)
    x, table = d.rows(h, e)
    length, gain, offset = d.size(1, 7, 40) * 1.0, d.size(1, 5) * 0.1, d.size(0, 1)
    kind = ("log", "power")[d.size(0, 1)]
    attrs: dict[str, Attr] = {"length": length, "gain": gain, "offset": offset, "kind": kind}
    y = d.flow.op("position_scale", (x,), B, h, S, e, at=C, **attrs)

    def formula(ids: Array) -> Array:
        place = np.arange(len(ids))[:, None, None] + offset
        grown = 1 + gain * np.log(1 + place // length)
        return table[ids] * ((1 + place / length) ** gain if kind == "power" else grown)

    return d.case(y, formula)
