"""Rotary frequencies and their tables: float64 until the table, which is float32.

The scaling rules are those of the field's common checkpoints. How a value is rotated is in `layout`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from device_model.kernels.call import Call, integer, number, word
from device_model.kernels.kernel import DTypes, Kernel
from device_model.numerics import F64, Array, Numerics
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
    smooth = (original / wavelength - low) / (high - low)
    between = (1.0 - smooth) * inverse / factor + smooth * inverse
    scaled = np.where(wavelength > original / low, inverse / factor, inverse)
    middle = (wavelength >= original / high) & (wavelength <= original / low)
    return np.where(middle, between, scaled)


SCALINGS: dict[str, Scaling] = {
    "default": _unscaled,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
}


def frequencies(attrs: Mapping[str, Attr]) -> Array:
    """Return the inverse frequencies of a rotary embedding in float64."""
    width = integer(attrs, "width")
    theta = number(attrs, "theta", 10000.0)
    scaling = word(attrs, "scaling", "default")
    if scaling not in SCALINGS:
        raise ValueError(f"rotary scaling `{scaling}` is not known to the device")
    exponents = np.arange(0, width, 2, dtype=np.float64) / width
    return SCALINGS[scaling](1.0 / theta**exponents, attrs)


def tables(inverse: Array, position: Array, scale: float) -> tuple[Array, Array]:
    """Return cos and sin per token as float32 [T, R/2], rounded once from float64."""
    angle = position.astype(np.float64)[:, None] * inverse[None, :]
    return (
        (np.cos(angle) * scale).astype(np.float32),
        (np.sin(angle) * scale).astype(np.float32),
    )


def reference_rope_frequencies(call: Call) -> tuple[Array, ...]:
    """Compute the inverse frequencies."""
    return (frequencies(call.attrs),)


def _float64(inputs: DTypes, attrs: Mapping[str, Attr], numerics: Numerics) -> DTypes:
    return (F64,)


ROPE_FREQUENCIES = Kernel(reference_rope_frequencies, result=_float64)
