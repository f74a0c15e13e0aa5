# SPDX-License-Identifier: Apache-2.0
"""A smaller twin of a port: its own text at small sizes, beside a random original of the same sizes.

Windows, chunks and other lengths stay what they are, so that a row too long for the model is short enough for the twin.
Only constants that a family reads from the config's sizes are changed; all else in the text stays as it was written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsl.diagnostics import Refused, refuse
from dsl.graph import Graph
from dsl.inference.inference import infer
from dsl.linking.binding import KeyUse
from dsl.linking.program import Program, link
from dsl.linking.static import Static, show
from dsl.source import Source
from dsl.text import syntax as sx
from dsl.text.parser import parse
from porting.checkpoint import accounting
from porting.checkpoint.naming import own_names, renamed
from porting.checkpoint.tensors import Checkpoint
from porting.config.reader import MAX_BYTES, NAME, ModelConfig, parse_config, read_config
from porting.config.text_part import text_part
from porting.files.files import find_file
from porting.files.strict_json import parse_object
from porting.original.reference import write_smaller
from porting.planning.plan import STORED_DTYPE, family_of, stored_dtype
from porting.planning.tying import TIED


@dataclass(frozen=True, slots=True)
class Twin:
    """A smaller program, the folder of a random original of its sizes, and that one's tensors."""

    graph: Graph
    folder: Path
    checkpoint: Checkpoint


def twin_of(text: str, directory: Path, folder: Path, family: Path | None = None) -> Twin:
    """Make the twin of a port's text in a folder; raises `Refused` where the model has none that is small.

    `family` is the file that the port was made from, where the user named one.
    """
    file = find_file(directory, NAME)
    if file is None:
        raise refuse("S511", f"there is no {NAME} in the model folder")
    raw = file.read(MAX_BYTES)
    config = parse_config(raw)
    _, chosen, subject = family_of(config, family)
    written = parse(Source("model.sohu", text)).families[0]
    _check_family(written, chosen.program, config.architecture)
    program, held = chosen.program, Checkpoint.open(directory).tensors
    before = _constants(subject.config, "bf16", program)
    whole = subject.raw(parse_object(raw, name=NAME, code="S421", constants=True))
    write_smaller({**whole, **_tied(written, before)}, folder)
    checkpoint = Checkpoint.open(folder)
    made = text_part(read_config(folder))
    after = _values(_constants(made, stored_dtype(checkpoint), program))
    known = _values(before)
    changed = {name: value for name, value in after.items() if known.get(name) != value}
    resized = link(parse(Source("model.sohu, smaller", _with(text, changed))), _no_other)
    own = own_names(program, held, inside=subject.model is not None)
    resized = renamed(resized, own)
    checked = infer(resized.family(), resized.blocks, None)
    if checked.graph is None:
        raise Refused(checked.diagnostics)
    accounted = accounting.account(checked.graph, checkpoint.tensors, checkpoint)
    if accounted.diagnostics:
        raise Refused(accounted.diagnostics)
    return Twin(checked.graph, folder, checkpoint)


def _check_family(written: sx.Family, program: Program, architecture: str) -> None:
    """Refuse the family that a text did not come from: constants of another would mean something else in it."""
    name, own = written.name.id, program.family().name.id
    if name != own:
        message = f"the text is of the family {name}; {own} is the one for {architecture}"
        raise refuse("S404", message)


def _no_other(use: sx.String) -> sx.File:
    """Refuse a file that a text uses: a port has all that it needs inside."""
    raise refuse("S227", f"a port uses no file such as `{use.value}`")


def _tied(written: sx.Family, uses: Sequence[KeyUse]) -> dict[str, object]:
    """Return what a text says of its head where the file decided against the config."""
    names = {use.name for use in uses if use.key == TIED}
    for bind in sx.binds(written):
        if bind.name.id in names and isinstance(bind.value, sx.Boolean):
            return {TIED: bind.value.value}
    return {}


def _constants(config: ModelConfig, dtype: str, program: Program) -> tuple[KeyUse, ...]:
    """Return the constants that a family takes from a config."""
    values = dict(config.values) | {STORED_DTYPE: dtype}
    return tuple(infer(program.family(), program.blocks, values).uses)


def _values(uses: Sequence[KeyUse]) -> dict[str, Static]:
    """Return constants by the names that a port gives them; what the file decides stays as the text has it."""
    return {use.name: use.value for use in uses if use.key != TIED}


def _with(text: str, values: Mapping[str, Static]) -> str:
    """Return a port's text with other values for some constants of its config."""
    family = parse(Source("model.sohu", text)).families[0]
    spans = [
        (bind.value.span.start, bind.value.span.end, show(values[bind.name.id]))
        for bind in sx.binds(family)
        if bind.name.id in values
    ]
    for start, end, value in sorted(spans, reverse=True):
        text = text[:start] + value + text[end:]
    return text
