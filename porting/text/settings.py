# SPDX-License-Identifier: Apache-2.0
"""What the files beside a tokenizer.json say: special and added tokens, chat templates, tokens that end an answer.

The order of the files is that of transformers (tokenization_utils_base.py, `_from_pretrained`): a template's own file
comes before one in the settings; special_tokens_map.json and added_tokens.json count only where the settings list no
added tokens. Whether the first token is added is tokenizer.json's to say, whatever `add_bos_token` says. Encodes
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dsl.diagnostics import refuse
from porting.files.files import find_file, list_names
from porting.files.strict_json import decode, parse_object
from porting.text.chat_template import MAX_TEMPLATE

SETTINGS = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"
ADDED_TOKENS = "added_tokens.json"
TEMPLATE = "chat_template.jinja"
TEMPLATES = "additional_chat_templates"
TEMPLATE_SUFFIX = ".jinja"
DEFAULT = "default"
STOPPING = ("generation_config.json", "config.json")
MAX_SETTINGS = 8 * 2**20
MAX_TEMPLATES = 64
MAX_DIGITS = 40  # transformers writes 1e30 for "no limit"
MAX_ADDED = 262_144
# SPECIAL_TOKENS_ATTRIBUTES of transformers, in its order.
NAMED = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True, slots=True)
class Settings:
    """The policy of a tokenizer. `added` are tokens with their flags, in the order of their ids."""

    special: Mapping[str, str]
    extra: tuple[str, ...]
    added: tuple[Mapping[str, object], ...]
    template: str | None
    stop_ids: frozenset[int]


def read_settings(directory: Path) -> Settings:
    """Return what a folder says beside its tokenizer.json; raises `Refused` where a file is malformed."""
    settings = read_object(directory, SETTINGS)
    listed = settings.get("added_tokens_decoder")
    if isinstance(listed, dict):
        added = tuple(_added(listed))
    else:
        settings = {**settings, **read_object(directory, SPECIAL_TOKENS)}
        added = tuple(_legacy(read_object(directory, ADDED_TOKENS), _special(settings)))
    return Settings(
        _special(settings), _extra(settings), added, _template(directory, settings), _stop_ids(directory)
    )  # fmt: skip


def read_object(directory: Path, name: str) -> dict[str, object]:
    """Return a JSON object of a folder, empty where there is no such file; raises `Refused` (S541)."""
    file = find_file(directory, name)
    if file is None:
        return {}
    return parse_object(file.read(MAX_SETTINGS), name=name, code="S541", digits=MAX_DIGITS)


def _special(settings: Mapping[str, object]) -> dict[str, str]:
    texts = ((name, _token_text(settings.get(name))) for name in NAMED)
    return {name: text for name, text in texts if text is not None}


def _extra(settings: Mapping[str, object]) -> tuple[str, ...]:
    value = settings.get("extra_special_tokens") or settings.get("additional_special_tokens")
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return tuple(text for token in values if (text := _token_text(token)) is not None)


def _token_text(value: object) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _added(listed: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    if len(listed) > MAX_ADDED:
        message = f"{SETTINGS} adds {len(listed):,} tokens; at most {MAX_ADDED:,} are read"
        raise refuse("S541", message, place=SETTINGS)
    numbered = [(int(n), token) for n, token in listed.items() if n.isascii() and n.isdecimal()]
    for _, token in sorted(numbered, key=lambda pair: pair[0]):
        if isinstance(token, dict) and isinstance(token.get("content"), str):
            flags = {name: token[name] for name in FLAGS if isinstance(token.get(name), bool)}
            yield {"content": token["content"], **flags}


def _legacy(
    numbered: Mapping[str, object], special: Mapping[str, str]
) -> Iterator[Mapping[str, object]]:
    whole = {token: number for token, number in numbered.items() if type(number) is int}
    for token in sorted(whole, key=whole.__getitem__):
        is_special = token in special.values()
        yield {"content": token, "normalized": not is_special, "special": is_special}


def _template(directory: Path, settings: Mapping[str, object]) -> str | None:
    file = find_file(directory, TEMPLATE)
    if file is not None:
        return decode(file.read(MAX_TEMPLATE), name=TEMPLATE, code="S542")
    named = _named_templates(directory)
    if not named:
        value = settings.get("chat_template")
        if isinstance(value, str):
            return value
        named = dict(_pairs(value if isinstance(value, list) else []))
    if named and DEFAULT not in named:
        message = f"there are chat templates, {', '.join(sorted(named))}, and none is `{DEFAULT}`"
        raise refuse("S542", message, help=f"put the one that is meant into {TEMPLATE}")
    return named.get(DEFAULT)


def _named_templates(directory: Path) -> dict[str, str]:
    inner = directory / TEMPLATES
    if not inner.is_dir() or inner.is_symlink():
        return {}
    names = [name for name in list_names(inner) if name.endswith(TEMPLATE_SUFFIX)]
    files = [file for name in names[:MAX_TEMPLATES] if (file := find_file(inner, name)) is not None]
    return {
        file.name.removesuffix(TEMPLATE_SUFFIX): decode(
            file.read(MAX_TEMPLATE), name=file.name, code="S542"
        )
        for file in files
    }


def _pairs(several: list[object]) -> Iterator[tuple[str, str]]:
    for one in several:
        if not isinstance(one, dict):
            continue
        name, template = one.get("name"), one.get("template")
        if isinstance(name, str) and isinstance(template, str):
            yield name, template


def _stop_ids(directory: Path) -> frozenset[int]:
    ids: set[int] = set()
    for name in STOPPING:
        value = read_object(directory, name).get("eos_token_id")
        several = value if isinstance(value, list) else [value]
        ids.update(x for x in several if type(x) is int)
    return frozenset(ids)
