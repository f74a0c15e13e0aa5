# SPDX-License-Identifier: Apache-2.0
"""Sizes that are shares of others: quotients of a declared division, and a computed part of a head."""

from __future__ import annotations

from dsl.stored_tensors import tensors
from tests.dsl.snippets import checked, family, graph

CONFIG = "D = hidden\nH = heads\nK = groups\nshare = fraction\nrequire D % H == 0"
BODY = """E = D // H
{inner}
input x: bf16[B, S, D]
weight w: bf16[K*E, D] from "w"
k = heads(matmul(x, w), {count})
output y: bf16[B, {count}, S, {width}] = rope(k, rope_frequencies({rotated}, theta=10000.0), at=C)"""


def said(inner: str, rotated: str, count: str = "K", width: str = "E") -> list[str]:
    body = BODY.format(inner=inner, rotated=rotated, count=count, width=width)
    found = checked(family(body, config=CONFIG)).diagnostics
    return [d.code for d in found if d.code != "S215"]


def test_heads_divide_what_they_are_multiplied_with() -> None:
    assert said("require E % 2 == 0", "E") == []


def test_other_sizes_do_not_divide_it() -> None:
    assert said("require E % 2 == 0", "E", count="H") != []


def test_a_part_of_a_head_is_a_size_once_it_is_known_to_be_even() -> None:
    part = "R = int(E * share)"
    assert said(f"{part}\nrequire R % 2 == 0", "R") == []
    assert said(part, "R") == ["S203"]


def test_lists_may_hold_lists() -> None:
    body = """first = kinds[0]
    second = first[1]
    input x: bf16[B, S, D]
    weight w: bf16[D, D] from "{second}.w"
    output y: bf16[B, S, D] = matmul(x, w)"""
    config = 'D = hidden\nkinds = kinds ?? [["a", "b"]]'
    made = graph(family(body, config=config), hidden=8)
    (weight,) = made.body.weights
    assert [name for name, _ in tensors(weight.source, -1)] == ["b.w"]
