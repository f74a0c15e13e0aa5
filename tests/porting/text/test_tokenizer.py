# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S106 - a token of text is no password

from __future__ import annotations

import gc
import json
import random

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from dsl.diagnostics import Refused
from porting.text.chat_template import MAX_TEMPLATE, render
from porting.text.limited_child import LimitedChild
from porting.text.tokenizer import load_tokenizer

CHATML = (
    "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}!{% endif %}"
)
ENDLESS = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
]
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


@pytest.mark.parametrize("add", [None, True, False])
@pytest.mark.parametrize("own", [[], [256]])
def test_without_template_tokenizer_json_decides_about_the_first_token(folder, add, own):
    if own:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 256)]
        )
        tokenizer.save(str(folder / "tokenizer.json"))
    settings(folder, bos_token="<s>", **({} if add is None else {"add_bos_token": add}))
    codec = load_tokenizer(folder)
    assert codec.encode_chat("a") == [*own, *codec.encode("a")[-1:]] == by_transformers(folder, "a")


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


def byte_fallback(path):
    """Save a tokenizer whose bytes are tokens of their own, as those of sentencepiece are; returns its folder."""
    words = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581a", "b", "\u2581"]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.save(str(path / "tokenizer.json"))
    return path


@pytest.mark.parametrize("kind", ["bytes", "fallback"])
def test_pieces_together_are_the_text_of_all_ids(folder, tmp_path, kind):
    codec = load_tokenizer(folder if kind == "bytes" else byte_fallback(tmp_path))
    first = 0 if kind == "bytes" else 1
    alphabet = {token: i for i in range(256) if (token := codec.token(first + i))}
    chance = random.Random(3)  # noqa: S311 - of texts
    for _ in range(40):
        text = "".join(chance.choices("ab é漢🙂 \n", k=12))
        if kind == "bytes":
            ids = codec.encode(text)
        else:
            ids = [257, 258, *(alphabet[f"<0x{byte:02X}>"] + 1 for byte in text.encode()), 257]
        pieces = list(codec.decode_stream(ids))
        assert "".join(pieces) == codec.decode(ids)
        assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)


@pytest.mark.parametrize("template", ["plain", "generation", "json", "loop"])
def test_a_conversation_makes_the_ids_of_transformers(folder, template):
    from transformers import AutoTokenizer

    settings(folder, bos_token="<s>", eos_token="</s>", chat_template=TEMPLATES[template])
    said = [("system", "be kind"), ("user", TEXT), ("assistant", "\n yes <s>"), ("user", "")]
    messages = [{"role": role, "content": text} for role, text in said]
    theirs = AutoTokenizer.from_pretrained(folder)
    expected = theirs.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert load_tokenizer(folder).encode_messages(said) == expected


def test_messages_need_a_template(folder):
    settings(folder, bos_token="<s>")
    with pytest.raises(Refused, match="S558"):
        load_tokenizer(folder).encode_messages([("user", "hi")])


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
        render(template, {"messages": [{"role": "user", "content": "x"}]}, LimitedChild())
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("loop", ENDLESS)
def test_an_endless_template_is_stopped(loop):
    with pytest.raises(Refused, match="did not finish within 5 seconds"):
        render(loop, {}, LimitedChild())


def test_a_template_that_takes_memory_says_so():
    with pytest.raises(Refused, match="MemoryError"):
        render("{{ [0] * 2 ** 30 }}", {}, LimitedChild())


def test_a_long_template_is_refused():
    with pytest.raises(Refused, match="S542"):
        render("x" * (MAX_TEMPLATE + 1), {}, LimitedChild())


def test_the_words_that_templates_use_are_there():
    template = (
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m | tojson }}{% endfor %}"
        "{% if tools is not none %}tools{% endif %}{{ strftime_now('%Y') | length }}"
    )
    variables = {"messages": [1, {"a": "é"}], "tools": None}
    assert render(template, variables, LimitedChild()) == '{"a": "é"}4'


def by_transformers(folder, prompt, *, chat=False):
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    if not chat:
        return theirs.encode(prompt)
    message = [{"role": "user", "content": prompt}]
    return theirs.apply_chat_template(message, add_generation_prompt=True)["input_ids"]


TEMPLATES = {
    "plain": CHATML,
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %};{% endfor %}",
    "json": "{{ messages | tojson(indent=2) }}{{ messages | tojson(separators=(',', ':'), sort_keys=true) }}",
    "ascii": "{{ messages[0].content | tojson(ensure_ascii=true) }}{{ messages | tojson('x') }}",
    "tokens": "{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}{{ sep_token is defined }}",
    "namespace": "{% set n = namespace(a=1) %}{% set n.a = n.a + 1 %}{{ n.a }}{{ dict(b=2) }}",
    "system": "{% if messages[0].role == 'system' %}S{% else %}{{ 'You are kind' }}{% endif %}",
    "loop": "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
    "special text": "<s><tool>{{ messages[0].content }}</s><pad>",
    "trimmed": "  {% if true %}\n  x\n  {% endif %}\n{{ messages[0].content | trim }}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_makes_the_ids_of_transformers(folder, name):
    settings(folder, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    (folder / "chat_template.jinja").write_text(TEMPLATES[name])
    ours = load_tokenizer(folder).encode_chat(TEXT)
    assert ours == by_transformers(folder, TEXT, chat=True)


ADDED = {
    "258": {"content": "<tool>", "special": False},
    "259": {"content": "<pad>", "special": True},
}
# What each file says: settings, special_tokens_map.json, added_tokens.json, templates of their own.
FILES = {
    "settings": ({"bos_token": "<s>", "eos_token": "</s>", "chat_template": CHATML}, {}, {}, {}),
    "map alone": ({"chat_template": CHATML}, {"bos_token": "<s>", "pad_token": "<pad>"}, {}, {}),
    "map wins": ({"bos_token": "</s>", "chat_template": "{{ bos_token }}"}, {"bos_token": "<s>"}, {}, {}),
    "listed wins": (
        {"bos_token": "</s>", "chat_template": "{{ bos_token }}", "added_tokens_decoder": ADDED},
        {"bos_token": "<s>"}, {}, {},
    ),
    "added beside": ({"chat_template": CHATML}, {}, {"<tool>": 258}, {}),
    "added in settings": ({"chat_template": CHATML, "added_tokens_decoder": ADDED}, {}, {}, {}),
    "additional": ({"chat_template": CHATML, "additional_special_tokens": ["<tool>"]}, {}, {}, {}),
    "extra": ({"chat_template": CHATML, "extra_special_tokens": {"image_token": "<tool>"}}, {}, {}, {}),
    "file wins": ({"chat_template": CHATML}, {}, {}, {"chat_template.jinja": "{{ messages[0].content }}!"}),
    "folder": (
        {"chat_template": CHATML}, {}, {},
        {"additional_chat_templates/tool_use.jinja": "t", "chat_template.jinja": "d{{ messages[0].content }}"},
    ),
    "list": (
        {"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": CHATML}]},
        {}, {}, {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files_count_in_the_order_of_transformers(folder, name):
    said, special, added, templates = FILES[name]
    settings(folder, **said)
    for file, content in (("special_tokens_map", special), ("added_tokens", added)):
        if content:
            (folder / f"{file}.json").write_text(json.dumps(content))
    for file, text in templates.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(text)
    codec = load_tokenizer(folder)
    for text in (TEXT, "a <tool> b<pad>", "<s>x</s> <tool>"):
        assert codec.encode_chat(text) == by_transformers(folder, text, chat=True)
        assert codec.encode(text) == by_transformers(folder, text)


def test_templates_without_a_default_are_refused(folder):
    settings(folder, chat_template=[{"name": "tool_use", "template": "t"}, {"name": []}, 3])
    with pytest.raises(Refused, match="none is `default`"):
        load_tokenizer(folder)


def test_a_vocabulary_in_another_form_is_named(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"")
    with pytest.raises(Refused, match=r"tokenizer\.model is another form"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("template", [None, "", "{# nothing #}"])
def test_an_empty_prompt_is_the_first_token_or_refused(folder, template):
    (folder / "tokenizer_config.json").unlink()
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(Refused, match="S547"):
        load_tokenizer(folder).encode_chat("")
    settings(folder, bos_token="<s>")
    assert load_tokenizer(folder).encode_chat("") == [256]


@pytest.mark.parametrize("prompt", ["a \udcff b", "\ud83d"])
def test_a_prompt_that_is_no_text_is_refused(folder, prompt):
    with pytest.raises(Refused, match="not UTF-8 at character"):
        load_tokenizer(folder).encode_chat(prompt)


def malicious(folder, **parts):
    content = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**content, **parts}))
    (folder / "tokenizer_config.json").unlink()


BOMB = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}
POST = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<x>", "type_id": 0}}],
        "pair": [], "special_tokens": {}}  # fmt: skip
SLOW = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
UNKNOWN = {"type": "WordLevel", "vocab": {"b": 0}, "unk_token": "<none>"}


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"normalizer": {"type": "Sequence", "normalizers": [BOMB] * 9}}, "MiB|within 5 seconds"),
        ({"post_processor": POST}, "fail|cannot be read"),
        ({"pre_tokenizer": SLOW}, "fail|did not finish"),
        ({"model": UNKNOWN, "pre_tokenizer": None}, "failed"),
    ],
    ids=["bomb", "post-processor", "regex", "unknown"],
)
def test_a_hostile_tokenizer_is_refused_and_prints_nothing(folder, capfd, parts, reason):
    malicious(folder, **parts)
    with pytest.raises(Refused, match=reason):
        load_tokenizer(folder).encode("a" * 40 + " b aa")
    assert capfd.readouterr() == ("", "")


def test_a_child_ends_with_its_codec(folder):
    codec = load_tokenizer(folder)
    process = codec._child._process
    del codec
    gc.collect()
    assert process.poll() is not None
