# SPDX-License-Identifier: Apache-2.0
"""Tell which tensors that no weight reads may be left, since a model with them computes what one without them does.

Each rule is a row: a name, what the values must be, and why nothing depends on them. A name alone settles nothing, but
where transformers' loading goes by it too. What is left over is described by what its name looks like, for the refusal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from device_model.kernels.rotary import frequencies
from dsl.graph import Graph, Node
from porting.checkpoint.safetensors_header import TensorInfo

Values = npt.NDArray[np.generic]
Numbers = npt.NDArray[np.float64]
NEVER = -1e4
"""What scores are given so that nothing is left of them: exp of it is 0 in every format."""
MAX_POSITIONS = 2**24


class Stored(Protocol):
    """The values of a checkpoint's tensors."""

    def same_bits(self, one: str, other: str) -> bool:
        """Tell whether two tensors hold the same bytes."""

    def pieces(self, name: str) -> Iterator[Values]:
        """Yield a tensor's values, flat, some at a time."""


@dataclass(eq=False)
class Read:
    """What a program reads of a checkpoint, as far as surplus tensors are measured by it."""

    graph: Graph
    tensors: Mapping[str, TensorInfo]
    consumed: Collection[str]
    stored: Stored | None
    _alike: dict[tuple[object, ...], list[str]] = field(default_factory=dict)

    @cached_property
    def stems(self) -> frozenset[str]:
        """Return the names of the modules whose tensors are read."""
        return frozenset(name.rpartition(".")[0] for name in self.consumed)

    @cached_property
    def rotations(self) -> tuple[Numbers, ...]:
        """Return the inverse frequencies of every rotation that the program computes."""
        return tuple(frequencies(n.attrs) for n in self._nodes() if n.op == "rope_frequencies")

    @cached_property
    def windows(self) -> frozenset[int]:
        """Return the windows of the program's attention."""
        given = (step.attrs.get("window") for step in self._nodes())
        return frozenset(w for w in given if isinstance(w, int) and not isinstance(w, bool))

    def _nodes(self) -> Iterator[Node]:
        for body, _ in self.graph.bodies():
            yield from (step for step in body.steps if isinstance(step, Node))

    def pieces(self, name: str) -> Iterator[Values]:
        """Yield a tensor's values, some at a time; a rule that asks for them is tried only where they are at hand."""
        if self.stored is None:
            raise ValueError(f"the values of {name} are not at hand")
        return self.stored.pieces(name)

    def twin(self, name: str) -> str | None:
        """Return a tensor that is read and holds the same bits, as files have them of tied weights."""
        info, stored = self.tensors[name], self.stored
        if len(info.shape) < 2 or stored is None:
            return None
        if not self._alike:
            for consumed in self.consumed:
                known = self.tensors[consumed]
                self._alike.setdefault((known.dtype, known.shape), []).append(consumed)
        alike = self._alike.get((info.dtype, info.shape), ())
        return next((other for other in alike if stored.same_bits(other, name)), None)


Test = Callable[[str, Read], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """Tensors that may be left where their values pass a test: what their names end with, and why."""

    name: re.Pattern[str]
    test: Test
    reason: str


def _zeros(name: str, read: Read) -> bool:
    """Tell whether a tensor is a bias of zeros beside a weight that is read."""
    if name.rpartition(".")[0] not in read.stems or len(read.tensors[name].shape) != 1:
        return False
    return not any(np.any(piece != 0) for piece in read.pieces(name))


def _causal(name: str, read: Read) -> bool:
    """Tell whether the last two axes of a tensor are the mask of attention, with no window or one of the program's."""
    *outer, rows, columns = (0, 0, *read.tensors[name].shape)
    if rows != columns or not rows or any(size != 1 for size in outer[2:]):
        return False
    windows = {rows, *read.windows}
    at = 0
    for piece in read.pieces(name):
        row, column = np.divmod(np.arange(at, at + len(piece)), columns)
        ones = piece == 1
        windows = {w for w in windows if np.array_equal(ones, (column <= row) & (row - column < w))}
        if not windows or not np.all(ones | (piece == 0)):
            return False
        at += len(piece)
    return True


def _masked(name: str, read: Read) -> bool:
    """Tell whether a tensor is the one value that masked scores are given."""
    if np.prod(read.tensors[name].shape, dtype=object) != 1:
        return False
    return all(bool(np.all(piece.astype(np.float64) <= NEVER)) for piece in read.pieces(name))


def _positions(name: str, read: Read) -> bool:
    """Tell whether a tensor counts from 0."""
    info = read.tensors[name]
    if np.prod(info.shape, dtype=object) > MAX_POSITIONS or info.shape[:-1] not in ((), (1,)):
        return False
    values = [piece.astype(np.float64) for piece in read.pieces(name)]
    whole = np.concatenate(values) if values else np.empty(0)
    return bool(np.array_equal(whole, np.arange(len(whole))))


def _computed(name: str, read: Read) -> bool:
    """Tell whether a tensor holds the inverse frequencies that the program computes, as far as its format goes."""
    info = read.tensors[name]
    alike = [f for f in read.rotations if info.shape[-1:] == f.shape]
    if not alike or np.prod(info.shape, dtype=object) != info.shape[-1]:
        return False
    (piece,) = [p.astype(np.float64) for p in read.pieces(name)][:1] or [np.empty(0)]
    return any(_near(piece, f, f, info) for f in alike if len(piece) == len(f))


def _table(function: Callable[[Numbers], Numbers]) -> Test:
    """Return the test of a table of a function of the rotation's angles, position by position."""

    def test(name: str, read: Read) -> bool:
        info = read.tensors[name]
        if len(info.shape) < 2 or any(size != 1 for size in info.shape[:-2]):
            return False
        width = info.shape[-1]
        return any(
            _follows(name, read, function, np.tile(f, width // len(f)))
            for f in read.rotations
            if width in (len(f), 2 * len(f))
        )

    return test


def _follows(
    name: str, read: Read, function: Callable[[Numbers], Numbers], inverse: Numbers
) -> bool:
    at, width, rest = 0, len(inverse), np.empty(0)
    for piece in read.pieces(name):
        whole = np.concatenate([rest, piece.astype(np.float64)])
        rows = len(whole) // width
        angle = np.arange(at, at + rows, dtype=np.float64)[:, None] * inverse
        values = whole[: rows * width].reshape(rows, width)
        # Tables were made in float32: an angle is known no better than that.
        slack = np.abs(angle) * 2.0**-22 + 2.0**-22
        if not _near(values, function(angle), 1.0, read.tensors[name], slack):
            return False
        at, rest = at + rows, whole[rows * width :]
    return not len(rest)


def _near(
    values: Numbers,
    wanted: Numbers,
    size: Numbers | float,
    info: TensorInfo,
    slack: Numbers | float = 0.0,
) -> bool:
    """Tell whether values are those that are wanted, up to rounding of their size to their format."""
    digits = {"f32": 22, "f16": 10, "bf16": 7}.get(info.dtype.name)
    if digits is None or not np.all(np.isfinite(values)):
        return False
    smallest = 2.0**-24 if info.dtype.name == "f16" else 0.0
    return bool(np.all(np.abs(values - wanted) <= np.abs(size) * 2.0**-digits + smallest + slack))


def _by_name(name: str, read: Read) -> bool:
    return True


_INVERSE = re.compile(r"(?:^|[._])inv_freq$")
_ROTATION = "rotary tables, which are computed from the config"
RULES: tuple[Rule, ...] = (
    Rule(re.compile(r"\.bias$"), _zeros, "biases of zeros, which add nothing"),
    Rule(
        re.compile(r"\.(?:bias|mask|causal_mask)$"), _causal, "causal masks, which every model has"
    ),
    Rule(re.compile(r"\.masked_bias$"), _masked, "what masked scores are given"),
    Rule(re.compile(r"(?:^|[._])position_ids$"), _positions, "positions, which count from 0"),
    Rule(_INVERSE, _computed, _ROTATION),
    Rule(re.compile(r"(?:^|[._])(?:cos|cos_cached|cos_cache)$"), _table(np.cos), _ROTATION),
    Rule(re.compile(r"(?:^|[._])(?:sin|sin_cached|sin_cache)$"), _table(np.sin), _ROTATION),
    Rule(
        re.compile(r"(?:^|\.)rotary_emb\.inv_freq$"),
        _by_name,
        "rotary frequencies not seen to be the config's, which transformers computes all the same",
    ),
)


def reason_to_leave(name: str, read: Read) -> str:
    """Return why a tensor that nothing reads may be left, nothing where it may not."""
    for rule in RULES:
        at_hand = read.stored is not None or rule.test is _by_name
        if at_hand and rule.name.search(name) and rule.test(name, read):
            return rule.reason
    twin = read.twin(name)
    return "" if twin is None else f"`{name}` holds the same bits as `{twin}`"


LOOKS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"\.lora_|\.ia3_|adapter", "part of an adapter"),
        (r"(?:vision|visual|image|audio|speech|mm_projector|multi_modal)", "of a tower for pictures or sound"),
        (r"(?:^|\.)(?:mtp|nextn|eagle|medusa)|eh_proj|enorm|hnorm", "of layers that draft tokens"),
        (r"\.(?:qweight|qzeros|scales|g_idx|weight_packed|weight_scale|weight_scale_inv|weight_shape|input_scale|absmax)$",
         "part of a packed form that nothing here says how to read"),
        (r"(?:^|\.)(?:classifier|score|v_head|pooler)\.", "a head for another task"),
        (r"(?:^|\.)(?:lm_head|embed_out|output)\.weight$", "a head of its own, where the embedding is the head"),
        (r"(?:inv_freq|cos|sin)(?:_cached|_cache)?$", "a rotary table that is not the config's"),
        (r"\.(?:mask|causal_mask|masked_bias)$", "a mask that is not the causal one"),
        (r"position_ids$", "positions that do not count from 0"),
        (r"\.bias$", "a bias that is not zero"),
        (r"\.(?:q_norm|k_norm|query_norm|key_norm|q_layernorm|k_layernorm)\.", "a norm of queries or keys"),
        (r"\.experts\.", "of an expert"),
        (r"norm\.weight$", "a norm"),
    )
)  # fmt: skip


def looks_like(name: str) -> str:
    """Return what a tensor seems to be by its name, nothing where it says nothing."""
    return next((words for pattern, words in LOOKS if pattern.search(name)), "")
