"""The pages of the zoo's blocks and parts: what each is, its parameters, who uses it. Read off the texts.

A parameter's words are the sentences of the block's comment that name it; the comments are the only source.
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
SENTENCE = re.compile(r"(?<=[.:])\s+(?=[A-Z`])")
WORD = re.compile(r"\b[a-z_]\w+\b")
MANY = 12


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
    rows = [_parameter(param, about) for param in block.params]
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


def _parameter(param: sx.Param, about: str) -> tuple[str, str, str, str]:
    name = param.name.id
    default = code(param.default.span.text) if param.default is not None else "required"
    said = [s for s in SENTENCE.split(about) if re.search(rf"`{name}`|\b{name}\b(?= is | of )", s)]
    return code(name), code(param.kind.span.text), default, " ".join(said)


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
