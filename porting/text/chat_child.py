"""Render one chat template in a process of its own: job on standard input, text on standard output, both JSON.

Started by `chat_template` as a script, with limits on memory and time already set; imports nothing of ours.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any, NoReturn

from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment


def main() -> None:
    """Read a job, render its template, write the outcome."""
    job = json.load(sys.stdin)
    _limit(job["memory_bytes"], job["seconds"])
    try:
        outcome = {"text": render(job["template"], job["variables"], job["max_characters"])}
    except TemplateError as error:
        outcome = {"error": f"{type(error).__name__}: {error}"}
    except (
        ArithmeticError,
        LookupError,
        MemoryError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        outcome = {"error": f"{type(error).__name__}: {error}"}
    json.dump(outcome, sys.stdout)


def render(template: str, variables: dict[str, Any], max_characters: int) -> str:
    """Return the text of a template, cut off with an error beyond a length."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _now
    pieces: list[str] = []
    length = 0
    for piece in environment.from_string(template).generate(**variables):
        pieces.append(piece)
        length += len(piece)
        if length > max_characters:
            raise ValueError(f"the text is longer than {max_characters:,} characters")
    return "".join(pieces)


def _limit(memory_bytes: int, seconds: int) -> None:
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - not on every system

    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


if __name__ == "__main__":
    main()
