# SPDX-License-Identifier: Apache-2.0
"""Weights that are no numbers are named before anything is compared."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from dsl.diagnostics import Refused, render
from porting.checkpoint.finite import FORMATS, check_finite
from porting.checkpoint.tensors import NUMPY, SINGLE, Checkpoint
from tests.checkpoints import write_safetensors

NAMES = {
    "f32": "F32",
    "bf16": "BF16",
    "f16": "F16",
    "f8e5m2": "F8_E5M2",
    "f8e4m3": "F8_E4M3",
    "e8m0": "F8_E8M0",
}


@pytest.mark.parametrize("dtype", sorted(FORMATS))
def test_every_value_of_a_format_is_told_as_its_own_library_tells_it(tmp_path, dtype):
    kind = np.dtype(NUMPY[dtype])
    count = 2 ** min(8 * kind.itemsize, 16)
    whole = np.arange(count, dtype=f"u{kind.itemsize}")
    # Of 32 bits the upper 16 hold sign, exponent and the first of the mantissa.
    values = (whole << 16 if kind.itemsize == 4 else whole).view(kind)
    write_safetensors(tmp_path / SINGLE, {"w": (NAMES[dtype], [count], values.tobytes())})
    with pytest.raises(Refused) as caught:
        check_finite(Checkpoint.open(tmp_path), ["w"])
    with np.errstate(invalid="ignore"):
        wide = values.astype(np.float64)
    nans, infinities = int(np.isnan(wide).sum()), int(np.isinf(wide).sum())
    message = caught.value.diagnostics[0].message
    assert f"{nans:,} NaN" in message
    assert (f"{infinities:,} infinite" in message) == bool(infinities)
    finite = values[np.isfinite(wide)]
    write_safetensors(tmp_path / SINGLE, {"w": (NAMES[dtype], [finite.size], finite.tobytes())})
    check_finite(Checkpoint.open(tmp_path), ["w"])


def test_one_error_names_the_tensors_that_are_read_and_no_other(tmp_path):
    wrong = np.array([1.0, -np.inf, np.nan], ml_dtypes.bfloat16).tobytes()
    write_safetensors(tmp_path / SINGLE, {x: ("BF16", [3], wrong) for x in ("a", "b", "mask")})
    with pytest.raises(Refused) as caught:
        check_finite(Checkpoint.open(tmp_path), ["a", "b"])
    (only,) = caught.value.diagnostics
    assert only.code == "S579"
    assert only.message == "`a` has 1 NaN and 1 infinite of 3 values"
    assert "`b` has" in render(only)
    assert "mask" not in render(only)


def test_a_damaged_model_is_refused_before_its_original_is_asked(tmp_path):
    from porting.pipeline import port
    from tests.checkpoints import tiny_llama

    folder = tiny_llama(tmp_path / "m", num_hidden_layers=1)
    info = Checkpoint.open(folder).tensors["model.norm.weight"]
    with (folder / info.file).open("r+b") as stream:
        stream.seek(info.offset)
        stream.write(np.array([np.nan], ml_dtypes.bfloat16).tobytes())
    with pytest.raises(Refused, match=r"model\.norm\.weight") as caught:
        port(str(folder), out=tmp_path / "out")
    assert [d.code for d in caught.value.diagnostics] == ["S579"]
    assert port(str(folder), out=tmp_path / "plan", plan_only=True)[0].verdict.value == "planned"
