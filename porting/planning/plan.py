# SPDX-License-Identifier: Apache-2.0
"""Plan a port from headers alone: bind the family to the config, check it, account for every key and tensor.

Reads no weights and needs no reference implementation.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dsl.counting.footprint import footprint
from dsl.counting.growth import growth
from dsl.counting.liveness import peak, peak_candidates
from dsl.counting.longest import LIMIT, NAMES
from dsl.diagnostics import Diagnostic, Refused, Severity
from dsl.graph import Graph
from dsl.inference.inference import infer
from dsl.linking.binding import KeyUse
from dsl.linking.program import Program, port_of
from dsl.linking.static import Static, show
from dsl.source import Source
from dsl.symbolic import Dim, evaluate, names, text
from dsl.text.formatter import format_file
from dsl.text.parser import parse
from dsl.types import Kind
from porting.checkpoint import accounting
from porting.checkpoint.stored_form import as_stored
from porting.checkpoint.tensors import Checkpoint, Extent
from porting.config import ignored_keys
from porting.config.class_defaults import asked, causal_class, completed
from porting.config.reader import ModelConfig
from porting.files.strict_json import shown
from porting.origin.resolve import Origin, OriginKind
from porting.original.adapted import Adapted
from porting.planning import missing_family
from porting.planning.config_alone import DTYPE_NAMES, assumed_tensors, dtype_of
from porting.planning.placement import Placement, batch_of
from porting.planning.shelves import Chosen, Search, search
from porting.planning.text_models import Subject, inner_text, whole_part
from porting.planning.tying import Bound, as_tied
from porting.report.model import (
    ConfigKeys,
    Formula,
    IgnoredKey,
    Memory,
    ModelInfo,
    NormalisedKey,
    TensorAccount,
    UsedKey,
)

STORED_DTYPE = "dtype"
SURPLUS = "S561"
UNMET = "S403"
"""What a family needs of a config is not so: keys that are then missing or unread follow from it."""
CONVERTED = frozenset({OriginKind.ADAPTED, OriginKind.DEMO, OriginKind.GGUF})
HEADERS_ALONE = "planned from the headers of the weights, whose values are not at hand"
CONFIG_ALONE = (
    "planned from the config alone: there are no weights, so that none was missed or left; names, shapes and data "
    "types are those that the config implies"
)
AT_HAND: Mapping[Extent, tuple[str, ...]] = {
    Extent.VALUES: (),
    Extent.HEADERS: (HEADERS_ALONE,),
    Extent.NOTHING: (CONFIG_ALONE,),
}
"""What the reader is told where not all of a checkpoint is at hand."""
LIMIT_KEYS = ("max_position_embeddings", "model_max_length")
"""Keys that bound the use of a model, whether or not anything that it computes depends on them."""
WHOLE = frozenset(DTYPE_NAMES.values())
"""Formats that a model is stored in as a whole; lower ones come with scales, and elements are widened."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A bound and checked port, before any weight is read."""

    model: ModelInfo
    spec: str
    graph: Graph
    config_keys: ConfigKeys
    tensors: TensorAccount
    warnings: tuple[Diagnostic, ...]
    notes: tuple[str, ...]


def plan(
    origin: Origin, config: ModelConfig, checkpoint: Checkpoint, family: Path | None = None
) -> Plan:
    """Return the plan of a port; raises `Refused` with everything that is wrong. `family` is a file of the user's."""
    shelved, chosen, part = family_of(config, family)
    program = chosen.program
    if origin.kind not in CONVERTED:
        part = replace(part, config=completed(part.config, asked(program.family())))
    dtype, assumed = _dtype(origin, (part.config, config), checkpoint)
    tensors = checkpoint.tensors
    if checkpoint.extent is Extent.NOTHING:
        known = {**part.config.values, STORED_DTYPE: dtype}
        tensors, more = assumed_tensors(program, part.config, known)
        assumed = (*assumed, *more)
    program, named = part.named(program, tensors)
    stored = as_stored(program, part.config, tensors)
    program, config = stored.program, stored.config
    values = dict(config.values) | {STORED_DTYPE: dtype}
    checked = infer(program.family(), program.blocks, values, tensors)
    keys = ignored_keys.account(config, {use.key for use in checked.uses})
    unmet = [d for d in checked.errors if d.code == UNMET]
    problems = unmet or [*checked.errors, *keys.diagnostics]
    if checked.graph is None:
        raise Refused(problems)
    bound = as_tied(
        Bound(program, checked, _accounted(checked.graph, checkpoint)),
        values, tensors, lambda graph: _accounted(graph, checkpoint),
    )  # fmt: skip
    program, checked, accounted = bound.program, bound.checked, bound.accounted
    problems += accounted.diagnostics
    uses = tuple(replace(u, defaulted=u.defaulted or u.key in config.assumed) for u in checked.uses)
    if any(p.severity is Severity.ERROR for p in problems):
        # A default that is not the model's own is why tensors are missing or of other shapes.
        first = problems[0]
        notes = (*_from_class(config, uses), *first.notes)
        raise Refused((replace(first, notes=notes), *problems[1:]))
    header = _header(origin, config, program)
    limit = limit_of(config, uses)
    spec = format_file(port_of(program, uses, header, checked.entries.values(), limit))
    graph = _again(spec)
    return Plan(
        _model(origin, config, program),
        spec,
        graph,
        _config_keys(config, uses, keys),
        accounted.account,
        (*shelved.warnings, *(d for d in checked.diagnostics if d.severity is Severity.WARNING)),
        (
            *chosen.notes,
            *part.notes,
            *origin.notes,
            *AT_HAND[checkpoint.extent],
            *checkpoint.notes,
            *named,
            *_from_class(config, uses),
            *assumed,
            *stored.notes,
            *accounted.notes,
        ),
    )


def _model(origin: Origin, config: ModelConfig, program: Program) -> ModelInfo:
    """Return what is said of the model: where it came from, and the family that it was given."""
    return ModelInfo(
        source=origin.source,
        architecture=config.architecture or causal_class(config),
        model_type=config.model_type,
        revision=origin.revision or "",
        name=origin.source,
        family=program.family().name.id,
        adapter=str(origin.original.adapter) if isinstance(origin.original, Adapted) else "",
    )


def family_of(config: ModelConfig, own: Path | None) -> tuple[Search, Chosen, Subject]:
    """Return the family of a model, or of the text model inside of it; raises `Refused` where there is neither."""
    shelved = search(config.architecture, own)
    if shelved.chosen is not None:
        return shelved, shelved.chosen, whole_part(config)
    other = causal_class(config)
    alike = search(other) if other else shelved
    if alike.chosen is not None:
        said = _also_named(config, other)
        return alike, replace(alike.chosen, notes=(said, *alike.chosen.notes)), whole_part(config)
    inner = inner_text(config)
    within = search(inner.architecture) if inner is not None else shelved
    if inner is None or within.chosen is None:
        raise Refused((*missing_family.refusal(config).diagnostics, *shelved.warnings))
    return within, within.chosen, inner


def _also_named(config: ModelConfig, other: str) -> str:
    said = f"calls itself {config.architecture}" if config.architecture else "names no class"
    return f"the config {said}: a {config.model_type} is {other} in transformers"


def _from_class(config: ModelConfig, uses: Sequence[KeyUse]) -> tuple[str, ...]:
    """Say what the family needs, the config lacks, and transformers' class has a default for."""
    taken = {u.key: show(u.value) for u in uses if config.assumed.get(u.key)}
    if not taken:
        return ()
    listed = ", ".join(f"{key} = {value}" for key, value in taken.items())
    return (f"the config does not say what transformers' class has a default for: {listed}",)


def limit_of(config: ModelConfig, uses: Sequence[KeyUse]) -> tuple[KeyUse, ...]:
    """Return the config's limit of a sequence as the port keeps it: none where the family reads or lacks one."""
    if any(use.name in NAMES for use in uses):
        return ()
    limits = ((key, config.values.get(key)) for key in LIMIT_KEYS)
    stated = [(key, n) for key, n in limits if isinstance(n, int) and not isinstance(n, bool)]
    return tuple(KeyUse(key, LIMIT, n, False) for key, n in stated[:1] if n > 0)


def _dtype(
    origin: Origin, configs: Sequence[ModelConfig], checkpoint: Checkpoint
) -> tuple[str, tuple[str, ...]]:
    """Return the float format of the program, and notes where it is assumed.

    It is what is stored; of a converted file, and where nothing is stored, what the config says. Of quantised blocks
    the values are kept in a wider format than the model computes in.
    """
    if checkpoint.extent is Extent.NOTHING:
        return dtype_of(*configs)
    said = configs[0].values.get(STORED_DTYPE)
    if origin.kind in CONVERTED and isinstance(said, str) and said in DTYPE_NAMES:
        return DTYPE_NAMES[said], ()
    return stored_dtype(checkpoint), ()


def _accounted(graph: Graph, checkpoint: Checkpoint) -> accounting.Accounted:
    """Return the account of the tensors as far as they are at hand.

    Of headers alone no surplus tensor can be shown to be without effect, so that they are left with a note.
    """
    if checkpoint.extent is Extent.NOTHING:
        return accounting.Accounted(TensorAccount(), (), ())
    if checkpoint.extent is Extent.VALUES:
        return accounting.account(graph, checkpoint.tensors, checkpoint)
    whole = accounting.account(graph, checkpoint.tensors, None)
    problems = tuple(d for d in whole.diagnostics if d.code != SURPLUS)
    note = f"{len(whole.account.unused)} tensors are not read: whether they matter is seen in their values"
    notes = (*whole.notes, note) if whole.account.unused else whole.notes
    return replace(whole, diagnostics=problems, notes=notes)


def stored_dtype(checkpoint: Checkpoint) -> str:
    """Return the whole float format that holds most of a checkpoint's bytes: headers know better than the config.

    Scales are float32 and few.
    """
    sizes: Counter[str] = Counter()
    for tensor in checkpoint.tensors.values():
        if tensor.dtype.kind is Kind.FLOAT and tensor.dtype.name in WHOLE:
            sizes[tensor.dtype.name] += tensor.nbytes
    return sizes.most_common(1)[0][0] if sizes else "bf16"


def _again(spec: str) -> Graph:
    """Return the graph of the port's own text: it is what runs, so it is what is checked."""
    file = parse(Source("model.sohu", spec))
    checked = infer(file.families[0], {b.name.id: b for b in file.blocks}, None)
    if checked.graph is None:
        raise Refused(checked.diagnostics)
    return checked.graph


def _header(origin: Origin, config: ModelConfig, program: Program) -> tuple[str, ...]:
    digest = hashlib.sha256("".join(f.span.source.text for f in program.files).encode())
    revision = f" at revision {origin.revision}" if origin.revision else ""
    adapter = origin.original.adapter.name if isinstance(origin.original, Adapted) else ""
    with_adapter = f" with the adapter {shown(adapter)}" if adapter else ""
    return (
        f"Port of {shown(origin.source, 240)}{revision}{with_adapter}.",
        f"Family {program.family().name.id}, sha256 {digest.hexdigest()[:16]}.",
        f"config.json, sha256 {hashlib.sha256(config.source.text.encode()).hexdigest()[:16]}.",
    )


def _config_keys(
    config: ModelConfig, uses: Sequence[KeyUse], keys: ignored_keys.KeyAccount
) -> ConfigKeys:
    used = tuple(UsedKey(use.key, use.name, _plain(use.value), use.defaulted) for use in uses)
    ignored = tuple(
        IgnoredKey(key, reason, config.values.get(key)) for key, reason in keys.ignored.items()
    )
    normalised = tuple(
        NormalisedKey(key, raw, config.values[key])
        for key, raw in config.origins.items()
        if key != raw and key in config.values
    )
    return ConfigKeys(used, ignored, keys.unread, normalised)


def _plain(value: Static) -> object:
    """Return a static value as JSON data."""
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value if isinstance(value, (bool, int, float, str)) else show(value)


def memory(graph: Graph, placed: Placement) -> Memory:
    """Return the memory of a placed graph: formulas with values for one token of one sequence, and bytes by step."""
    prints = footprint(graph)
    point = {
        **placed.mesh,
        graph.batch: batch_of(graph, placed.mesh),
        graph.seq: 1,
        graph.context: 1,
    }

    def formula(value: Dim) -> Formula:
        used = {name: point[name] for name in sorted(names(value))}
        return Formula(text(value), float(evaluate(value, point)), used)

    rows = {
        "weights_bytes": prints.weights,
        "parameters": prints.parameters,
        "state_bytes": prints.state,
        "state_bytes_per_token": prints.state_per_token,
        "flops": prints.flops,
        "bytes_moved": prints.traffic,
    }
    formulas = {name: formula(value) for name, value in rows.items()}
    _, highest = peak(peak_candidates(graph, last_logits=True), point)
    if highest is not None:
        formulas["activation_bytes"] = formula(highest.bytes)
    grown = growth(graph).at(placed.mesh)
    return Memory(
        placed.uses["decode"].stored,
        grown.per_token,
        formulas,
        grown,
        placed.numerics,
        placed.uses,
    )
