# SPDX-License-Identifier: Apache-2.0
"""The page of published configs says of each what became of its keys, or why it is not planned."""

from __future__ import annotations

import json
from pathlib import Path

from farm.matrix.configs import OUTSIDE, PLANNED, REFUSED, UNCOVERED, outcomes, page
from farm.oracles.published_models import raw_config


def test_each_config_has_its_verdict(tmp_path: Path) -> None:
    phi, llama = raw_config("microsoft--phi-2"), raw_config("llama--llama-2-7b-hf")
    texts = {
        "a-phi": phi,
        "b-llama": {**llama, "use_mrope": False},
        "c-bart": raw_config("bart--pretrain"),
        "d-nobody": {**llama, "architectures": ["NobodyForCausalLM"], "model_type": "nobody"},
    }
    for name, raw in texts.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(raw))
    rows = {row.name: row for row in outcomes(tmp_path)}
    verdicts = {name: row.verdict for name, row in rows.items()}
    assert verdicts == {
        "a-phi": REFUSED, "b-llama": PLANNED, "c-bart": OUTSIDE, "d-nobody": UNCOVERED,
    }  # fmt: skip
    assert "n_embd" in rows["a-phi"].reason
    planned = rows["b-llama"]
    assert planned.never_read == 1
    assert planned.defaults > 0
    written = page(list(rows.values()))
    assert "Of 4 published configs 1 are planned as they lie" in written
    assert "Of the 2 of covered types 1 are refused" in written
    assert written.index("a-phi") < written.index("c-bart") < written.index("d-nobody")
