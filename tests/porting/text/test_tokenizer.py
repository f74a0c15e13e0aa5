# ruff: noqa: S106 - a token of text is no password

from __future__ import annotations

import json
import time

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from dsl.diagnostics import Refused
from porting.text.chat_template import MAX_TEMPLATE, render
from porting.text.tokenizer import load_tokenizer

CHATML = (
    "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}!{% endif %}"
)
TEXT = "Héllo 漢字 🙂 ok"


@pytest.fixture
def folder(tmp_path):
    """Make a byte-level tokenizer of 256 bytes and two special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({char: i for i, char in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    settings(
        tmp_path,
        bos_token="<s>",
        eos_token={"__type": "AddedToken", "content": "</s>"},
        chat_template=CHATML,
    )
    return tmp_path


def settings(folder, **values):
    (folder / "tokenizer_config.json").write_text(json.dumps(values))


def test_a_prompt_is_put_into_the_template(folder):
    codec = load_tokenizer(folder)
    ids = codec.encode_chat("hi")
    assert ids[0] == 256
    assert codec.decode(ids) == "user: hi\n!"
    assert (
        codec.decode(codec.encode_chat("hi", system="be brief")) == "system: be brief\nuser: hi\n!"
    )


def test_a_template_file_comes_before_the_settings(folder):
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}?")
    assert load_tokenizer(folder).decode(load_tokenizer(folder).encode_chat("hi")) == "hi?"


def test_of_several_templates_the_default_is_taken(folder):
    settings(
        folder,
        chat_template=[{"name": "tool", "template": "no"}, {"name": "default", "template": "yes"}],
    )
    codec = load_tokenizer(folder)
    assert codec.decode(codec.encode_chat("hi")) == "yes"


@pytest.mark.parametrize(("add", "expected"), [(None, "own"), (True, [256]), (False, [])])
@pytest.mark.parametrize("own", [[], [256]])
def test_without_template_the_settings_decide_about_the_first_token(folder, add, expected, own):
    if own:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 256)]
        )
        tokenizer.save(str(folder / "tokenizer.json"))
    settings(folder, bos_token="<s>", **({} if add is None else {"add_bos_token": add}))
    codec = load_tokenizer(folder)
    assert codec.encode_chat("a") == [
        *(own if expected == "own" else expected),
        *codec.encode("a")[-1:],
    ]


def test_characters_of_several_tokens_arrive_whole(folder):
    codec = load_tokenizer(folder)
    pieces = list(codec.decode_stream(iter(codec.encode(TEXT))))
    assert "".join(pieces) == TEXT
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)
    assert pieces[1] == "é"


def test_a_stream_that_ends_within_a_character_shows_that(folder):
    codec = load_tokenizer(folder)
    ids = codec.encode("a漢")[:-1]
    assert "".join(codec.decode_stream(ids)).startswith("a\N{REPLACEMENT CHARACTER}")


def test_each_piece_is_yielded_as_soon_as_it_is_known(folder):
    codec = load_tokenizer(folder)
    taken = []
    stream = codec.decode_stream(taken.append(x) or x for x in codec.encode("ab"))
    assert next(stream) == "a"
    assert len(taken) == 1


def test_special_tokens_are_not_shown(folder):
    assert (
        "".join(
            load_tokenizer(folder).decode_stream([256, *load_tokenizer(folder).encode("x"), 257])
        )
        == "x"
    )


def test_stop_ids_come_from_every_place_that_names_them(folder):
    assert load_tokenizer(folder).stop_ids == {257}
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [3, 4, "x", True]}))
    (folder / "config.json").write_text(json.dumps({"eos_token_id": 5}))
    assert load_tokenizer(folder).stop_ids == {3, 4, 5, 257}


def test_a_missing_tokenizer_is_refused(tmp_path):
    with pytest.raises(Refused, match="S540"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"model": 1}', '{"version": "9"}', "\0" * 100, "[" * 100_000]
)
def test_a_malformed_tokenizer_is_refused(folder, content):
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(Refused, match="S541"):
        load_tokenizer(folder)


def test_malformed_settings_are_refused(folder):
    (folder / "tokenizer_config.json").write_text('{"a": 1, "a": 2}')
    with pytest.raises(Refused, match="S541"):
        load_tokenizer(folder)


def test_numbers_as_transformers_writes_them_are_read(folder):
    (folder / "tokenizer_config.json").write_text(
        '{"model_max_length": 1000000000000000019884624838656}'
    )
    assert load_tokenizer(folder).template is None


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ self.__init__.__globals__ }}",
        "{{ messages.append(1) }}",
        "{% include '/etc/passwd' %}",
        "{{ raise_exception('no') }}",
        "{% for %}",
        "{{ 1 / 0 }}",
        "{{ range(10 ** 9) }}",
        "{% for i in range(90000) %}{{ 'x' * 90000 }}{% endfor %}",
        "{{ 'x' * 10 ** 10 }}",
        "{{ '%9999999999d' % 1 }}",
        "{{ undefined.attribute.of }}",
    ],
)
def test_hostile_templates_are_refused(template):
    with pytest.raises(Refused, match="S542") as caught:
        render(template, {"messages": [{"role": "user", "content": "x"}]})
    assert len(str(caught.value)) < 400


def test_an_endless_template_is_stopped():
    start = time.perf_counter()
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(Refused, match="did not finish"):
        render(loop, {})
    assert time.perf_counter() - start < 12


def test_a_long_template_is_refused():
    with pytest.raises(Refused, match="S542"):
        render("x" * (MAX_TEMPLATE + 1), {})


def test_the_words_that_templates_use_are_there():
    template = (
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m | tojson }}{% endfor %}"
        "{% if tools is not none %}tools{% endif %}{{ strftime_now('%Y') | length }}"
    )
    assert render(template, {"messages": [1, {"a": "é"}], "tools": None}) == '{"a": "é"}4'


def test_the_same_ids_as_transformers(folder):
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    chat = [{"role": "user", "content": TEXT}]
    expected = theirs.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    assert load_tokenizer(folder).encode_chat(TEXT) == expected
