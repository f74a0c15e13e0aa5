# SPDX-License-Identifier: Apache-2.0
"""The table of config classes is that of the installed transformers, and every family has its class's defaults."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest

from dsl.diagnostics import Refused
from dsl.linking.binding import bind
from dsl.linking.static import Path as Branch
from dsl.text import syntax as sx
from farm.classes.reads import core_reads, module_reads
from farm.classes.table import OUT, root, table, text
from farm.matrix.registry import family_types
from farm.oracles.shrink import causal_types
from porting.config.class_defaults import asked, completed
from porting.config.reader import parse_config
from porting.config.text_part import text_part
from porting.original.reference import libraries
from porting.planning.library import load_program
from tests.test_architecture import ROOT

REASONS: Mapping[str, str] = {
    "counts": "() where every layer has the same number of heads",
    "end": "-1 is the last layer",
    "kinds": "() where the family counts the kinds of layers as the class does",
    "sparse": "() where the family counts the sparse layers as the class does",
    "thetas": "() where every layer has the one theta",
    "turned": "() where the family counts the layers without rotation as the class does",
    "types": "() where the family counts the kinds of layers as the class does",
    "W": "the class forgets the window where use_sliding_window is false, and no layer has one",
}
"""Names whose value may differ where the file has no key, with why nothing does."""
UNSET = ((), (-1,), -1)


def bound(model_type: str, raw: Mapping[str, Any]) -> tuple[dict[str, object], list[str]]:
    program = load_program(family_types()[model_type])
    family = program.family()
    config = text_part(parse_config(json.dumps(raw).encode()))
    try:
        values = completed(config, asked(family)).values
    except Refused as refused:
        return {}, [d.message for d in refused.diagnostics]
    section = next(item for item in family.items if isinstance(item, sx.Config))
    made = bind(section, dict(values) | {"dtype": "bf16"}, Branch(), generic=False)
    kept = {n: v for n, v in made.values.items() if not n.startswith("_")}
    return kept, [d.message for d in made.diagnostics]


def whole(model_type: str, **keys: Any) -> dict[str, Any]:
    """Return every key of a class with some of them set, as the class completes them."""
    _, transformers = libraries()
    raw = transformers.AutoConfig.for_model(model_type, **keys).to_dict()
    raw["architectures"] = [causal_types()[model_type]]
    return {key: value for key, value in raw.items() if key != "dtype"}


def differs(name: str, absent: object, full: object) -> bool:
    if isinstance(absent, float) and isinstance(full, float):
        return not math.isclose(absent, full, rel_tol=1e-12)
    if name == "W":
        return full not in (absent, 0)
    return absent != full and not (name in REASONS and absent in UNSET)


def test_the_table_is_that_of_the_installed_transformers() -> None:
    assert (ROOT / OUT).read_text(encoding="utf-8") == text(table())


@pytest.mark.parametrize("model_type", family_types())
def test_a_family_has_its_class_s_defaults(model_type: str) -> None:
    nothing = {"architectures": [causal_types()[model_type]], "model_type": model_type}
    absent, faults = bound(model_type, nothing)
    full, expected = bound(model_type, whole(model_type))
    assert faults == expected
    assert {n: (absent.get(n), v) for n, v in full.items() if differs(n, absent.get(n), v)} == {}


def test_names_of_every_sort_of_reading_count() -> None:
    core = core_reads(root())
    assert {"sliding_window", "rope_parameters", "is_causal", "num_hidden_layers"} <= core
    assert "use_mrope" not in core
    qwen = module_reads(root(), "qwen2")
    assert {"max_window_layers", "use_sliding_window", "hidden_act"} <= qwen
    assert "use_mrope" not in qwen
    assert "rotary_dim" in module_reads(root(), "minimax_m2")
