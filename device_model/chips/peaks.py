# SPDX-License-Identifier: Apache-2.0
"""Formats of products: which of a chip's peaks is theirs, and how many bits an operand has.

A format that a chip has no unit for is refused, never replaced by another one in silence.
"""

from __future__ import annotations

from collections.abc import Mapping

from device_model.chips.chip import Device
from dsl.diagnostics import did_you_mean, refuse

# The peak of a format, by what people and numerics call it.
PEAKS: Mapping[str, str] = {
    "f32": "f32_flops",
    "bf16": "bf16_flops",
    "bfloat16": "bf16_flops",
    "f16": "bf16_flops",
    "float16": "bf16_flops",
    "half": "bf16_flops",
    "float32": "f32_flops",
    "fp8": "fp8_flops",
    "fp8_block": "fp8_flops",
    "f8e4m3": "fp8_flops",
    "f8e5m2": "fp8_flops",
    "mxfp8": "fp8_flops",
    "int8": "int8_flops",
    "fp4": "fp4_flops",
    "nvfp4": "fp4_flops",
    "mxfp4": "fp4_flops",
}
BITS: Mapping[str, int] = {
    "f32_flops": 32, "bf16_flops": 16, "fp8_flops": 8, "int8_flops": 8, "fp4_flops": 4,
}  # fmt: skip


def peak_key(device: Device, dtype: str) -> str:
    """Return the quantity that holds a format's peak; raises `Refused` where the chip has no unit for it."""
    key = PEAKS.get(dtype.lower())
    if key is None or key not in device.quantities:
        known = ", ".join(name for name, k in PEAKS.items() if k in device.quantities)
        raise refuse(
            "S609", f"{device.name} has no unit for products in {dtype}", help=f"it has {known}"
        )
    return key


def operand_bits(dtype: str) -> int:
    """Return the bits of an operand in a known format."""
    return BITS[PEAKS[dtype.lower()]]


def require_format(dtype: str, device: Device | None = None) -> None:
    """Refuse a format of products that is not known, or that the chip has no unit for."""
    if device is not None:
        peak_key(device, dtype)
        return
    if dtype.lower() not in PEAKS:
        help_ = did_you_mean(dtype, PEAKS) or f"there are {', '.join(PEAKS)}"
        raise refuse("S601", f"there are no products in `{dtype}`", help=help_)
