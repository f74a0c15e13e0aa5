# SPDX-License-Identifier: Apache-2.0
"""Predicted times against published measurements of real chips: the errors that the project promises.

The parameters were fitted on the H100 files; `sohu calibrate` also scores halves of the groups that a fit has not seen.
Nothing was fitted on the A100's products. Bars are mean absolute percentage errors.
"""

import numpy as np
import pytest

from device_model.chips.chip import device
from device_model.cost.calibration import calibration
from device_model.cost.oracle import predict
from device_model.cost.score import Score, score
from sohu.commands.serving import serve
from sohu.terminal import tables
from tests.conftest import TESTS

MEASURED = TESTS.parent / "benchmarks" / "measured"
BARS = (
    ("h100_gemm_bf16", "gemm", "h100", "bf16", 8.0),
    ("h100_gemm_fp8", "gemm", "h100", "fp8", 11.0),
    ("a100_gemm_bf16", "gemm", "a100", "bf16", 15.0),
    ("h100_attention_context_bf16", "attention_context", "h100", "bf16", 14.0),
    ("h100_attention_generation_bf16", "attention_generation", "h100", "bf16", 14.0),
    ("h100_moe_bf16", "moe", "h100", "bf16", 20.0),
    ("h100_nccl", "collective", "h100", "bf16", 11.0),
    ("a100_nccl", "collective", "a100", "bf16", 11.0),
)


@pytest.mark.parametrize(("file", "op", "chip", "dtype", "bar"), BARS, ids=[b[0] for b in BARS])
def test_operations_are_within_their_bar(
    file: str, op: str, chip: str, dtype: str, bar: float
) -> None:
    columns = tables.columns(tables.read_table(MEASURED / f"{file}.parquet"))
    found = predict(op, columns, device(chip), dtype, calibration(device(chip)))
    error = score(found.seconds, columns["latency_ms"] / 1e3)
    assert (error.coverage, found.reasons) == (1.0, {})
    assert error.mape <= bar


def test_serving_is_within_its_bar() -> None:
    columns = tables.columns(tables.read_table(MEASURED / "e2e_h100_dense.parquet"))
    chip = device("h100")
    found, reasons = serve(columns, chip, "bf16", calibration(chip))
    error = score(found["predicted_ms"], columns["tpot_ms"])
    assert (error.coverage, reasons) == (1.0, {})
    assert error.mape <= 15.0


def test_a_score_is_what_it_says() -> None:
    found = score(np.asarray([1.0, 2.0, np.nan, 0.0]), np.asarray([1.0, 1.0, 1.0, 1.0]))
    assert found == Score(4, 0.5, 50.0, 50.0, 90.0, pytest.approx(np.sqrt(2.0)))
    assert score(np.asarray([np.nan]), np.asarray([1.0])).coverage == 0.0
