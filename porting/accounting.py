"""Account for every tensor of a checkpoint: consumed exactly once, in the declared shape, or named as a problem.

Works on headers alone; no weights are read, except where a tied head must equal what it is tied to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dsl.diagnostics import Diagnostic, did_you_mean
from dsl.graph import Graph, TensorRef, Weight, WeightSource
from dsl.source import Span
from dsl.sources import instance
from dsl.types import DType, Kind
from porting.report import TensorAccount
from porting.safetensors_header import TensorInfo

MAX_SHOWN = 6

# Tensors that files carry although nothing needs them: what their names end with, and why they may be left.
IGNORABLE: Mapping[str, str] = {
    ".rotary_emb.inv_freq": "rotary frequencies are computed from the config",
}

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Use:
    """One reading of a checkpoint tensor by a weight; `rows` is the range of its leading axis, None for all."""

    name: str
    weight: Weight
    span: Span
    rows: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Accounted:
    """The account, what is wrong with it, and notes on what was left or converted."""

    account: TensorAccount
    diagnostics: tuple[Diagnostic, ...]
    notes: tuple[str, ...]


def account(graph: Graph, tensors: Mapping[str, TensorInfo]) -> Accounted:
    """Compare a bound graph's weights with the headers of a checkpoint."""
    problems: list[Diagnostic] = []
    uses: list[Use] = []
    missing: dict[str, Diagnostic] = {}
    casts: Counter[str] = Counter()
    for weight, layer in _weights(graph):
        found = list(_uses(weight.source, weight, layer, {}))
        uses += found
        absent = [use for use in found if use.name not in tensors]
        for use in absent:
            missing.setdefault(use.name, _missing(use, tensors))
        if not absent:
            problems += _compare(weight, layer, tensors)
            stored = {tensors[use.name].dtype for use in found}
            casts.update(f"{s} to {weight.type.dtype}" for s in stored if s != weight.type.dtype)
    unused, left = _unused(tensors, uses)
    problems += [*_few(list(missing.values()), "missing"), *_few(unused, "unused")]
    problems += _repeated(uses, tensors)
    consumed = tuple(sorted({u.name for u in uses} & set(tensors)))
    rest = tuple(sorted(set(tensors) - set(consumed)))
    notes = (
        *left,
        *(f"{count} weights are converted from {cast}" for cast, count in casts.items()),
    )
    return Accounted(TensorAccount(consumed, rest, tuple(missing)), tuple(problems), notes)


def _weights(graph: Graph) -> Iterator[tuple[Weight, int]]:
    for body, layers in graph.bodies():
        for layer in layers:
            for weight in body.weights:
                yield weight, layer


def _uses(
    source: WeightSource, weight: Weight, layer: int, loops: Mapping[str, int]
) -> Iterator[Use]:
    if isinstance(source, TensorRef):
        yield Use(instance(source.name, layer, loops), weight, source.span, None)
        return
    if source.function == "stack":
        variable, count = str(source.attrs["variable"]), source.attrs["count"]
        for index in range(count if isinstance(count, int) else 0):
            yield from _uses(source.parts[0], weight, layer, {**loops, variable: index})
        return
    for part in source.parts:
        for use in _uses(part, weight, layer, loops):
            yield _narrowed(use, source.attrs) if source.function == "rows" else use


def _narrowed(use: Use, attrs: Mapping[str, object]) -> Use:
    start, stop = attrs["start"], attrs["stop"]
    if not (isinstance(start, int) and isinstance(stop, int)):
        raise TypeError("rows of an unbound program")
    return Use(use.name, use.weight, use.span, (start, stop))


def _missing(use: Use, tensors: Mapping[str, TensorInfo]) -> Diagnostic:
    message = f"the checkpoint has no tensor `{use.name}`"
    return Diagnostic(
        "S560", message, use.span, f"weight {use.weight.name}", help=did_you_mean(use.name, tensors)
    )


def _compare(weight: Weight, layer: int, tensors: Mapping[str, TensorInfo]) -> Iterator[Diagnostic]:
    wanted = tuple(d for d in weight.type.dims if isinstance(d, int))
    try:
        given = _shape(weight.source, layer, {}, tensors)
    except _Unfit as unfit:
        yield Diagnostic("S562", str(unfit), weight.span)
        return
    names = [u.name for u in _uses(weight.source, weight, layer, {})]
    shown = f"`{names[0]}`" if len(names) == 1 else f"`{names[0]}` and {len(names) - 1} more"
    if given != wanted:
        message = f"{shown} gives {list(given)}; weight `{weight.name}` is {weight.type}"
        yield Diagnostic("S562", message, weight.span)
    for name in names:
        if not _convertible(tensors[name].dtype, weight.type.dtype):
            message = f"`{name}` is stored as {tensors[name].dtype}; {weight.type.dtype} is needed"
            yield Diagnostic("S563", message, weight.span)
            return


def _convertible(stored: DType, wanted: DType) -> bool:
    wide = (Kind.FLOAT, 16)
    return stored == wanted or (
        (stored.kind, min(stored.bits, 16)) == wide and (wanted.kind, min(wanted.bits, 16)) == wide
    )


class _Unfit(Exception):
    """A source function cannot be applied to the shapes of a checkpoint."""


def _shape(
    source: WeightSource, layer: int, loops: Mapping[str, int], tensors: Mapping[str, TensorInfo]
) -> Shape:
    if isinstance(source, TensorRef):
        return tensors[instance(source.name, layer, loops)].shape
    if source.function == "stack":
        variable, count = str(source.attrs["variable"]), source.attrs["count"]
        number = count if isinstance(count, int) else 0
        shapes = {
            _shape(source.parts[0], layer, {**loops, variable: i}, tensors) for i in range(number)
        }
        if len(shapes) != 1:
            raise _Unfit(f"the tensors to stack have {len(shapes)} different shapes")
        return (number, *shapes.pop())
    inner = _shape(source.parts[0], layer, loops, tensors)
    if source.function == "transpose":
        return inner[::-1]
    start, stop = source.attrs["start"], source.attrs["stop"]
    if not (isinstance(start, int) and isinstance(stop, int)):
        raise TypeError(f"no shape rule for {source.function}")
    if stop > inner[0]:
        raise _Unfit(f"rows {start} to {stop} of a tensor of {inner[0]} rows")
    return (stop - start, *inner[1:])


def _unused(
    tensors: Mapping[str, TensorInfo], uses: Sequence[Use]
) -> tuple[list[Diagnostic], list[str]]:
    consumed = {use.name for use in uses}
    problems: list[Diagnostic] = []
    left: Counter[str] = Counter()
    for name, info in tensors.items():
        if name in consumed:
            continue
        reason = next((r for end, r in IGNORABLE.items() if name.endswith(end)), None)
        if reason is not None:
            left[reason] += 1
            continue
        message = f"nothing reads the tensor `{name}` {info.dtype}{list(info.shape)}"
        help_ = "the family would have to use it: a model without it computes something else"
        problems.append(Diagnostic("S561", message, place=info.file, help=help_))
    return problems, [f"{count} tensors left: {reason}" for reason, count in left.items()]


def _repeated(uses: Sequence[Use], tensors: Mapping[str, TensorInfo]) -> Iterator[Diagnostic]:
    """Yield a problem for each tensor that is read twice, or only in part."""
    by_name: dict[str, list[Use]] = {}
    for use in uses:
        by_name.setdefault(use.name, []).append(use)
    for name, group in by_name.items():
        if name not in tensors:
            continue
        rows = tensors[name].shape[0] if tensors[name].shape else 1
        ranges = sorted(use.rows or (0, rows) for use in group)
        ends = [0, *(stop for _, stop in ranges)]
        if [start for start, _ in ranges] == ends[:-1] and ends[-1] == rows:
            continue
        names = ", ".join(f"`{use.weight.name}`" for use in group)
        shown = ", ".join(f"{start}–{stop}" for start, stop in ranges)
        message = f"`{name}` has {rows} rows and is read as {shown} by {names}: not once each"
        yield Diagnostic("S564", message, group[-1].span)


def _few(problems: list[Diagnostic], what: str) -> list[Diagnostic]:
    if len(problems) <= MAX_SHOWN:
        return problems
    message = f"{len(problems) - MAX_SHOWN} more tensors are {what}"
    return [*problems[:MAX_SHOWN], Diagnostic(problems[0].code, message, place="checkpoint")]
