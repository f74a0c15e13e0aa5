# SPDX-License-Identifier: Apache-2.0
"""Sources of four-bit weights: the tensors that a file must hold, parts of them, and what is refused."""

from __future__ import annotations

import pytest

from dsl.counting.footprint import footprint
from dsl.graph import Graph, TensorRef
from dsl.inference.inference import infer
from dsl.stored_tensors import tensors
from dsl.symbolic import evaluate
from tests.dsl.snippets import checked, family, program

GPTQ = 'gptq("f16", "w.qweight", "w.qzeros", "w.scales", "w.g_idx", {group}, {added})'
AWQ = 'awq("f16", "w.qweight", "w.qzeros", "w.scales", {group})'
BODY = """input x: bf16[B, S, D]
weight w: bf16[F, D] from {source}
output y: bf16[B, S, F] = matmul(x, w)"""


def text(source: str) -> str:
    body = BODY.replace("{source}", source)
    return family(body, config="D = hidden\nF = ffn")


def graph(source: str) -> Graph:
    made = program(text(source))
    found = infer(made.family(), made.blocks, {"hidden": 48, "ffn": 32})
    assert found.diagnostics == ()
    assert found.graph is not None
    return found.graph


def refs(made: Graph) -> dict[str, TensorRef]:
    return dict(tensors(made.body.weights[0].source, -1))


def gptq(group: int | str = 16, added: int = 1) -> str:
    return GPTQ.format(group=group, added=added)


def awq(group: int | str = 16) -> str:
    return AWQ.format(group=group)


def test_the_tensors_of_gptq() -> None:
    made = graph(gptq())
    found = refs(made)
    assert {name: ref.shape for name, ref in found.items()} == {
        "w.qweight": (6, 32),
        "w.qzeros": (3, 4),
        "w.scales": (3, 32),
        "w.g_idx": (48,),
    }
    dtypes = [str(ref.dtype) for ref in found.values()]
    assert dtypes == ["i32", "i32", "f16", "i32"]
    assert [ref.shared for ref in found.values()] == [False, False, False, True]
    bits = 32 * 48 * 4 + 3 * 32 * (4 + 16) + 48 * 32
    assert evaluate(footprint(made).weights, {"tp": 1}) * 8 == bits


def test_the_tensors_of_awq() -> None:
    found = refs(graph(awq()))
    assert {name: ref.shape for name, ref in found.items()} == {
        "w.qweight": (48, 4),
        "w.qzeros": (3, 4),
        "w.scales": (3, 32),
    }


def test_one_group_of_the_whole_width() -> None:
    assert refs(graph(gptq(0)))["w.scales"].shape == (1, 32)


@pytest.mark.parametrize("source", [gptq(), awq()])
def test_rows_of_a_fused_tensor(source: str) -> None:
    found = refs(graph(f"rows({source}, 16, 48)"))
    scales, zeros = found["w.scales"].region, found["w.qzeros"].region
    assert scales is not None
    assert zeros is not None
    assert (scales.axis, scales.start, scales.stop) == (1, 16, 48)
    assert (zeros.axis, zeros.start, zeros.stop) == (1, 2, 6)
    assert found["w.scales"].shape == (3, None)
    assert found["w.scales"].read == (3, 32)
    assert found["w.qzeros"].read == (3, 4)


@pytest.mark.parametrize("source", [gptq(), awq()])
def test_rows_of_each_group_of_heads(source: str) -> None:
    zeros = refs(graph(f"each({source}, 4, 8, 16)"))["w.qzeros"].region
    assert zeros is not None
    assert (zeros.start, zeros.stop, zeros.groups) == (1, 2, 4)


@pytest.mark.parametrize("source", [gptq("16"), awq("16"), f"transpose({awq('F')})"])
def test_sizes_may_be_open(source: str) -> None:
    assert checked(text(source)).diagnostics == ()


REFUSED = [
    (gptq(5), "S209"),
    (gptq(96), "S209"),
    (gptq(added=2), "S208"),
    (awq(5), "S209"),
    (gptq('"16"'), "S2"),
    (gptq(-1), "S208"),
    (gptq().replace("f16", "f17"), "S211"),
    (f"rows({gptq()}, 4, 36)", "S208"),
    (f"every({awq()}, 0, 2)", "S208"),
    (f"columns({gptq()}, 0, D)", "S208"),
    (gptq().replace(', "w.g_idx"', ""), "S208"),
]


@pytest.mark.parametrize(("source", "code"), REFUSED)
def test_what_is_refused(source: str, code: str) -> None:
    made = program(text(source))
    found = infer(made.family(), made.blocks, {"hidden": 48, "ffn": 32})
    assert [d.code[: len(code)] for d in found.diagnostics][:1] == [code]


@pytest.mark.parametrize(("source", "hidden", "ffn"), [(gptq(4), 12, 8), (awq(4), 12, 12)])
def test_words_are_whole(source: str, hidden: int, ffn: int) -> None:
    made = program(text(source))
    found = infer(made.family(), made.blocks, {"hidden": hidden, "ffn": ffn})
    assert [d.code for d in found.diagnostics][:1] == ["S209"]
