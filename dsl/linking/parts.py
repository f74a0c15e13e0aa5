# SPDX-License-Identifier: Apache-2.0
"""Parts of families: a `part` is included by name, and what stands in it stands in the family.

Inclusion comes before anything is given a meaning: names of a part are the family's own, config sections become one,
mesh sections too, the family's axes first. A part has no parameters; what varies from call to call is a block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from dsl.diagnostics import Diagnostic, Label, Refused, did_you_mean, near
from dsl.text import syntax as sx


def collect(files: Sequence[sx.File]) -> dict[str, sx.Part]:
    """Return the parts of files by name; raises `Refused` when two share one."""
    parts: dict[str, sx.Part] = {}
    for part in (p for f in files for p in f.parts):
        name = part.name.id
        if name in parts:
            labels = (Label(parts[name].name.span, "first defined here"),)
            message = f"a second part `{name}`"
            raise Refused((Diagnostic("S202", message, part.name.span, labels=labels),))
        parts[name] = part
    return parts


def expanded(family: sx.Family, parts: Mapping[str, sx.Part]) -> sx.Family:
    """Return a family with its parts in place of their names, one config section and one of the mesh.

    Raises `Refused` for a part that does not exist, includes itself or is included twice.
    """
    inclusion = _Inclusion(parts)
    items = tuple(inclusion.items(family.items))
    if not inclusion.places:
        return replace(family, items=items)
    own = [item for item in family.items if isinstance(item, sx.Mesh)]
    return replace(family, items=_one_mesh(_one_config(items), own))


def included(family: sx.Family, parts: Mapping[str, sx.Part]) -> tuple[sx.Part, ...]:
    """Return the parts that a family includes, each before what it includes itself."""
    inclusion = _Inclusion(parts)
    for _ in inclusion.items(family.items):
        pass
    return tuple(parts[name] for name in inclusion.places)


class _Inclusion:
    """Walks the items of one family; `places` has every part included so far."""

    def __init__(self, parts: Mapping[str, sx.Part]) -> None:
        self._parts = parts
        self.places: dict[str, sx.Name] = {}

    def items(self, items: Sequence[sx.Item]) -> Iterator[sx.PlainItem]:
        for item in items:
            if isinstance(item, sx.Include):
                yield from self.items(self._part(item.name).items)
            else:
                yield item

    def _part(self, name: sx.Name) -> sx.Part:
        part = self._parts.get(name.id)
        if part is None:
            known = {n: p.name.span for n, p in self._parts.items()}
            message = f"there is no part `{name.id}`"
            help_ = did_you_mean(name.id, known)
            labels = near(name.id, known)
            raise Refused((Diagnostic("S206", message, name.span, labels=labels, help=help_),))
        if name.id in self.places:
            labels = (Label(self.places[name.id].span, "the first"),)
            message = f"`{name.id}` is included twice"
            raise Refused((Diagnostic("S202", message, name.span, labels=labels),))
        self.places[name.id] = name
        return part


def _one_config(items: Sequence[sx.PlainItem]) -> tuple[sx.PlainItem, ...]:
    """Return items with all config sections joined where the first one stands."""
    sections = [item for item in items if isinstance(item, sx.Config)]
    if not sections:
        return tuple(items)
    first = sections[0]
    joined = replace(first, items=tuple(item for section in sections for item in section.items))
    kept = (item for item in items if item is first or not isinstance(item, sx.Config))
    return tuple(joined if item is first else item for item in kept)


def _one_mesh(items: Sequence[sx.PlainItem], own: Sequence[sx.Mesh]) -> tuple[sx.PlainItem, ...]:
    """Return items with all mesh sections joined where the first stands; an axis that several of them name is one."""
    sections = [item for item in items if isinstance(item, sx.Mesh)]
    if len(sections) < 2 or len(own) > 1:
        return tuple(items)
    axes: list[sx.Name] = []
    for section in sorted(sections, key=lambda section: not own or section is not own[0]):
        before = {axis.id for axis in axes}
        axes += [axis for axis in section.axes if axis.id not in before]
    first = sections[0]
    joined = replace(first, axes=tuple(axes))
    kept = (item for item in items if item is first or not isinstance(item, sx.Mesh))
    return tuple(joined if item is first else item for item in kept)
