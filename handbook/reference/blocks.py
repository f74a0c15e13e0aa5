# SPDX-License-Identifier: Apache-2.0
"""The pages of the zoo's blocks and parts: what each is, its parameters, who uses it. Read off the texts.

A parameter's words are the sentences of the block's comment that name it, or of the comment at the head of its file; of
a dimension, what the comments there or in the language's legend call it. The comments are the only source.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from dsl.source import Source
from dsl.text import syntax as sx
from dsl.text.parser import parse
from handbook.reference.markdown import code, page, table
from porting.planning.library import ZOO

FOLDER = "reference/blocks"
SENTENCE = re.compile(r"(?<=[.:;])\s+(?=[A-Z`])")
LETTER = re.compile(r"\b(?P<name>[A-Z][a-z]?) (?P<words>[a-z][a-z -]*)(?=[,.:;]|$)", re.MULTILINE)
WORD = re.compile(r"\b[a-z_]\w+\b")
MANY = 12
LEGEND = {
    "D": "hidden size", "F": "intermediate size", "H": "query heads", "K": "key-value heads", "E": "head dim",
    "V": "vocabulary", "L": "layers", "X": "experts", "T": "experts per token", "x": "the activations",
    "act": "the activation", "eps": "added under the root of a norm", "bias": "whether there are biases",
    "q": "queries", "k": "keys", "v": "values", "at": "the tensors' common prefix",
    "freqs": "of `rope_frequencies`",
}  # fmt: skip
"""What the language's legend and all blocks mean by a name."""


def blocks() -> dict[str, str]:
    """Return a page for each file of blocks, by its place."""
    return {f"{FOLDER}/{path.stem}.md": _file(path) for path in sorted(_texts("blocks"))}


def families() -> str:
    """Return the page that lists the families with the classes that they port and the blocks that they are made of."""
    used = {path.stem: path.read_text(encoding="utf-8") for path in sorted(_texts("families"))}
    rows = []
    for name, text in used.items():
        file = parse(Source(name, text))
        claims = [code(c.value) for family in file.families for c in family.architectures]
        made_of = [Path(use.path.value).stem for use in file.uses]
        links = [f"[{b}](blocks/{b}.md)" for b in made_of if f"{FOLDER}/{b}.md" in blocks_places()]
        rows.append((code(name), ", ".join(claims), ", ".join(links)))
    about = (
        f"{len(rows)} families; `sohu explain NAME` shows the text of one, `sohu list families` this list. "
        "A config of one of these classes is ported as it is; what a family does not compute is refused by name."
    )
    return page("Families of the zoo", about, table(("family", "classes", "uses blocks of"), rows))


@lru_cache(maxsize=1)
def blocks_places() -> frozenset[str]:
    """Return the places of the pages of blocks."""
    return frozenset(f"{FOLDER}/{path.stem}.md" for path in _texts("blocks"))


def _texts(folder: str) -> Iterator[Path]:
    return (ZOO / folder).glob("*.sohu")


@lru_cache(maxsize=1)
def _users() -> Mapping[str, tuple[str, ...]]:
    """Return the families that mention each word: of those that are blocks, the families that use them."""
    users: dict[str, list[str]] = {}
    for path in sorted(_texts("families")):
        for word in sorted(set(WORD.findall(path.read_text(encoding="utf-8")))):
            users.setdefault(word, []).append(path.stem)
    return {word: tuple(names) for word, names in users.items()}


def _file(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    file = parse(Source(path.name, text))
    entries = [d for d in file.declarations if isinstance(d, sx.Block | sx.Part)]
    told = [_block(e, text) if isinstance(e, sx.Block) else _part(e, text) for e in entries]
    use = f'```sohu\nuse "blocks/{path.name}"\n```'
    return page(f"Blocks: {path.stem}", use, *told)


def _block(block: sx.Block, text: str) -> str:
    about = _comment(block, text)
    results = ", ".join(code(result.span.text) for result in block.results)
    rows = [_parameter(param, about, _head(text)) for param in block.params]
    parameters = table(("parameter", "takes", "default", "meaning"), rows)
    name = block.name.id
    return "\n\n".join(
        (f"## `{name}`", about, parameters, f"Gives {results}.", *_used(name), _shown(block))
    )


def _part(part: sx.Part, text: str) -> str:
    about = _comment(part, text)
    name = part.name.id
    words = f"A part: `include {name}` puts these sections into a family."
    return "\n\n".join((f"## `{name}` (part)", about, words, *_used(name), _shown(part)))


def _parameter(param: sx.Param, about: str, head: str) -> tuple[str, str, str, str]:
    name = param.name.id
    default = code(param.default.span.text) if param.default is not None else "required"
    said = _sentences(name, about) or _sentences(name, head)
    words = (
        " ".join(said) or _letters(about).get(name) or _letters(head).get(name) or LEGEND.get(name)
    )
    return code(name), code(param.kind.span.text), default, words or ""


def _sentences(name: str, comment: str) -> list[str]:
    return [s for s in SENTENCE.split(comment) if f"`{name}`" in s]


def _letters(comment: str) -> dict[str, str]:
    """Return what a comment calls dimensions, as in `D hidden, H query heads`."""
    return {match["name"]: match["words"] for match in LETTER.finditer(comment)}


def _head(text: str) -> str:
    """Return the comments of a file before its first block."""
    lines = re.split(r"^(?:block|part) ", text, maxsplit=1, flags=re.MULTILINE)[0].splitlines()
    return " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))


def _comment(declaration: sx.Block | sx.Part, text: str) -> str:
    """Return the comment above a declaration, as one paragraph."""
    line, _ = declaration.span.source.position(declaration.span.start)
    lines = text.splitlines()[:line]
    first = line
    while first and lines[first - 1].startswith("#"):
        first -= 1
    return " ".join(part.lstrip("# ") for part in lines[first:line])


def _used(name: str) -> tuple[str, ...]:
    users = _users().get(name, ())
    if not users:
        return ()
    shown = ", ".join(users[:MANY])
    more = f" and {len(users) - MANY} others" if len(users) > MANY else ""
    return (f"In the families {shown}{more}.",)


def _shown(declaration: sx.Block | sx.Part) -> str:
    return f"```sohu\n{declaration.span.text}\n```"
