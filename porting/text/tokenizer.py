"""Turn a prompt into token ids and ids into text, with the checkpoint's own tokenizer and chat template.

Light: neither transformers nor torch. Samples nothing and knows no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from dsl.diagnostics import refuse
from porting.files.files import find_file
from porting.files.strict_json import decode, parse_object, shown
from porting.text.chat_template import MAX_TEMPLATE, render

TOKENIZER = "tokenizer.json"
SETTINGS = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
MAX_TOKENIZER = 128 * 2**20
MAX_SETTINGS = 8 * 2**20
MAX_DIGITS = 40  # transformers writes 1e30 for "no limit"
UNFINISHED = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True, eq=False)
class TextCodec:
    """A tokenizer with its policy: the template, the first token, and the tokens that end an answer."""

    stop_ids: frozenset[int]
    template: str | None
    bos_id: int | None
    add_bos: bool | None
    _special: Mapping[str, str]
    _tokenizer: Any

    def encode_chat(self, prompt: str, system: str | None = None) -> list[int]:
        """Return the ids of a user's message under the chat template, or of the bare text without one.

        Without a system message of our own, the template decides: many add one of theirs.
        """
        if self.template is None:
            return self.encode(prompt)
        messages = [{"role": "user", "content": prompt}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        variables = {
            "messages": messages,
            "add_generation_prompt": True,
            "documents": None,
            "tools": None,
            **self._special,
        }
        return self._ids(render(self.template, variables), special=False)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, with the first token as the tokenizer's settings ask for."""
        ids = self._ids(text, special=True)
        if self.bos_id is None or self.add_bos is None:
            return ids
        has_bos = ids[:1] == [self.bos_id]
        if self.add_bos:
            return ids if has_bos else [self.bos_id, *ids]
        return ids[1:] if has_bos else ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids, special tokens left out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Yield text as ids arrive; a character that takes several ids is held back until it is whole."""
        seen: list[int] = []
        start = shown_to = 0
        for token in ids:
            seen.append(token)
            before, now = self.decode(seen[start:shown_to]), self.decode(seen[start:])
            if len(now) > len(before) and not now.endswith(UNFINISHED):
                yield now[len(before) :]
                start, shown_to = shown_to, len(seen)
        rest = self.decode(seen[start:])[len(self.decode(seen[start:shown_to])) :]
        if rest:
            yield rest

    def _ids(self, text: str, *, special: bool) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=special).ids)


def load_tokenizer(directory: Path) -> TextCodec:
    """Load the tokenizer of a model folder."""
    tokenizer = _tokenizer(directory)
    settings = _object(directory, SETTINGS)
    special = {
        name: text
        for name in ("bos_token", "eos_token", "unk_token", "pad_token")
        if (text := _token_text(settings.get(name))) is not None
    }
    bos = special.get("bos_token")
    add_bos = settings.get("add_bos_token")
    return TextCodec(
        stop_ids=_stop_ids(directory, tokenizer, special.get("eos_token")),
        template=_template(directory, settings),
        bos_id=None if bos is None else tokenizer.token_to_id(bos),
        add_bos=add_bos if isinstance(add_bos, bool) else None,
        _special=special,
        _tokenizer=tokenizer,
    )


def _tokenizer(directory: Path) -> Any:
    file = find_file(directory, TOKENIZER)
    if file is None:
        message = f"there is no {TOKENIZER} in the model folder"
        raise refuse("S540", message, help="save it there with AutoTokenizer(…).save_pretrained")
    data = file.read(MAX_TOKENIZER)
    try:
        tokenizer = Tokenizer.from_buffer(data)
    except BaseException as error:
        # A panic in the library is no `Exception`; everything else that is none is not about the file.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        message = f"{TOKENIZER} cannot be read: {shown(str(error), 160)}"
        raise refuse("S541", message, place=TOKENIZER) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _object(directory: Path, name: str) -> dict[str, object]:
    file = find_file(directory, name)
    if file is None:
        return {}
    return parse_object(file.read(MAX_SETTINGS), name=name, code="S541", digits=MAX_DIGITS)


def _token_text(value: object) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _template(directory: Path, settings: Mapping[str, object]) -> str | None:
    file = find_file(directory, TEMPLATE)
    if file is not None:
        return decode(file.read(MAX_TEMPLATE), name=TEMPLATE, code="S542")
    value = settings.get("chat_template")
    if isinstance(value, list):
        named = {x.get("name"): x.get("template") for x in value if isinstance(x, dict)}
        value = named.get("default")
    return value if isinstance(value, str) else None


def _stop_ids(directory: Path, tokenizer: Any, eos_token: str | None) -> frozenset[int]:
    ids: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        value = _object(directory, name).get("eos_token_id")
        several = value if isinstance(value, list) else [value]
        ids.update(x for x in several if type(x) is int)
    if eos_token is not None and (token := tokenizer.token_to_id(eos_token)) is not None:
        ids.add(token)
    return frozenset(ids)
