# SPDX-License-Identifier: Apache-2.0
"""Run a stranger's tokenizer and chat template in a process of their own: jobs on standard input, outcomes on output.

Started by `limited_child` as a script; imports nothing of ours. A job is a line of JSON, with the length of the raw
bytes that follow it; an outcome is a line of JSON with `value` or `error`. Memory is limited once, processor time for
each job.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, NoReturn

MAX_REASON = 2000


def main() -> None:
    """Perform jobs until the input ends."""
    _limit(int(sys.argv[1]))
    perform = Jobs()
    while line := sys.stdin.buffer.readline():
        job = json.loads(line)
        body = sys.stdin.buffer.read(job["body"])
        _allow(job["seconds"])
        outcome = outcome_of(partial(getattr(perform, job["operation"]), body, **job["with"]))
        _allow(0)
        sys.stdout.write(json.dumps(outcome) + "\n")
        sys.stdout.flush()


def outcome_of(job: Callable[[], object]) -> dict[str, object]:
    """Return what a job gives, or why it gives nothing: whatever a stranger's file raises is about that file."""
    try:
        return {"value": job()}
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a panic of the tokenizers library is no `Exception`
        return {"error": f"{type(error).__name__}: {error}"[:MAX_REASON]}


class Jobs:
    """What can be asked for: a tokenizer is loaded once and then used, templates are rendered."""

    def __init__(self) -> None:
        self._tokenizer: Any = None

    def load(self, body: bytes, added: list[dict[str, Any]], special: list[str]) -> None:
        """Load a tokenizer.json, and add the tokens that other files add to it."""
        from tokenizers import AddedToken, Tokenizer  # noqa: PLC0415 - a template alone does without

        tokenizer = Tokenizer.from_buffer(body)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        if added:
            tokenizer.add_tokens([AddedToken(**token) for token in added])
        known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
        tokenizer.add_tokens([AddedToken(x, special=True) for x in special if x not in known])
        self._tokenizer = tokenizer

    def ids(self, body: bytes, tokens: list[str]) -> list[int | None]:
        """Return the id of each token, None where there is none."""
        del body
        return [self._tokenizer.token_to_id(token) for token in tokens]

    def token(self, body: bytes, number: int) -> str | None:
        """Return the token of an id."""
        del body
        token: str | None = self._tokenizer.id_to_token(number)
        return token

    def encode(self, body: bytes, special: bool) -> list[int]:
        """Return the ids of a text."""
        return list(self._tokenizer.encode(body.decode(), add_special_tokens=special).ids)

    def decode(self, body: bytes, ids: list[int]) -> str:
        """Return the text of ids, special tokens left out."""
        del body
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def render(self, body: bytes, variables: dict[str, Any], max_characters: int) -> str:
        """Return the text of a template, cut off with an error beyond a length."""
        pieces: list[str] = []
        length = 0
        for piece in environment().from_string(body.decode()).generate(**variables):
            pieces.append(piece)
            length += len(piece)
            if length > max_characters:
                raise ValueError(f"the text is longer than {max_characters:,} characters")
        return "".join(pieces).encode().decode()  # half of a surrogate pair is no text


def environment() -> Any:
    """Return the sandbox of a template, with the words that transformers gives it (utils/chat_template_utils.py)."""
    from jinja2 import nodes  # noqa: PLC0415 - a tokenizer alone does without
    from jinja2.exceptions import SecurityError, TemplateError  # noqa: PLC0415
    from jinja2.ext import Extension  # noqa: PLC0415
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415
    from jinja2.utils import Namespace  # noqa: PLC0415

    class Generation(Extension):
        """`{% generation %}` marks what the assistant says, for training; the text is that of its body."""

        tags = {"generation"}  # noqa: RUF012 - jinja's own convention

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

        @staticmethod
        def _said(caller: Callable[[], str]) -> str:
            return caller()

    class Named(Namespace):
        """A namespace in which no name begins with an underscore, so that none is Python's own."""

        def __setitem__(self, name: str, value: object) -> None:
            if name.startswith("_"):
                raise SecurityError(f"a template may not set {name!r}")
            super().__setitem__(name, value)

    def namespace(**values: object) -> Any:
        if any(name.startswith("_") for name in values):
            raise SecurityError("a template may not set a name that begins with an underscore")
        return Named(**values)

    def fail(message: str) -> NoReturn:
        raise TemplateError(message)

    sandbox = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    sandbox.filters["tojson"] = to_json
    sandbox.globals.update(raise_exception=fail, strftime_now=_now, namespace=namespace)
    return sandbox


def to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: list[str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return a value as JSON; unlike jinja's own filter it escapes no HTML."""
    pair = None if separators is None else (separators[0], separators[1])
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=pair, sort_keys=sort_keys
    )


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


def _limit(memory_bytes: int) -> None:
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - not on every system

    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _allow(seconds: float) -> None:
    """Set the processor time after which a signal ends this process; 0 takes the limit away."""
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_PROF, seconds)


if __name__ == "__main__":
    main()
