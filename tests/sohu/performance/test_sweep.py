# SPDX-License-Identifier: Apache-2.0
"""`sohu sweep`: what may be varied, what is refused, the tables and the page."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path

import numpy as np
import pytest

from device_model.chips.chip import device as device_named
from device_model.cost.calibration import calibration
from device_model.memory.use import Logits
from device_model.timeline.design_space import evaluate_design
from porting.planning.bound import bound_graph
from sohu.commands.cli import main
from sohu.performance.sweeps.axes import parse_design
from sohu.performance.sweeps.points import FRONT, kept, points_data
from sohu.performance.sweeps.spread import Piece, evaluated, joined, pieces
from sohu.performance.sweeps.sweep import Sweep, shown
from sohu.terminal import tables
from tests.conftest import TESTS
from tests.porting.report.test_report import Page

PORTS = TESTS.parent / "model_zoo" / "ports"
LLAMA = str(PORTS / "llama-3.1-8b.sohu")


def sweep(*arguments: str, device: str = "h100", port: str = LLAMA) -> int:
    return main(["sweep", port, "--device", device, *arguments])


def swept(capsys: pytest.CaptureFixture[str], *arguments: str, **more: str) -> dict:
    assert sweep("--json", *arguments, **more) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ("hbm_bw=1e12,2e12", [1e12, 2e12]),
        ("hbm_bw=4e12:8e12:5", [4e12, 5e12, 6e12, 7e12, 8e12]),
        ("hbm_bw=x1,x2", [3.35e12, 6.7e12]),
        ("hbm_bw=x1:x4:x2", [3.35e12, 6.7e12, 13.4e12]),
        ("batch=1:16:x2", [1, 2, 4, 8, 16]),
        ("batch=3,1,2", [3, 1, 2]),
        ("numerics=bf16,fp8", ["bf16", "fp8"]),
    ],
)
def test_values_are_lists_ranges_and_factors(capsys, written, values):
    found = swept(capsys, "--vary", written)
    assert found["varied"][written.partition("=")[0]] == values
    assert found["points"] == len(values)


def test_the_points_are_the_cross_product(capsys):
    found = swept(
        capsys, "--vary", "tp=1,2,4", "--vary", "batch=1,8", "--vary", "numerics=bf16,fp8"
    )
    assert found["points"] == len(found["rows"]) == 12
    assert {(r["tp"], r["batch"], r["numerics"]) for r in found["rows"]} == {
        (t, b, n) for t in (1, 2, 4) for b in (1, 8) for n in ("bf16", "fp8")
    }
    for row in found["rows"]:
        assert row["tokens_per_s_user"] == pytest.approx(1 / row["step_s"])
        rate = row["batch"] / row["step_s"] / row["chips"]
        assert row["tokens_per_s_chip"] == pytest.approx(rate)


def test_guesses_of_the_description_are_swept(capsys):
    found = swept(capsys, device="sohu")
    assert found["varied"] == {"hbm_bw": [4e12, 5e12, 6e12, 7e12, 8e12]}


def test_meshes_that_do_not_divide_are_reported(capsys):
    found = swept(capsys, "--vary", "tp=1,3,4")
    assert found["usable"] == 2
    assert found["not_divided"]["8 is not a multiple of tp"] == 1
    assert found["rows"][1]["step_s"] is None
    assert sweep("--vary", "tp=1,3,4") == 0
    shown = capsys.readouterr().out
    assert "does not divide" in shown
    assert "1 not divided by the mesh: 8 is not a multiple of tp" in shown


def test_nothing_that_fits_is_a_failed_verdict(capsys):
    assert sweep("--batch", "100000") == 1
    assert "no point is usable" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--vary", "hbm_bandwidth=1e12"], "S612", "no `hbm_bandwidth` to vary"),
        (["--vary", "hbm_bw"], "S612", "NAME=VALUES"),
        (["--vary", "hbm_bw="], "S612", "NAME=VALUES"),
        (["--vary", "hbm_bw=1e12,"], "S612", "missing between commas"),
        (["--vary", "hbm_bw=-1e12"], "S612", "above zero"),
        (["--vary", "hbm_bw=0"], "S612", "above zero"),
        (["--vary", "hbm_bw=nan"], "S612", "not finite"),
        (["--vary", "hbm_bw=fast"], "S612", "no number"),
        (["--vary", "hbm_bw=1e12,1e12"], "S612", "stands twice"),
        (["--vary", "hbm_bw=1e12", "--vary", "hbm_bw=2e12"], "S612", "varied twice"),
        (["--vary", "hbm_bw=1e12:2e12"], "S612", "FIRST:LAST"),
        (["--vary", "hbm_bw=1e12:2e12:1"], "S612", "count of values"),
        (["--vary", "hbm_bw=1e12:2e12:999999999"], "S612", "count of values"),
        (["--vary", "hbm_bw=1e12:2e12:x1.0000000001"], "S612", "more than"),
        (["--vary", "hbm_bw=2:1:x2"], "S612", "factor above 1"),
        (["--vary", "batch=1.5"], "S612", "no whole number"),
        (["--vary", "batch=x2"], "S612", "which it has not"),
        (["--vary", "batch=1e18"], "S612", "at most"),
        (["--vary", "link_overlap=1.5"], "S612", "at most 1"),
        (["--vary", "utilisation=0.5"], "S612", "changes nothing"),
        (["--vary", "fp8_flops=1e15"], "S612", "changes nothing"),
        (["--vary", "answer=128"], "S612", "--seq"),
        (["--vary", "numerics=bf16,bf16"], "S612", "twice"),
        (["--vary", "numerics=q7"], "S609", "no unit"),
        (["--vary", "batch=1:1000:1000", "--vary", "context=1:2000:2000"], "S612", "1,000,000 are"),
        (["--out", "points.json"], "S610", "neither"),
        (["--mesh", "tp=x"], "S306", "tp=8"),
    ],
)  # fmt: skip
def test_what_cannot_be_swept_is_refused(capsys, arguments, code, words):
    assert sweep(*arguments) == 2
    shown = capsys.readouterr().err
    assert f"error[{code}]" in shown
    assert words in shown


def test_every_fault_is_named(capsys):
    assert sweep("--json", "--vary", "nope=1", "--vary", "batch=0", "--vary", "hbm_bw=x") == 2
    assert len(json.loads(capsys.readouterr().out)["diagnostics"]) == 3


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_every_point_is_written(capsys, tmp_path, suffix):
    out = tmp_path / f"points{suffix}"
    found = swept(
        capsys, "--vary", "tp=1,3,4", "--vary", "batch=1,8", "--seq", "64", "--out", str(out)
    )
    table = tables.read_table(out)
    assert table.num_rows == found["points"]
    columns = table.to_pydict()
    for i, row in enumerate(found["rows"]):
        for name, value in row.items():
            read = columns[name][i]
            if isinstance(value, (str, bool)):
                assert read == value
            elif value is None:
                assert read is None or math.isnan(read)  # CSV has no word for it
            else:
                assert read == pytest.approx(value)


def test_the_page_is_complete_in_itself(capsys, tmp_path):
    page = tmp_path / "sweep.html"
    assert sweep(
        "--vary", "tp=1,3,4,8", "--vary", "batch=1:256:x2", "--vary", "hbm_bw=x1:x2:5", "--html", str(page)
    ) == 0  # fmt: skip
    text = page.read_text()
    assert text.count("<svg") == 1
    assert Page(text).open == []
    assert "8 is not a multiple of tp" in text
    assert "llama-3.1-8b on NVIDIA H100 SXM" in text
    assert "front of" in capsys.readouterr().out


def test_the_page_of_a_sweep_without_times_says_so(tmp_path):
    page = tmp_path / "sweep.html"
    assert sweep("--vary", "tp=3,5", "--html", str(page)) == 1
    assert "No point has a time" in page.read_text()
    assert "<script" not in page.read_text()


# A load is given and no choice


LOADS = (
    "--vary",
    "batch=1,8,64,4096",
    "--vary",
    "context=1024,8192",
    "--vary",
    "numerics=bf16,fp8",
)


def test_points_of_different_loads_are_not_compared(capsys):
    both = swept(capsys, *LOADS)
    ways = [row["context"] for row in both["front"]]
    assert set(ways) == {1024, 8192}
    assert ways == sorted(ways)
    assert [load["context"] for load in both["loads"]] == [1024, 8192]
    for load in both["loads"]:
        alone = swept(capsys, *LOADS[:2], *LOADS[4:], "--context", str(load["context"]))
        assert alone["loads"] == []
        assert [row for row in both["front"] if row["context"] == load["context"]] == alone["front"]
        assert (load["points"], load["usable"]) == (alone["points"], alone["usable"])
        assert load["front"] == len(alone["front"])


def test_guesses_of_a_chip_are_not_compared(capsys):
    found = swept(capsys, "--vary", "batch=1,8", device="sohu")
    assert {row["hbm_bw"] for row in found["front"]} == {4e12, 5e12, 6e12, 7e12, 8e12}
    chosen = swept(capsys, "--vary", "batch=1,8", "--vary", "hbm_bw=4e12,8e12", device="sohu")
    assert {row["hbm_bw"] for row in chosen["front"]} == {8e12}
    assert chosen["loads"] == []


def test_a_verdict_tells_of_points_that_are_not_usable(capsys):
    assert sweep("--vary", "batch=1,100000") == 0
    shown = capsys.readouterr().out
    assert "verdict: pass; 1 of 2 points usable; 1 point does not fit the memory" in shown
    found = swept(capsys, "--vary", "batch=1,100000,200000")
    assert found["summary"] == "1 of 3 points usable; 2 points do not fit the memory"
    assert sweep("--vary", "batch=1,2") == 0
    assert capsys.readouterr().out.endswith("verdict: pass\n")


def test_the_script_names_every_point_rightly(monkeypatch):
    graph, chip = bound_graph(Path(LLAMA), lambda _: None), device_named("h100")
    written = [text for text in LOADS if text != "--vary"]
    given = {"batch": 1, "seq": 1, "context": 1, "tp": 1}
    design = parse_design(graph, chip, given, "bf16", ["tp=1,3,4", *written])
    found = Sweep("x", chip, evaluate_design(graph, chip, calibration(chip), design), 1.0)
    data = points_data(found)
    rows = np.frombuffer(base64.b64decode(data["rows"]), "<u4")
    assert len(rows) == data["points"] == 32
    for name in found.names:
        axis = next(axis for axis in data["axes"] if axis["name"] == name)
        told = [axis["values"][row // axis["stride"] % len(axis["values"])] for row in rows]
        assert told == [shown(name, found.columns[name][row]) for row in rows]
    kinds = np.frombuffer(base64.b64decode(data["kind"]), "<u1")
    assert rows[kinds == FRONT].tolist() == sorted(found.front)
    assert sorted(rows[i] for line in data["lines"] for i in line["at"]) == sorted(found.front)
    # Of too many points the fronts are kept.
    monkeypatch.setattr("sohu.performance.sweeps.points.LIMIT", 5)
    few = kept(found)
    assert set(found.front) <= set(few.tolist())
    assert len(few) <= 5 + len(found.front)


@pytest.mark.parametrize("most", [1, 2, 9])
def test_a_sweep_in_pieces_is_the_sweep(most: int):
    graph, chip = bound_graph(Path(LLAMA), lambda _: None), device_named("h100")
    given = {"batch": 1, "seq": 1, "context": 1, "tp": 1}
    written = [text for text in LOADS if text != "--vary"]
    design = parse_design(graph, chip, given, "bf16", ["tp=1,3,4", *written])
    whole = evaluate_design(graph, chip, calibration(chip), design)
    parts = pieces(Piece(graph, chip, design, Logits.LAST), most)
    space = joined(design, [evaluated(part) for part in parts])
    count = len(parts)
    assert count == min(most, 4)
    assert {n: c.tobytes() for n, c in space.columns.items()} == {
        n: c.tobytes() for n, c in whole.columns.items()
    }
    assert space.undivided == whole.undivided


def test_names_are_escaped_on_the_page(tmp_path):
    text = TESTS.parent / "device_model" / "chips" / "descriptions" / "h100_sxm.toml"
    own = tmp_path / "own.toml"
    own.write_text(text.read_text().replace("NVIDIA H100 SXM", "<b>&chip"))
    page = tmp_path / "sweep.html"
    assert sweep("--html", str(page), device=str(own)) == 0
    assert "<b>&chip" not in page.read_text()
    assert "&lt;b&gt;&amp;chip" in page.read_text()
