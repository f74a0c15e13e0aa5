# SPDX-License-Identifier: Apache-2.0
"""`sohu list KIND`: the names that other commands take, a line each. Texts are read, never parsed: a list is quick.

What a name means is `sohu explain` and the pages of the language.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dsl.regular_file import read_shipped

COMMENT = re.compile(r"^((?:# .*\n)+)", re.MULTILINE)
CLAIM = re.compile(r'^family \w+ for (?P<classes>"\w+"(?:,\s*"\w+")*)', re.MULTILINE)
BLOCK = re.compile(r"^(?P<kind>block|part) (?P<name>\w+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Listed:
    """A name that can be given, and what it is in a line."""

    name: str
    about: str


def _ports() -> Iterator[Listed]:
    for name, path in _texts("ports"):
        comment = COMMENT.match(read_shipped(path))
        yield Listed(name, _joined(comment.group(1)) if comment else "")


def _families() -> Iterator[Listed]:
    for name, path in _texts("families"):
        claims = CLAIM.finditer(read_shipped(path))
        classes = [word for claim in claims for word in re.findall(r"\w+", claim["classes"])]
        yield Listed(name, ", ".join(classes))


def _blocks() -> Iterator[Listed]:
    for name, path in _texts("blocks"):
        names = [block["name"] for block in BLOCK.finditer(read_shipped(path))]
        yield Listed(f"blocks/{name}", ", ".join(names))


def _texts(folder: str) -> Iterator[tuple[str, Path]]:
    from porting.planning.library import zoo_texts  # noqa: PLC0415 - loads for this list alone

    for path in zoo_texts().values():
        if path.parent.name == folder:
            yield path.stem, path


def _joined(comment: str) -> str:
    return " ".join(line.removeprefix("#").strip() for line in comment.splitlines())


def _ops() -> Iterator[Listed]:
    from dsl.ops import OPS  # noqa: PLC0415 - loads for this list alone

    return (Listed(name, spec.summary) for name, spec in OPS.items())


def _devices() -> Iterator[Listed]:
    from device_model.chips.chip import devices  # noqa: PLC0415 - loads for this list alone

    return (Listed(key, device.name) for key, device in devices().items())


def _numerics() -> Iterator[Listed]:
    from device_model.numbers.catalogue import known_numerics  # noqa: PLC0415 - as above

    for name, numerics in known_numerics().items():
        product = numerics.product
        weights = f", weights in products as {product.weight.format}" if product else ""
        yield Listed(name, f"values in {numerics.activation.name}{weights}")


def _codes() -> Iterator[Listed]:
    from dsl.codes import CODES  # noqa: PLC0415 - loads for this list alone

    return (Listed(key, code.title) for key, code in sorted(CODES.items()))


KINDS: Mapping[str, Callable[[], Iterator[Listed]]] = {
    "ports": _ports,
    "families": _families,
    "blocks": _blocks,
    "ops": _ops,
    "devices": _devices,
    "numerics": _numerics,
    "codes": _codes,
}
"""What can be listed, by the word that asks for it."""


def listed(kind: str) -> tuple[Listed, ...]:
    """Return what there is of a kind, which is one of `KINDS`."""
    return tuple(KINDS[kind]())
