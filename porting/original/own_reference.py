# SPDX-License-Identifier: Apache-2.0
"""A reference of the user's own: logits in an array, or a function from tokens to logits, in place of transformers.

Its numbers are looked at, not trusted: of the right shape, finite, in float64 or float32. What the user's code raises
is shown as the user's own. Finding and loading that code is `own_code`.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dsl.diagnostics import Diagnostic, Refused, refuse
from porting.files.strict_json import shown
from porting.original.choices import Decide
from porting.original.reference import RowOutput

Tokens = npt.NDArray[np.int64]
Function = Callable[[Tokens], object]
"""Takes token ids, int64 [B, S], and returns logits [B, S, V] (or [S, V] of one row), in float64."""

FORMATS = ("float64", "float32")
"""Below float32 a reference's own rounding is larger than the mistakes that are looked for."""
FRAMES = 3
MAX_REASON = 240
OURS = Path(__file__).parents[1]


class OwnReference(Protocol):
    """What both kinds have in common with the original of transformers: they run a row."""

    @property
    def name(self) -> str:
        """Return what the user called it."""
        ...

    @property
    def vocab_size(self) -> int:
        """Return the number of logits a token."""
        ...

    @property
    def note(self) -> str:
        """Return what a reader of the report must know about it."""
        ...

    def row(
        self, row: Sequence[int], hidden: bool = False, decide: Decide | None = None
    ) -> RowOutput:
        """Return the logits of one row."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class GivenLogits:
    """The logits [B, S, V] of some rows of tokens; those of a row's start are taken from the whole row."""

    name: str
    rows: Sequence[Tokens]
    logits: npt.NDArray[Any]

    @property
    def vocab_size(self) -> int:
        """Return the number of logits a token."""
        return int(self.logits.shape[-1])

    @property
    def note(self) -> str:
        """Return what a file cannot show."""
        return (
            f"the original is {self.name}, {self.logits.dtype} logits of the rows alone: that a token's do not depend "
            f"on what follows is taken for granted{_rounded({str(self.logits.dtype)})}"
        )

    def row(
        self, row: Sequence[int], hidden: bool = False, decide: Decide | None = None
    ) -> RowOutput:
        """Return the logits of a row or of its start; raises `KeyError` for a row that is not there."""
        for number, tokens in enumerate(self.rows):
            if len(row) <= len(tokens) and np.array_equal(tokens[: len(row)], row):
                logits = np.asarray(self.logits[number])
                return RowOutput(_finite(logits, self.name, tokens)[: len(row)])
        raise KeyError(f"{self.name} has no row of {len(row)} such tokens")


@dataclass(frozen=True, slots=True, eq=False)
class GivenFunction:
    """A function of the user's, run on one row at a time; `folder` is where it may import from beside the usual."""

    name: str
    function: Function
    folder: Path | None = None
    _formats: set[str] = field(default_factory=set)
    _sizes: list[int] = field(default_factory=list)

    @property
    def vocab_size(self) -> int:
        """Return the number of logits a token, asking for those of one token where nothing was asked yet."""
        if not self._sizes:
            self.row([0])
        return self._sizes[0]

    @property
    def note(self) -> str:
        """Return whose word the truth is, and in which format."""
        formats = " and ".join(sorted(self._formats))
        return f"the original is {self.name}, a function of the user's, in {formats}{_rounded(self._formats)}"

    def row(
        self, row: Sequence[int], hidden: bool = False, decide: Decide | None = None
    ) -> RowOutput:
        """Return the logits of one row; raises `Refused` for what the function raises (S556), or returns (S555)."""
        tokens = np.array([list(row)], np.int64)
        with as_the_users_own(self.name, self.folder):
            made = np.asarray(self.function(tokens.copy()))
        size = self._sizes[0] if self._sizes else None
        logits = made[0] if made.ndim == 3 and len(made) == 1 else made
        if logits.ndim != 2 or len(logits) != len(row) or size not in {None, logits.shape[-1]}:
            wanted = f"[1, {len(row)}, {'V' if size is None else size}]"
            message = f"`{self.name}` gave {list(made.shape)} for tokens [1, {len(row)}]"
            raise refuse("S555", message, help=f"a reference returns logits {wanted}")
        check_format(logits, self.name)
        self._sizes[:] = [int(logits.shape[-1])]
        self._formats.add(str(logits.dtype))
        return RowOutput(_finite(logits, self.name, tokens[0]))


def check_format(logits: npt.NDArray[Any], name: str) -> None:
    """Refuse logits (S555) in a format that rounds more than the mistakes that are looked for, or in none."""
    if str(logits.dtype) not in FORMATS:
        message = f"`{shown(name)}` has logits in {shown(str(logits.dtype))}"
        raise refuse("S555", message, help="a reference computes in float64; float32 is taken")


def _finite(logits: npt.NDArray[Any], name: str, tokens: Tokens) -> npt.NDArray[Any]:
    finite = np.isfinite(logits).all(-1)
    if finite.all():
        return logits
    place = int(np.argmin(finite))
    message = f"`{name}` has logits that are no numbers, first behind token {place} of a row of {len(tokens)}"
    raise refuse("S555", message)


def _rounded(formats: set[str]) -> str:
    alone = formats == {"float64"}
    return "" if alone else "; what float32 rounded there counts against the port"


@contextmanager
def as_the_users_own(name: str, folder: Path | None = None) -> Iterator[None]:
    """Run the user's code: what it prints goes to standard error, what it raises is shown with the user's own lines.

    Modules of `folder` can be imported meanwhile, behind all others.
    """
    added = [] if folder is None else [str(folder)]
    sys.path.extend(added)
    try:
        with redirect_stdout(sys.stderr):
            yield
    except Refused:
        raise
    except (Exception, SystemExit) as error:
        said = str(error).splitlines()
        reason = f"{type(error).__name__}: {said[0]}" if said else type(error).__name__
        message = f"`{name}` raised {shown(reason, MAX_REASON)}"
        raise Refused((Diagnostic("S556", message, notes=_frames(error)),)) from error
    finally:
        for path in added:
            sys.path.remove(path)


def _frames(error: BaseException) -> tuple[str, ...]:
    """Return the user's own lines on the way to an error, the last ones."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not Path(frame.filename).is_relative_to(OURS) and "importlib" not in frame.filename
    ]
    return tuple(
        f"{frame.filename}:{frame.lineno}, in {frame.name}: {frame.line}"
        for frame in frames[-FRAMES:]
    )
