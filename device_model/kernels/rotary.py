# SPDX-License-Identifier: Apache-2.0
"""Rotary frequencies and their tables: float64 until the table, which is float32.

The scaling rules are those of the field's common checkpoints. How a value is rotated is in `position`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

import numpy as np

from device_model.numbers.numerics import Array
from device_model.program.call import Batch, Call, integer, number, numbers, word
from device_model.program.places import Operation
from device_model.program.renewal import Renewal
from dsl.graph import Attr

Scaling = Callable[[Array, Mapping[str, Attr]], Array]

SINGULAR = 0.001
"""What separates the two bounds of a ramp that would otherwise be equal."""


def _unscaled(inverse: Array, attrs: Mapping[str, Attr]) -> Array:
    return inverse


def _linear(inverse: Array, attrs: Mapping[str, Attr]) -> Array:
    return inverse / number(attrs, "factor", 1.0)


def _yarn(inverse: Array, attrs: Mapping[str, Attr]) -> Array:
    """Keep frequencies that turn often in the original length, divide rare ones by the factor, and ramp between."""
    width, theta = integer(attrs, "width"), number(attrs, "theta", 10000.0)
    original = number(attrs, "original_max_position_embeddings", 4096)

    def place(turns: float) -> float:
        return width * math.log(original / (turns * 2.0 * math.pi)) / (2.0 * math.log(theta))

    low = place(number(attrs, "beta_fast", 32.0))
    high = place(number(attrs, "beta_slow", 1.0))
    if attrs.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    if low == high:
        high += SINGULAR
    ramp = np.clip((np.arange(len(inverse), dtype=np.float64) - low) / (high - low), 0.0, 1.0)
    return inverse * (1.0 - ramp) + inverse / number(attrs, "factor", 1.0) * ramp


def _llama3(inverse: Array, attrs: Mapping[str, Attr]) -> Array:
    """Divide long wavelengths by the factor, keep short ones, and interpolate between."""
    factor = number(attrs, "factor", 1.0)
    low, high = number(attrs, "low_freq_factor", 1.0), number(attrs, "high_freq_factor", 4.0)
    original = number(attrs, "original_max_position_embeddings", 8192)
    wavelength = 2.0 * math.pi / inverse
    with np.errstate(divide="ignore", invalid="ignore"):  # where they are equal nothing is between
        smooth = (original / wavelength - low) / (high - low)
        between = (1.0 - smooth) * inverse / factor + smooth * inverse
    scaled = np.where(wavelength > original / low, inverse / factor, inverse)
    middle = (wavelength >= original / high) & (wavelength <= original / low)
    return np.where(middle, between, scaled)


def _proportional(inverse: Array, attrs: Mapping[str, Attr]) -> Array:
    """Turn the first part of the pairs only."""
    turning = int(number(attrs, "proportion", 1.0) * integer(attrs, "width") // 2)
    kept = np.where(np.arange(len(inverse)) < turning, inverse, 0.0)
    return np.asarray(kept / number(attrs, "factor", 1.0))


SCALINGS: dict[str, Scaling] = {
    "default": _unscaled,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
    "proportional": _proportional,
}


def frequencies(attrs: Mapping[str, Attr]) -> Array:
    """Return the inverse frequencies of a rotary embedding in float64."""
    width = integer(attrs, "width")
    theta = number(attrs, "theta", 10000.0)
    scaling = word(attrs, "scaling", "default")
    if scaling not in SCALINGS:
        raise ValueError(f"rotary scaling `{scaling}` is not known to the device")
    exponents = np.arange(0, width, 2, dtype=np.float64) / width
    scaled = SCALINGS[scaling](1.0 / theta**exponents, attrs)
    return scaled / np.array(numbers(attrs, "factors")) if "factors" in attrs else scaled


@dataclass(frozen=True, slots=True, eq=False)
class Rotation:
    """How far tokens are turned: frequencies and amplitude, and what they become beyond the `original` length.

    Beyond it `long` and `long_scale` stand for them, or, with `growth`, frequencies shrink with the length.
    """

    inverse: Array
    long: Array
    scale: float
    long_scale: float
    original: float
    growth: float
    backwards: bool

    @property
    def key(self) -> Hashable:
        """Return what tells this rotation from others."""
        numbers = (self.scale, self.long_scale, self.original, self.growth, self.backwards)
        return ("rotation", self.inverse.tobytes(), self.long.tobytes(), *numbers)

    def tables(self, batch: Batch) -> tuple[Array, Array]:
        """Return cos and sin per token as float32 [T, R/2]."""
        inverse, scale = self.inverse[None], np.array(self.scale)
        if self.original:
            length = batch.lengths[batch.slots].astype(np.float64)[:, None]
            beyond = length > self.original
            inverse = np.where(beyond, self._stretched(length), inverse)
            scale = np.where(beyond, self.long_scale, scale)
        cos, sin = tables(inverse, batch.positions, scale)
        return cos, -sin if self.backwards else sin

    def _stretched(self, length: Array) -> Array:
        if not self.growth:
            return self.long[None]
        wider = np.maximum(self.growth * length / self.original - self.growth + 1.0, 1.0)
        half = len(self.inverse)
        return np.asarray(self.inverse * wider ** (-np.arange(half) / max(half - 1, 1)))


def rotation(attrs: Mapping[str, Attr], inverse: Array, long: Array | None) -> Rotation:
    """Return the rotation that the attributes of `rope` describe."""
    scale = number(attrs, "scale", 1.0)
    return Rotation(
        inverse, inverse if long is None else long, scale, number(attrs, "long_scale", scale),
        number(attrs, "original", 0.0), number(attrs, "growth", 0.0),
        bool(attrs.get("backwards", False)),
    )  # fmt: skip


def renewal(operation: Operation) -> Renewal | None:
    """Return from which length on a rotation is another one for tokens that were turned before."""
    original = number(operation.attrs, "original", 0.0)
    growing = number(operation.attrs, "growth", 0.0) != 0.0
    changing = growing or "long_scale" in operation.attrs or operation.operand("long") is not None
    return Renewal(original, growing) if original and changing else None


def tables(inverse: Array, position: Array, scale: Array | float) -> tuple[Array, Array]:
    """Return cos and sin per token as float32 [T, R/2], rounded once from float64."""
    angle = position.astype(np.float64)[:, None] * inverse
    return (
        (np.cos(angle) * scale).astype(np.float32),
        (np.sin(angle) * scale).astype(np.float32),
    )


def reference_rope_frequencies(call: Call) -> tuple[Array, ...]:
    """Compute the inverse frequencies."""
    return (frequencies(call.attrs),)
