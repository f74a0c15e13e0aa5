# SPDX-License-Identifier: Apache-2.0
"""What is said of models that are no causal language models."""

from __future__ import annotations

import json

import pytest
from transformers.models.auto import modeling_auto as auto

from dsl.diagnostics import render
from porting.config.reader import parse_config
from porting.planning import missing_family
from porting.planning.library import families
from porting.planning.outside import kind_of, kinds
from porting.planning.text_models import text_models

CAUSAL = set(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
OUTSIDE = {
    "encoder": auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    "classifier": auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    "classifier ": auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    "sound": auto.MODEL_FOR_CTC_MAPPING_NAMES,
    "pictures": auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    "pictures ": auto.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES,
}

UNTOLD = {"FlaubertWithLMHeadModel", "PerceiverForImageClassificationLearned"}
"""Classes whose names do not say it."""


def config(architecture: str, model_type: str):
    data = {"architectures": [architecture], "model_type": model_type, "hidden_size": 8}
    return parse_config(json.dumps(data).encode())


@pytest.mark.parametrize("word", OUTSIDE)
def test_classes_of_transformers_are_of_the_kind_that_it_puts_them_in(word):
    wrong = set()
    for model_type, name in OUTSIDE[word].items():
        one = name if isinstance(name, str) else name[0]
        kind = kind_of(one, model_type)
        if one not in CAUSAL and (kind is None or word.strip() not in kind.holds):
            wrong.add(one)
    assert wrong <= UNTOLD


def test_nothing_that_is_ported_or_could_be_is_outside():
    claimed = {*families(), *text_models().classes.values()}
    causal = {name for name in CAUSAL if name.endswith(("ForCausalLM", "LMHeadModel"))}
    assert [name for name in sorted(claimed & causal | causal) if kind_of(name, "bert")] == []
    known = {model.type for model in text_models().models.values()}
    assert [kind.holds for kind in kinds() if kind.types & known] == []


@pytest.mark.parametrize(
    ("architecture", "model_type", "words"),
    [
        ("BertModel", "bert", "an encoder"),
        ("BertForMaskedLM", "bert", "an encoder"),
        ("BertForSequenceClassification", "bert", "classifier"),
        ("T5EncoderModel", "t5", "an encoder:"),
        ("T5ForConditionalGeneration", "t5", "bucketed bias"),
        ("BartForConditionalGeneration", "bart", "an encoder and a decoder"),
        ("LlamaForSequenceClassification", "llama", "classifier"),
        ("InternLM2ForRewardModel", "internlm2", "scorer"),
        ("Qwen3Model", "qwen3", "without its head"),
        ("XLMRobertaModel", "xlm-roberta", "an encoder"),
        ("WhisperForConditionalGeneration", "whisper", "sound"),
        ("Wav2Vec2ForCTC", "wav2vec2", "sound"),
        ("CLIPModel", "clip", "pictures"),
        ("SiglipVisionModel", "siglip_vision_model", "pictures"),
        ("ViTForImageClassification", "vit", "pictures"),
    ],
)
def test_one_error_says_what_it_is_and_what_would_do(architecture, model_type, words):
    (only,) = missing_family.refusal(config(architecture, model_type)).diagnostics
    text = render(only)
    assert only.code == "S549"
    assert words in text
    assert "what is missing" in text
    assert ".sohu" not in text


def test_an_unknown_class_is_not_said_to_be_outside():
    (only,) = missing_family.refusal(config("NewForCausalLM", "new")).diagnostics
    assert only.code == "S404"
    (only,) = missing_family.refusal(config("NewThing", "thing")).diagnostics
    assert only.code == "S404"
