# SPDX-License-Identifier: Apache-2.0
"""Refuse weights that are no numbers: NaN and infinity, each tensor by name, before anything is compared with them.

Looks at the tensors that a program reads alone: masks that nothing reads may be infinite. Values that become infinite
while a model runs are for the verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsl.diagnostics import Diagnostic, Refused
from porting.checkpoint.tensors import Checkpoint
from porting.files.strict_json import shown

PIECE = 2**22
"""Values that are looked at once."""
MAX_SHOWN = 6
HELP = (
    "the file is damaged, or what wrote it had diverged: fetch it or write it again; with such weights the "
    "original's own logits are no numbers, and nothing can be compared with them"
)


@dataclass(frozen=True, slots=True)
class Bits:
    """The whole numbers that a float format is looked at as, and the bits that are all set where it is no number."""

    whole: npt.DTypeLike
    mask: int
    has_infinity: bool = True


FORMATS: Mapping[str, Bits] = {
    "f32": Bits(np.uint32, 0x7F800000),
    "bf16": Bits(np.uint16, 0x7F80),
    "f16": Bits(np.uint16, 0x7C00),
    "f8e5m2": Bits(np.uint8, 0x7C),
    "f8e4m3": Bits(np.uint8, 0x7F, has_infinity=False),
    "e8m0": Bits(np.uint8, 0xFF, has_infinity=False),
}
"""IEEE 754 and the OCP formats of 8 bits; formats that are not here have numbers alone."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A tensor with values that are no numbers, and how many of each."""

    name: str
    nans: int
    infinities: int
    size: int

    def __str__(self) -> str:
        """Return what is wrong with it, in words."""
        parts = ((self.nans, "NaN"), (self.infinities, "infinite"))
        wrong = " and ".join(f"{count:,} {what}" for count, what in parts if count)
        return f"`{shown(self.name)}` has {wrong} of {self.size:,} values"


def check_finite(checkpoint: Checkpoint, names: Iterable[str]) -> None:
    """Refuse a checkpoint of whose tensors some that are named hold NaN or infinity (S579)."""
    broken = [one for name in names if (one := _broken(checkpoint, name)) is not None]
    if not broken:
        return
    first, *others = broken
    notes = [str(one) for one in others[:MAX_SHOWN]]
    left = len(others) - MAX_SHOWN
    if left > 0:
        notes.append(f"{left:,} more tensors alike")
    place = f"{checkpoint.tensors[first.name].file}, tensor {shown(first.name)}"
    raise Refused((Diagnostic("S579", str(first), place=place, notes=tuple(notes), help=HELP),))


def _broken(checkpoint: Checkpoint, name: str) -> Broken | None:
    """Return what is wrong with a tensor, None where all of its values are numbers."""
    bits = FORMATS.get(checkpoint.tensors[name].dtype.name)
    if bits is None:
        return None
    flat = checkpoint.read(name).reshape(-1).view(bits.whole)
    mask = np.array(bits.mask, bits.whole)
    nans = infinities = 0
    for start in range(0, flat.size, PIECE):
        piece = flat[start : start + PIECE]
        wrong = piece[(piece & mask) == mask]
        if not wrong.size:
            continue
        # Without its sign an infinity is the mask itself; what has more bits is NaN.
        sign = np.array(1 << (8 * flat.itemsize - 1), bits.whole)
        infinite = int(((wrong & ~sign) == mask).sum()) if bits.has_infinity else 0
        nans, infinities = nans + wrong.size - infinite, infinities + infinite
    return Broken(name, nans, infinities, flat.size) if nans or infinities else None
