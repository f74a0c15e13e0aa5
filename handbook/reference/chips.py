# SPDX-License-Identifier: Apache-2.0
"""The pages of devices and of numerics: every value with its source and how well it is known."""

from __future__ import annotations

from collections.abc import Iterator

from device_model.chips.chip import ALIASES, QUANTITIES, Device, devices
from device_model.numbers.catalogue import known_numerics
from device_model.numbers.numerics import Numerics
from handbook.reference.markdown import cell, code, page, table

ABOUT_DEVICES = (
    "`--device NAME` takes one of these, or a file of your own: [descriptions of chips](../chips.md). "
    "Confidence is high for what a published specification says, medium for a secondary page or a value that "
    "follows from others, low for what is remembered, inferred or guessed. Several values are a sweep of guesses."
)
ABOUT_NUMERICS = (
    "`--numerics NAME` takes one of these; a device may have its own accumulator. What that means for the bits is "
    "[decision 13](../decisions/0013-numerics-as-data.md)."
)


def device_page() -> str:
    """Return the page of devices."""
    return page("Devices", ABOUT_DEVICES, *(_device(one) for one in devices().values()))


def _device(device: Device) -> str:
    rows = (
        (
            code(key),
            ", ".join(f"{value:,.6g}" for value in quantity.values),
            QUANTITIES[key],
            quantity.confidence,
            quantity.source,
        )
        for key, quantity in device.quantities.items()
    )
    aliases = [code(alias) for alias, name in ALIASES.items() if name == device.id]
    also = f", also called {', '.join(aliases)}" if aliases else ""
    named = ", ".join(code(name) for name in device.numerics)
    numerics = f" Multiplies in {named}." if named else ""
    facts = f"`{device.id}`{also}. Calibration `{device.calibration}`.{numerics}"
    quantities = table(("quantity", "value:", "unit", "confidence", "source"), rows)
    return "\n\n".join(filter(None, (f"## {device.name}", facts, cell(device.note), quantities)))


def numerics_page() -> str:
    """Return the page of numerics."""
    rows = (tuple(_numerics(name, one)) for name, one in known_numerics().items())
    heads = ("name", "activations and state", "other weights", "in products", "sums")
    return page("Numerics", ABOUT_NUMERICS, table(heads, rows))


def _numerics(name: str, numerics: Numerics) -> Iterator[str]:
    product = numerics.product
    yield code(name)
    yield code(numerics.activation.name)
    yield code(numerics.weight.name) if numerics.weight else "as stored"
    if product is None:
        yield "as activations and weights are"
    else:
        rows = product.activation.name if product.activation else numerics.activation.name
        yield f"weights {code(product.weight.name)}, activations {code(rows)}"
    yield code((product.accumulator if product else numerics.accumulator).name)
