# SPDX-License-Identifier: Apache-2.0
"""Tensors that a program names as not needed: they are accounted for, with their reason."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from dsl.types import DTYPES
from porting.checkpoint.accounting import Accounted, account
from porting.checkpoint.safetensors_header import TensorInfo
from tests.dsl.snippets import codes, family, graph

BODY = """input x: bf16[B, S, D]
repeat i < L carry x {{
  weight w: bf16[D, D] from "h.{{i}}.w"
  {inner}
  x = matmul(x, w)
}}
{outer}
output y: bf16[B, S, D] = x"""
CONFIG = "D = hidden\nL = layers"
READ = ("h.0.w", "h.1.w")


class Unlike:
    """Tensors of which no two hold the same bits, and whose values show nothing."""

    def same_bits(self, one: str, other: str) -> bool:
        return False

    def pieces(self, name: str) -> Iterator[np.ndarray]:
        yield np.full(16, 7.0)


def accounted(names: tuple[str, ...], inner: str = "", outer: str = "") -> Accounted:
    made = graph(family(BODY.format(inner=inner, outer=outer), config=CONFIG), hidden=4, layers=2)
    tensors = {n: TensorInfo(n, DTYPES["bf16"], (4, 4), "f", 0, 32) for n in (*READ, *names)}
    return account(made, tensors, Unlike())


def test_named_tensors_are_left_with_their_reason() -> None:
    masks, draft = (
        'unused "h.{i}.bias", "h.*.extra" because "masks"',
        'unused "h.{L}.*" because "draft"',
    )
    names = ("h.0.bias", "h.1.bias", "h.1.a.extra", "h.2.w", "h.2.deep.er")
    found = accounted(names, masks, draft)
    assert found.diagnostics == ()
    assert found.account.unused == ()
    assert found.account.left == {
        "masks": ("h.0.bias", "h.1.a.extra", "h.1.bias"),
        "draft": ("h.2.deep.er", "h.2.w"),
    }
    assert found.account.total == 7
    data = found.account.to_dict()
    assert data["unused"] == []
    assert data["left"] == [
        {"reason": reason, "count": len(left), "tensors": list(left)}
        for reason, left in found.account.left.items()
    ]


FIRST_ROW = 'weight row: bf16[D] from flat(rows("table", 0, 1), D)\nx = x + row'
TABLE = 'unused "table" because "the rest"'


def test_the_rest_of_a_named_tensor_may_stay() -> None:
    found = accounted(("table",), outer=f"{TABLE}\n{FIRST_ROW}")
    assert found.diagnostics == ()
    assert found.account.consumed == (*READ, "table")
    assert found.account.left == {}


@pytest.mark.parametrize(
    "body",
    [FIRST_ROW, f"{TABLE}\n{FIRST_ROW}\n{FIRST_ROW.replace('row:', 'again:')}\nx = x + again"],
)
def test_other_tensors_are_read_whole_and_no_row_twice(body: str) -> None:
    assert [d.code for d in accounted(("table",), outer=body).diagnostics] == ["S564"]


@pytest.mark.parametrize("name", ["h.x.bias", "h.0.biases", "gh.0.bias", "h.0.0.bias"])
def test_other_tensors_stay_unused(name: str) -> None:
    found = accounted((name,), 'unused "h.{i}.bias" because "masks"')
    assert found.account.unused == (name,)
    assert [d.code for d in found.diagnostics] == ["S561"]


def test_what_is_read_is_not_left() -> None:
    found = accounted((), outer='unused "h.*" because "everything else"')
    assert found.account.left == {}
    assert found.account.consumed == READ


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ('unused "h.bias" because " "', "S208"),
        ('unused "*" because "all"', "S208"),
        ('unused "*.*" because "all"', "S208"),
        ('unused "h.{nothing}.w" because "a hole"', "S210"),
    ],
)
def test_statements_that_say_nothing_are_refused(statement: str, code: str) -> None:
    assert codes(family(BODY.format(inner="", outer=statement), config=CONFIG)) == [code]
