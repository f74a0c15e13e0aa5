"""A chip's description as the rates that cost formulas read, for one format of the products.

A format that the chip has no unit for is refused, never replaced by another one in silence.
"""

from __future__ import annotations

from collections.abc import Mapping

from device_model.chips.chip import Device
from device_model.cost.chip import Chip, Number
from dsl.diagnostics import refuse

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
OPTIONAL: Mapping[str, tuple[str, float]] = {
    "link": ("link_bw", 0.0),
    "domain": ("domain", 1.0),
    "scaleout": ("scaleout_bw", 0.0),
    "power": ("tdp_w", float("inf")),
    "joule": ("flop_joule", 5.5e-13),
    "multicast": ("multicast", 1.0),
    "boost": ("boost_hz", 0.0),
    "copies": ("tile_copies", 0.0),
}


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


def rates(device: Device, dtype: str, changes: Mapping[str, Number] | None = None) -> Chip:
    """Return the rates of a chip for products in a format; `changes` replaces quantities, as a sweep does."""
    given = changes or {}

    def value(key: str) -> Number:
        return given[key] if key in given else device.quantity(key).value

    optional = {
        name: value(key) if key in device.quantities or key in given else default
        for name, (key, default) in OPTIONAL.items()
    }
    return Chip(
        peak=value(peak_key(device, dtype)),
        bandwidth=value("hbm_bw"),
        units=value("units"),
        onchip=value("onchip_bytes"),
        clock=value("clock_hz"),
        **optional,
    )
