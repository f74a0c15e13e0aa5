# SPDX-License-Identifier: Apache-2.0
"""Programs are tables of sends in steps, and operations say where chunks begin and end."""

import numpy as np
import pytest

from device_model.collectives.program import (
    Program,
    Send,
    begins_at,
    chunk_bytes,
    ends_at,
    share,
)
from device_model.collectives.topology import Wire, ring

RING = ring("r", 4, Wire(1e9, 1e-6))


def test_steps_are_given_back():
    steps = [[Send(0, 1, 0), Send(1, 2, 1)], [], [Send(1, 2, 0)]]
    program = Program.of("all_gather", RING, 4, steps)
    assert list(program) == steps
    assert (program.steps, program.sends, program.step_of().tolist()) == (3, 3, [0, 0, 2])
    assert program != Program.of("all_gather", RING, 4, steps[::-1])


def test_chunks_of_operations():
    assert begins_at("all_gather", 4, 8).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert ends_at("reduce_scatter", 4, 8).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert begins_at("all_to_all", 2, 4).tolist() == [0, 0, 1, 1]
    assert ends_at("all_to_all", 2, 4).tolist() == [0, 1, 0, 1]
    assert set(ends_at("all_reduce", 4, 3)) == {-1}
    assert [share(op, 4) for op in ("all_gather", "all_to_all", "broadcast")] == [4, 16, 1]


def test_bytes_of_a_chunk():
    assert chunk_bytes(Program.of("all_gather", RING, 8, []), 64) == 8
    assert chunk_bytes(Program.of("all_to_all", RING, 16, []), 64) == 16


@pytest.mark.parametrize(
    ("operation", "chunks", "order"),
    [("all_gather", 6, "tree"), ("all_to_all", 4, "tree"), ("scan", 4, "tree"), ("all_reduce", 0, "tree"),
     ("all_reduce", 4, "ring")],
)  # fmt: skip
def test_what_is_no_program_is_refused(operation, chunks, order):
    with pytest.raises(ValueError, match=operation):
        Program.of(operation, RING, chunks, [], order)


def test_steps_cover_the_sends():
    with pytest.raises(ValueError, match="cover"):
        Program.packed("all_reduce", RING, 1, np.array([0, 2]), np.array([[0, 1, 0, 1]]))
