# SPDX-License-Identifier: Apache-2.0
"""Take the text model out of a model that reads text beside pictures or sound: whose it is, its config, what is left.

Which models there are is data (`model_zoo/texts.toml`). Text alone passes nothing but the text model, so that what
stands beside it is left; a model that does more to text is not in the table.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from dsl.linking.program import Program
from dsl.regular_file import read_shipped
from porting.checkpoint.naming import as_named, beside
from porting.config.reader import ModelConfig
from porting.config.text_part import APART, TEXT, inner_part, text_part
from porting.planning.library import ZOO
from porting.planning.tying import TIED

BESIDE = "beside the text model, and not passed by text"
AS_TEXT = "ported as text: of {} the text model alone"
EQUAL = "positions of text are the same in all of its dimensions, so that rotation is the plain one"
ROPE = "rope_parameters."
SECTIONS = (f"{ROPE}mrope_section", f"{ROPE}mrope_interleaved")
BY_TEXT = "text"
OF_OTHERS = re.compile(r"(vision|image|video|audio|visual)_|.*_token_(id|index)$")
"""Keys of an outer config without an inner one that are not of the text model."""


@dataclass(frozen=True, slots=True)
class TextModel:
    """A class of model that reads text beside other things."""

    type: str
    text: str
    beside: tuple[str, ...]
    tied: bool | str
    flat: bool = False
    """Older files have the keys of the text model beside the others."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be ported of a model: the class whose family is wanted, its config, and the model around it."""

    architecture: str
    config: ModelConfig
    model: TextModel | None = None

    def named(self, program: Program, tensors: Collection[str]) -> tuple[Program, tuple[str, ...]]:
        """Return the program with a checkpoint's names, leaving what it holds beside the text model, and notes."""
        made, notes = as_named(program, tensors, inside=self.model is not None)
        if self.model is None:
            return made, notes
        return beside(made, self.model.beside, BESIDE, tensors), notes

    def raw(self, whole: Mapping[str, Any]) -> dict[str, Any]:
        """Return the subject's part of a whole config, as a config of its own."""
        inner = whole.get(TEXT.removesuffix("."))
        if self.model is None or not isinstance(inner, dict):
            return dict(whole)
        kind = inner.get("model_type", self.model.text)
        return {**inner, "model_type": kind, "architectures": [self.architecture]}

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what the reader is told of a model of which a part is ported."""
        return () if self.model is None else (AS_TEXT.format(self.model.type),)


@dataclass(frozen=True, slots=True)
class Table:
    """The class of each type of text model, what a type implies, and the models with one inside by their class."""

    classes: Mapping[str, str]
    implied: Mapping[str, Mapping[str, object]]
    models: Mapping[str, TextModel]

    def of(self, config: ModelConfig, is_apart: bool) -> TextModel | None:
        """Return the model of a config's type, under whatever name where a config of its text model stands apart."""
        named = self.models.get(config.architecture)
        if named is None and is_apart:
            named = next((m for m in self.models.values() if m.type == config.model_type), None)
        return named if named is not None and named.type == config.model_type else None


@lru_cache(maxsize=1)
def text_models() -> Table:
    """Return the models that read text beside other things."""
    data = tomllib.loads(read_shipped(ZOO / "texts.toml"))
    models = {
        name: TextModel(row["type"], row["text"], tuple(row["beside"]), row["tied"], "flat" in row)
        for name, row in data["models"].items()
    }
    return Table(data["classes"], data["implied"], models)


def whole_part(config: ModelConfig) -> Subject:
    """Return the part of a model whose own class a family claims."""
    return Subject(config.architecture, text_part(config))


def inner_text(config: ModelConfig) -> Subject | None:
    """Return the text model inside of a model, None where the table has no such model or its text is no family's."""
    table = text_models()
    is_apart = any(key.startswith(TEXT) for key in config.values)
    model = table.of(config, is_apart)
    if model is None:
        return None
    kind = config.values.get(f"{TEXT}model_type", model.text)
    if not isinstance(kind, str) or kind not in table.classes:
        return None
    inner = _flat(config) if model.flat and not is_apart else inner_part(config)
    known = _turned(_tied(inner, config, model))
    implied = table.implied.get(kind, {})
    origins = {**known.origins, **{key: f"{kind}: {key}" for key in implied}}
    known = replace(known, values={**known.values, **implied}, origins=origins)
    return Subject(table.classes[kind], known, model)


def _flat(config: ModelConfig) -> ModelConfig:
    """Return the config of a text model whose keys stand beside those of the others, as older files have them."""
    others = {key for key in config.values if OF_OTHERS.match(key)}
    dropped = {config.origins[key]: APART for key in others}
    return replace(
        config,
        values={key: value for key, value in config.values.items() if key not in others},
        dropped={**config.dropped, **dropped},
    )


def _tied(inner: ModelConfig, outer: ModelConfig, model: TextModel) -> ModelConfig:
    """Return the text model's config with what decides whether the head is the embedding: mostly the outer one."""
    if model.tied == BY_TEXT:
        return inner
    origin = outer.origins.get(TIED, TIED)
    return replace(
        inner,
        values={**inner.values, TIED: outer.values.get(TIED, model.tied)},
        origins={**inner.origins, TIED: origin},
    )


def _turned(config: ModelConfig) -> ModelConfig:
    """Return a config whose rotation in several dimensions is the plain one, where it is."""
    sections = [key for key in SECTIONS if key in config.values]
    if not sections:
        return config
    values = {key: value for key, value in config.values.items() if key not in SECTIONS}
    for key in ("rope_type", "type"):
        if values.get(f"{ROPE}{key}") == "mrope":
            values[f"{ROPE}{key}"] = "default"
    dropped = {config.origins[key]: EQUAL for key in sections}
    return replace(config, values=values, dropped={**config.dropped, **dropped})
