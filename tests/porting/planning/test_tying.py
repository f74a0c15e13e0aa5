# SPDX-License-Identifier: Apache-2.0
"""Whether head and embedding are one is what the file says: each combination against transformers' own loading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device_model.engine.engine import Engine
from dsl.diagnostics import Refused
from farm.oracles.tiny import tiny
from porting.checkpoint.tensors import SINGLE, Checkpoint
from porting.config.reader import read_config
from porting.origin.resolve import resolve
from porting.original.reference import Reference
from porting.planning.plan import Plan, plan
from porting.planning.tying import SWAPPED, UNTIED
from porting.verdict.twin import twin_of

ROW = list(range(3, 23))
EMBED = {"llama": "model.embed_tokens.weight", "gpt2": "transformer.wte.weight"}
HEAD = "lm_head.weight"


def tied(folder: Path, kind: str, *, is_tied: bool = True) -> Path:
    return tiny(folder, kind, dtype="float32", tie_word_embeddings=is_tied)


def change(folder: Path, made) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / SINGLE
    tensors = {k: v.clone().contiguous() for k, v in made(load_file(path)).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def planned(folder: Path) -> Plan:
    return plan(resolve(str(folder)), read_config(folder), Checkpoint.open(folder))


def agrees(folder: Path) -> Plan:
    """Return a port's plan whose logits are those of transformers' float64."""
    result = planned(folder)
    (got,) = Engine(result.graph, Checkpoint.open(folder), "f32").session().step([np.array(ROW)])
    truth = Reference.load(folder, "float64").logits([ROW])[0].logits
    assert np.sqrt(np.mean((got - truth) ** 2) / np.mean(truth**2)) < 1e-5
    return result


@pytest.mark.parametrize("kind", EMBED)
def test_a_head_of_its_own_is_read_though_the_config_ties_it(tmp_path, kind):
    folder = tied(tmp_path, kind)
    change(folder, lambda w: {**w, HEAD: w[EMBED[kind]].flip(0)})
    result = agrees(folder)
    assert UNTIED in result.notes
    assert {EMBED[kind], HEAD} <= set(result.tensors.consumed)


@pytest.mark.parametrize("kind", EMBED)
def test_a_copy_of_the_embedding_is_left(tmp_path, kind):
    folder = tied(tmp_path, kind)
    change(folder, lambda w: {**w, HEAD: w[EMBED[kind]]})
    result = agrees(folder)
    assert UNTIED not in result.notes
    assert list(result.tensors.left.values()) == [(HEAD,)]


@pytest.mark.parametrize("kind", EMBED)
def test_a_head_alone_is_the_embedding_too(tmp_path, kind):
    folder = tied(tmp_path, kind)
    embed = EMBED[kind]
    change(folder, lambda w: {HEAD if k == embed else k: v for k, v in w.items()})
    result = agrees(folder)
    assert SWAPPED in result.notes
    assert embed not in result.tensors.missing


@pytest.mark.parametrize("lost", ["head", "embedding"])
def test_what_an_untied_file_lacks_is_made_up_by_nobody(tmp_path, lost):
    folder = tied(tmp_path, "llama", is_tied=False)
    name = HEAD if lost == "head" else EMBED["llama"]
    change(folder, lambda w: {k: v for k, v in w.items() if k != name})
    for load in (planned, lambda f: Reference.load(f, "float64")):
        with pytest.raises(Refused) as caught:
            load(folder)
        assert {d.code for d in caught.value.diagnostics} <= {"S560", "S551"}


def test_a_head_of_another_shape_is_no_head(tmp_path):
    folder = tied(tmp_path, "llama")
    change(folder, lambda w: {**w, HEAD: w[EMBED["llama"]][:-1]})
    with pytest.raises(Refused) as caught:
        planned(folder)
    assert [d.code for d in caught.value.diagnostics] == ["S561"]


@pytest.mark.parametrize("kind", EMBED)
def test_names_relative_to_the_base_model_are_loaded_alike(tmp_path, kind):
    folder = tied(tmp_path, kind)
    base = EMBED[kind].partition(".")[0]
    change(folder, lambda w: {k.removeprefix(f"{base}."): v for k, v in w.items()})
    assert any("the file's names are its own" in note for note in agrees(folder).notes)


@pytest.mark.parametrize("change_names", [False, True])
def test_the_twin_has_the_head_and_the_names_that_the_file_decided_on(tmp_path, change_names):
    folder = tied(tmp_path / "model", "gpt2")
    embed = EMBED["gpt2"]
    change(folder, lambda w: {**w, HEAD: w[embed].flip(0)})
    if change_names:
        change(folder, lambda w: {k.removeprefix("transformer."): v for k, v in w.items()})
    made = twin_of(planned(folder).spec, folder, tmp_path / "twin")
    assert {embed, HEAD} <= set(made.checkpoint.tensors)
