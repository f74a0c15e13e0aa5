# SPDX-License-Identifier: Apache-2.0
"""Show a porter what a type's checkpoint holds: keys, tensors with shapes, and where its code is."""

from __future__ import annotations

import inspect
import json
import tempfile
from pathlib import Path

from farm.oracles.tiny import tiny
from porting.checkpoint.tensors import Checkpoint
from porting.original.reference import libraries


def describe(model_type: str) -> str:
    """Return the tiny config, the tensors of the checkpoint and the modelling file, as text."""
    torch, transformers = libraries()
    with tempfile.TemporaryDirectory(prefix="farm-") as name:
        directory = tiny(Path(name), model_type)
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        tensors = Checkpoint.open(directory).tensors.values()
    with torch.device("meta"):
        read = transformers.AutoConfig.for_model(**config)
        model = transformers.AutoModelForCausalLM.from_config(read)
    package = Path(transformers.__file__).parent
    code = Path(inspect.getfile(type(model))).relative_to(package)
    width = max(len(tensor.name) for tensor in tensors)
    lines = [f"{model_type}: {type(model).__name__} in transformers/{code.as_posix()}", ""]
    lines += [f"{key} = {json.dumps(value)}" for key, value in sorted(config.items())]
    lines += [""]
    lines += [f"{t.name:<{width}}  {t.dtype}{list(t.shape)}" for t in tensors]
    return "\n".join(lines)
