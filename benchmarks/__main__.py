# SPDX-License-Identifier: Apache-2.0
"""Print the table of speeds that the project holds itself to, as ratios in one run.

`python -m benchmarks [GROUP …] [--repeats N]`. `make peers` installs the peers besides transformers; without them
their rows say so.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.half import halved
from benchmarks.launch import ROOT, child, run
from benchmarks.process import PREFILL
from device_model.chips.chip import device as device_named
from device_model.cost.calibration import calibration
from device_model.cost.oracle import predict
from porting.origin.resolve import demo_file, resolve

MILLION = 1_000_000
DENSE = ROOT / "model_zoo" / "ports" / "llama-3.1-70b.sohu"
LARGE = ROOT / "model_zoo" / "ports" / "deepseek-v3-671b.sohu"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; `value` is compared with the bar and the goal, larger is better unless `least`.

    A row without a bar is there to be looked at.
    """

    what: str
    ours: str
    theirs: str
    value: float | None
    bar: float | None = None
    goal: float | None = None
    unit: str = "x"
    least: bool = False

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        sign = "<=" if self.least else ">="
        shown = "not measured" if self.value is None else f"{self.value:.2f}{self.unit}"
        limits = [
            "–" if limit is None else f"{sign} {limit:g}{self.unit}"
            for limit in (self.bar, self.goal)
        ]
        return self.what, self.ours, self.theirs, shown, *limits, self._verdict()

    def _verdict(self) -> str:
        if self.value is None or self.bar is None or self.goal is None:
            return "–"
        at = -self.value if self.least else self.value
        bar, goal = (-self.bar, -self.goal) if self.least else (self.bar, self.goal)
        return "goal" if at >= goal else "bar" if at >= bar else "missed"


@dataclass(frozen=True, slots=True)
class Given:
    """What every row is measured with; `limits` are the machine's own."""

    directory: str
    repeats: int
    limits: dict[str, Any]

    @property
    def stored(self) -> int:
        """Return the bytes of the weights, two each."""
        return sum(path.stat().st_size for path in Path(self.directory).glob("*.safetensors"))


def pair(
    repeats: int, name: str, ours: Sequence[str], theirs: Sequence[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Run two measurements in turns, so that a busy moment meets both."""
    runs = [(child("ours", name, *ours), child("eager", name, *theirs)) for _ in range(repeats)]
    return [run[0] for run in runs], [run[1] for run in runs]


def beside(peer: peers.Peer, source: str, given: Given) -> Iterator[Row]:
    """Measure decoding and a prompt beside a peer, in turns."""
    name = peer.label()
    for what, shown in (("decode", "decode"), ("prefill", "prefill 512")):
        numerics = "bf16" if what == "decode" else peer.numerics
        row = f"{shown}, {numerics}; {peer.format} there"
        if name is None:
            yield Row(row, "", f"{peer.name} not installed", None)
            continue
        words = [given.directory] if what == "decode" else [given.directory, numerics]
        runs = [
            (child("ours", what, *words), peer.measure(what, source)) for _ in range(given.repeats)
        ]
        a, b = middle([run[0] for run in runs]), middle([run[1] for run in runs])
        if what == "decode":
            texts = f"{1 / a:.1f} tok/s", f"{1 / b:.1f} tok/s {name}"
        else:
            peer.check(runs[-1][0]["top"], runs[-1][1]["top"])
            texts = f"{a:.3f} s", f"{b:.3f} s {name}"
        yield Row(row, *texts, b / a)


def middle(runs: Sequence[dict[str, Any]]) -> float:
    """Return the median of the runs' seconds."""
    return float(statistics.median(run["seconds"] for run in runs))


def wall(command: Sequence[str], repeats: int) -> float:
    """Return the median wall time of a command, process start included."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run(command)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def decode_rows(given: Given) -> Iterator[Row]:
    """Decode beside transformers, and beside what the machine can read."""
    ours, theirs = pair(given.repeats, "decode", [given.directory], [given.directory])
    a, b = middle(ours), middle(theirs)
    yield Row("decode, bf16", f"{1 / a:.1f} tok/s", f"{1 / b:.1f} tok/s eager", b / a, 4, 7)
    reached, most = given.stored / a, given.limits["read_bytes_per_second"]
    shown = f"{reached / 1e9:.1f} GB/s", f"{most / 1e9:.1f} GB/s read"
    yield Row("decode, share of streaming reads", *shown, 100 * reached / most, 0, 80, " %")
    memory = max(run["peak_rss"] for run in ours)
    shown = f"{memory / 1e6:.0f} MB", f"{given.stored / 1e6:.0f} MB file"
    share = memory / given.stored
    yield Row("decode, bf16, peak resident memory", *shown, share, 1.6, 1.2, least=True)


def prefill_rows(given: Given) -> Iterator[Row]:
    """Run a prompt beside transformers, and beside numpy's products in float32."""
    # Two operations a token for each of the weights, which take two bytes; attention is left out.
    work, most = PREFILL * given.stored, given.limits["flops_per_second"]
    for numerics, dtype, bar, goal in (("bf16", "bfloat16", 0.7, 1.2), ("f32", "float32", 1, 2)):
        runs = pair(given.repeats, "prefill", [given.directory, numerics], [given.directory, dtype])
        a, b = map(middle, runs)
        what = f"prefill 512, {numerics}"
        yield Row(what, f"{a:.3f} s", f"{b:.3f} s eager", b / a, bar, goal)
        shown = f"{work / a / 1e9:.0f} GFLOP/s", f"{most / 1e9:.0f} GFLOP/s f32 numpy"
        yield Row(f"{what}, share of products", *shown, 100 * work / a / most, unit=" %")


def port_rows(given: Given) -> Iterator[Row]:
    """Port beside Optimum's export, then run beside what it exported."""
    with tempfile.TemporaryDirectory() as folder:
        yield port_row(given, Path(folder))
        yield from beside(peers.ONNX, str(Path(folder) / "onnx"), given)


def llama_rows(given: Given) -> Iterator[Row]:
    """Run beside llama.cpp on the demo's own file."""
    yield from beside(peers.LLAMA, str(demo_file()), given)


def port_row(given: Given, folder: Path) -> Row:
    """Port without a reference run, against Optimum's export without its check; the export stays in the folder."""
    command = [sys.executable, "-m", "sohu", "port", given.directory, "--no-validate", "--out"]
    ours = wall([*command, str(folder / "port")], max(3, given.repeats))
    name = peers.ONNX.label("optimum-onnx")
    what, shown = "port, no reference", f"{ours:.2f} s"
    if name is None:
        return Row(what, shown, "optimum-onnx not installed", None, 10, 30)
    exports = [
        peers.ONNX.measure("export", given.directory, str(folder / "onnx"))
        for _ in range(given.repeats)
    ]
    theirs = middle(exports)
    return Row(what, shown, f"{theirs:.1f} s {name}", theirs / ours, 10, 30)


def check_rows(given: Given) -> Iterator[Row]:
    """Check the spec of a very large model, process start included."""
    command = [sys.executable, "-m", "sohu", "check", str(LARGE)]
    seconds = wall(command, max(3, given.repeats))
    yield Row("check of a 671B spec", f"{seconds:.2f} s", "", seconds, 1.5, 0.5, " s", least=True)


def sweep_rows(given: Given) -> Iterator[Row]:
    """Evaluate a space of designs with a prefill and a decoding step each, process start included."""
    axes = ("batch=1:512:x2", "tp=1,2,4,8", "context=1024:8192:x2", "numerics=bf16,f8e4m3")
    chip = ("link_bw=x1:x4:8", "hbm_bw=4e12:8e12:8", "vector_flops=x1:x2:5")
    for name, spec in (("70B dense", DENSE), ("671B mixture", LARGE)):
        command = [sys.executable, "-m", "sohu", "sweep", str(spec), "--device", "sohu"]
        command += ["--json", "--seq", "2048"]
        command += [word for axis in (*axes, *chip) for word in ("--vary", axis)]
        seconds = wall(command, given.repeats)
        what = f"102,400 designs, {name}"
        yield Row(what, f"{seconds:.2f} s", "", seconds, 60, 10, " s", least=True)


def time_rows(given: Given) -> Iterator[Row]:
    """Predict a million products at once, and profile a program of 70B parameters, process start included."""
    device = device_named("h100")
    draw = np.random.default_rng(7)
    shapes = {name: draw.integers(1, 16384, MILLION).astype(np.float64) for name in "mnk"}
    times = []
    for _ in range(given.repeats):
        start = time.perf_counter()
        predict("gemm", shapes, device, "bf16", calibration(device))
        times.append(time.perf_counter() - start)
    rate = MILLION / statistics.median(times) / 1e6
    yield Row("products predicted", f"{rate:.2f} M/s", "", rate, 1, 2, " M/s")
    command = [sys.executable, "-m", "sohu", "profile", str(DENSE), "--mesh", "tp=8", "--json"]
    for chip, numerics in (("h100", "bf16"), ("sohu", "f8e4m3")):
        seconds = wall([*command, "--device", chip, "--numerics", numerics], max(3, given.repeats))
        what = f"profile of 70B on 8 x {chip}"
        yield Row(what, f"{seconds:.2f} s", "", seconds, 3, 1.5, " s", least=True)


GROUPS: dict[str, Callable[[Given], Iterator[Row]]] = {
    "decode": decode_rows,
    "prefill": prefill_rows,
    "port": port_rows,
    "llama": llama_rows,
    "check": check_rows,
    "sweep": sweep_rows,
    "time": time_rows,
}


def table(lines: Sequence[tuple[str, ...]]) -> str:
    """Return lines of cells as aligned text."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def main() -> None:
    """Run everything, or the groups of rows that are named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(GROUPS)}; all by default")
    parser.add_argument("--repeats", type=int, default=3, help="processes for each measurement")
    parser.add_argument("--context", action="store_true", help="also decode at long contexts")
    options = parser.parse_args()
    if unknown := set(options.groups) - set(GROUPS):
        parser.error(f"no group is called {', '.join(sorted(unknown))}")
    limits = child("machine", "limits")
    for versions in (child("machine", "versions"), peers.ONNX.versions(), peers.LLAMA.versions()):
        if versions:
            print(", ".join(f"{name} {version}" for name, version in versions.items()))
    print(
        f"this machine: {limits['read_bytes_per_second'] / 1e9:.1f} GB/s streaming reads, "
        f"{limits['flops_per_second'] / 1e9:.0f} GFLOP/s float32 products (numpy)"
    )
    with halved(resolve("demo").directory) as folder:
        given = Given(str(folder), options.repeats, limits)
        measure(given, options.groups or GROUPS, long=options.context)


def measure(given: Given, groups: Iterable[str], *, long: bool) -> None:
    """Run groups of rows and print them, and long contexts where asked for."""
    lines: list[tuple[str, ...]] = [
        ("what", "ours", "compared with", "result", "bar", "goal", "reached")
    ]
    for name in groups:
        lines += [row.cells() for row in GROUPS[name](given)]
    print(table(lines))
    if long:
        print(long_context(given.directory))


def long_context(directory: str) -> str:
    """Return how decoding slows with context, beside the bytes that a step reads."""
    decoding = child("ours", "context", directory)
    stored = sum(path.stat().st_size for path in Path(directory).glob("*.safetensors"))
    lines = [("context", "ms/token", "time", "bytes")]
    base = None
    for length, seconds in decoding["seconds"].items():
        size = stored + int(length) * decoding["state_bytes_per_token"]
        base = base or (seconds, size)
        lines.append(
            (length, f"{seconds * 1e3:.2f}", f"{seconds / base[0]:.3f}x", f"{size / base[1]:.3f}x")
        )
    return table(lines)


if __name__ == "__main__":
    main()
