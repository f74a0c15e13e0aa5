# SPDX-License-Identifier: Apache-2.0
"""The stages of a port, in order: resolve, plan, validate, write; and validation of an existing port again.

Knows the order and the clock; each stage's work is in its own module. Prints nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from device_model.chips.chip import device
from device_model.memory.meshes import mesh_sizes
from device_model.memory.use import DEFAULT_NUMERICS
from device_model.mesh.limits import MOST_CHIPS, check_chips
from device_model.numbers.catalogue import numerics_named
from dsl.diagnostics import Diagnostic, Refused, refuse
from dsl.graph import Graph
from dsl.inference.inference import infer
from dsl.regular_file import is_file, is_folder, is_there
from porting.checkpoint import accounting
from porting.checkpoint.beside import check_beside
from porting.checkpoint.foreign import check_method
from porting.checkpoint.own_weights import FORMS, open_weights
from porting.checkpoint.section_beside import with_section
from porting.checkpoint.tensors import Checkpoint, require_weights
from porting.config.reader import ModelConfig, read_config
from porting.files.files import CONFIG, part_of
from porting.files.progress import Progress, silent
from porting.files.strict_json import shown
from porting.origin.resolve import DEMO, Origin, OriginKind, resolve
from porting.original.adapted import Adapted
from porting.planning.bound import bound_graph, bound_program
from porting.planning.library import load_program
from porting.planning.opening import open_to_plan
from porting.planning.placement import Placement, place
from porting.planning.plan import Plan, memory, plan
from porting.report.model import (
    FILES,
    JSON_NAME,
    SPEC_NAME,
    ConfigKeys,
    ModelInfo,
    Report,
    TensorAccount,
    Validation,
    Verdict,
    versions,
)
from porting.report.reading import is_edited, keep_edits, read_report
from porting.verdict.brought import NOTHING, Brought

if TYPE_CHECKING:
    from porting.judging import Court

WITHOUT_WEIGHTS = "--plan plans from the config; what runs needs the folder with the weights"
UNASKED = "nothing was judged, and the reference was not asked"
TOO_MANY = "validated on one chip: the mesh has {:,}, and one process runs up to {}"
EDITED = "the text was edited since it was ported"


@dataclass(slots=True)
class Stages:
    """Seconds per stage, in the order in which they ran."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@dataclass(frozen=True, slots=True)
class Opened:
    """A resolved model: its folder, config and checkpoint headers."""

    origin: Origin
    config: ModelConfig
    checkpoint: Checkpoint


def open_model(
    model: str,
    revision: str | None,
    stages: Stages,
    progress: Progress,
    adapter: str | None = None,
    *,
    plan_only: bool = False,
    cached_only: bool = False,
) -> Opened:
    """Resolve MODEL, with its adapter if there is one, and read config and headers; only planning needs no weights."""
    with stages.stage("resolve"):
        origin = resolve(
            model, revision, progress, adapter, plan_only=plan_only, cached_only=cached_only
        )
    if origin.kind is OriginKind.CONFIG and not plan_only:
        message = (
            f"`{shown(model, 240)}` is a config alone: there are no weights beside what it says"
        )
        raise refuse("S566", message, help=WITHOUT_WEIGHTS)
    with stages.stage("read headers"):
        if plan_only:
            return Opened(origin, *open_to_plan(origin, progress))
        require_weights(origin.directory)
        config = read_config(origin.directory)
        check_method(config)
        checkpoint = Checkpoint.open(origin.directory)
        config = with_section(config, checkpoint)
        check_method(config)
        is_quantised = any(key.startswith("quantization_config") for key in config.values)
        check_beside(checkpoint, is_quantised=is_quantised)
    return Opened(origin, config, checkpoint)


def default_out(model: str, kind: OriginKind, adapter: str | None = None) -> Path:
    """Return the folder of a port: ports/<org>--<name>/, an adapter's name where there is one."""
    if adapter is not None:
        return Path("ports") / Path(adapter).resolve().name
    if kind is OriginKind.HUB:
        return Path("ports") / model.split("@", maxsplit=1)[0].replace("/", "--")
    if kind is OriginKind.DEMO:
        return Path("ports") / model
    path = Path(model).resolve()
    if kind is OriginKind.CONFIG and path.name == CONFIG:
        path = path.parent
    return Path("ports") / (path.name if path.is_dir() else path.stem)


def port(
    model: str,
    revision: str | None = None,
    out: Path | None = None,
    *,
    device: str | None = None,
    mesh: str = "",
    numerics: str = DEFAULT_NUMERICS,
    plan_only: bool = False,
    validated: bool = True,
    own: Brought = NOTHING,
    force: bool = False,
    progress: Progress = silent,
) -> tuple[Report, Path]:
    """Port a model and write the result; returns the report and the folder. Raises `Refused`.

    A mesh and the numerics of products give the report the bytes of one chip; a device must hold them, or the verdict
    is that it fails. On a mesh it is validated on all chips, whose bits must be one chip's. A text in the folder that
    `port` did not write stays there unless `force` says otherwise.
    """
    stages = Stages()
    adapter = own.adapter
    opened = open_model(model, revision, stages, progress, adapter, plan_only=plan_only)
    folder = out or default_out(model, opened.origin.kind, adapter)
    _check_out(folder)
    with stages.stage("plan"):
        planned = plan(opened.origin, opened.config, opened.checkpoint, own.family)
    if not force:
        keep_edits(folder, planned.spec)
    placed = place(planned.graph, device, mesh, numerics)
    notes = (*planned.notes, *placed.notes)
    judging = validated and not plan_only
    if own.reference is not None and not judging:
        notes = (*notes, UNASKED)
    validation, verdict = Validation(text=notes), Verdict.PLANNED
    if judging:
        from porting.judging import Court, Judged, judge

        origin = opened.origin
        judged = Judged(
            planned.graph, planned.spec, opened.checkpoint, origin.directory, origin.original
        )
        sizes = {axis: size for axis, size in placed.mesh.items() if size > 1}
        if prod(sizes.values()) > MOST_CHIPS:
            notes, sizes = (*notes, TOO_MANY.format(prod(sizes.values()), MOST_CHIPS)), {}
        court = Court(own=own, foreign=(origin.directory, folder), mesh=sizes)
        validation, verdict = judge(judged, court, notes, stages.stage, progress)
    if not placed.fits:
        verdict = Verdict.FAIL
    report = _report(planned, placed, opened, validation, verdict, stages)
    from porting.report.writing import write  # with its template engine, for this alone

    if not force:
        keep_edits(folder, planned.spec)  # again: judging takes long enough to edit
    try:
        write(folder, planned.spec, report)
    except OSError as error:
        raise refuse("S530", f"cannot write `{folder}`: {error.strerror}") from error
    return report, folder


def _check_out(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise refuse("S530", f"`{folder}` is not a folder", help="--out names a folder")


def _report(
    planned: Plan,
    placed: Placement,
    opened: Opened,
    validation: Validation,
    verdict: Verdict,
    stages: Stages,
) -> Report:
    info = planned.model
    is_path = Path(info.source).expanduser().exists() and info.source != DEMO
    if opened.origin.kind is not OriginKind.HUB and is_path:
        # Not resolved: a link in the hub's cache has the name, what it leads to has none.
        info = replace(info, source=str(Path(info.source).expanduser().absolute()))
    return Report(
        verdict,
        info,
        planned.warnings,
        planned.config_keys,
        planned.tensors,
        memory(planned.graph, placed),
        validation,
        stages.seconds,
        versions(),
    )


@dataclass(frozen=True, slots=True)
class Port:
    """An existing port: its graph, and where its model comes from."""

    folder: Path
    spec: str
    graph: Graph | None
    diagnostics: tuple[Diagnostic, ...]
    model: ModelInfo
    config_keys: ConfigKeys
    edited: bool = False
    """Since `port` wrote it: that is what texts are for, and the report says so."""


def read_port(folder: Path) -> Port:
    """Read a port's folder; raises `Refused` where it is none, or its text is no program."""
    path = folder / SPEC_NAME
    if not folder.is_dir() or not path.is_file():
        names = ", ".join(FILES)
        raise refuse("S531", f"`{folder}` is not a port", help=f"a port holds {names}")
    program = load_program(part_of(folder, SPEC_NAME))
    checked = infer(program.family(), program.blocks, None)
    data = read_report(folder)
    entry = data.get("model")
    model = entry if isinstance(entry, dict) else {}
    info = ModelInfo(
        **{
            name: str(model.get(name) or "")
            for name in (
                "source",
                "architecture",
                "model_type",
                "revision",
                "name",
                "family",
                "adapter",
            )
        }
    )
    spec = program.file.span.source.text
    edited = is_edited(spec, data)
    return Port(folder, spec, checked.graph, checked.diagnostics, info, ConfigKeys(), edited)


def open_checkpoint(existing: Port, stages: Stages, progress: Progress) -> Opened:
    """Resolve the model that a port was made from: files, or what the hub's cache has.

    Nothing is fetched: a report is a file like any, and may be a stranger's.
    """
    source, revision = existing.model.source, existing.model.revision
    if not source:
        raise refuse("S531", "report.json does not name the model's source")
    is_hub = "/" in source and not is_there(Path(source))
    at = revision if is_hub and revision else None
    adapter = existing.model.adapter or None
    return open_model(source, at, stages, progress, adapter, cached_only=True)


def validate_port(
    folder: Path,
    progress: Progress = silent,
    *,
    numerics: Sequence[str] = (),
    device_name: str | None = None,
    mesh: str = "",
    own: Brought = NOTHING,
) -> Report:
    """Validate an existing port again, as its text now stands, in the rule's numerics or in those given.

    On a mesh the chips' result is judged, and its bits are compared with one chip's.
    A text that no longer checks, or no longer fits its checkpoint, fails like one that computes something else.
    """
    stages = Stages()
    on = None if device_name is None else device(device_name)
    for name in numerics:
        numerics_named(name, on)
    existing = read_port(folder)
    opened = open_checkpoint(existing, stages, progress)
    from porting.judging import Court

    sizes = _chips(existing.graph, mesh)
    court = Court(numerics, on, own, (opened.origin.directory, folder), sizes)
    origin = opened.origin
    return _judged_again(
        existing, opened.checkpoint, (origin.directory, origin.original), court, stages, progress
    )


def validate_text(
    path: Path,
    weights: Path | None,
    progress: Progress = silent,
    *,
    numerics: Sequence[str] = (),
    device_name: str | None = None,
    mesh: str = "",
    own: Brought = NOTHING,
) -> Report:
    """Validate the text of a file, or of a port, on weights of the user's, by a reference of the user's.

    Raises `Refused` for a text that is generic or faulty: nothing was ported that could have failed.
    """
    stages = Stages()
    on = None if device_name is None else device(device_name)
    for name in numerics:
        numerics_named(name, on)
    program, graph = bound_program(path), bound_graph(path)
    if weights is None:
        raise refuse("S533", f"`{path}` is a text without a checkpoint", help=FORMS)
    checkpoint = open_weights(weights)
    info = ModelInfo(str(weights), name=str(path), family=program.family().name.id)
    existing = Port(path, program.file.span.source.text, graph, (), info, ConfigKeys())
    from porting.judging import Court

    court = Court(numerics, on, own, tuple(_foreign(path, weights)), _chips(graph, mesh))
    return _judged_again(
        existing, checkpoint, (checkpoint.directory, None), court, stages, progress
    )


def _chips(graph: Graph | None, mesh: str) -> dict[str, int]:
    """Return the sizes of a mesh to validate on, nothing for one chip; raises `Refused` where there is no such one."""
    if graph is None or not mesh:
        return {}
    sizes = mesh_sizes(graph, mesh)
    check_chips(sizes)
    return sizes


def _foreign(path: Path, weights: Path) -> Iterator[Path]:
    """Yield the folders of models and ports among what is named; one that only holds a file of the user's is none."""
    for named in (path, weights):
        folder = named if is_folder(named) else named.absolute().parent
        if folder == named or is_file(folder / CONFIG) or is_file(folder / JSON_NAME):
            yield folder


def _judged_again(
    existing: Port,
    checkpoint: Checkpoint,
    places: tuple[Path, Path | Adapted | None],
    court: Court,
    stages: Stages,
    progress: Progress,
) -> Report:
    """Return the report of a text on weights; `places` are the folder of its tokenizer, and what transformers loads."""
    base = Report(Verdict.FAIL, existing.model, existing.diagnostics, created_with=versions())
    if existing.graph is None:
        return replace(base, timing=stages.seconds)
    accounted = accounting.account(existing.graph, checkpoint.tensors, checkpoint)
    diagnostics = (*existing.diagnostics, *accounted.diagnostics)
    validation, verdict = Validation(), Verdict.FAIL
    if not any(d.code in ("S560", "S562", "S563") for d in diagnostics):
        from porting.judging import Judged, judge

        notes = (*((EDITED,) if existing.edited else ()), *checkpoint.notes, *accounted.notes)
        judged = Judged(existing.graph, existing.spec, checkpoint, *places)
        validation, verdict = judge(judged, court, notes, stages.stage, progress)
    if accounted.diagnostics:
        verdict = Verdict.FAIL
    return replace(
        base,
        verdict=verdict,
        diagnostics=diagnostics,
        tensors=accounted.account,
        memory=memory(existing.graph, place(existing.graph, None, "")),
        validation=validation,
        timing=stages.seconds,
    )


def refused_report(model: str, refused: Refused) -> Report:
    """Return the report of an input that was refused."""
    info = ModelInfo(source=model)
    return Report(
        Verdict.REFUSED, info, refused.diagnostics, tensors=TensorAccount(), created_with=versions()
    )
