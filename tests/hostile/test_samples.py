"""The inputs that once were faults end as they should: with the code of a refusal, or a right answer, within limits.

Where `SOHU_HOSTILE` is set those run too that take seconds to build.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.hostile.guard import MOST_MIB, Outcome, outcomes
from tests.hostile.samples import Sample, samples

ALL = 86


def test_no_sample_is_a_fault_any_more(case: Path) -> None:
    rows = samples(large="SOHU_HOSTILE" in os.environ)
    ended = outcomes([row.input() for row in rows], case)
    told = [
        f"{row.name}: {row.ends} is right, this is {end.answer} {end.fault}"
        for row, end in zip(rows, ended, strict=True)
        if end.answer != row.ends or (end.fault and not is_owed(row, end))
    ]
    assert not told, "\n".join(told)


def is_owed(row: Sample, end: Outcome) -> bool:
    return (
        end.fault.startswith("takes") and end.seconds < row.seconds and end.mib <= MOST_MIB["port"]
    )


def test_each_sample_is_there_once() -> None:
    names = [row.name for row in samples(large=True)]
    assert len(names) == len(set(names)) == ALL
