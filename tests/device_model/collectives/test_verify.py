# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a program is named; of mutated programs the wrong ones are refused, and the right ones are not."""

import random

import pytest

from device_model.collectives.program import SUMS, Program
from device_model.collectives.templates import template
from device_model.collectives.topology import Wire, full, hierarchy, mesh, ring, switch, torus
from device_model.collectives.verify import MOST_FAULTS, MOST_STEPS, verified, verify
from dsl.diagnostics import Refused
from tests.device_model.collectives.brute import right

WIRE, SLOW = Wire(90e9, 1e-6), Wire(10e9, 5e-6)
RING = ring("r", 4, WIRE)
FULL = full("f", 4, WIRE)


def _faults(operation, topology, chunks, steps, order="tree"):
    return [
        (d.code, d.message)
        for d in verify(Program.of(operation, topology, chunks, steps, order)).faults
    ]


@pytest.mark.parametrize(
    ("operation", "topology", "chunks", "steps", "code", "words"),
    [
        ("broadcast", RING, 1, [[(0, 4, 0)]], "S622", "no such chip"),
        ("broadcast", RING, 1, [[(0, -1, 0)]], "S622", "no such chip"),
        ("broadcast", RING, 1, [[(0, 1, 1)]], "S622", "there are 1 chunks"),
        ("broadcast", RING, 1, [[(0, 1, 0, True)]], "S622", "no sums"),
        ("broadcast", RING, 1, [[(0, 2, 0)]], "S623", "step 0, send 0, `0 -> 2: c0`"),
        ("broadcast", RING, 1, [[(0, 1, 0), (1, 2, 0)], [(0, 3, 0)]], "S624", "step 0, send 1"),
        ("broadcast", RING, 1, [[(0, 1, 0), (0, 3, 0)], [(1, 2, 0), (3, 2, 0)]], "S625", "send 1"),
        ("broadcast", RING, 1, [[(0, 1, 0), (0, 3, 0)]], "S626", "chip 2 ends without chunks 0"),
        ("all_reduce", FULL, 1, [[(3, 0, 0)]], "S626", "ranks 3 alone in chunk 0"),
        ("reduce_scatter", RING, 4, [[(0, 1, 1, True), (0, 1, 1)]], "S625", "another arrives"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(operation, topology, chunks, steps, code, words):
    faults = _faults(operation, topology, chunks, steps)
    assert faults[0][0] == code
    assert words in faults[0][1]


def test_one_cause_is_one_message():
    assert _faults("broadcast", RING, 1, []) == [("S626", "chips 1-3 end without chunks 0")]
    dropped = [[(0, 1, 0)], [(1, 2, 0)], [(2, 3, 0)]]
    assert len(_faults("broadcast", RING, 1, dropped[1:])) == 1


def test_sums_in_the_order_of_a_ring_are_not_the_declared_ones():
    line = [[(3, 2, 0, True)], [(2, 1, 0, True)], [(1, 0, 0, True)]]
    back = [[(0, 1, 0)], [(1, 2, 0)], [(2, 3, 0)]]
    (fault,) = _faults("all_reduce", RING, 1, line + back)
    assert fault[0] == "S627"
    assert (
        "step 1, send 0, `2 -> 1: c0 add`: adds the parts of ranks 2-3 to those of ranks 1"
        in fault[1]
    )
    assert _faults("all_reduce", RING, 1, line + back, "any") == []


def test_what_meets_in_one_step_is_added_by_the_tree():
    meet = [[(3, 0, 0, True), (1, 0, 0, True), (2, 0, 0, True)]]
    after = [[(0, 1, 0), (0, 2, 0), (0, 3, 0)]]
    assert _faults("all_reduce", FULL, 1, meet + after) == []
    apart = [[send] for send in meet[0]]
    assert [code for code, _ in _faults("all_reduce", FULL, 1, apart + after)] == ["S627"]


def test_a_part_is_added_once():
    twice = [[(1, 0, 0, True)], [(1, 0, 0, True)]]
    chips = ring("two", 2, WIRE)
    (fault,) = _faults("all_reduce", chips, 1, [*twice, [(0, 1, 0)]], "any")
    assert fault[0] == "S627"
    assert fault[1].startswith("step 1, send 0")


def test_what_is_wrong_and_replaced_does_no_harm():
    chips = ring("two", 2, WIRE)
    spoiled = [[(1, 0, 0, True)], [(0, 1, 0, True)], [(0, 1, 0)]]
    assert _faults("all_reduce", chips, 1, spoiled) == []


def test_a_switch_that_does_not_tell_its_order_adds_no_floats():
    silent = switch("s", 4, WIRE, "any")
    table = list(template("in-switch", "all_reduce", silent, order="any"))
    assert {code for code, _ in _faults("all_reduce", silent, 4, table)} == {"S622"}
    assert _faults("all_reduce", silent, 4, table, "any") == []


def test_what_is_too_large_to_follow_is_refused():
    program = Program.of("all_reduce", torus("t", (32, 32), WIRE), 10**6, [])
    with pytest.raises(Refused, match="S628"):
        verified(program)


def test_few_of_many_faults_are_shown():
    program = Program.of("broadcast", RING, 1, [[(1, 3, 0)] * 100])
    faults = verify(program).faults
    assert len(faults) == MOST_FAULTS
    assert faults[-1].notes == (f"{100 - MOST_FAULTS} more are not shown",)


def test_the_peak_counts_what_is_forwarded_and_what_waits_to_be_added():
    assert verify(Program.of("broadcast", RING, 1, [[(0, 1, 0), (0, 3, 0)], [(1, 2, 0)]])).peak == 1
    direct = template("direct", "reduce_scatter", FULL)
    assert verify(direct).peak == 4 + 3
    assert verify(template("direct", "all_to_all", FULL)).peak == 7


SUBJECTS = [
    template("ring", "all_gather", ring("r", 5, WIRE)),
    template("direct", "all_to_all", switch("s", 3, WIRE)),
    template("halving", "all_reduce", switch("s", 4, WIRE)),
    template("halving", "reduce_scatter", mesh("m", (4, 2), WIRE)),
    template("direct", "all_reduce", full("f", 5, WIRE)),
    template("ring", "reduce_scatter", RING, order="any"),
    template("nodes", "reduce_scatter", hierarchy("h", 2, 3, WIRE, SLOW)),
    template("dimensions", "broadcast", torus("t", (2, 3), WIRE)),
]


def _edited(column: str):
    """Return the mutation that gives one send another source, target or chunk, or turns its `add`."""

    def change(steps, at, which, pick, program):
        send = steps[at][which]
        bound = program.chunks if column == "chunk" else program.topology.chips
        value = not send.add if column == "add" else pick.randrange(bound)
        steps[at][which] = send._replace(**{column: value})

    return change


def _dropped(steps, at, which, pick, program):
    steps[at].pop(which)


def _doubled(steps, at, which, pick, program):
    pick.choice(steps).append(steps[at][which])


def _moved(steps, at, which, pick, program):
    pick.choice(steps).append(steps[at].pop(which))


def _step_dropped(steps, at, which, pick, program):
    steps[at] = []


def _step_moved(steps, at, which, pick, program):
    steps.insert(pick.randrange(len(steps)), steps.pop(at))


def _shuffled(steps, at, which, pick, program):
    pick.shuffle(steps[at])


MUTATIONS = [_dropped, _doubled, _moved, _step_dropped, _step_moved, _shuffled]
MUTATIONS += [_edited(column) for column in ("source", "target", "chunk", "add")]


def _mutated(program: Program, pick: random.Random) -> Program:
    """Return a program with one or two small changes."""
    steps = [list(step) for step in program]
    for _ in range(pick.choice((1, 1, 1, 2))):
        at = pick.choice([i for i, step in enumerate(steps) if step])
        pick.choice(MUTATIONS)(steps, at, pick.randrange(len(steps[at])), pick, program)
        if not any(steps):
            break
    return Program.of(program.operation, program.topology, program.chunks, steps, program.order)


@pytest.mark.parametrize("seed", range(8))
def test_mutants_are_refused_if_and_only_if_they_are_wrong(seed):
    pick = random.Random(seed)  # noqa: S311 - repeatable
    subject = SUBJECTS[seed]
    assert right(subject)
    wrong = 0
    for _ in range(150):
        mutant = _mutated(subject, pick)
        expected = right(mutant)
        assert (not verify(mutant).faults) == expected, list(mutant)
        wrong += not expected
    assert 60 < wrong < 150


def test_subjects_have_sums_of_both_kinds():
    kinds = {(s.order if s.operation in SUMS else "none") for s in SUBJECTS}
    assert kinds == {"tree", "any", "none"}


def test_more_steps_than_can_be_followed_are_refused():
    steps = [[(0, 1, 0)]] * (MOST_STEPS + 1)
    assert [code for code, _ in _faults("broadcast", RING, 1, steps)] == ["S628"]


def test_all_that_spoils_sums_is_told_at_once():
    line = [[(3, 2, c, True) for c in range(40)], [(2, 1, c, True) for c in range(40)]]
    line += [[(1, 0, c, True) for c in range(40)]]
    back = [[(a, b, c) for c in range(40)] for a, b in ((0, 1), (1, 2), (2, 3))]
    faults = verify(Program.of("all_reduce", RING, 40, line + back)).faults
    assert {f.code for f in faults} == {"S627"}
    assert len(faults) == MOST_FAULTS
    assert faults[-1].notes == ("20 more are not shown",)
