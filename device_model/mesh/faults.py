# SPDX-License-Identifier: Apache-2.0
"""Faults of links and nodes under one seed: the fate of a frame depends on the seed, the link, and which frame it is.

Not on when it is sent or by which thread, so that a run over sockets meets the faults that a simulated one meets.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, fields, replace
from hashlib import blake2b

from device_model.mesh.fabric import Exchange
from device_model.mesh.frames import FrameKind, numbered

_DRAW = struct.Struct("<qHHBQI")
_UNIT = 2.0**-32


@dataclass(frozen=True, slots=True)
class Rates:
    """How often a frame is dropped, sent twice, overtaken, late, damaged: parts of one."""

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    delay: float = 0.0
    corrupt: float = 0.0


CALM = Rates()


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults of a session: of frames, a node that crashes, and a rank that runs another program.

    `crash` is a node and after how many data frames of its own; `mismatch` a rank and from which exchange it strays.
    """

    seed: int = 0
    rates: Rates = CALM
    late_s: float = 0.3
    crash: tuple[int, int] | None = None
    mismatch: tuple[int, int] | None = None


NONE = Faults()


def planned(seed: int, nodes: int, ranks: int, frames: int = 30) -> Faults:
    """Return the faults that a seed means: some rates, and for one seed in four each a crash or a mismatch."""
    draws = [_unit(seed, 0, 0, 0, 0, n) for n in range(9)]
    rates = Rates(*(draw * draw * 0.3 for draw in draws[:5]))
    spared = [f.name for f, draw in zip(fields(rates), draws[:5], strict=True) if draw < 0.3]
    rates = replace(rates, **dict.fromkeys(spared, 0.0))
    crash = (int(draws[6] * nodes), int(draws[7] * frames)) if draws[5] < 0.25 else None
    mismatch = (int(draws[6] * ranks), int(draws[7] * 8)) if draws[5] > 0.75 else None
    return Faults(seed, rates, crash=crash, mismatch=mismatch)


class Injector:
    """Decides what becomes of each frame that a node sends."""

    def __init__(self, plan: Faults) -> None:
        self.plan = plan
        self._seen: Counter[tuple[int, int, int, int]] = Counter()
        self._sent: Counter[int] = Counter()

    def crashes(self, node: int) -> bool:
        """Return whether a node has sent as much as it lives to send."""
        crash = self.plan.crash
        return crash is not None and crash[0] == node and self._sent[node] > crash[1]

    def strays(self, rank: int, count: int, what: Exchange) -> Exchange:
        """Return the exchange that a rank comes to as its n-th: another one where it runs another program."""
        mismatch = self.plan.mismatch
        if mismatch is None or mismatch[0] != rank or count < mismatch[1]:
            return what
        return replace(what, op=f"{what.op}_of_another_program")

    def fate(self, source: int, target: int, data: bytes) -> list[tuple[float, bytes]]:
        """Return what arrives of a frame, each with how many seconds late."""
        kind, number = numbered(data)
        key = (source, target, kind, number)
        self._seen[key] += 1
        self._sent[source] += kind == FrameKind.DATA
        seed, rates = self.plan.seed, self.plan.rates
        if rates == CALM:
            return [(0.0, data)]
        draws = struct.unpack("<8I", _digest(seed, *key, self._seen[key]))
        drop, twice, over, late, corrupt, much, place, bit = draws
        if drop * _UNIT < rates.drop:
            return []
        arrives = _damaged(data, place, bit) if corrupt * _UNIT < rates.corrupt else data
        delay = much * _UNIT * self.plan.late_s if late * _UNIT < rates.delay else 0.0
        delay += self.plan.late_s / 32 if over * _UNIT < rates.reorder else 0.0
        copies = [(delay, arrives)]
        return copies + [(much * _UNIT * self.plan.late_s, data)] * (
            twice * _UNIT < rates.duplicate
        )


def _damaged(data: bytes, place: int, bit: int) -> bytes:
    """Flip one to three bits: in one byte, or in bytes side by side."""
    damaged = bytearray(data)
    for offset in range(1 + bit % 3):
        damaged[(place + offset) % len(data)] ^= 1 << (bit >> 8) % 8
    return bytes(damaged)


def _digest(seed: int, source: int, target: int, kind: int, number: int, count: int) -> bytes:
    packed = _DRAW.pack(seed, source, target, kind, number, count & 0xFFFFFFFF)
    return blake2b(packed, digest_size=32).digest()


def _unit(seed: int, source: int, target: int, kind: int, number: int, count: int) -> float:
    return float(
        struct.unpack_from("<I", _digest(seed, source, target, kind, number, count))[0] * _UNIT
    )
