"""Account for every tensor of a checkpoint: consumed exactly once, in the declared shape, or named as a problem.

Works on headers alone, except where a surplus tensor may be a copy of one that is read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dsl.diagnostics import Diagnostic, did_you_mean
from dsl.graph import Graph, Region, TensorRef, Weight
from dsl.stored_tensors import tensors as tensors_of
from dsl.symbolic import text
from dsl.types import DType, Kind
from porting.checkpoint.safetensors_header import TensorInfo
from porting.report.model import TensorAccount

MAX_SHOWN = 6

# Tensors that files carry although nothing needs them: what their names end with, and why they may be left.
IGNORABLE: Mapping[str, str] = {
    ".rotary_emb.inv_freq": "rotary frequencies are computed from the config",
}

Shape = tuple[int, ...]
Matcher = Callable[[str], re.Match[str] | None]


@dataclass(frozen=True, slots=True)
class TensorUse:
    """One reading of a checkpoint tensor by a weight."""

    name: str
    weight: Weight
    ref: TensorRef


@dataclass(frozen=True, slots=True)
class Accounted:
    """The account, what is wrong with it, and notes on what was left or converted."""

    account: TensorAccount
    diagnostics: tuple[Diagnostic, ...]
    notes: tuple[str, ...]


def account(
    graph: Graph, tensors: Mapping[str, TensorInfo], equal: Callable[[str, str], bool]
) -> Accounted:
    """Compare a bound graph's weights with the headers of a checkpoint.

    `equal` tells whether two tensors of one shape hold the same bits; it is asked about surplus tensors alone.
    """
    problems: list[Diagnostic] = []
    uses: list[TensorUse] = []
    missing: dict[str, Diagnostic] = {}
    casts: Counter[str] = Counter()
    for weight, layer in _weights(graph):
        reads = [TensorUse(name, weight, ref) for name, ref in tensors_of(weight.source, layer)]
        uses += reads
        absent = [use for use in reads if use.name not in tensors]
        for use in absent:
            missing.setdefault(use.name, _missing(use, tensors))
        problems += _compare([use for use in reads if use.name in tensors], tensors)
        casts.update(_casts(reads, tensors))
    consumed = tuple(sorted({u.name for u in uses} & set(tensors)))
    left = _left(graph, tensors, consumed, equal)
    accounted = {*consumed, *(name for names in left.values() for name in names)}
    rest = tuple(sorted(set(tensors) - accounted))
    unused = [_unused(name, tensors[name]) for name in rest]
    problems += [*_few(list(missing.values()), "missing"), *_few(unused, "unused")]
    problems += _repeated(uses, tensors, [_matcher(rule.pattern) for rule in graph.unneeded])
    notes = (
        *(f"{len(names)} tensors left: {reason}" for reason, names in left.items()),
        *(f"{count} weights are converted from {cast}" for cast, count in casts.items()),
    )
    return Accounted(TensorAccount(consumed, rest, tuple(missing), left), tuple(problems), notes)


def _weights(graph: Graph) -> Iterator[tuple[Weight, int]]:
    for body, layers in graph.bodies():
        for layer in layers:
            for weight in body.weights:
                yield weight, layer


def _missing(use: TensorUse, tensors: Mapping[str, TensorInfo]) -> Diagnostic:
    message = f"the checkpoint has no tensor `{use.name}`"
    return Diagnostic(
        "S560",
        message,
        use.ref.span,
        f"weight {use.weight.name}",
        help=did_you_mean(use.name, tensors),
    )


def _compare(uses: Sequence[TensorUse], tensors: Mapping[str, TensorInfo]) -> Iterator[Diagnostic]:
    """Yield the first tensor of a weight whose shape or format is not what the weight reads."""
    for use in uses:
        info, ref, weight = tensors[use.name], use.ref, use.weight
        wanted = ref.dtype or weight.type.dtype
        if not _fits(info.shape, ref):
            shown = ", ".join("…" if d is None else text(d) for d in ref.shape)
            message = f"`{use.name}` is {list(info.shape)}; weight `{weight.name}` reads [{shown}]"
            yield Diagnostic("S562", message, ref.span, f"{weight.name}: {weight.type}")
            return
        exact = ref.dtype is not None
        if info.dtype != wanted and (exact or not _convertible(info.dtype, wanted)):
            message = f"`{use.name}` is stored as {info.dtype}; {wanted} is needed"
            yield Diagnostic("S563", message, ref.span, f"{weight.name}: {weight.type}")
            return


def _fits(shape: Shape, ref: TensorRef) -> bool:
    if len(shape) != len(ref.shape):
        return False
    if ref.region is not None and not _covers(shape[ref.region.axis], ref.region):
        return False
    return all(want is None or size == want for size, want in zip(shape, ref.shape, strict=True))


def _covers(size: int, region: Region) -> bool:
    stop, groups = region.stop, region.groups
    if not (isinstance(stop, int) and isinstance(groups, int)):
        return False
    return size % groups == 0 and stop <= size // groups


def _casts(uses: Sequence[TensorUse], tensors: Mapping[str, TensorInfo]) -> set[str]:
    """Return which conversions a weight needs when it is read."""
    own = {use.weight.type.dtype for use in uses}
    stored = {tensors[u.name].dtype for u in uses if u.name in tensors and u.ref.dtype is None}
    return {f"{a} to {b}" for a in stored for b in own if a != b}


def _convertible(stored: DType, wanted: DType) -> bool:
    return {stored.kind, wanted.kind} == {Kind.FLOAT} and min(stored.bits, wanted.bits) >= 16


def _left(
    graph: Graph,
    tensors: Mapping[str, TensorInfo],
    consumed: Sequence[str],
    equal: Callable[[str, str], bool],
) -> dict[str, tuple[str, ...]]:
    """Return the tensors that need not be read, by the reason: the program's, or that they are copies."""
    rules = [(_matcher(rule.pattern), rule.reason) for rule in graph.unneeded]
    read = set(consumed)
    left: dict[str, list[str]] = {}
    for name in sorted(set(tensors) - read):
        reason = next((why for matches, why in rules if matches(name)), None)
        twin = next((c for c in consumed if _alike(c, name, tensors, equal)), None)
        if reason is None and twin is not None:
            reason = f"`{name}` holds the same bits as `{twin}`"
        if reason is None:
            reason = next((r for end, r in IGNORABLE.items() if name.endswith(end)), None)
        if reason is not None:
            left.setdefault(reason, []).append(name)
    return {reason: tuple(names) for reason, names in left.items()}


_WILD = re.compile(r"\*|\{[^{}]*\}")


def _matcher(pattern: str) -> Matcher:
    """Return the test of a name: a `*` is any characters, a hole a number."""
    fixed = [re.escape(part) for part in _WILD.split(pattern)]
    wild = [".*" if mark == "*" else r"\d+" for mark in _WILD.findall(pattern)]
    text = fixed[0] + "".join(w + f for w, f in zip(wild, fixed[1:], strict=True))
    return re.compile(text).fullmatch


def _unused(name: str, info: TensorInfo) -> Diagnostic:
    message = f"nothing reads the tensor `{name}` {info.dtype}{list(info.shape)}"
    help_ = "the family would have to use it: a model without it computes something else"
    return Diagnostic("S561", message, place=info.file, help=help_)


def _alike(
    one: str, other: str, tensors: Mapping[str, TensorInfo], equal: Callable[[str, str], bool]
) -> bool:
    """Tell whether a tensor is a copy of another, as files have them of tied weights."""
    a, b = tensors.get(one), tensors[other]
    same = a is not None and (a.dtype, a.shape) == (b.dtype, b.shape)
    return same and len(b.shape) > 1 and equal(one, other)


def _repeated(
    uses: Sequence[TensorUse], tensors: Mapping[str, TensorInfo], spare: Sequence[Matcher]
) -> Iterator[Diagnostic]:
    """Yield a problem for each tensor that is read twice, or only in part; the rest of a `spare` one may stay."""
    by_name: dict[str, list[TensorUse]] = {}
    for use in uses:
        by_name.setdefault(use.name, []).append(use)
    for name, group in by_name.items():
        if name not in tensors or all(use.ref.shared for use in group):
            continue
        partly = any(matches(name) for matches in spare)
        if _once(tensors[name].shape, [use.ref.region for use in group], partly):
            continue
        names = ", ".join(f"`{use.weight.name}`" for use in group)
        how = f"{len(group)} times, by {names}" if len(group) > 1 else f"in part, by {names}"
        message = f"`{name}` is read {how}: every element must be read exactly once"
        yield Diagnostic("S564", message, group[-1].ref.span)


def _once(shape: Shape, regions: Sequence[Region | None], partly: bool) -> bool:
    """Tell whether regions of one axis cover it, unless a part will do, without overlap."""
    if len(regions) == 1 and regions[0] is None:
        return True
    if len({r.axis if r else None for r in regions}) != 1 or regions[0] is None:
        return False
    counts: Counter[int] = Counter()
    size = shape[regions[0].axis]
    for region in regions:
        if region is not None:
            counts.update(_indices(region, size))
    return (partly or len(counts) == size) and set(counts.values()) == {1}


def _indices(region: Region, size: int) -> Iterator[int]:
    """Yield the indices of an axis of some size that a bound region reads."""
    start, stop, groups = region.start, region.stop, region.groups
    if not (isinstance(start, int) and isinstance(stop, int) and isinstance(groups, int)):
        return
    if size % groups:
        return
    for first in range(0, size, size // groups):
        yield from range(first + start, first + stop, region.step)


def _few(problems: list[Diagnostic], what: str) -> list[Diagnostic]:
    if len(problems) <= MAX_SHOWN:
        return problems
    message = f"{len(problems) - MAX_SHOWN} more tensors are {what}"
    return [*problems[:MAX_SHOWN], Diagnostic(problems[0].code, message, place="checkpoint")]
