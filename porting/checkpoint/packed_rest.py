# SPDX-License-Identifier: Apache-2.0
"""What a quantised checkpoint holds beside its weights, and what a reader of the report is told about it.

Scales of inputs and caches say how a file's own kernels round what they compute with; a port computes that in the
numerics of its run. They are left with a note, each kind by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice

from dsl.diagnostics import Diagnostic, Refused
from porting.checkpoint.packed_forms import SECTION
from porting.checkpoint.packed_layouts import Layout
from porting.checkpoint.safetensors_header import TensorInfo
from porting.checkpoint.section_beside import file_of
from porting.config.reader import NAME, ModelConfig
from porting.files.strict_json import shown

INPUTS = "the file's own kernels round inputs by it; here they stay in the run's numerics"
CACHES = "the file's own kernels round keys and values by it; here they stay in the run's numerics"
SHAPES = "the shape of a packed weight, which the program declares"
ROWS = "says that eight-bit numbers lie row by row, as they are read"
REST: Mapping[str, str] = {
    ".input_scale": INPUTS,
    ".input_scale_ub": INPUTS,
    ".activation_scale": INPUTS,
    ".input_global_scale": INPUTS,
    ".input_zero_point": INPUTS,
    ".k_scale": CACHES,
    ".v_scale": CACHES,
    ".q_scale": CACHES,
    ".kv_scale": CACHES,
    ".output_scale": CACHES,
    ".prob_output_scale": CACHES,
    ".weight_shape": SHAPES,
    ".weight_format": ROWS,
}
"""What the names of such tensors end with, and why they may be left."""
MAX_REST = 8
"""How many numbers one of them may hold."""
LISTS = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules", "exclude")
"""Where the modules are listed that a checkpoint has as they were."""
HELP = "one of the two is wrong: loaders differ in which they believe"
ACT_ORDER = "columns in any order (act-order) are written out in float32 when they are loaded"


def rest_of(tensors: Mapping[str, TensorInfo], layouts: Mapping[str, Layout]) -> dict[str, str]:
    """Return the patterns of tensors that may be left beside packed weights, with the reasons."""
    if not layouts:
        return {}
    kinds = {
        ending
        for name, info in tensors.items()
        for ending in REST
        if name.endswith(ending) and _count(info) <= MAX_REST
    }
    return {f"*{ending}": why for ending, why in REST.items() if ending in kinds}


def _count(info: TensorInfo) -> int:
    count = 1
    for size in info.shape:
        count *= size
    return count


def check_agreement(config: ModelConfig, layouts: Mapping[str, Layout]) -> None:
    """Refuse a config that says of stored weights what their tensors deny (S537)."""
    _check_left_out(config, layouts)
    key = f"{SECTION}weight_block_size"
    single = [name for name, layout in layouts.items() if layout.has_one_scale]
    if key in config.values and single:
        message = (
            f"`{key}` says that scales belong to blocks, and {shown(min(single))} has other ones"
        )
        raise Refused((Diagnostic("S537", message, config.span_of(key), place=NAME, help=HELP),))


def _check_left_out(config: ModelConfig, layouts: Mapping[str, Layout]) -> None:
    """Refuse a weight that is stored in low precision though the config names its module as left as it was (S537)."""
    named = {(item, key) for key in LISTS for item in _texts(config.values.get(f"{SECTION}{key}"))}
    modules = {name.removesuffix(".weight"): name for name in layouts}
    wrong = [(modules[item], key) for item, key in named if item in modules]
    if not wrong:
        return
    name, key = min(wrong)
    message = (
        f"`{SECTION}{key}` leaves {shown(name)} as it was, and the file holds it in low precision"
    )
    if len(wrong) > 1:
        message = f"{message}; {len(wrong) - 1:,} more alike"
    raise Refused(
        (Diagnostic("S537", message, config.span_of(f"{SECTION}{key}"), place=NAME, help=HELP),)
    )


def _texts(value: object) -> Iterable[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else ()


def notes_on(
    config: ModelConfig, layouts: Mapping[str, Layout], rest: Mapping[str, str]
) -> tuple[str, ...]:
    """Return what is to be said of stored weights: which there are, and what of the file is computed otherwise."""
    if not layouts:
        return ()
    kinds = Counter(layout.name for layout in layouts.values())
    shown_kinds = ", ".join(
        f"{count:,} as {kind}" for kind, count in islice(kinds.most_common(), 6)
    )
    notes = [f"weights in low precision are read as they are stored: {shown_kinds}"]
    if name := file_of(config):
        notes.append(
            f"how weights are stored is read from {name}, since config.json does not say it"
        )
    if _rounds_inputs(config, rest):
        notes.append(
            "the file's own kernels round inputs of products; here they stay in the run's numerics"
        )
    if CACHES in rest.values() or _says(config, "kv_cache"):
        notes.append(
            "the file's own kernels round the KV cache; here it stays in the run's numerics"
        )
    if config.values.get(f"{SECTION}desc_act") is True or any(
        _has_index(x) for x in layouts.values()
    ):
        notes.append(ACT_ORDER)
    return tuple(notes)


def _rounds_inputs(config: ModelConfig, rest: Mapping[str, str]) -> bool:
    return (
        INPUTS in rest.values()
        or _says(config, "activation_scheme")
        or any(".input_activations." in key for key in config.values)
    )


def _says(config: ModelConfig, start: str) -> bool:
    return any(key.startswith(f"{SECTION}{start}") for key in config.values)


def _has_index(layout: Layout) -> bool:
    source = layout.source
    return isinstance(source, tuple) and source[0] == "integers" and source[-2] != ""
