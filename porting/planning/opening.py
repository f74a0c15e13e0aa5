# SPDX-License-Identifier: Apache-2.0
"""Open what is at hand of a model's weights, for planning: their files, the hub's headers of them, or nothing.

Reads no weights. That something must be there to run or to validate a model is for the pipeline to say.
"""

from __future__ import annotations

from porting.checkpoint.beside import check_beside
from porting.checkpoint.foreign import check_method
from porting.checkpoint.index import INDEX, read_weight_map
from porting.checkpoint.section_beside import with_section
from porting.checkpoint.tensors import SINGLE, Checkpoint
from porting.config.reader import ModelConfig, read_config
from porting.files.files import find_file
from porting.files.progress import Progress, silent
from porting.origin import hub
from porting.origin.resolve import Origin, OriginKind


def open_to_plan(origin: Origin, progress: Progress = silent) -> tuple[ModelConfig, Checkpoint]:
    """Return a model's config and the tensors that are known of; weights that are there are checked as always."""
    config = read_config(origin.directory, origin.config_name)
    check_method(config)
    if origin.kind is OriginKind.CONFIG:
        return config, Checkpoint.absent(origin.directory)
    checkpoint = _at_hand(origin, progress)
    config = with_section(config, checkpoint)
    check_method(config)
    is_quantised = any(key.startswith("quantization_config") for key in config.values)
    check_beside(checkpoint, is_quantised=is_quantised)
    return config, checkpoint


def _at_hand(origin: Origin, progress: Progress) -> Checkpoint:
    if _has_weights(origin):
        return Checkpoint.open(origin.directory)
    if origin.kind is not OriginKind.HUB:
        return Checkpoint.absent(origin.directory)
    try:
        snapshot = hub.Snapshot(origin.directory, origin.revision or "")
        return hub.headers(origin.source, snapshot, progress)
    except hub.Unavailable:
        return Checkpoint.absent(origin.directory)


def _has_weights(origin: Origin) -> bool:
    """Tell whether a folder holds safetensors, or some files that its index names: for a hub id, all of them."""
    if find_file(origin.directory, SINGLE) is not None:
        return True
    index = find_file(origin.directory, INDEX)
    if index is None:
        return False
    here = [
        find_file(origin.directory, name) is not None
        for name in set(read_weight_map(index).values())
    ]
    # A cache may hold some of them, which the hub then knows all about.
    return all(here) if origin.kind is OriginKind.HUB else any(here)
