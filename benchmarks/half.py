# SPDX-License-Identifier: Apache-2.0
"""Lay a model folder out with its weights rounded to bfloat16, which is what the figures are promised for.

The demo's own weights are dequantised values that need float32. Nothing here is measured.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from device_model.numbers.numerics import BF16, cast
from porting.checkpoint.tensors import SINGLE, Checkpoint

CONFIG = "config.json"


@contextmanager
def halved(directory: Path) -> Iterator[Path]:
    """Make a folder like this one, all of whose floats are bfloat16."""
    from safetensors.numpy import save_file  # noqa: PLC0415 - comes with the extra `reference`

    checkpoint = Checkpoint.open(directory)
    with tempfile.TemporaryDirectory(prefix="sohu-") as name:
        folder = Path(name)
        weights = {tensor: cast(checkpoint.read(tensor), BF16) for tensor in checkpoint.tensors}
        save_file(weights, folder / SINGLE, metadata={"format": "pt"})
        for path in directory.glob("*.json"):
            shutil.copy(path, folder)
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        text = json.dumps(config | {"dtype": "bfloat16"})
        (folder / CONFIG).write_text(text, encoding="utf-8")
        yield folder
