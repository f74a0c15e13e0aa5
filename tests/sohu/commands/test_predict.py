# SPDX-License-Identifier: Apache-2.0
"""`sohu predict` and `sohu calibrate`: tables in, tables out, and a reason for every row without an answer."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from sohu.commands.cli import main
from sohu.commands.serving import program_of
from sohu.terminal import tables
from tests.conftest import TESTS

MEASURED = TESTS.parent / "benchmarks" / "measured"


def written(path: Path, **columns: list[object]) -> Path:
    table = pa.table(columns)
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pyarrow.parquet.write_table(table, path)
    return path


def run(data: Path, op: str, out: Path, *more: str) -> int:
    return main(
        ["predict", str(data), "--op", op, "--device", "h100_sxm", "--out", str(out), *more]
    )


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_same_table_with_one_more_column(tmp_path: Path, suffix: str) -> None:
    data = written(tmp_path / f"in{suffix}", m=[1, 64], n=[4096, 64], k=[4096, 64], note=["a", "b"])
    out = tmp_path / f"out{suffix}"
    assert run(data, "gemm", out) == 0
    table = tables.read_table(out)
    assert table.column_names == ["m", "n", "k", "note", "predicted_ms"]
    assert all(t > 0 for t in table["predicted_ms"].to_pylist())


def test_rows_without_an_answer_are_nan_with_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = written(tmp_path / "in.parquet", m=[1, 0, None], n=[64, 64, 64], k=[64, 64, 64])
    out = tmp_path / "out.parquet"
    assert run(data, "gemm", out) == 0
    found = np.asarray(tables.read_table(out)["predicted_ms"].to_pylist(), np.float64)
    assert np.isnan(found).tolist() == [False, True, True]
    assert "no prediction for 2 rows: a size is missing" in capsys.readouterr().err


def test_sizes_beyond_all_bounds_have_no_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = written(tmp_path / "in.parquet", m=[1e300, 1e12], n=[1e300, 1e12], k=[1e300, 1e12])
    assert run(data, "gemm", tmp_path / "out.parquet") == 0
    huge, large = tables.read_table(tmp_path / "out.parquet")["predicted_ms"].to_pylist()
    assert np.isnan(huge)
    assert large > 0
    assert "above 1e+12" in capsys.readouterr().err


def test_a_score_of_no_row_is_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = written(tmp_path / "in.csv", m=[-1], n=[1], k=[1], latency_ms=[0.5])
    assert run(data, "gemm", tmp_path / "out.csv", "--json") == 0
    told = json.loads(capsys.readouterr().out)["scores"]["latency_ms"]
    assert (told["coverage"], told["mape"]) == (0.0, None)


def test_errors_are_printed_where_times_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = MEASURED / "h100_nccl.parquet"
    assert run(data, "collective", tmp_path / "out.csv", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["scores"]["latency_ms"]["coverage"] == 1.0
    assert told["rows"] == 672
    assert run(data, "collective", tmp_path / "out.csv") == 0
    assert "MAPE" in capsys.readouterr().out


def test_unknown_collectives_and_distributions_have_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = written(tmp_path / "a.csv", op=["gossip", "all_reduce"], num_gpus=[2, 2], bytes=[64, 64])
    assert run(data, "collective", tmp_path / "b.csv") == 0
    assert "the op is none of all_reduce" in capsys.readouterr().err
    moe = {"num_tokens": [8], "num_experts": [8], "topk": [2], "hidden_size": [64]}
    more = {"inter_size": [64], "moe_tp_size": [1], "moe_ep_size": [1], "distribution": ["zipf"]}
    data = written(tmp_path / "c.csv", **moe, **more)
    assert run(data, "moe", tmp_path / "d.csv") == 0
    assert "neither balanced nor power_law" in capsys.readouterr().err


ATTENTION: dict[str, list[object]] = {
    "batch_size": [8, 8], "isl": [1, 1], "step": [65535, 65535], "num_heads": [32, 32],
    "num_key_value_heads": [8, 8], "head_dim": [128, 128],
}  # fmt: skip


def test_windows_and_narrow_caches_are_quicker(tmp_path: Path) -> None:
    data = written(tmp_path / "in.csv", **ATTENTION, window_size=[0, 4096])
    out = tmp_path / "out.csv"
    assert run(data, "attention_generation", out) == 0
    whole, window = tables.read_table(out)["predicted_ms"].to_pylist()
    assert window < whole / 4
    assert run(data, "attention_generation", out, "--dtype", "fp8") == 0
    assert tables.read_table(out)["predicted_ms"][0].as_py() < whole / 1.5
    prompt = written(
        tmp_path / "p.csv",
        **{**ATTENTION, "isl": [8192, 8192], "step": [0, 0]},
        window_size=[0, 512],
    )
    assert run(prompt, "attention_context", out) == 0
    whole, window = tables.read_table(out)["predicted_ms"].to_pylist()
    assert window < whole / 2


SERVING: dict[str, list[object]] = {
    "model": ["meta-llama/Llama-3.1-8B-Instruct"], "precision": ["bf16"], "isl": [1024],
    "osl": [128], "concurrency": [8], "tp": [2], "backend": ["vllm"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("model", "acme/Unknown-9B", "the zoo has no program of"),
        ("backend", "abacus", "no constants for the backend"),
        ("precision", "int1", "unknown precision"),
        ("tp", 33, "the mesh has more chips than parts"),
        ("isl", 0, "isl is no whole number"),
        ("isl", 16_000_000, "not one sequence fits"),
    ],
)
def test_serving_rows_have_times_or_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], column: str, value: object, reason: str
) -> None:
    good = written(tmp_path / "good.csv", **SERVING)
    assert run(good, "serving", tmp_path / "out.csv", "--quiet") == 0
    assert capsys.readouterr().err == ""
    table = tables.read_table(tmp_path / "out.csv")
    assert table.column_names[-2:] == ["predicted_ms", "predicted_ttft_ms"]
    assert 1 < table["predicted_ms"][0].as_py() < table["predicted_ttft_ms"][0].as_py()
    bad = written(tmp_path / "bad.csv", **{**SERVING, column: [value]})
    assert run(bad, "serving", tmp_path / "out.csv") == 0
    assert reason in capsys.readouterr().err


def test_hub_ids_name_programs_of_the_zoo() -> None:
    for name in ("meta-llama/Meta-Llama-3.1-70B-Instruct", "Qwen/Qwen3-32B-FP8", "qwen3-32b"):
        assert program_of(name).family


def test_a_config_that_was_published_names_its_program() -> None:
    published = TESTS.parent / "farm" / "oracles" / "published"
    program = program_of(str(published / "Qwen--Qwen3-0.6B.json"))
    assert program.family == "qwen3"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", b"m,n\n1,2\n", "no column k"),
        ("in.csv", b"m,n,k\na,b,c\n", "holds no numbers"),
        ("in.csv", b"", "is no table"),
        ("in.csv", b"\xff\xfe\x00m,n,k\n1,2,3\n", "is no table"),
        ("in.csv", b"m,m,k\n1,1,1\n", "two columns of one name"),
        ("in.parquet", b"PAR1 not really", "is no table"),
        ("in.txt", b"m,n,k\n", "neither .parquet nor .csv"),
    ],
)
def test_unusable_tables_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, message: str
) -> None:
    data = tmp_path / name
    data.write_bytes(content)
    assert run(data, "gemm", tmp_path / "out.csv") == 2
    told = capsys.readouterr().err
    assert "S610" in told
    assert message in told
    assert not (tmp_path / "out.csv").exists()


def test_unknown_devices_and_formats_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = written(tmp_path / "in.csv", m=[1], n=[1], k=[1])
    assert run(data, "gemm", tmp_path / "out.csv", "--dtype", "fp4") == 2
    assert "S609" in capsys.readouterr().err
    assert run(tmp_path / "none.csv", "gemm", tmp_path / "out.csv") == 2
    assert "cannot be read" in capsys.readouterr().err


def test_a_calibration_is_fitted_scored_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.toml"
    given = ["calibrate", str(MEASURED), "--section", "collective", "--out", str(out), "--json"]
    assert main(given) == 0
    errors = json.loads(capsys.readouterr().out)["errors"]
    assert [e["scored on"] for e in errors] == ["all", *(f"unseen half {i}" for i in range(1, 5))]
    assert all(float(e["MAPE"].removesuffix(" %")) <= 11.0 for e in errors)
    assert "[collective]" in out.read_text()
    assert "mape_held_out" in out.read_text()


def test_nothing_is_fitted_on_tables_of_another_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["calibrate", str(tmp_path), "--json"]) == 2
    assert "S611" in capsys.readouterr().out
    shapes: dict[str, list[object]] = {"m": [64], "n": [64], "k": [64]}
    written(tmp_path / "h100_nccl.parquet", **shapes, latency_ms=[1.0])
    assert main(["calibrate", str(tmp_path)]) == 2
    assert "has no column op, dtype, num_gpus" in capsys.readouterr().err
    written(tmp_path / "h100_gemm_bf16.parquet", **shapes, latency_ms=[0.0])
    assert main(["calibrate", str(tmp_path), "--section", "gemm_bf16"]) == 2
    assert "1 of 1 rows have no time above zero" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    assert main(["calibrate", str(MEASURED), "--section", "collective"]) == 2
    assert "scipy is not installed" in capsys.readouterr().err


def test_tables_that_unpack_to_too_much_are_refused(tmp_path: Path, capsys) -> None:
    words = pa.DictionaryArray.from_arrays(pa.array([0] * 2000), pa.array(["x" * 4_000_000]))
    wide = {f"c{i}": pa.array(np.zeros(1_000_000, np.int8)) for i in range(70)}
    for name, table in {"words": pa.table({"m": words}), "cells": pa.table(wide)}.items():
        path = tmp_path / f"{name}.parquet"
        pyarrow.parquet.write_table(table, path)
        assert run(path, "gemm", tmp_path / "out.csv") == 2
        assert "are possible" in capsys.readouterr().err


def test_a_column_that_nobody_reads_may_be_of_any_type(tmp_path: Path) -> None:
    when = pa.array([1, 2], pa.timestamp("ns"))
    span = pa.array([1, 2], pa.duration("ns"))
    data = written(
        tmp_path / "in.parquet", m=[1, 64], n=[4096, 64], k=[4096, 64], a=when, b=span, c=[[1], []]
    )
    assert run(data, "gemm", tmp_path / "out.parquet") == 0


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_pipe_is_no_table(tmp_path: Path, suffix: str, capsys) -> None:
    os.mkfifo(path := tmp_path / f"in{suffix}")
    assert run(path, "gemm", tmp_path / "out.csv") == 2
    assert "not a regular file" in capsys.readouterr().err
