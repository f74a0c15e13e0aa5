# SPDX-License-Identifier: Apache-2.0
"""Texts of collectives: what is written is read again, what is read is laid out, nonsense is refused."""

import random

import pytest

from device_model.collectives.program import OPERATIONS, SUMS, Program, share
from device_model.collectives.text import read_programs, read_topology, text_of
from device_model.collectives.topology import (
    Wire,
    full,
    hierarchy,
    linked,
    mesh,
    ring,
    switch,
    torus,
)
from device_model.collectives.verify import verify
from dsl.diagnostics import Refused
from dsl.source import Source
from dsl.text.schedules import format_schedule, is_schedule

WIRE, ODD = Wire(90e9, 1e-6), Wire(12345678901.25, 1 / 3 * 1e-6)
TOPOLOGIES = [
    ring("r", 4, WIRE),
    torus("t", (2, 3), ODD),
    mesh("m", (3, 1, 2), Wire(1e-3, 0.0)),
    full("f", 3, WIRE),
    switch("s", 4, WIRE, "tree"),
    switch("q", 4, WIRE, "any"),
    hierarchy("h", 2, 4, WIRE, ODD, nics=2, reduces="tree"),
    linked("l", 2, 1, ((0, 2, WIRE), (2, 1, ODD), (1, 0, Wire(3e300, 1e-300)))),
]
TEXT = """\
# Around four chips.
sohu 1.0

topology r {
  ring 4
  link 90 GB/s, 1 us
}

collective broadcast over r chunks 1 {
  step {
    # Both ways.
    0 -> 1: c0; 0 -> 3: c0  # at once
  }
  step {
    1 -> 2: c0
  }
}
"""


def _generated(seed: int) -> Program:
    """Return a program that means nothing in particular."""
    pick = random.Random(seed)  # noqa: S311 - repeatable
    topology, operation = pick.choice(TOPOLOGIES), pick.choice(OPERATIONS)
    chunks = share(operation, topology.chips) * pick.randint(1, 3)
    steps = [
        [
            (
                pick.randrange(topology.nodes),
                pick.randrange(topology.nodes),
                pick.randrange(chunks),
                pick.random() < 0.5,
            )
            for _ in range(pick.randint(1, 12))
        ]
        for _ in range(pick.randint(0, 4))
    ]
    order = pick.choice(("tree", "any")) if operation in SUMS else "tree"
    return Program.of(operation, topology, chunks, steps, order)


@pytest.mark.parametrize("seed", range(60))
def test_what_is_written_is_read_again(seed):
    program = _generated(seed)
    text = text_of([program])
    topologies, (again,) = read_programs(Source("x", text))
    assert again.program == program
    assert topologies == {program.topology.name: program.topology}
    assert format_schedule(Source("x", text)) == text
    for send in range(program.sends):
        add = " add" if program.add[send] else ""
        words = again.where(send).text
        assert words.endswith(f": c{program.chunk[send]}{add}")
        assert words.startswith(f"{program.topology.node_name(int(program.source[send]))} ->")


def test_several_programs_share_a_topology():
    programs = [Program.of("broadcast", TOPOLOGIES[0], 1, [[(0, 1, 0)]]) for _ in range(2)]
    text = text_of(programs, [TOPOLOGIES[1]])
    topologies, read = read_programs(Source("x", text))
    assert [one.program for one in read] == programs
    assert list(topologies) == ["t", "r"]
    assert read_topology(Source("x", text), "t") == TOPOLOGIES[1]


def test_layout_keeps_comments_and_is_its_own():
    assert format_schedule(Source("x", TEXT)) == TEXT
    squeezed = TEXT.replace("\n  ", "\n").replace("  # at", " # at").replace("; ", " ;\n")
    assert format_schedule(Source("x", squeezed)) == TEXT
    (written,) = read_programs(Source("x", TEXT))[1]
    assert verify(written.program, written.where).faults == ()


def test_faults_point_into_the_text():
    _, (written,) = read_programs(Source("x", TEXT.replace("1 -> 2: c0", "1 -> 3: c0")))
    fault = verify(written.program, written.where).faults[0]
    assert fault.span is not None
    assert fault.span.text == "1 -> 3: c0"


def test_other_texts_are_no_schedules():
    assert is_schedule(TEXT)
    assert not is_schedule("sohu 1.0\n\nfamily x {}")
    assert not is_schedule("topology r {}")


HEAD = "sohu 1.0\ntopology r {{ {} }}\ncollective {} {{ {} }}"
GOOD = ("ring 4; link 90 GB/s, 1 us", "broadcast over r chunks 1", "step { 0 -> 1: c0 }")


@pytest.mark.parametrize(
    ("part", "text", "code", "words"),
    [
        (2, "step { }", "S620", "a send"),
        (2, "step { 0 -> 1: c0 0 -> 3: c0 }", "S620", "`;`"),
        (2, "step { ; }", "S620", "a send"),
        (2, "step { 0 -> 1: 0 }", "S620", "a send"),
        (2, "step { 0 -> 1: c0", "S620", "the end of the file"),
        (2, "stop { 0 -> 1: c0 }", "S620", "`step`"),
        (2, "step { 0 -> 9999999999: c0 }", "S620", "a send"),
        (2, "step { 0 -> 4: c0 }", "S622", "no such node"),
        (2, "step { 0 -> s0: c0 }", "S622", "no such node"),
        (2, "step { 0 -> 1: c\u0661 }", "S620", "a send"),
        (1, "broadcast over q chunks 1", "S621", "no topology `q`"),
        (1, "broadcas over r chunks 1", "S622", "no collective"),
        (1, "all_gather over r chunks 3", "S622", "do not divide"),
        (1, "broadcast over r chunks 0", "S622", "do not divide"),
        (1, "broadcast over r chunks 1.5", "S620", "whole number"),
        (1, "broadcast over r chunks 9999999999999", "S620", "nine digits"),
        (1, "broadcast over r chunks 99999999999999999999", "S620", "`99999999999999999999`"),
        (0, "torus 4x4; link 90 GB/s, 1 us", "S620", "`4x4`"),
        (0, "ring 4 x 4; link 90 GB/s, 1 us", "S621", "1 of sizes"),
        (0, "ring 4; ring 4", "S620", "twice"),
        (0, "ring 4", "S621", "what a link carries"),
        (0, "link 90 GB/s, 1 us", "S621", "no shape"),
        (0, "ring 4; link 90 GB, 1 us", "S620", "`GB/s`"),
        (0, "ring 4; link 0 GB/s, 1 us", "S621", "positive"),
        (0, "ring 4; link 1e999 GB/s, 1 us", "S621", "positive"),
        (0, "ring 4; link 9 GB/s, 1 us; reduces tree", "S621", "says nothing"),
        (0, "nodes 2 x 3; link 9 GB/s, 1 us", "S621", "network"),
        (0, "torus 999999999 x 999999999; link 9 GB/s, 1 us", "S621", "at most"),
        (0, "full 99999; link 9 GB/s, 1 us", "S621", "at most"),
        (0, "chips 999999999; 0 -> 1: 9 GB/s, 1 us", "S621", "chips"),
        (0, "chips 2; 0 -> 2: 9 GB/s, 1 us", "S621", "no `2`"),
        (0, "chips 2; 0 -> s0: 9 GB/s, 1 us", "S621", "no `s0`"),
    ],
)
def test_nonsense_is_refused_in_its_place(part, text, code, words):
    parts = [*GOOD]
    parts[part] = text
    with pytest.raises(Refused) as refused:
        read_programs(Source("x", HEAD.format(*parts)))
    fault = refused.value.diagnostics[0]
    assert fault.code == code
    assert words in fault.message
    assert fault.span is not None


@pytest.mark.parametrize("seed", range(200))
def test_broken_texts_are_refused_or_laid_out(seed):
    pick = random.Random(seed)  # noqa: S311 - repeatable
    text = list(text_of([_generated(seed % 7)]) if seed % 2 else TEXT)
    for _ in range(pick.randint(1, 4)):
        at = pick.randrange(len(text))
        text[at] = pick.choice(["", "}", "{", ";", "-", "9", "#", "x", "\n", "\x00", "\u2028"])
    source = Source("x", "".join(text))
    try:
        _, programs = read_programs(source)
        canonical = format_schedule(source)
    except Refused:
        return
    assert format_schedule(Source("x", canonical)) == canonical
    again = read_programs(Source("x", canonical))[1]
    assert [one.program for one in again] == [one.program for one in programs]


def test_one_topology_is_asked_for():
    both = text_of([], TOPOLOGIES[:2])
    with pytest.raises(Refused, match="S621"):
        read_topology(Source("x", both))
    with pytest.raises(Refused, match="already"):
        read_topology(Source("x", both + both.removeprefix("sohu 1.0")))


def test_names_of_a_text_are_unlike():
    program = _generated(0)
    with pytest.raises(ValueError, match="two topologies"):
        text_of([program], [ring(program.topology.name, 5, WIRE)])


def test_a_text_without_a_declaration_is_refused():
    with pytest.raises(Refused, match="S620: expected `topology` or `collective`, found the end"):
        read_programs(Source("cut.sohu", "# What was cut off.\nsohu 1.0\n"))
