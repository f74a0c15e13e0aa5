# SPDX-License-Identifier: Apache-2.0
"""What is said where chips do not meet: each refusal names the rank at fault and both places in the text.

Decides nothing; who notices asks here for the words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from device_model.mesh.fabric import Array, Exchange
from dsl.diagnostics import Refused, counted, refuse

MESH = "mesh"
ANY = "any type"
"""The type of a head that only receives, and takes what is sent."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a message says of the part that it carries: whose, for which exchange, its type and shape."""

    step: int
    what: Exchange
    rank: int
    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, step: int, what: Exchange, rank: int, part: Array) -> Head:
        """Return the head of a part."""
        return cls(step, what, rank, part.dtype.name, part.shape)

    def __str__(self) -> str:
        shape = ", ".join(str(size) for size in self.shape)
        return f"rank {self.rank} at step {self.step}, {self.what}, {self.dtype} [{shape}]"

    def meets(self, other: Head) -> bool:
        """Return whether a part belongs to the exchange of this one: parts may differ in their first axis alone."""
        if (self.step, self.what) != (other.step, other.what):
            return False
        alike = (self.dtype, self.shape[1:]) == (other.dtype, other.shape[1:])
        return alike or self.dtype == ANY


def mismatch(mine: Head, theirs: Head) -> Refused:
    """Return the refusal of two parts that came together and do not belong together (S640)."""
    return refuse("S640", f"chips are out of step: {mine}, but {theirs}", place=MESH)


def overdue(
    rank: int, step: int, what: Exchange, last: Mapping[int, str], waited_s: float | None = None
) -> Refused:
    """Return the refusal of an exchange that ranks did not come to, with where each was last (S641)."""
    missing = "; ".join(
        f"rank {peer} does not come, last at {place}" for peer, place in last.items()
    )
    waited = "waits" if waited_s is None else f"waited {waited_s:.3g} s"
    message = f"rank {rank} {waited} at step {step}, {what}: {missing}"
    return refuse("S641", message, place=MESH)


def link_down(node: int, ranks: Sequence[int], tries: int) -> Refused:
    """Return the refusal of a link over which a message did not get (S642)."""
    message = f"the link to {_named(node, ranks)} is down after {counted(tries, 'resend')}"
    return refuse("S642", message, place=MESH)


def silent(node: int, ranks: Sequence[int], why: str) -> Refused:
    """Return the refusal where a node is dead or cannot be heard (S643)."""
    return refuse("S643", f"{_named(node, ranks)} {why}", place=MESH)


def too_few(room: int, meshes: Sequence[Mapping[str, int]]) -> Refused:
    """Return the refusal where the nodes that are left have too few chips for any mesh that may be used (S648)."""
    smallest = ",".join(f"{axis}={size}" for axis, size in meshes[-1].items())
    message = f"{counted(room, 'chip')} left, too few for {smallest}"
    return refuse("S648", message, place=MESH)


def no_message(why: str, place: str = MESH) -> Refused:
    """Return the refusal of bytes that are no message (S644)."""
    return refuse("S644", f"not a message between chips: {why}", place=place)


def failed(rank: int, why: str) -> Refused:
    """Return the refusal that the other ranks are told when one ends in an error of its own (S646)."""
    return refuse("S646", f"rank {rank} failed: {why}", place=MESH)


def _named(node: int, ranks: Sequence[int]) -> str:
    listed = ", ".join(str(rank) for rank in ranks)
    return f"node {node} ({'rank' if len(ranks) == 1 else 'ranks'} {listed})"
