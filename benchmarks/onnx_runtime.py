# SPDX-License-Identifier: Apache-2.0
"""Export by Optimum and measurements of ONNX Runtime, with the peers' Python: `-m benchmarks.onnx_runtime NAME …`."""

from __future__ import annotations

import json
import os
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime as ort

from benchmarks.process import Result, peer_decode, peer_prefill, report


def versions() -> Result:
    """Name what was measured."""
    names = ("onnxruntime", "optimum-onnx", "transformers", "torch")
    return {name: version(name) for name in names}


def export(directory: str, out: str) -> Result:
    """Export with Optimum in float32, with a cache, and without its check of the result."""
    start = time.perf_counter()
    from optimum.exporters.onnx import main_export  # noqa: PLC0415 - its import is part of an export

    with tempfile.TemporaryDirectory() as folder:
        older = _as_written_for_transformers_4(Path(directory), Path(folder))
        main_export(str(older), out, task="text-generation-with-past", do_validation=False)
    return {"seconds": time.perf_counter() - start}


def _as_written_for_transformers_4(directory: Path, folder: Path) -> Path:
    """Return a folder of links whose config has the rotary base where transformers 4 looks for it."""
    for path in directory.iterdir():
        (folder / path.name).symlink_to(path)
    config = json.loads((directory / "config.json").read_text())
    rope = config.pop("rope_parameters")
    if rope["rope_type"] != "default":
        raise SystemExit(f"rope_type {rope['rope_type']} has another spelling in transformers 4")
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config | {"rope_theta": rope["rope_theta"]}))
    return folder


class Exported:
    """An exported model and one sequence's cache, which stays in the runtime's memory."""

    def __init__(self, folder: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        path = str(Path(folder) / "model.onnx")
        self._session = ort.InferenceSession(path, options, ["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]
        self.restart()

    def restart(self) -> None:
        """Forget the sequence."""
        self._length = 0
        self._past = {
            value.name: _value(np.zeros((1, value.shape[1], 0, value.shape[3]), np.float32))
            for value in self._session.get_inputs()
            if value.name.startswith("past_key_values")
        }

    def step(self, ids: np.ndarray) -> np.ndarray:
        """Take the next tokens and return their logits."""
        reach = np.arange(self._length + len(ids), dtype=np.int64)[None]
        given = {
            "input_ids": np.asarray(ids, np.int64)[None],
            "attention_mask": np.ones_like(reach),
            "position_ids": np.ascontiguousarray(reach[:, self._length :]),
        }
        feeds = self._past | {name: _value(array) for name, array in given.items()}
        results = self._session.run_with_ort_values(self._names, feeds)
        outputs = dict(zip(self._names, results, strict=True))
        logits: np.ndarray = outputs.pop("logits").numpy()[0]
        self._past = {n.replace("present", "past_key_values"): kept for n, kept in outputs.items()}
        self._length += len(ids)
        return logits


def _value(array: np.ndarray) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_numpy(array)


def decode(folder: str) -> Result:
    """Decode token by token in float32."""
    return peer_decode(Exported(folder))


def prefill(folder: str) -> Result:
    """Run a prompt in one step in float32, with all logits."""
    return peer_prefill(Exported(folder))


if __name__ == "__main__":
    report(versions, export, decode, prefill)
