# SPDX-License-Identifier: Apache-2.0
"""Parts: what stands in them stands in the family, and a port no longer knows them."""

from __future__ import annotations

import pytest

from dsl.diagnostics import Refused
from dsl.inference.inference import check, infer
from dsl.linking.program import Program, link, port_of
from dsl.source import Source
from dsl.text import syntax as sx
from dsl.text.formatter import format_file
from dsl.text.parser import parse

SIZES = """part sizes {
  config {
    D = hidden_size
  }
  # What is known at run time.
  dims { B: batch, S: seq, C: context }
  mesh { tp }
}
"""
BODY = """
  input x: bf16[B, S, D]
  weight w: bf16[F, D] from "w"
  output y: bf16[B, S, F] = matmul(x, w)
"""
WITH = f"""sohu 1.0

{SIZES}
family demo for "Demo" {{
  include sizes
  config {{
    F = intermediate_size
  }}
{BODY}}}
"""
WITHOUT = f"""sohu 1.0

family demo for "Demo" {{
  config {{
    D = hidden_size
    F = intermediate_size
  }}
  dims {{ B: batch, S: seq, C: context }}
  mesh {{ tp }}
{BODY}}}
"""
SMALL = {"hidden_size": 8, "intermediate_size": 12}


def program(text: str) -> Program:
    return link(parse(Source("test.sohu", text)), lambda path: parse(Source(path.value, "")))


def test_a_family_is_what_it_would_be_without_parts() -> None:
    assert program(WITH).family() == program(WITHOUT).family()
    made = program(WITH)
    assert check(made.family(), made.blocks).diagnostics == ()


def test_a_port_has_the_parts_and_their_comments_in_place() -> None:
    made = program(WITH)
    checked = infer(made.family(), made.blocks, SMALL)
    assert checked.graph is not None
    spec = format_file(port_of(made, checked.uses, ("A test.",), [checked.graph]))
    file = parse(Source("port.sohu", spec))
    assert file.parts == ()
    assert "include" not in spec
    assert spec.count("config {") == 1
    assert "# What is known at run time." in spec
    assert format_file(file) == spec
    (family,) = file.families
    assert infer(family, {}, None).diagnostics == ()


def test_a_part_in_a_part_stands_where_it_is_included() -> None:
    nested = WITH.replace("family", "part outer {\n  include sizes\n}\n\nfamily", 1)
    nested = nested.replace('"Demo" {\n  include sizes', '"Demo" {\n  include outer')
    assert program(nested).family() == program(WITHOUT).family()


def test_a_part_that_includes_itself_is_refused() -> None:
    text = WITH.replace("part sizes {", "part sizes {\n  include sizes")
    with pytest.raises(Refused) as refused:
        program(text).family()
    assert [d.code for d in refused.value.diagnostics] == ["S202"]


def test_two_parts_of_one_name_are_refused() -> None:
    with pytest.raises(Refused) as refused:
        program(WITH.replace(SIZES, SIZES + "\n" + SIZES))
    assert [d.code for d in refused.value.diagnostics] == ["S202"]


def test_inclusion_keeps_the_place_of_every_item() -> None:
    items = program(WITH).family().items
    assert [type(i) for i in items[:3]] == [sx.Config, sx.Dims, sx.Mesh]
    assert [i.span.source.name for i in items] == ["test.sohu"] * len(items)


def test_mesh_sections_become_one_the_family_s_axes_first() -> None:
    (mesh,) = (
        item
        for item in program(
            WITH.replace("  config {\n    F", "  mesh { ep, tp }\n  config {\n    F")
        )
        .family()
        .items
        if isinstance(item, sx.Mesh)
    )
    assert [axis.id for axis in mesh.axes] == ["ep", "tp"]


def test_a_second_mesh_section_of_the_family_is_refused_with_parts_too() -> None:
    text = WITH.replace("  config {\n    F", "  mesh { ep }\n  mesh { dp }\n  config {\n    F")
    assert "S202" in {d.code for d in check(program(text).family(), {}).diagnostics}
