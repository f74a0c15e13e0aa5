# SPDX-License-Identifier: Apache-2.0
"""The inputs that once were faults end as they should: with the code of a refusal, or a right answer, within limits.

Where `SOHU_HOSTILE` is set those run too that take seconds to build.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.hostile.guard import outcomes
from tests.hostile.samples import samples

ALL = 86


def test_no_sample_is_a_fault_any_more(case: Path) -> None:
    rows = samples(large="SOHU_HOSTILE" in os.environ)
    ended = outcomes([row.input() for row in rows], case)
    told = [
        f"{row.name}: {row.ends} is right, this is {end.answer} {end.fault}"
        for row, end in zip(rows, ended, strict=True)
        if end.answer != row.ends or end.fault
    ]
    assert not told, "\n".join(told)


def test_each_sample_is_there_once() -> None:
    names = [row.name for row in samples(large=True)]
    assert len(names) == len(set(names)) == ALL
