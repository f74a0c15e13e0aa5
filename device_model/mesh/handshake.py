# SPDX-License-Identifier: Apache-2.0
"""What nodes compare before the first step: digests of all that their bits depend on.

Digests are SHA-256 over the very bytes, each with its length, so that no two things have the same text. Decides
nothing about which node is right: the first one given is what the others are measured by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields

from device_model.mesh.fabric import Array
from dsl.diagnostics import Diagnostic, Refused

DIGITS = 64


@dataclass(frozen=True, slots=True)
class Facts:
    """A digest of each thing that must be the same on all nodes: 64 hexadecimal digits."""

    graph: str
    weights: str
    mesh: str
    numerics: str
    kernels: str


NAMES = tuple(field.name for field in fields(Facts))


def digest(*parts: bytes) -> str:
    """Return the digest of some byte strings, in order."""
    sum_ = hashlib.sha256()
    for part in parts:
        sum_.update(len(part).to_bytes(8, "little"))
        sum_.update(part)
    return sum_.hexdigest()


def digest_of_arrays(arrays: Iterable[tuple[str, Array]]) -> str:
    """Return the digest of named arrays: names, types, shapes and every byte."""
    parts: list[bytes] = []
    for name, array in arrays:
        data = hashlib.sha256(_bytes(array)).digest()
        parts += [name.encode(), str((array.dtype.name, array.shape)).encode(), data]
    return digest(*parts)


def agreed(facts: Mapping[int, Facts]) -> Facts:
    """Return what all nodes say; what a node says otherwise is refused, each by its name (S645)."""
    first, *others = sorted(facts)
    wrong = [
        _differs(name, first, other)
        for other in others
        for name in NAMES
        if getattr(facts[first], name) != getattr(facts[other], name)
    ]
    if wrong:
        raise Refused(wrong)
    return facts[first]


def as_told(facts: Facts) -> dict[str, str]:
    """Return facts as a node tells them."""
    return asdict(facts)


def from_told(told: object) -> Facts:
    """Return the facts that a node told; anything but digests is refused (S645)."""
    if not isinstance(told, dict) or set(told) != set(NAMES):
        raise Refused((_unusable(),))
    if not all(isinstance(text, str) and len(text) == DIGITS for text in told.values()):
        raise Refused((_unusable(),))
    return Facts(**told)


def _bytes(array: Array) -> bytes | memoryview:
    if array.ndim == 0 or not array.flags.c_contiguous:
        return array.tobytes()
    return array.reshape(-1).view("u1").data


def _differs(name: str, first: int, other: int) -> Diagnostic:
    message = f"{name} of node {other} is not that of node {first}"
    return Diagnostic(
        "S645", message, place="mesh", help="start all nodes from the same files and release"
    )


def _unusable() -> Diagnostic:
    return Diagnostic("S645", "a node tells no digests of what it runs", place="mesh")
