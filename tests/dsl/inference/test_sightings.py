# SPDX-License-Identifier: Apache-2.0
"""What places stand for: each type on each path once, and the check is the same with and without looking."""

from __future__ import annotations

from dsl.inference.inference import check_block, glance
from dsl.inference.sightings import MAX_SIGHTINGS
from porting.planning.library import text_program

TEXT = """sohu 1.0
block b(x: f32[B, S, D], w: f32[D], wide: bool, n: dim) -> f32[B, S, D] {
  y = x
  if wide {
    y = rms_norm(x, w, eps=0.1)
  }
  k = n + 1
  z = y + %s
  return z
}
"""


def seen(text: str, most: int = 16) -> dict[str, tuple[str, ...]]:
    program = text_program(text, "t")
    sightings, _ = glance(program.file.blocks[0], program.blocks, most)
    return {f"{span.text}@{span.start}": words for span, words in sightings.shown.items()}


def test_places_have_their_types_and_values() -> None:
    shown = {name.split("@")[0]: words for name, words in seen(TEXT % "x").items()}
    assert shown["rms_norm(x, w, eps=0.1)"] == ("f32[B, S, D]",)
    assert shown["k"] == ("n + 1",)
    assert shown["D"] == ("D",)
    assert {shown["x"], shown["y"], shown["z"]} == {("f32[B, S, D]",)}


def test_one_path_sees_one_branch() -> None:
    text = TEXT % "x"
    assert "rms_norm(x, w, eps=0.1)" in {name.split("@")[0] for name in seen(text, 1)}
    other = text.replace("if wide", "if not wide")
    assert "rms_norm(x, w, eps=0.1)" not in {name.split("@")[0] for name in seen(other, 1)}
    assert "rms_norm(x, w, eps=0.1)" in {name.split("@")[0] for name in seen(other)}


def test_faults_are_those_of_the_check_and_places_before_them_are_seen() -> None:
    program = text_program(TEXT % "w", "t")
    sightings, faults = glance(program.file.blocks[0], program.blocks, 16)
    checked = check_block(program.file.blocks[0], program.blocks)
    assert [d.code for d in faults] == [d.code for d in checked.errors]
    names = {span.text: words for span, words in sightings.shown.items()}
    assert names["y"] == ("f32[B, S, D]",)


def test_a_place_is_seen_so_often_and_no_more() -> None:
    text = (
        "sohu 1.0\nblock twice(x: f32[N]) -> f32[N] {\n  y = x + x\n  return y\n}\n"
        "block b("
        + ", ".join(f"x{i}: f32[N{i}]" for i in range(8))
        + ") -> f32[N0] {\n"
        + "".join(f"  y{i} = twice(x{i})\n" for i in range(8))
        + "  return y0\n}\n"
    )
    program = text_program(text, "t")
    block = next(b for b in program.file.blocks if b.name.id == "b")
    sightings, _ = glance(block, program.blocks, 16)
    inner = next(words for span, words in sightings.shown.items() if span.text == "x + x")
    assert inner == tuple(f"f32[N{i}]" for i in range(MAX_SIGHTINGS))
