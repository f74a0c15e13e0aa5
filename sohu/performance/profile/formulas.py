# SPDX-License-Identifier: Apache-2.0
"""What the terms of the cost formulas are and how they make up a time, in words, by the fitted section that they use.

The formulas themselves are in `device_model/cost`; a name that they gain and that is missing here fails a test.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from textwrap import dedent

from device_model.chips.peaks import PEAKS
from device_model.cost.calibration import SECTIONS
from device_model.cost.oracle import gemm_section
from device_model.timeline.kinds import (
    AttentionSizes,
    CollectiveSizes,
    ExpertSizes,
    ProductSizes,
    VectorSizes,
)
from device_model.timeline.pricing import decodes, product_format
from device_model.timeline.tasks import Task


@dataclass(frozen=True, slots=True)
class Formula:
    """How a kind of task is priced: the composition, its terms, the chip's quantities that it reads (% is the peak)."""

    composition: str
    terms: Mapping[str, str]
    quantities: tuple[str, ...]


_ATTENTION = {
    "launch": "starting the kernels",
    "scan": "looking up each sequence's place in the batch",
    "setup": "first loads, last stores and normalisation around tiles",
    "compute": "scores, exponentials and weighted values, tile by tile",
    "waves": "units that wait for the last or the longest tile",
    "split": "merging the parts of a cache split among units",
    "roofline": "what is missing to the speed of light",
}
_MATMUL_OF_EXPERTS = {
    "compute": "its FLOPs, padded to whole tiles",
    "memory": "the weights of the experts that are hit",
    "latency": "tiles that wait for their operands step by step",
    "store": "results that leave when the tiles are done",
    "foreign": "zeros for experts of other ranks",
}
_GEMM = Formula(
    "launch + convert + p-norm(the longer of work and memory + unhidden + roofline, power): memory streams beside the "
    "work, the power limits both; the tile and the split of k are the quickest of the menu",
    {
        "launch": "before and after the work",
        "convert": "bringing the activations into the product's format",
        "work": "waves of tiles over the units, at the chosen tile and split of k, and stores that they wait for",
        "memory": "results and operands through main memory, of these what is not on the chip, and its latency",
        "unhidden": "what of the shorter of work and memory the longer does not hide",
        "roofline": "what is missing to the speed of light",
        "power": "the FLOPs at the power limit",
    },
    (
        "%",
        "hbm_bw",
        "units",
        "clock_hz",
        "boost_hz",
        "multicast",
        "tile_copies",
        "onchip_bytes",
        "flop_joule",
        "tdp_w",
    ),
)
FORMULAS: Mapping[str, Formula] = {
    "gemm_bf16": _GEMM,
    "gemm_fp8": _GEMM,
    "attention_decode": Formula(
        "the sum of the terms; the cache streams beside the arithmetic, and `memory` is what of it stays exposed",
        {**_ATTENTION, "memory": "the stream of the cache that arithmetic does not hide"},
        ("bf16_flops", "hbm_bw", "units", "onchip_bytes"),
    ),
    "attention_prefill": Formula(
        "the sum of the terms",
        {
            **_ATTENTION,
            "memory": "queries, keys, values and results through main memory",
            "cache write": "new keys and values into the cache",
        },
        ("bf16_flops", "hbm_bw", "units"),
    ),
    "moe_bf16": Formula(
        "launch + route + elementwise, and for each of the two matmuls the p-norm (exponent 3) of compute, memory and "
        "latency, then store and foreign; loads of experts are expectations of the routing",
        {
            "launch": "starting the kernels",
            "route": "sorting and placing tokens at their experts",
            "elementwise": "the activation between, and the sum behind",
            **{
                f"{which}, {name}": f"{which} matmul: {words}"
                for which in ("first", "second")
                for name, words in _MATMUL_OF_EXPERTS.items()
            },
        },
        ("%", "hbm_bw", "units", "onchip_bytes"),
    ),
    "vector": Formula(
        "launch + p-norm(work, memory) with the exponent `sharpness`; the last pass of a layer and the first of the "
        "next are one kernel, so its launch counts once",
        {
            "launch": "before and after the work",
            "work": "arithmetic outside of the matmul unit",
            "memory": "bytes through main memory; what lives inside of the run alone is not moved",
        },
        ("vector_flops", "hbm_bw"),
    ),
    "collective": Formula(
        "the quickest protocol of the quickest algorithm of the menu, without the share that work beside it hides",
        {"links": "the collective by itself", "hidden": "what other work hides"},
        ("link_bw", "domain", "scaleout_bw", "switch_reduces", "link_overlap"),
    ),
}
SIZES: Mapping[str, str] = {
    "m": "rows", "n": "columns", "k": "contracted", "x_bits": "bits of an activation",
    "w_bits": "bits of a weight as stored", "y_bits": "bits of a result", "new": "new tokens",
    "context": "cached tokens", "heads": "query heads", "kv_heads": "key-value heads",
    "window": "tokens seen", "top_k": "experts a token", "tp": "ways to split an expert",
    "ep": "ways to share the experts", "moved": "bytes moved", "unfused": "bytes without fusion",
    "bytes": "of the buffer",
}  # fmt: skip


def section_of(task: Task, dtype: str) -> str:
    """Return the fitted section that a task's price uses, as the prices choose it."""
    match task.sizes:
        case ProductSizes() as sizes:
            return gemm_section(product_format(sizes, dtype))
        case AttentionSizes() as sizes:
            return "attention_decode" if decodes(sizes) else "attention_prefill"
        case ExpertSizes():
            return "moe_bf16"
        case VectorSizes():
            return "vector"
        case CollectiveSizes():
            return "collective"


def quantities_of(section: str, task: Task, dtype: str) -> tuple[str, ...]:
    """Return the chip's quantities that a price reads."""
    sizes = task.sizes
    at = product_format(sizes, dtype) if isinstance(sizes, ProductSizes) else dtype
    peak = PEAKS[at.lower()]
    return tuple(peak if key == "%" else key for key in FORMULAS[section].quantities)


@lru_cache(maxsize=16)
def parameter_words(section: str) -> Mapping[str, str]:
    """Return what each parameter of a section means, as its class says it."""
    tree = ast.parse(dedent(inspect.getsource(SECTIONS[section])))
    (made,) = tree.body
    meanings = {}
    body = made.body if isinstance(made, ast.ClassDef) else []
    for field, words in pairwise(body):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(words, ast.Expr) and isinstance(words.value, ast.Constant):
            meanings[field.target.id] = " ".join(str(words.value.value).split())
    return meanings
