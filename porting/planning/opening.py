"""Open what is at hand of a model's weights, for planning: their files, or nothing beside the config.

Reads no weights. That something must be there to run or to validate a model is for the pipeline to say.
"""

from __future__ import annotations

from porting.checkpoint.beside import check_beside
from porting.checkpoint.tensors import INDEX, SINGLE, Checkpoint, read_weight_map
from porting.config.reader import ModelConfig, read_config
from porting.files.files import find_file
from porting.origin.resolve import Origin, OriginKind


def open_to_plan(origin: Origin) -> tuple[ModelConfig, Checkpoint]:
    """Return a model's config and the tensors that are known of; weights that are there are checked as always."""
    config = read_config(origin.directory, origin.config_name)
    if origin.kind is OriginKind.CONFIG:
        return config, Checkpoint.absent(origin.directory)
    is_there = _has_weights(origin)
    checkpoint = (Checkpoint.open if is_there else Checkpoint.absent)(origin.directory)
    is_quantised = any(key.startswith("quantization_config") for key in config.values)
    check_beside(checkpoint, is_quantised=is_quantised)
    return config, checkpoint


def _has_weights(origin: Origin) -> bool:
    """Tell whether a folder holds safetensors, or some of the files that its index names."""
    if find_file(origin.directory, SINGLE) is not None:
        return True
    index = find_file(origin.directory, INDEX)
    if index is None:
        return False
    shards = set(read_weight_map(index).values())
    return any(find_file(origin.directory, name) is not None for name in shards)
