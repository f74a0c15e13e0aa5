"""Refuse files beside the weights that loaders apply to a model, or read in their place, and that no port reads.

Only what changes what the model computes is here: tokenizers, templates, settings of sampling and copies of the weights
in other formats are not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from dsl.diagnostics import Diagnostic, Refused
from porting.checkpoint.tensors import Checkpoint
from porting.files.files import list_names

MERGE = (
    'merge it: python -c "from peft import PeftModel as P; from transformers import AutoModelForCausalLM as M; '
    "P.from_pretrained(M.from_pretrained('BASE'), 'ADAPTER').merge_and_unload().save_pretrained('OUT')\" with the "
    "model's files in BASE and the adapter's in ADAPTER; or remove the file to port the model alone"
)
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
    "adapter_config.json": Beside("makes loaders add an adapter's weights to the model's", MERGE),
    "hf_quant_config.json": _STORED,
    "quant_config.json": _STORED,
    "quantize_config.json": _STORED,
}
DISTRIBUTED = Beside(
    "makes transformers read a training's distributed checkpoint in place of the model's weights",
    "remove it, or write the model once more with save_pretrained",
)


def check_beside(checkpoint: Checkpoint, *, is_quantised: bool) -> None:
    """Refuse a folder with a file that changes its model (S529).

    `is_quantised` tells whether config.json says how the weights are stored.
    """
    packed = not is_quantised and any(name.endswith(PACKED) for name in checkpoint.tensors)
    refused = []
    for name in list_names(checkpoint.directory):
        row = DISTRIBUTED if SHARD.fullmatch(name) else FILES.get(name)
        if row is not None and (packed or not row.packed):
            message = f"{name} beside the weights {row.does}"
            refused.append(Diagnostic("S529", message, place=name, help=row.help))
    if refused:
        raise Refused(tuple(refused[:1]))
