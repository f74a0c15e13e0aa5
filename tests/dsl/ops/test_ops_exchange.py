# SPDX-License-Identifier: Apache-2.0
"""Tokens on their way to experts of other chips: every constraint violated alone, and what may not meet them there."""

from __future__ import annotations

import pytest

from dsl.inference.inference import check_block
from dsl.ops.exchange import needed
from dsl.symbolic import evaluate
from tests.dsl.snippets import checked, family, graph, program

CONFIG = "D = d\nF = f\nX = x\nT = t\nN = n"
TOKENS = "input x: bf16[B, S, D]\ninput choice: i32[B, S, T]\ninput share: f32[B, S, T]\n"
WEIGHT = 'weight w: bf16[X @ep, D, D] from "w"\n'
HANDED = "h, c, p = dispatch(x, choice, share, ep)\n"
MADE = "y = combine(expert_matmul(h, w, c), p)\n"
BACK = "output z: bf16[B, S, D] = collect(y, c, ep)"
SOUND = TOKENS + WEIGHT + HANDED + MADE + BACK


def text_of(body: str, batch: str = "B @ep", mesh: str = "tp, ep") -> str:
    text = family(body, config=CONFIG, mesh=mesh).replace("B: batch", f"{batch}: batch")
    return "\n".join(line for line in text.split("\n") if _is_needed(line, body))


def _is_needed(line: str, body: str) -> bool:
    """Tell whether a line is no config name that the body leaves out."""
    name, equals, key = line.partition(" = ")
    return not (equals and key == name.lower() and name not in body)


def said(body: str, batch: str = "B @ep") -> list[tuple[str, str]]:
    return [(d.code, d.constraint) for d in checked(text_of(body, batch)).diagnostics]


def violated(body: str) -> str:
    ((code, constraint),) = said(body)
    assert code in ("S203", "S302")
    return constraint


def test_experts_of_chips_that_have_their_own_sequences_are_sound() -> None:
    assert said(SOUND) == []
    assert said(SOUND, "B @tp @ep") == []


def test_dispatch_type() -> None:
    made = graph(text_of(SOUND), d=8, x=4, t=2)
    types = {value.name: str(value.type) for value in made.values}
    assert (types["h"], types["c"]) == ("bf16[B*ep, S, 8]", "i32[B*ep, S, 2]")
    assert types["p"] == "f32[B*ep, S, 2]"


def test_collect_type() -> None:
    made = graph(text_of(SOUND), d=8, x=4, t=2)
    types = {value.name: str(value.type) for value in made.values}
    assert types["y"] == "bf16[B*ep, S, 8] partial over ep"
    assert str(made.outputs[0].type) == "bf16[B, S, 8]"


@pytest.mark.parametrize(
    "body",
    [
        # Experts of a chip, and the tokens of that chip alone.
        TOKENS + WEIGHT + "y = combine(expert_matmul(x, w, choice), share)\n"
        "output z: bf16[B, S, D] = all_reduce(y, ep)",
        # What was handed over, added to what was not, in a fault of shapes.
        SOUND.replace("expert_matmul(h, w, c)", "expert_matmul(h, w, choice)"),
        SOUND.replace("collect(y, c, ep)", "collect(y, c, ep) + h"),
        # Added up, but not brought back.
        SOUND.replace("collect(y, c, ep)", "all_reduce(y, ep)"),
        # A table, or a matrix, on the axis of the batch.
        TOKENS + 'weight v: bf16[N @ep, D] from "v"\n'
        "output z: bf16[B, S, N] = all_gather(matmul(x, v), ep)\n"
        "output o: f32[B, S, T] = share\noutput i: i32[B, S, T] = choice",
    ],
)  # fmt: skip
def test_what_was_not_handed_over_does_not_meet_what_was(body: str) -> None:
    codes = {code for code, _ in said(body)}
    assert codes
    assert codes <= {"S203", "S213", "S301", "S302", "S307"}


def test_a_refusal_names_dispatch() -> None:
    body = TOKENS + WEIGHT + "y = combine(expert_matmul(x, w, choice), share)\n"
    (diagnostic,) = checked(
        text_of(body + "output z: bf16[B, S, D] = all_reduce(y, ep)")
    ).diagnostics
    assert diagnostic.code == "S307"
    assert "dispatch(…, ep)" in diagnostic.help


def test_an_axis_that_does_not_split_the_batch_hands_nothing_over() -> None:
    assert [code for code, _ in said(SOUND, "B")][:1] == ["S207"]
    assert [code for code, _ in said(SOUND, "B @tp")][:1] == ["S207"]


def test_rows_of_other_chips_have_no_sequence() -> None:
    body = SOUND.replace(MADE, "h = merge(rope(heads(h, 1), freqs, at=C))\n" + MADE)
    body = body.replace(
        HANDED, HANDED + "require D % 2 == 0\nfreqs = rope_frequencies(D, theta=10000.0)\n"
    )
    assert "S307" in {code for code, _ in said(body)}


def test_a_partial_sum_is_not_handed_over() -> None:
    body = SOUND.replace(
        HANDED, 'weight m: bf16[D, F @tp] from "m"\ninput q: bf16[B, S, F @tp]\nx = matmul(q, m)\n' + HANDED
    ).replace("input x: bf16[B, S, D]\n", "")  # fmt: skip
    assert [code for code, _ in said(body)] == ["S301"]


def test_dispatch_c1() -> None:
    assert (
        violated(SOUND.replace("dispatch(x, choice, share", "dispatch(x, share, share"))
        == "dispatch_c1"
    )
    assert violated(SOUND.replace("dispatch(x,", "dispatch(heads(x, 1),")) == "dispatch_c1"


def test_dispatch_c2() -> None:
    assert violated(SOUND.replace("share: f32[B, S, T]", "share: f32[B, S, N]")) == "dispatch_c2"


def test_dispatch_c3() -> None:
    body = SOUND.replace("[B, S, T]", "[N, S, T]").replace("input x: bf16[B", "input x: bf16[N")
    assert violated(body) == "dispatch_c3"


def test_dispatch_c4() -> None:
    assert (
        violated(SOUND.replace(HANDED, HANDED + "h, c, p = dispatch(h, c, p, ep)\n"))
        == "dispatch_c4"
    )


def test_dispatch_c5() -> None:
    body = SOUND.replace("[B, S", "[B, S @tp").replace("z: bf16[B, S @tp", "z: bf16[B, S")
    assert violated(body) == "dispatch_c5"


def test_collect_c1() -> None:
    assert violated(SOUND.replace("collect(y, c,", "collect(y, p,")) == "collect_c1"


def test_collect_c2() -> None:
    assert violated(SOUND.replace("collect(y, c,", "collect(y, choice,")) == "collect_c2"


def test_collect_c3() -> None:
    body = TOKENS + 'weight m: bf16[D, F @tp] from "m"\ninput q: bf16[B, S, F @tp]\n'
    body += "output z: bf16[B, S, D] = all_reduce(collect(matmul(q, m), choice, ep), tp) + x\n"
    assert violated(body + "output o: f32[B, S, T] = share") == "collect_c3"


def test_collect_c4() -> None:
    body = SOUND.replace("collect(y, c,", "collect(h, c,").replace(
        "output z", "output o: bf16[B, S, D] = collect(y, c, ep)\noutput z"
    )
    assert violated(body) == "collect_c4"


def test_collect_c5() -> None:
    assert said(SOUND.replace("collect(y, c, ep)", "collect(shard(y, ep), c, ep)"))


@pytest.mark.parametrize(("top", "chips"), [(1, 4), (2, 8), (8, 32)])
def test_a_chip_needs_the_tokens_that_chose_one_of_its_experts(top: int, chips: int) -> None:
    share = float(evaluate(needed(top, "ep"), {"ep": chips}))
    assert share == pytest.approx(1 - (1 - 1 / chips) ** top)


def test_many_choices_need_every_chip() -> None:
    assert needed(100, "ep") == 1


EITHER = (
    TOKENS
    + WEIGHT
    + """if splits_batch(ep) {
  x, choice, share = dispatch(x, choice, share, ep)
}
y = combine(expert_matmul(x, w, choice), share)
if splits_batch(ep) {
  y = collect(y, choice, ep)
} else {
  y = all_reduce(y, ep)
}
output z: bf16[B, S, D] = y"""
)


@pytest.mark.parametrize(("batch", "handed"), [("B", 0), ("B @tp", 0), ("B @ep", 1)])
def test_a_program_asks_whether_an_axis_splits_the_batch(batch: str, handed: int) -> None:
    made = graph(text_of(EITHER, batch, "tp, ep"), d=8, x=4, t=2)
    ops = [getattr(step, "op", "") for step in made.body.steps]
    assert (ops.count("dispatch"), ops.count("collect")) == (handed, handed)
    assert ops.count("all_reduce") == 1 - handed


def test_a_block_alone_is_checked_both_ways() -> None:
    made = program(
        "sohu 1.0\nblock either(x: bf16[B, S, D @ep]) -> bf16[B, S, D] {\n"
        "if splits_batch(ep) {\ny = all_gather(x, ep)\n} else {\ny = x\n}\nreturn y\n}"
    )
    outcome = check_block(made.blocks["either"], made.blocks)
    assert outcome.paths == 2
    (diagnostic,) = outcome.diagnostics
    assert "D @ep" in diagnostic.message


@pytest.mark.parametrize("asked", ["D", "3", '"ep"', "ep, tp", ""])
def test_what_is_no_mesh_axis_splits_no_batch(asked: str) -> None:
    codes = {code for code, _ in said(EITHER.replace("splits_batch(ep)", f"splits_batch({asked})"))}
    assert "S207" in codes
