# SPDX-License-Identifier: Apache-2.0
"""One cause is one error, however many layers it shows in."""

from __future__ import annotations

import json

import pytest

from dsl.diagnostics import Refused
from porting.pipeline import port
from tests.checkpoints import tiny_llama

CAUSES = {
    "hidden_size": (48, "S562"),
    "intermediate_size": (64, "S562"),
    "num_key_value_heads": (5, "S562"),
    "vocab_size": (98, "S562"),
    "num_hidden_layers": (4, "S560"),
    "mlp_bias": (True, "S560"),
    "attention_bias": (False, "S561"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("key", CAUSES)
def test_a_wrong_size_or_flag_in_the_config_is_one_error(folder, tmp_path, key):
    value, code = CAUSES[key]
    right = (folder / "config.json").read_text()
    (folder / "config.json").write_text(json.dumps(json.loads(right) | {key: value}))
    try:
        with pytest.raises(Refused) as caught:
            port(str(folder), out=tmp_path / "out", plan_only=True)
    finally:
        (folder / "config.json").write_text(right)
    (only,) = caught.value.diagnostics
    assert only.code == code
    assert only.notes
    assert len(only.notes) <= 6


def test_a_rotation_that_no_family_has_is_one_error(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": "other", "rope_theta": 1e4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(Refused) as caught:
        port(str(tmp_path / "config.json"), out=tmp_path / "out", plan_only=True)
    assert [d.code for d in caught.value.diagnostics] == ["S403"]
