# SPDX-License-Identifier: Apache-2.0
"""Choose the family of an architecture: one that the user names, or the first on the shelves that claims it.

Shelves are folders of texts: those of SOHU_PATH in its order, those of installed distributions (entry points
`sohu.families`), the zoo. A distribution's folder is looked up, and no code of it is run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from dsl.diagnostics import Diagnostic, Refused, Severity, refuse
from dsl.linking.program import Program
from dsl.text import syntax as sx
from porting.planning.library import ZOO, claimed, load_family

PATH = "SOHU_PATH"
GROUP = "sohu.families"
THE_ZOO = "the zoo"


@dataclass(frozen=True, slots=True)
class Shelf:
    """A folder of families, and what it is called; `installed` where a distribution brought it."""

    name: str
    folder: Path
    installed: bool = False


@dataclass(frozen=True, slots=True)
class Chosen:
    """The family of an architecture; `notes` say whose it is where it is not the zoo's, and what it stands before."""

    program: Program
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Search:
    """What the shelves have for an architecture, and what is wrong with shelves that nobody of us put there."""

    chosen: Chosen | None
    warnings: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True, slots=True)
class _Claim:
    shelf: Shelf
    path: Path
    file: sx.File


def search(architecture: str, own: Path | None = None) -> Search:
    """Return the family for an architecture: that of the file `own`, else the first that claims it.

    The family of a file that the user names ports whatever architecture it is told to. Raises `Refused` where a folder
    of SOHU_PATH is none (S229), or where two claim the architecture on one shelf or in two distributions (S228).
    """
    if own is not None:
        return Search(_named(architecture, own))
    warnings: list[Diagnostic] = []
    claims: list[_Claim] = []
    for shelf in (*_paths(), *_distributions(warnings), Shelf(THE_ZOO, ZOO)):
        claims += _claims(shelf, architecture, warnings)
    if not claims:
        return Search(None, tuple(warnings))
    first, *others = claims
    if first.shelf.installed and others and others[0].shelf.installed:
        message = f"{first.shelf.name} and {others[0].shelf.name} both claim {architecture}"
        raise refuse("S228", message, help="--family names the file that is meant")
    return Search(_on_shelf(first, [claim.shelf.name for claim in others]), tuple(warnings))


def _named(architecture: str, own: Path) -> Chosen:
    program, hiding = load_family(own)
    family = program.family()
    claims = architecture in [a.value for a in family.architectures]
    unasked = "" if claims else f", which does not itself claim {architecture}"
    return Chosen(
        program, (f"the family is `{family.name.id}` of {own}{unasked}", *_hiding(hiding))
    )


def _on_shelf(claim: _Claim, others: list[str]) -> Chosen:
    program, hiding = load_family(claim.path, claim.file)
    if claim.shelf.name == THE_ZOO:
        return Chosen(program)
    before = f", before that of {', '.join(others)}" if others else ""
    whose = f"the family is `{program.family().name.id}` of {claim.shelf.name} ({claim.path})"
    return Chosen(program, (f"{whose}{before}", *_hiding(hiding)))


def _hiding(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"`{name}` is the family's own, not the zoo's" for name in names)


def _claims(shelf: Shelf, architecture: str, warnings: list[Diagnostic]) -> Iterator[_Claim]:
    try:
        claim = claimed(shelf.folder, architecture).get(architecture)
    except Refused as refused:
        if not shelf.installed:
            raise
        first = refused.diagnostics[0]
        message = f"the families of {shelf.name} are left out: {first.code}, {first.message}"
        warnings.append(replace(first, code="S229", message=message, severity=Severity.WARNING))
        return
    if claim is not None:
        yield _Claim(shelf, *claim)


def _paths() -> Iterator[Shelf]:
    for written in filter(None, os.environ.get(PATH, "").split(os.pathsep)):
        folder = Path(os.path.expanduser(written))  # noqa: PTH111 - unlike pathlib's, it never raises
        if not os.path.isdir(folder):  # noqa: PTH112 - likewise, however odd the name
            raise refuse("S229", f"{PATH} names `{written}`, which is no folder")
        yield Shelf(f"{PATH}, {written}", folder)


def _distributions(warnings: list[Diagnostic]) -> Iterator[Shelf]:
    points = sorted(entry_points(group=GROUP), key=lambda x: (_owner(x), x.name))
    for point in points:
        folder = _folder(point)
        if folder is None:
            message = f"the families of {_owner(point)} are left out: `{point.value}` is no package of data folders"
            help_ = f"mend or uninstall {_owner(point)}"
            warning = Severity.WARNING
            warnings.append(
                Diagnostic(
                    "S229", message, place=f"entry point {GROUP}", severity=warning, help=help_
                )
            )
        else:
            yield Shelf(_owner(point), folder, installed=True)


def _owner(point: EntryPoint) -> str:
    return (
        f"distribution {point.dist.name}" if point.dist is not None else f"entry point {point.name}"
    )


def _folder(point: EntryPoint) -> Path | None:
    """Return the folder of the package that an entry point names, found without importing it or what it is in."""
    first, *inner = point.value.split(".")
    if not all(part.isidentifier() for part in (first, *inner)):
        return None
    try:
        spec = find_spec(first)
    except (ImportError, ValueError):  # a module that says nothing of where it is from
        return None
    for place in (spec.submodule_search_locations if spec is not None else None) or ():
        folder = Path(place, *inner)
        if folder.is_dir():
            return folder
    return None
