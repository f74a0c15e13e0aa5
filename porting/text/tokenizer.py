# SPDX-License-Identifier: Apache-2.0
"""Turn a prompt into token ids and ids into text, with the checkpoint's own tokenizer and chat template.

Light: neither transformers nor torch. The tokenizer and the template run in a limited child. Samples nothing and knows
no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsl.diagnostics import Refused, refuse
from dsl.extras import require
from porting.files.files import find_file, list_names
from porting.files.strict_json import shown
from porting.text.chat_template import render
from porting.text.limited_child import ChildError, LimitedChild
from porting.text.settings import read_settings

TOKENIZER = "tokenizer.json"
MAX_TOKENIZER = 128 * 2**20
MAX_PROMPT = 16 * 2**20
MAX_REASON = 160
NO_TEMPLATE = "such a model continues a text: sohu generate DIR --raw --prompt TEXT"
UNFINISHED = "\N{REPLACEMENT CHARACTER}"
# Vocabularies in other forms, which transformers converts when it has the packages.
OTHER_FORMS = (
    "tokenizer.model", "tekken.json", "tiktoken.model", "spiece.model", "vocab.json", "vocab.txt",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class TextCodec:
    """A tokenizer with its policy: the template, the first token, and the tokens that end an answer."""

    stop_ids: frozenset[int]
    template: str | None
    bos_id: int | None
    _special: Mapping[str, str]
    _child: LimitedChild

    def encode_chat(self, prompt: str, system: str | None = None) -> list[int]:
        """Return the ids of a user's message under the chat template, or of the bare text without one.

        Without a system message of the user's the template decides: many add one of theirs. Where nothing is left to
        encode the first token is returned; raises `Refused` (S547) where the tokenizer has none, or cannot encode.
        """
        if self.template is None:
            return self.encode(prompt)
        said = [("user", prompt)]
        return self.encode_messages(said if system is None else [("system", system), *said])

    def encode_messages(self, said: Sequence[tuple[str, str]]) -> list[int]:
        """Return the ids of messages, each a role and a text, and of the beginning of an answer to them.

        Raises `Refused` where there is no chat template (S558), where it makes nothing of these messages (S542), or
        what it makes cannot be encoded (S547).
        """
        template = self.require_template()
        variables = {
            "messages": [{"role": role, "content": _text(text)} for role, text in said],
            "add_generation_prompt": True,
            "documents": None,
            "tools": None,
            **self._special,
        }
        text = render(template, variables, self._child)
        return self._begun(self._ids(text, special=False))

    def require_template(self) -> str:
        """Return the chat template; raises `Refused` (S558) where there is none."""
        if self.template is None:
            raise refuse("S558", "the model has no chat template", help=NO_TEMPLATE)
        return self.template

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, with the first token where tokenizer.json adds it; raises `Refused` (S547)."""
        return self._begun(self._ids(_text(text), special=True))

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids, special tokens left out."""
        try:
            return str(self._child.ask("decode", ids=list(ids)))
        except ChildError as error:
            raise _failing("decode its own tokens", error) from error

    def token(self, number: int) -> str | None:
        """Return the token of an id, None where the tokenizer has none."""
        try:
            token: str | None = self._child.ask("token", number=number)
        except ChildError:
            return None
        return token

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Yield text as ids arrive; a character that takes several ids is held back until it is whole."""
        stream = TextStream(self)
        for token in ids:
            if piece := stream.take(token):
                yield piece
        if rest := stream.rest():
            yield rest

    def _ids(self, text: str, *, special: bool) -> list[int]:
        try:
            return list(self._child.ask("encode", text.encode(), special=special))
        except ChildError as error:
            raise _failing("encode the prompt", error) from error

    def _begun(self, ids: list[int]) -> list[int]:
        if ids:
            return ids
        if self.bos_id is None:
            message = "the prompt has no tokens, and the tokenizer names no first token"
            raise refuse(
                "S547", message, help="write a prompt; a template may also drop what it is given"
            )
        return [self.bos_id]


class TextStream:
    """The text of one answer as its ids arrive; a character that takes several ids is held back until it is whole.

    Ids are decoded together with those of the piece before: many tokenizers drop a space in front of the first.
    """

    __slots__ = ("_before", "_codec", "_ids", "_shown")

    def __init__(self, codec: TextCodec) -> None:
        self._codec = codec
        self._ids: list[int] = []
        self._shown = 0
        self._before = ""

    def take(self, token: int) -> str:
        """Return what an id adds to the text."""
        self._ids.append(token)
        now = self._codec.decode(self._ids)
        if len(now) <= len(self._before) or now.endswith(UNFINISHED):
            return ""
        piece = now[len(self._before) :]
        self._ids, self._shown = self._ids[self._shown :], len(self._ids) - self._shown
        self._before = self._codec.decode(self._ids)
        return piece

    def rest(self) -> str:
        """Return what was held back at the end."""
        return self._codec.decode(self._ids)[len(self._before) :]


def load_tokenizer(directory: Path) -> TextCodec:
    """Load the tokenizer of a model folder; raises `Refused` (S540 to S542) where it has none that can be read."""
    require("tokenizers")  # the child would only say that it fails
    data = _data(directory)
    settings = read_settings(directory)
    child = LimitedChild()
    names = [settings.special.get("bos_token", ""), settings.special.get("eos_token", "")]
    special = [*settings.special.values(), *settings.extra]
    try:
        child.ask("load", data, added=list(settings.added), special=special)
        bos, eos = child.ask("ids", tokens=names)
    except ChildError as error:
        message = f"{TOKENIZER} cannot be read: {shown(str(error), MAX_REASON)}"
        raise refuse("S541", message, place=TOKENIZER) from error
    return TextCodec(
        stop_ids=settings.stop_ids if eos is None else settings.stop_ids | {eos},
        template=settings.template,
        bos_id=bos,
        _special=settings.special,
        _child=child,
    )


def _data(directory: Path) -> bytes:
    file = find_file(directory, TOKENIZER)
    if file is not None:
        return file.read(MAX_TOKENIZER)
    names = list_names(directory)
    others = [name for name in OTHER_FORMS if name in names]
    message = f"there is no {TOKENIZER} in the model folder"
    if others:
        message += f"; {', '.join(others)} is another form, which is not read"
    raise refuse("S540", message, help="save it there with AutoTokenizer(…).save_pretrained")


def _text(written: str) -> str:
    """Return a text of the user's, or refuse what is none: bytes of a shell that are not UTF-8 arrive as surrogates."""
    if len(written) > MAX_PROMPT:
        message = f"the prompt has {len(written):,} characters; at most {MAX_PROMPT:,} are read"
        raise refuse("S547", message)
    try:
        written.encode()
    except UnicodeEncodeError as error:
        raise refuse("S547", f"the prompt is not UTF-8 at character {error.start + 1}") from error
    return written


def _failing(what: str, error: ChildError) -> Refused:
    message = f"the tokenizer cannot {what}: it {shown(str(error), MAX_REASON)}"
    return refuse("S547", message, place=TOKENIZER)
