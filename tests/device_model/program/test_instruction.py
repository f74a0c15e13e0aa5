# SPDX-License-Identifier: Apache-2.0
"""Instructions by name: an operand that is missing, unknown, doubled or of another kind is refused by its name."""

import inspect

import numpy as np
import pytest

from device_model.kernels.dispatch import machine
from device_model.kernels.elementwise import BINARY, CONVERT
from device_model.kernels.norm import NORM
from device_model.kernels.table import INSTRUCTIONS, PARTS
from device_model.machine.team import MachineFault, Team
from device_model.program.arena import Segment
from device_model.program.builder import Builder
from device_model.program.instruction import (
    CONTEXT,
    Address,
    Instruction,
    InstructionSet,
    invocation,
)

GIVEN = {"source": 1, "kind": 2, "target": 3, "target_kind": 4, "count": 5}
WITH_REALS = dict.fromkeys(NORM.ints, 1)


def test_operands_are_laid_out_as_the_kernel_takes_them():
    given = dict(reversed(GIVEN.items()))
    assert invocation(CONVERT, given).ints == (1, 2, 3, 4, 5)
    assert invocation(NORM, {"offset": 2, "eps": 1.0}, WITH_REALS).reals == (1.0, 2.0)


@pytest.mark.parametrize(
    ("groups", "operand", "fault"),
    [
        (({**GIVEN, "width": 6},), "width", "unknown"),
        (({"source": 1, "kind": 2},), "target", "missing"),
        ((GIVEN, {"kind": 2}), "kind", "doubled"),
        (({**GIVEN, "count": 5.0},), "count", "no int"),
    ],
)
def test_a_wrong_operand_is_named_with_its_instruction(groups, operand, fault):
    with pytest.raises(TypeError, match=f"`convert`: operand `{operand}` is {fault}"):
        Builder().emit(CONVERT, *groups)


def test_a_real_operand_is_no_address():
    reals = {"eps": Address(Segment.BODY), "offset": 0.0}
    with pytest.raises(TypeError, match="`norm`: operand `eps` is no number"):
        invocation(NORM, WITH_REALS, reals)


def test_a_doubled_keyword_is_refused_by_the_group_that_it_repeats():
    with pytest.raises(TypeError, match="`convert`: operand `count` is doubled"):
        Builder().emit(CONVERT, GIVEN, count=5)


@pytest.mark.parametrize("row", INSTRUCTIONS.rows, ids=lambda row: row.name)
def test_operands_have_the_names_of_the_kernels_parameters(row):
    names = tuple(inspect.signature(row.kernel.function).parameters)
    assert (*row.ints, *row.reals, *CONTEXT) == names


def test_a_row_that_is_not_its_kernels_is_refused():
    with pytest.raises(TypeError, match="instruction `binary` has"):
        Instruction("binary", BINARY.kernel, BINARY.ints, ("factor",))


def test_every_instruction_is_in_one_part():
    rows = [row for part in PARTS.values() for row in part]
    assert [INSTRUCTIONS.opcode(row) for row in rows] == list(range(1, len(rows) + 1))


def test_two_instructions_of_one_name_are_refused():
    with pytest.raises(ValueError, match="share a name"):
        InstructionSet((CONVERT, CONVERT))


def test_an_instruction_of_another_machine_is_unknown():
    with pytest.raises(LookupError, match="no instruction `convert`"):
        InstructionSet((BINARY,)).opcode(CONVERT)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("opcode", [-1, 0, len(INSTRUCTIONS.rows) + 1, 1 << 40])
def test_an_unknown_opcode_is_an_error(opcode, threads):
    code = np.zeros((2, INSTRUCTIONS.ints + 1), np.int64)
    reals = np.zeros((2, INSTRUCTIONS.reals))
    code[0, 0], code[1, 0] = INSTRUCTIONS.opcode(CONVERT), opcode
    with pytest.raises(MachineFault, match=f"instruction 1 with opcode {opcode}"):
        Team(machine(), threads).run(code, reals, 0, 2, 4096)
