# SPDX-License-Identifier: Apache-2.0
"""`sohu new NAME`: a first text that passes the check, in the current folder. It never writes over anything."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from dsl.diagnostics import refuse
from dsl.regular_file import read_shipped
from dsl.source import Source
from dsl.text.parser import parse

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
NEXT = ("check {0}", "cost {0}", "profile {0} --device h100")


def begin(name: str) -> Path:
    """Write the first text under a name of its own and return its path; raises `Refused` (S112, S530)."""
    if not NAME.fullmatch(name):
        message = f"`{name[:80]}` is no name of a text"
        raise refuse("S112", message, help="a letter, then letters, digits, - and _; 64 at most")
    path = Path(f"{name}.sohu")
    text = first_text(name)
    parse(Source(str(path), text))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        message = f"there is a `{path}` already"
        raise refuse("S112", message, help="choose another name") from None
    except OSError as error:
        raise refuse("S530", f"cannot write `{path}`: {error.strerror}") from None
    return path


def first_text(name: str) -> str:
    """Return the first text with its family and class named after a name."""
    words = [word for word in re.split(r"[-_]", name) if word]
    family = "_".join(word.lower() for word in words)
    model = "".join(word[:1].upper() + word[1:] for word in words)
    text = read_shipped(Path(str(resources.files("sohu").joinpath("guides/first.sohu"))))
    return text.replace(
        'family first for "FirstForCausalLM"', f'family {family} for "{model}ForCausalLM"'
    )
