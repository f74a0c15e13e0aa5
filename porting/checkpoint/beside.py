# SPDX-License-Identifier: Apache-2.0
"""Refuse files beside the weights that loaders apply to a model, or read in their place, and that no port reads.

Only what changes what the model computes is here: tokenizers, templates, settings of sampling and copies of the weights
in other formats are not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dsl.diagnostics import Diagnostic, Refused
from porting.checkpoint.tensors import Checkpoint
from porting.files.files import list_names

ATTACH = (
    "to port the model with the adapter, name both: port MODEL --adapter FOLDER, where both may be "
    "this folder; to port the model alone, remove the file"
)
ADAPTER = "adapter_config.json"
INTO_CONFIG = "write what it says into config.json as `quantization_config`"
PACKED = (".qweight", ".weight_scale", ".weight_scale_inv", ".weight_packed", ".weight_scale_2")
"""What the names of tensors of a quantised checkpoint end with."""
SHARD = re.compile(r"shard-[0-9]{5}-model-[0-9]{5}-of-[0-9]{5}\.safetensors")


@dataclass(frozen=True, slots=True)
class Beside:
    """What a file beside the weights does, and what to do about it.

    With `packed` it matters only where the weights are quantised and config.json does not say how.
    """

    does: str
    help: str
    packed: bool = False


_STORED = Beside("says how the weights are stored, and config.json does not", INTO_CONFIG, True)
FILES: Mapping[str, Beside] = {
    ADAPTER: Beside("makes loaders add an adapter's weights to the model's", ATTACH),
    "hf_quant_config.json": _STORED,
    "quant_config.json": _STORED,
    "quantize_config.json": _STORED,
}
DISTRIBUTED = Beside(
    "makes transformers read a training's distributed checkpoint in place of the model's weights",
    "remove it, or write the model once more with save_pretrained",
)


def check_beside(
    checkpoint: Checkpoint, *, is_quantised: bool, adapter: Path | None = None
) -> None:
    """Refuse a folder with a file that changes its model (S529), but for the adapter that is asked for.

    `is_quantised` tells whether config.json says how the weights are stored.
    """
    is_own = adapter is not None and adapter.resolve() == checkpoint.directory.resolve()
    packed = not is_quantised and any(name.endswith(PACKED) for name in checkpoint.tensors)
    refused = []
    for name in list_names(checkpoint.directory):
        if is_own and name == ADAPTER:
            continue
        row = DISTRIBUTED if SHARD.fullmatch(name) else FILES.get(name)
        if row is not None and (packed or not row.packed):
            message = f"{name} beside the weights {row.does}"
            refused.append(Diagnostic("S529", message, place=name, help=row.help))
    if refused:
        raise Refused(tuple(refused[:1]))
