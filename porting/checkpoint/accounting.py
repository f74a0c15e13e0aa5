# SPDX-License-Identifier: Apache-2.0
"""Account for every tensor of a checkpoint: consumed exactly once, in the declared shape, or named as a problem.

Works on headers alone, except where a surplus tensor may be one that nothing depends on (`surplus`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from dsl.diagnostics import Diagnostic, did_you_mean
from dsl.graph import Graph, Region, TensorRef, Weight
from dsl.stored_tensors import tensors as tensors_of
from dsl.symbolic import text
from dsl.types import DType, Kind
from porting.checkpoint.coverage import read_once
from porting.checkpoint.safetensors_header import TensorInfo
from porting.checkpoint.surplus import Read, Stored, looks_like, reason_to_leave
from porting.report.model import TensorAccount

MAX_SHOWN = 6
MAX_STEMS = 4
MAX_MISSING = 2**16
"""Missing tensors that are counted; a config may ask for as many layers and experts as it likes."""

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


def account(graph: Graph, tensors: Mapping[str, TensorInfo], stored: Stored | None) -> Accounted:
    """Compare a bound graph's weights with the headers of a checkpoint.

    `stored` gives values, where they are at hand; it is asked about surplus tensors alone.
    """
    differing: list[Diagnostic] = []
    uses: list[TensorUse] = []
    missing: dict[str, TensorUse] = {}
    casts: Counter[str] = Counter()
    for weight, layer in _weights(graph):
        reads, absent = _reads(weight, layer, tensors)
        uses += reads
        missing |= {use.name: use for use in absent if use.name not in missing}
        if len(missing) > MAX_MISSING:
            break
        differing += _compare(reads, tensors)
        casts.update(_casts(reads, tensors))
    consumed = tuple(sorted({use.name for use in uses}))
    problems = [*_differing(differing)]
    problems += _few(missing, lambda name: _missing(missing[name], tensors), "missing")
    if len(missing) > MAX_MISSING:
        return Accounted(TensorAccount(consumed, (), tuple(missing)), tuple(problems), ())
    left = _left(Read(graph, tensors, consumed, stored))
    accounted = {*consumed, *(name for names in left.values() for name in names)}
    rest = tuple(sorted(set(tensors) - accounted))
    problems += _few(rest, lambda name: _unused(name, tensors[name]), "unused")
    problems += _repeated(uses, tensors, [_matcher(rule.pattern) for rule in graph.unneeded])
    notes = (
        *(_note(reason, names, tensors) for reason, names in left.items()),
        *(f"{count} weights are converted from {cast}" for cast, count in casts.items()),
    )
    return Accounted(TensorAccount(consumed, rest, tuple(missing), left), tuple(problems), notes)


def _reads(
    weight: Weight, layer: int, tensors: Mapping[str, TensorInfo]
) -> tuple[list[TensorUse], list[TensorUse]]:
    """Return the readings of a weight whose tensors are there, and the first of those that are not."""
    there: list[TensorUse] = []
    absent: list[TensorUse] = []
    for name, ref in tensors_of(weight.source, layer):
        (there if name in tensors else absent).append(TensorUse(name, weight, ref))
        if len(absent) > MAX_MISSING:
            break
    return there, absent


def _weights(graph: Graph) -> Iterator[tuple[Weight, int]]:
    for body, layers in graph.bodies():
        for layer in layers:
            for weight in body.weights:
                yield weight, layer


def _missing(use: TensorUse, tensors: Mapping[str, TensorInfo]) -> Diagnostic:
    message = f"the checkpoint has no tensor `{use.name}`"
    numbers = _NUMBER.findall(use.name)
    near = (name for name in tensors if _NUMBER.findall(name) == numbers)
    return Diagnostic(
        "S560",
        message,
        use.ref.span,
        f"weight {use.weight.name}",
        help=did_you_mean(use.name, near),
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
    stored = {tensors[use.name].dtype for use in uses if use.ref.dtype is None}
    return {f"{a} to {b}" for a in stored for b in own if a != b}


def _convertible(stored: DType, wanted: DType) -> bool:
    return {stored.kind, wanted.kind} == {Kind.FLOAT} and min(stored.bits, wanted.bits) >= 16


def _left(read: Read) -> dict[str, tuple[str, ...]]:
    """Return the tensors that need not be read, by the reason: the program's, or what their values are."""
    rules = [(_matcher(rule.pattern), rule.reason) for rule in read.graph.unneeded]
    left: dict[str, list[str]] = {}
    for name in sorted(set(read.tensors) - set(read.consumed)):
        stated = next((why for matches, why in rules if matches(name)), "")
        reason = stated or reason_to_leave(name, read)
        if reason:
            left.setdefault(reason, []).append(name)
    return {reason: tuple(names) for reason, names in left.items()}


_NUMBER = re.compile(r"\d+")


def _note(reason: str, names: Sequence[str], tensors: Mapping[str, TensorInfo]) -> str:
    """Return what is said of tensors that are left: how many, how large, and how their names begin."""
    stems = sorted({_NUMBERED.split(name)[0].rpartition(".")[0] or name for name in names})
    begin = [stem for n, stem in enumerate(stems) if not n or not stem.startswith(stems[n - 1])]
    few = ", ".join(begin[:MAX_STEMS]) + (", …" if len(begin) > MAX_STEMS else "")
    size = sum(tensors[name].nbytes for name in names)
    return f"{len(names)} tensors of {size:,} bytes left ({few}): {reason}"


_NUMBERED = re.compile(r"(?<=\.)\d+(?=\.|$)")
_WILD = re.compile(r"\*|\{[^{}]*\}")


def _matcher(pattern: str) -> Matcher:
    """Return the test of a name: a `*` is any characters, a hole a number."""
    fixed = [re.escape(part) for part in _WILD.split(pattern)]
    wild = [".*" if mark == "*" else r"\d+" for mark in _WILD.findall(pattern)]
    text = fixed[0] + "".join(w + f for w, f in zip(wild, fixed[1:], strict=True))
    return re.compile(text).fullmatch


def _unused(name: str, info: TensorInfo) -> Diagnostic:
    looks = looks_like(name)
    message = f"nothing reads the tensor `{name}` {info.dtype}{list(info.shape)}"
    help_ = "the family would have to use it: a model without it computes something else"
    facts = f"{message}; it looks like {looks}" if looks else message
    return Diagnostic("S561", facts, place=info.file, help=help_)


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
        regions = [use.ref.region for use in group]
        if read_once(tensors[name].shape, regions, partly=partly):
            continue
        names = ", ".join(f"`{use.weight.name}`" for use in group)
        how = f"{len(group)} times, by {names}" if len(group) > 1 else f"in part, by {names}"
        message = f"`{name}` is read {how}: every element must be read exactly once"
        yield Diagnostic("S564", message, group[-1].ref.span)


def _few(
    names: Iterable[str], describe: Callable[[str], Diagnostic], what: str
) -> Iterator[Diagnostic]:
    """Yield one problem for all of the names: the first few, each made only now, and how many more there are."""
    total = list(names)
    shown = [describe(name) for name in islice(total, MAX_SHOWN)]
    yield from _as_one(shown, len(total), what)


def _as_one(problems: Sequence[Diagnostic], count: int, what: str) -> Iterator[Diagnostic]:
    """Yield the first of some problems with the others as its notes: a wrong size shows in every layer."""
    if not problems:
        return
    first, *others = problems[:MAX_SHOWN]
    notes = [f"also {other.message}" for other in others]
    if count > MAX_SHOWN:
        more = "at least " if count > MAX_MISSING else ""
        notes.append(f"{more}{count - MAX_SHOWN} more tensors are {what}")
    yield replace(first, notes=(*first.notes, *notes))


def _differing(problems: Sequence[Diagnostic]) -> Iterator[Diagnostic]:
    """Yield one problem for all tensors of other shapes, and one for all of other formats."""
    for code, what in (("S562", "of other shapes"), ("S563", "of other formats")):
        alike = [one for one in problems if one.code == code]
        yield from _as_one(alike, len(alike), what)
