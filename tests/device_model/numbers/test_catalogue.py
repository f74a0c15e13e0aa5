# SPDX-License-Identifier: Apache-2.0
"""The table of numerics: what it says, and a diagnostic for every fault of one."""

import pytest

from device_model.chips.chip import device, devices
from device_model.numbers.catalogue import known_numerics, numerics_named, parse_numerics
from dsl.diagnostics import Refused

GOOD = """
[accumulators]
f32 = { format = "f32" }
i32 = { format = "i32" }
[operands]
f8 = { format = "f8e4m3", scale = "row" }
i8 = { format = "i8", scale = "row" }
mx = { format = "f4e2m1", scale = "block" }
[places.layers]
operations = ["matmul"]
[numerics.low]
activation = "bf16"
weight = "bf16"
product = { places = "layers", weight = "f8", activation = "f8", accumulator = "f32" }
"""


def test_the_promised_numerics_are_there() -> None:
    promised = ("f32", "bf16", "f16", "f8e4m3", "f8e5m2", "mxfp8", "mxfp4", "int8", "int4")
    assert set(promised) <= set(known_numerics())


def test_a_good_table() -> None:
    assert list(parse_numerics(GOOD, "test")) == ["low"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[accumulators]", "[accumulators", "no TOML"),
        ("[accumulators]", "[accumulator]", "unknown key `accumulator`"),
        ('format = "f32"', 'format = "f33"', "`format` is 'f33'"),
        ('format = "f32"', 'format = "f32", chunk = 0', "`chunk` is 0"),
        ('format = "f32"', 'format = "f32", significand = 25', "`significand` is 25"),
        ('format = "f32"', 'format = "f32", significand = true', "`significand` is True"),
        ('format = "i32"', 'format = "i32", chunk = 8', "no width and no chunk"),
        ('scale = "row"', 'scale = "rows"', "`scale` is 'rows'"),
        ('scale = "row"', 'scale = "group"', "has a length"),
        ('scale = "row"', 'scale = "row", group = 32', "has a length"),
        ('"i8", scale = "row"', '"i8", scale = "block"', "a scale for each row or group"),
        ('scale = "block"', 'scale = "block", overflow = "nonfinite"', "no pattern beyond"),
        ('"matmul"', '"add"', "`operations` is a list"),
        ('operations = ["matmul"]', 'operations = ["matmul"]\nhead = 1', "true or false"),
        ('activation = "bf16"', 'activation = "f8e4m3"', "`activation` is 'f8e4m3'"),
        ('activation = "bf16"\n', "", "`activation` is missing"),
        ('weight = "f8",', 'weight = "f9",', "`weight` is 'f9'"),
        ('accumulator = "f32"', 'accumulator = "i32"', "whole numbers on both sides"),
        ('activation = "f8"', 'activation = "mx"', "four bits"),
        ("product = {", "product = 3 #", "numerics.low.product is no table"),
    ],
)  # fmt: skip
def test_faults_are_diagnostics(old: str, new: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_numerics(GOOD.replace(old, new, 1), "test")
    found = refused.value.diagnostics
    assert {d.code for d in found} == {"S606"}
    assert any(message in d.message for d in found), [d.message for d in found]


def test_what_devices_say_of_numerics_is_known() -> None:
    offered = [(d, name) for d in devices().values() for name in d.numerics]
    assert offered
    for chip, name in offered:
        assert numerics_named(name, chip).name == name


def test_a_device_has_its_own_accumulator() -> None:
    own, plain = numerics_named("f8e4m3", device("h100")), numerics_named("f8e4m3")
    assert own.product is not None
    assert plain.product is not None
    assert (own.product.accumulator.significand, plain.product.accumulator.significand) == (14, 24)


def test_numerics_that_a_device_does_not_offer_are_refused() -> None:
    with pytest.raises(Refused, match=r"S607: .* does not compute in `f8e4m3`"):
        numerics_named("f8e4m3", device("a100"))
