"""A smaller twin of a port: its own text at small sizes, beside a random original of the same sizes.

Windows, chunks and other lengths stay what they are, so that a row too long for the model is short enough for the twin.
Only constants that a family reads from the config's sizes are changed; all else in the text stays as it was written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dsl.diagnostics import Refused, refuse
from dsl.graph import Graph
from dsl.inference.inference import infer
from dsl.linking.program import Program
from dsl.linking.static import Static, show
from dsl.source import Source
from dsl.text import syntax as sx
from dsl.text.parser import parse
from porting.checkpoint import accounting
from porting.checkpoint.tensors import Checkpoint
from porting.config.reader import MAX_BYTES, NAME, ModelConfig, parse_config, read_config
from porting.config.text_part import text_part
from porting.files.files import find_file
from porting.files.strict_json import parse_object
from porting.original.reference import write_smaller
from porting.planning.plan import STORED_DTYPE, stored_dtype
from porting.planning.shelves import search


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
    write_smaller(parse_object(raw, name=NAME, code="S421"), folder)
    checkpoint = Checkpoint.open(folder)
    config = parse_config(raw)
    program = _family_of(text, config.architecture, family)
    before = _constants(config, "bf16", program)
    after = _constants(read_config(folder), stored_dtype(checkpoint), program)
    changed = {name: value for name, value in after.items() if before.get(name) != value}
    resized = parse(Source("model.sohu, smaller", _with(text, changed)))
    checked = infer(resized.families[0], {b.name.id: b for b in resized.blocks}, None)
    if checked.graph is None:
        raise Refused(checked.diagnostics)
    accounted = accounting.account(checked.graph, checkpoint.tensors, checkpoint)
    if accounted.diagnostics:
        raise Refused(accounted.diagnostics)
    return Twin(checked.graph, folder, checkpoint)


def _family_of(text: str, architecture: str, family: Path | None) -> Program:
    """Return the family that a port's text came from: constants of another would mean something else in it."""
    chosen = search(architecture, family).chosen
    if chosen is None:
        raise refuse("S404", f"no family claims {architecture}")
    name = parse(Source("model.sohu", text)).families[0].name.id
    own = chosen.program.family().name.id
    if name != own:
        message = f"the text is of the family {name}; {own} is the one for {architecture}"
        raise refuse("S404", message)
    return chosen.program


def _constants(config: ModelConfig, dtype: str, program: Program) -> dict[str, Static]:
    """Return the constants that a family takes from a config, by the names that a port gives them."""
    values = dict(text_part(config).values) | {STORED_DTYPE: dtype}
    return {use.name: use.value for use in infer(program.family(), program.blocks, values).uses}


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
