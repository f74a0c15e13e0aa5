"""Print the table of speeds that the project holds itself to, as ratios in one run.

`python -m benchmarks [--repeats N]`. Peers that are not installed are reported as not measured.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from porting.origin.resolve import resolve

ROOT = Path(__file__).parent.parent
PEERS = ROOT / "build" / "peers" / "bin"
LARGE = ROOT / "model_zoo" / "ports" / "deepseek-v3-671b.sohu"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; `value` is compared with the bar and the goal, larger is better unless `least`."""

    what: str
    ours: str
    theirs: str
    value: float | None
    bar: float
    goal: float
    unit: str = "x"
    least: bool = False

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        sign = "<=" if self.least else ">="
        shown = "not measured" if self.value is None else f"{self.value:.2f}{self.unit}"
        limits = f"{sign} {self.bar:g}{self.unit}", f"{sign} {self.goal:g}{self.unit}"
        return self.what, self.ours, self.theirs, shown, *limits, self._verdict()

    def _verdict(self) -> str:
        if self.value is None:
            return "–"
        at = -self.value if self.least else self.value
        bar, goal = (-self.bar, -self.goal) if self.least else (self.bar, self.goal)
        return "goal" if at >= goal else "bar" if at >= bar else "missed"


def run(command: Sequence[str]) -> str:
    """Run a command of ours and return what it printed."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def child(module: str, name: str, *arguments: str) -> dict[str, Any]:
    """Run one measurement in its own process."""
    printed = run([sys.executable, "-m", f"benchmarks.{module}", name, *arguments])
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def pair(
    repeats: int, name: str, ours: Sequence[str], theirs: Sequence[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Run two measurements in turns, so that a busy moment meets both."""
    runs = [(child("ours", name, *ours), child("eager", name, *theirs)) for _ in range(repeats)]
    return [run[0] for run in runs], [run[1] for run in runs]


def middle(runs: Sequence[dict[str, Any]]) -> float:
    """Return the median of the runs' seconds."""
    return statistics.median(run["seconds"] for run in runs)


def wall(command: Sequence[str], repeats: int) -> float:
    """Return the median wall time of a command, process start included."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run(command)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def rows(directory: str, repeats: int, limits: dict[str, Any]) -> Iterator[Row]:
    """Measure and yield the lines of the table."""
    stored = sum(path.stat().st_size for path in Path(directory).glob("*.safetensors"))
    ours, theirs = pair(repeats, "decode", [directory], [directory])
    a, b = middle(ours), middle(theirs)
    yield Row("decode, bf16", f"{1 / a:.1f} tok/s", f"{1 / b:.1f} tok/s eager", b / a, 4, 7)
    reached, most = stored / a, limits["read_bytes_per_second"]
    shown = f"{reached / 1e9:.1f} GB/s", f"{most / 1e9:.1f} GB/s read"
    yield Row("decode, share of streaming reads", *shown, 100 * reached / most, 0, 80, " %")
    memory = max(run["peak_rss"] for run in ours)
    shown = f"{memory / 1e6:.0f} MB", f"{stored / 1e6:.0f} MB file"
    yield Row("decode, bf16, peak resident memory", *shown, memory / stored, 1.6, 1.2, least=True)
    for numerics, dtype, bar, goal in (("bf16", "bfloat16", 0.7, 1.2), ("f32", "float32", 1, 2)):
        ours, theirs = pair(repeats, "prefill", [directory, numerics], [directory, dtype])
        a, b = middle(ours), middle(theirs)
        yield Row(f"prefill 512, {numerics}", f"{a:.3f} s", f"{b:.3f} s eager", b / a, bar, goal)
    yield port_row(directory, repeats)
    yield check_row(repeats)


def port_row(directory: str, repeats: int) -> Row:
    """Port without a reference run, against an export by Optimum in its own environment."""
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "port")
        command = [sys.executable, "-m", "porting", "port", directory, "--no-validate", "--out"]
        ours = wall([*command, out], repeats)
        exporter = shutil.which("optimum-cli", path=str(PEERS))
        if exporter is None:
            return Row("port, no reference", f"{ours:.2f} s", "Optimum not installed", None, 10, 30)
        export = [exporter, "export", "onnx", "--model", directory, "--task", "text-generation"]
        theirs = wall([*export, str(Path(folder) / "onnx")], 1)
    shown = f"{theirs:.1f} s Optimum"
    return Row("port, no reference", f"{ours:.2f} s", shown, theirs / ours, 10, 30)


def check_row(repeats: int) -> Row:
    """Check the spec of a very large model, process start included."""
    what = "check of a 671B spec"
    if not LARGE.exists():
        return Row(what, "the zoo has none yet", "", None, 1.5, 0.5, " s", least=True)
    command = [sys.executable, "-m", "porting", "check", str(LARGE)]
    seconds = wall(command, max(3, repeats))
    return Row(what, f"{seconds:.2f} s", "", seconds, 1.5, 0.5, " s", least=True)


def table(lines: Sequence[tuple[str, ...]]) -> str:
    """Return lines of cells as aligned text."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="processes for each measurement")
    parser.add_argument("--context", action="store_true", help="also decode at long contexts")
    options = parser.parse_args()
    named, limits = child("machine", "versions"), child("machine", "limits")
    print(", ".join(f"{name} {version}" for name, version in named.items()))
    print(
        f"this machine: {limits['read_bytes_per_second'] / 1e9:.1f} GB/s streaming reads, "
        f"{limits['flops_per_second'] / 1e9:.0f} GFLOP/s float32 products (numpy)"
    )
    directory = str(resolve("demo").directory)
    head = ("what", "ours", "compared with", "result", "bar", "goal", "reached")
    print(table([head, *(row.cells() for row in rows(directory, options.repeats, limits))]))
    if options.context:
        print(long_context(directory))


def long_context(directory: str) -> str:
    """Return how decoding slows with context, beside the bytes that a step reads."""
    found = child("ours", "context", directory)
    stored = sum(path.stat().st_size for path in Path(directory).glob("*.safetensors"))
    lines = [("context", "ms/token", "time", "bytes")]
    base = None
    for length, seconds in found["seconds"].items():
        size = stored + int(length) * found["state_bytes_per_token"]
        base = base or (seconds, size)
        lines.append(
            (length, f"{seconds * 1e3:.2f}", f"{seconds / base[0]:.3f}x", f"{size / base[1]:.3f}x")
        )
    return table(lines)


if __name__ == "__main__":
    main()
