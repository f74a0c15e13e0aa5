# SPDX-License-Identifier: Apache-2.0
"""Descriptions of chips: what every one of them says, and a diagnostic for every fault of one."""

import os
import re
from pathlib import Path

import pytest

from device_model.chips.chip import QUANTITIES, device, device_ids, parse_device
from device_model.chips.peaks import PEAKS, operand_bits, peak_key
from device_model.cost.calibration import build, calibration, calibration_named
from device_model.cost.gemm import GemmParameters
from device_model.cost.rates import rates
from device_model.numbers.catalogue import numerics_named
from dsl.diagnostics import Refused
from tests.conftest import TESTS

GOOD = """
name = "Test chip"
hbm_bw = { value = 1e12, source = "a page", confidence = "high" }
hbm_bytes = { value = [1e9, 2e9], source = "a guess", confidence = "low" }
"""
NAMED = {
    "sohu_like", "a100_sxm", "h100_sxm", "h200_sxm", "b200_sxm", "gb200", "l40s", "mi300x", "tpu_v5e",
    "tpu_v5p", "tpu_v6e", "trainium2", "cpu_2core",
}  # fmt: skip


def test_the_promised_chips_are_there() -> None:
    assert set(device_ids()) >= NAMED


@pytest.mark.parametrize("name", device_ids())
def test_every_chip_can_be_priced(name: str) -> None:
    chip = device(name)
    assert calibration(chip).sections
    offered = {dtype for dtype, key in PEAKS.items() if key in chip.quantities}
    assert "bf16" in offered
    for dtype in offered:
        found = rates(chip, dtype)
        assert found.peak == chip.quantity(peak_key(chip, dtype)).value
        assert operand_bits(dtype) in (4, 8, 16, 32)


def test_a_sweep_of_guesses_keeps_all_values_and_prices_with_the_first() -> None:
    chip = device("sohu")
    swept = chip.quantity("hbm_bw")
    assert swept.values == (4e12, 5e12, 6e12, 7e12, 8e12)
    assert rates(chip, "fp8").bandwidth == 4e12
    assert rates(chip, "fp8", {"hbm_bw": 6e12}).bandwidth == 6e12


def test_what_is_claimed_inferred_and_undisclosed_is_told_apart() -> None:
    sources = {key: q.source.partition(":")[0] for key, q in device("sohu").quantities.items()}
    assert sources["hbm_bytes"] == "claimed"
    assert sources["fp8_flops"] == "inferred"
    assert sources["units"] == sources["link_bw"] == "undisclosed"


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    found = device(str(path))
    assert (found.id, found.name, found.memory_bytes) == ("mine", "Test chip", 10**9)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "Test chip"', "", "`name` is missing"),
        ("name =", "name", "no TOML"),
        ("hbm_bw =", "hbm_bandwidth =", "`hbm_bandwidth` describes nothing known"),
        ("value = 1e12", "value = 0", "above zero"),
        ("value = 1e12", "value = -1", "above zero"),
        ("value = 1e12", "value = nan", "above zero"),
        ("value = 1e12", "value = true", "above zero"),
        ("value = 1e12", 'value = "1e12"', "above zero"),
        ("value = [1e9, 2e9]", "value = []", "has 0 values"),
        ("value = 1e12", "value = 1e300", "1e-18 to 1e+24 are possible"),
        ("hbm_bw = { value = 1e12", "units = { value = 0.5", "1 to 1e+24 are possible"),
        ("hbm_bw = { value = 1e12", "link_overlap = { value = 1.5", "1e-18 to 1 are possible"),
        ('source = "a page"', 'source = ""', "no source"),
        ('confidence = "high"', 'confidence = "sure"', "the confidence 'sure'"),
        (', confidence = "high"', "", "is not written as"),
    ],
)
def test_a_fault_is_a_diagnostic(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(Refused, match="S608") as error:
        parse_device("test", GOOD.replace(old, new, 1), "test.toml")
    assert message in str(error.value)


def test_an_unreadable_file_is_a_diagnostic(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="S608"):
        device(str(tmp_path / "none.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(Refused, match="S608"):
        device(str(tmp_path / "bytes.toml"))


def test_a_format_without_a_unit_is_refused() -> None:
    for name, dtype in (("a100", "fp8"), ("tpu_v5e", "f8e4m3"), ("h100", "fp4"), ("h100", "x9")):
        with pytest.raises(Refused, match="S609"):
            peak_key(device(name), dtype)


def test_a_calibration_lacks_nothing_and_has_nothing_unknown() -> None:
    good = dict.fromkeys(GemmParameters.__dataclass_fields__, 1.0)
    assert build(GemmParameters, good, "test").compute == 1.0
    for bad in ({**good, "speed": 1.0}, {**good, "fill": float("inf")}, {"fill": 1.0}):
        with pytest.raises(Refused, match="S611"):
            build(GemmParameters, bad, "test")
    with pytest.raises(Refused, match="S611"):
        calibration_named("x100")


def test_units_of_all_quantities_are_told() -> None:
    used = {key for name in device_ids() for key in device(name).quantities}
    assert used <= set(QUANTITIES)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        f"bf16_flops = {{ value = {'9' * 400}, source = 's', confidence = 'low' }}",
        f"bf16_flops = {{ value = {'9' * 5000}, source = 's', confidence = 'low' }}",
        "hbm_bytes = { value = 1e-18, source = 's', confidence = 'low' }",
        "bf16_flops = { value = nan, source = 's', confidence = 'low' }",
        "\n".join(f"k{i} = 1" for i in range(1000)),
    ],
    ids=["brackets", "400 digits", "5,000 digits", "tiny memory", "nan", "many keys"],
)
def test_a_hostile_description_is_refused(tmp_path, text):
    path = tmp_path / "chip.toml"
    path.write_text(f'name = "x"\n{text}')
    with pytest.raises(Refused) as caught:
        device(str(path))
    assert {d.code for d in caught.value.diagnostics} == {"S608"}
    assert len(caught.value.diagnostics) <= 50


def test_a_description_is_a_regular_file_of_16_kib(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    (tmp_path / "big.toml").write_text("# " + "x" * 20_000)
    for name in ("pipe", "zero", "big"):
        with pytest.raises(Refused, match="S608"):
            device(str(tmp_path / f"{name}.toml"))


def test_an_accumulator_that_does_not_exist_is_refused(tmp_path):
    own = (TESTS.parent / "device_model/chips/descriptions" / "h100_sxm.toml").read_text()
    path = tmp_path / "own.toml"
    path.write_text(re.sub(r'accumulator = "[^"]*"', 'accumulator = "zzz"', own))
    with pytest.raises(Refused, match="`zzz`, which is no accumulator"):
        numerics_named("f8e4m3", device(str(path)))
