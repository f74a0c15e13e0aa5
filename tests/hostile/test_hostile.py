"""No input of a seed is a fault of ours: each is answered or refused, within limits, and prints nothing raw.

`SOHU_HOSTILE=2000 SOHU_HOSTILE_SEED=7` runs more and others (`tox -e hostile`).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.hostile.generator import KINDS, Input, inputs
from tests.hostile.guard import faults

COUNT = int(os.environ.get("SOHU_HOSTILE", "70"))
SEED = int(os.environ.get("SOHU_HOSTILE_SEED", "1"))


def test_no_input_is_a_fault_of_ours(case: Path) -> None:
    batch = tuple(inputs(SEED, COUNT, case))
    wrong = faults(batch, case)
    told = [f"{number} {batch[number].name} {batch[number].arguments}: {x}" for number, x in wrong.items()]  # fmt: skip
    assert not told, "\n".join(told)


def test_the_valid_case_is_read(case: Path) -> None:
    run = ("run", "{case}/p", "--tokens", "{case}/t.npy", "--logits", "{case}/l.npy")
    assert faults((Input("valid", {}, run), Input("valid", {}, ("check", "{case}/x.sohu"))), case) == {}  # fmt: skip


def test_a_fault_is_seen(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_options: object) -> int:
        raise ValueError("ours")

    monkeypatch.setitem(__import__("sohu.commands.table").commands.table.COMMANDS, "check", broken)
    assert "exit 70" in faults((Input("fault", {}, ("check", "x")),), case)[0]


def test_inputs_depend_on_the_seed_alone(case: Path) -> None:
    count = len(KINDS)
    assert tuple(inputs(3, count, case)) == tuple(inputs(3, count, case))
    assert tuple(inputs(3, count, case)) != tuple(inputs(4, count, case))
