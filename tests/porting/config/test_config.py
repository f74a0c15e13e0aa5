# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import sys
from collections import Counter

import pytest

from dsl.diagnostics import Refused, render_all
from porting.config.forbidden_keys import FORBIDDEN
from porting.config.reader import MAX_BYTES, parse_config, read_config
from porting.config.text_part import text_part

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "max_position_embeddings": 4096,
}
LLAMA3 = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
}


def parse(text: str | dict[str, object]):
    return parse_config((text if isinstance(text, str) else json.dumps(text, indent=2)).encode())


def refusal(text: str | dict[str, object]) -> Refused:
    with pytest.raises(Refused) as caught:
        parse(text)
    assert len(render_all(caught.value.diagnostics).splitlines()) < 20
    return caught.value


def test_keys_of_nested_objects_are_dotted():
    config = parse(LLAMA | {"outer": {"inner": {"x": 1}, "list": [1, {"y": 2}]}})
    assert config.values["outer.inner.x"] == 1
    assert config.values["outer.list"] == [1, {"y": 2}]
    assert config.architecture == "LlamaForCausalLM"
    assert config.model_type == "llama"


def test_a_span_covers_the_key_in_the_file_and_not_its_namesake():
    config = parse(
        LLAMA | {"x": {"factor": 1}, "rope_theta": 1e4, "rope_scaling": LLAMA3 | {"type": "llama3"}}
    )
    span = config.span_of("rope_parameters.factor")
    assert span is not None
    assert span.text == '"factor"'
    assert config.source.text[: span.start].rstrip().endswith('"rope_scaling": {')
    assert config.origins["rope_parameters.factor"] == "rope_scaling.factor"
    assert config.span_of("absent") is None


@pytest.mark.parametrize("word", ["type", "rope_type"])
def test_both_layouts_of_llama3_scaling_give_the_same_values(word):
    old = parse(
        LLAMA
        | {
            "rope_theta": 500000,
            "rope_scaling": LLAMA3 | {word: "llama3"},
            "torch_dtype": "bfloat16",
        }
    )
    new = parse(
        LLAMA
        | {
            "rope_parameters": LLAMA3 | {"rope_type": "llama3", "rope_theta": 500000.0},
            "dtype": "bfloat16",
        }
    )
    assert old.values == new.values
    assert new.values["rope_parameters.rope_theta"] == 500000.0


def test_both_layouts_of_plain_rotation_give_the_same_values():
    old = parse(LLAMA | {"rope_theta": 10000.0, "rope_scaling": None, "partial_rotary_factor": 0.5})
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    assert old.values == parse(LLAMA | {"rope_parameters": rope}).values
    assert old.dropped["rope_scaling"].startswith("null")
    assert "rope_scaling" in old.nulls


def test_the_original_length_defaults_to_the_longest_as_transformers_saves_it():
    scaling = {
        key: value for key, value in LLAMA3.items() if key != "original_max_position_embeddings"
    }
    config = parse(LLAMA | {"rope_theta": 1e4, "rope_scaling": scaling | {"rope_type": "llama3"}})
    assert config.values["rope_parameters.original_max_position_embeddings"] == 4096


def test_rotation_may_be_keyed_by_layer_type():
    rope = {
        "full_attention": {"rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    values = parse(LLAMA | {"rope_parameters": rope}).values
    assert values["rope_parameters.full_attention.rope_theta"] == 1e6
    assert values["rope_parameters.full_attention.rope_type"] == "default"
    assert values["rope_parameters.sliding_attention.rope_theta"] == 1e4


def test_no_rotation_is_invented():
    assert not [key for key in parse(LLAMA).values if key.startswith("rope")]


@pytest.mark.parametrize(
    "keys",
    [
        {
            "rope_scaling": {"type": "linear", "factor": 2.0},
            "rope_parameters": {"rope_type": "default"},
        },
        {
            "rope_scaling": {"factor": 2.0, "type": "linear"},
            "rope_parameters": {"rope_type": "linear"},
        },
        {"torch_dtype": "float32", "dtype": "bfloat16"},
    ],
)
def test_layouts_that_disagree_are_refused(keys):
    assert [d.code for d in refusal(LLAMA | keys).diagnostics] == ["S423"]


def test_what_the_rotation_says_goes_before_what_stands_beside_it():
    config = parse(LLAMA | {"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5}})
    assert config.values["rope_parameters.rope_theta"] == 5e5
    assert "rope_theta" in config.dropped
    layers = {"full_attention": {"rope_theta": 5e6}, "sliding_attention": {"rope_theta": 1e4}}
    keys = {"rope_theta": 7e4, "partial_rotary_factor": 0.5, "rope_parameters": layers}
    config = parse(LLAMA | keys)
    assert config.values["rope_parameters.full_attention.rope_theta"] == 5e6
    assert config.values["rope_parameters.full_attention.partial_rotary_factor"] == 0.5
    assert set(config.dropped) == {"rope_theta"}
    layers["full_attention"] = {"rope_type": "default", "type": "linear"}
    config = parse(LLAMA | keys)
    assert config.values["rope_parameters.full_attention.rope_theta"] == 7e4
    assert config.values["rope_parameters.full_attention.rope_type"] == "default"
    assert set(config.dropped) == {"rope_parameters.full_attention.type"}


def test_layouts_that_agree_are_accepted():
    rope = {"rope_theta": 1e4, "rope_type": "default"}
    assert (
        parse(LLAMA | {"rope_theta": 10000, "rope_parameters": rope}).values
        == parse(LLAMA | {"rope_parameters": rope}).values
    )


def test_remote_code_and_nulls_are_dropped_with_a_reason():
    config = parse(LLAMA | {"auto_map": {"AutoModel": "x.Y"}, "n": None})
    assert set(config.values) == {
        "architectures",
        "model_type",
        "hidden_size",
        "max_position_embeddings",
    }
    assert set(config.dropped) == {"auto_map", "n"}


@pytest.mark.parametrize("key", FORBIDDEN)
@pytest.mark.parametrize("inside", [(), ("text_config",), ("a", "b")])
def test_keys_that_name_other_files_or_classes_are_refused_at_any_depth(key, inside):
    keys = {key: "x.safetensors"}
    for name in reversed(inside):
        keys = {name: keys}
    (diagnostic,) = refusal(LLAMA | keys).diagnostics
    assert diagnostic.code == "S427"
    assert f"`{'.'.join((*inside, key))}`" in diagnostic.message


def test_a_forbidden_key_in_a_list_is_seen_and_null_is_absent():
    assert [d.code for d in refusal(LLAMA | {"a": [{"kernel_config": {}}]}).diagnostics] == ["S427"]
    assert parse(LLAMA | {"kernel_config": None}).dropped["kernel_config"]


@pytest.mark.parametrize("names", [None, [], ["A", "B"], "LlamaForCausalLM", [1], [""]])
def test_architectures_must_be_one_name(names):
    caught = refusal({"model_type": "nobody", "architectures": names})
    assert [d.code for d in caught.diagnostics] == ["S422"]
    assert "architectures" in str(caught)


def test_what_is_no_finite_number_is_text_that_no_dimension_takes():
    text = (
        '{"architectures": ["A"], "model_type": "a", "x": [0.0, Infinity], "y": {"__float__": "NaN"}, '
        '"z": -Infinity}'
    )
    values = parse_config(text.encode()).values
    assert values["x"] == [0.0, "inf"]
    assert values["y"] == "nan"
    assert values["z"] == "-inf"


def test_a_model_type_is_needed():
    assert "model_type" in str(refusal({"architectures": ["A"]}))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[1]", "a list"),
        ('{"a": 1, "a": 2}', "`a` stands twice"),
        ('{"x": {"a": 1, "a": 2}}', "`a` stands twice"),
        ('{"a": 1e999}', "too large"),
        ('{"a": ' + "9" * 5000 + "}", "more than 19 digits"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"a": "\\uDCff"}', "surrogate"),
        ('{"a": ' + "[" * 5000 + "]" * 5000 + "}", "nested"),
        ('{"a": ' + '{"b": ' * 40 + "1" + "}" * 41, "nested"),
        ('{"a": "\x1b[31m"}', "not JSON"),
    ],
)
def test_what_is_not_plain_json_is_refused(text, words):
    caught = refusal(text)
    assert [d.code for d in caught.diagnostics] == ["S421"]
    assert words in str(caught)


def test_control_characters_of_a_file_do_not_reach_the_terminal():
    caught = refusal('{"\\u001b[31m": 1, "\\u001b[31m": 2}')
    assert "\x1b" not in str(caught)


def test_dotted_keys_may_not_collide_with_nested_ones():
    assert "rope.x" in str(refusal(LLAMA | {"rope.x": 1, "rope": {"x": 2}}))


def test_a_file_that_is_not_utf8_is_refused():
    with pytest.raises(Refused, match="byte 6 is 0xff"):
        parse_config(b'{"a":"\xff"}')


def test_a_folder_without_config_is_refused(tmp_path):
    with pytest.raises(Refused, match=r"no config\.json"):
        read_config(tmp_path)


def test_a_large_config_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(Refused, match="S514"):
        read_config(tmp_path)


def test_the_largest_config_is_parsed():
    text = json.dumps(LLAMA | {f"k{n}": {"x": n} for n in range(60_000)})
    assert len(parse(text[:MAX_BYTES]).values) == 60_004


def test_the_work_of_parsing_grows_with_the_length():
    few, many = (calls_of_parsing(keys) for keys in (1_000, 4_000))
    assert few > 1_000
    assert many < 5 * few


def calls_of_parsing(keys: int) -> int:
    text, calls = json.dumps(LLAMA | {f"k{n}": {"x": n} for n in range(keys)}), Counter()
    before = sys.getprofile()
    sys.setprofile(lambda _frame, event, _arg: calls.update([event]))
    try:
        parse(text)
    finally:
        sys.setprofile(before)
    return calls["call"]


def test_what_save_pretrained_writes_equals_the_old_layout(tmp_path):
    from transformers import LlamaConfig

    rope = LLAMA3 | {"rope_type": "llama3", "rope_theta": 500000.0}
    config = LlamaConfig(architectures=["LlamaForCausalLM"], rope_parameters=rope, dtype="bfloat16")
    config.save_pretrained(tmp_path)
    new = read_config(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    saved = raw.pop("rope_parameters")
    theta = saved.pop("rope_theta")
    raw |= {"rope_theta": theta, "rope_scaling": saved, "torch_dtype": raw.pop("dtype")}
    assert parse(raw).values == new.values


def test_transformers_understands_the_old_layout_as_we_do(tmp_path):
    from transformers import AutoConfig

    raw = LLAMA | {
        "rope_theta": 20000.0,
        "rope_scaling": {"type": "linear", "factor": 4.0},
        "torch_dtype": "float32",
    }
    (tmp_path / "config.json").write_text(json.dumps(raw))
    ours = read_config(tmp_path).values
    theirs = AutoConfig.from_pretrained(tmp_path).rope_parameters
    prefix = "rope_parameters."
    found = {
        key.removeprefix(prefix): value for key, value in ours.items() if key.startswith(prefix)
    }
    assert found == {key: value for key, value in theirs.items() if key != "type"}


def test_a_composite_config_has_a_text_part():
    inner = {"model_type": "llama4_text", "hidden_size": 8, "pad_token_id": None, "use_cache": True}
    outer = {"model_type": "llama4", "architectures": ["Llama4ForCausalLM"], "use_cache": False}
    config = text_part(parse(outer | {"vision_config": {"hidden_size": 6}, "text_config": inner}))
    assert config.values == {"model_type": "llama4_text", "hidden_size": 8, "use_cache": True}
    assert config.origins["hidden_size"] == "text_config.hidden_size"
    assert config.nulls == {"pad_token_id"}
    apart = {"use_cache", "vision_config.hidden_size", "text_config.pad_token_id"}
    assert set(config.dropped) == apart


@pytest.mark.parametrize(
    "inner", [{}, {"model_type": "other", "hidden_size": 8}, {"x": 1}, "text", [1]]
)
def test_a_config_that_speaks_for_itself_is_left_alone(inner):
    config = parse(LLAMA | {"text_config": inner})
    assert text_part(config) is config
