# SPDX-License-Identifier: Apache-2.0
"""A refusal of tensors says which sizes the config left to the class."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsl.diagnostics import Refused
from porting.origin.resolve import resolve
from porting.planning.opening import open_to_plan
from porting.planning.plan import plan
from tests.checkpoints import tiny_llama


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "vocab_size"])
def test_what_was_assumed_stands_beside_what_does_not_fit(tmp_path: Path, key: str) -> None:
    folder = tiny_llama(tmp_path / "m")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config[key]
    path.write_text(json.dumps(config))
    origin = resolve(str(folder))
    with pytest.raises(Refused) as caught:
        plan(origin, *open_to_plan(origin))
    first = caught.value.diagnostics[0]
    assert any("does not say" in note and f"{key} = " in note for note in first.notes)
