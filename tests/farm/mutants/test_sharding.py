# SPDX-License-Identifier: Apache-2.0
"""Seeded sharding mistakes: each kind is made, the checker refuses them, and what it lets through is judged by bits."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from dsl.source import Source
from dsl.text import syntax as sx
from dsl.text.parser import parse
from farm.mutants import sharding
from farm.mutants.literal import literally_differs
from farm.mutants.sharding import (
    CAUGHT,
    FAMILY,
    HARMLESS,
    MISSED,
    PORT,
    REFUSED,
    STEPS,
    UNCHANGED,
    Seeded,
    Subject,
    drawn,
    in_lockstep,
    judged,
    meaning,
    subjects,
)
from farm.mutants.sharding_edits import MAKERS, ShardingEdit, edited_text, sharding_edits
from farm.mutants.sharding_page import (
    HOLES,
    TYPES,
    counts,
    sharding_faults,
    sharding_markdown,
    share_refused,
)


@pytest.fixture(scope="module")
def mixtral(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Subject]:
    family, port = subjects("mixtral", tmp_path_factory.mktemp("mixtral"))
    return {FAMILY: family, PORT: port}


def edits(subject: Subject, kind: str) -> Iterator[ShardingEdit]:
    for part in subject.reached():
        yield from sharding_edits(part, subject.graph.mesh)[kind]


def rewritten(subject: Subject, old: str, new: str) -> ShardingEdit:
    """A mistake in the port: the first place of a text, as another."""
    source = subject.files["port.sohu"].span.source
    start = source.text.index(old)
    span = type(subject.files["port.sohu"].span)(source, start, start + len(old))
    return ShardingEdit("by hand", ((span, new),), old)


def test_every_kind_is_made_somewhere_and_its_text_parses(mixtral: dict[str, Subject]) -> None:
    family = mixtral[FAMILY]
    made = {kind for part in family.reached() for kind, some in _some(part, family) if some}
    assert made == set(MAKERS)
    twice = parse(Source("t", "sohu 1.0\nblock b(x: f32[A @tp, B @ep]) -> f32[A] {\n  return x\n}"))
    (edit,) = sharding_edits(twice, ("tp", "ep"))["axes exchanged in a type"]
    assert "f32[A @ep, B @tp]" in edited_text(twice.span.source, edit.changes)


def _some(part: sx.Syntax, subject: Subject) -> Iterator[tuple[str, list[ShardingEdit]]]:
    for kind, made in sharding_edits(part, subject.graph.mesh).items():
        for edit in made[:1]:
            source = edit.changes[0][0].source
            parse(Source(source.name, edited_text(source, edit.changes)))
        yield kind, made


@pytest.mark.parametrize("kind", HOLES)
@pytest.mark.parametrize("subject", [FAMILY, PORT])
def test_the_holes_are_closed(mixtral: dict[str, Subject], kind: str, subject: str) -> None:
    found_in = mixtral[subject]
    verdicts = [judged(found_in, (edit,))[0] for edit in edits(found_in, kind)]
    assert verdicts
    # An axis that splits no tensor may split the batch or the layers.
    assert set(verdicts) <= {REFUSED, HARMLESS}
    assert REFUSED in verdicts


def test_a_dropped_sum_is_refused_and_a_branch_not_taken_is_no_bug(
    mixtral: dict[str, Subject],
) -> None:
    port = mixtral[PORT]
    late = [judged(port, (edit,)) for edit in edits(port, "collective dropped")]
    assert {verdict for verdict, _ in late} == {REFUSED, UNCHANGED}
    assert any("S301" in told for _, told in late)


def test_weights_are_not_gathered_and_other_arithmetic_is_caught(
    mixtral: dict[str, Subject],
) -> None:
    port = mixtral[PORT]
    late, early = (
        'all_gather(matmul(x, head, dtype="f32"), tp)',
        'matmul(x, all_gather(head, tp), dtype="f32")',
    )
    verdict, told = judged(port, (rewritten(port, late, early),))
    assert (verdict, "S618" in told or "Refused" in told) == (CAUGHT, True)
    verdict, told = judged(port, (rewritten(port, late, f"silu({late})"),))
    assert (verdict, told.split(":")[0]) == (CAUGHT, "one chip")


def test_what_only_a_literal_mesh_sees_is_missed(
    mixtral: dict[str, Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = mixtral[PORT]
    assert in_lockstep(port, port.graph) == (HARMLESS, "")
    monkeypatch.setattr(sharding, "literally_differs", lambda *_: "no sum")
    assert in_lockstep(port, port.graph) == (MISSED, "one chip: no sum")


def test_a_literal_mesh_adds_and_notices_other_results(mixtral: dict[str, Subject]) -> None:
    port, wanted = mixtral[PORT], mixtral[PORT].wanted
    mesh = {"tp": 2, "ep": 2}
    assert literally_differs(port.graph, port.checkpoint, mesh, STEPS, wanted) == ""
    others = [bits ^ 0x00400000 for bits in wanted]
    assert "at its word" in literally_differs(port.graph, port.checkpoint, mesh, STEPS, others)


def test_mistakes_are_drawn_alike_and_some_in_pairs(mixtral: dict[str, Subject]) -> None:
    made = list(drawn(mixtral[PORT], 20, 5, random.Random(1)))  # noqa: S311 - a sample
    assert [len(edits) for edits in made] == [1, 1, 1, 1, 2] * 4
    assert len({edits[0].kind for edits in made}) == len({*MAKERS} - {"axes exchanged in a type"})
    assert meaning(mixtral[PORT].graph) == meaning(mixtral[PORT].bound(mixtral[PORT].linked({})))


def test_the_page_tells_what_is_missed() -> None:
    missed = Seeded("llama", PORT, ("collective dropped",), "a | b", MISSED, "tp=2: x")
    hole = Seeded("llama", FAMILY, (HOLES[0],), "B @tp", CAUGHT, "tp=2: y")
    made = [
        Seeded("llama", FAMILY, ("collective dropped",), "c", REFUSED, "S301 S302"),
        missed,
        hole,
    ]
    assert counts(made).bugs == 3
    assert share_refused(made) == pytest.approx(1 / 3)
    assert len(sharding_faults(made)) == 2
    page = sharding_markdown(made, {"opt": "ValueError: no"})
    assert "| collective dropped | 2 | 1 | 0 | 1 | 0 | 0 |" in page
    assert "a \\| b" in page
    assert "| opt | ValueError: no |" in page
    assert len(set(TYPES)) >= 20
