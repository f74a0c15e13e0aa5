# SPDX-License-Identifier: Apache-2.0
"""A chip's description as the rates that cost formulas read, for one format of the products."""

from __future__ import annotations

from collections.abc import Mapping

from device_model.chips.chip import Device
from device_model.chips.peaks import peak_key
from device_model.cost.chip import Chip, Number

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
