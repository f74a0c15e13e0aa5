# SPDX-License-Identifier: Apache-2.0
"""Weight sources against torch, for the layouts in which model types store their weights; each element is read once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from device_model.weights.reading import ArrayReader, evaluate
from dsl.types import DTYPES
from porting.checkpoint.accounting import account
from porting.checkpoint.safetensors_header import TensorInfo
from tests.dsl.snippets import checked, family, graph

SIZES = {"D": 24, "H": 6, "K": 2, "E": 4, "F": 10, "X": 3}
D, H, K, E, F, X = SIZES.values()
CONFIG = "\n".join(
    [*(f"{n} = key_{n.lower()}" for n in SIZES), "require H % K == 0", "require D % 4 == 0"]
)
Parts = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class Layout:
    """A stored shape, the weights made of it as (axes, source), and what torch makes of it."""

    stored: tuple[int, ...]
    weights: tuple[tuple[str, str], ...]
    parts: Parts


def by_head(t: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """bloom, falcon-rw, gpt_neox, persimmon: each head has rows of queries, keys and values."""
    return tuple(p.reshape(H * E, -1) for p in t.view(H, 3, E, -1).unbind(1))


def by_group(t: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """falcon's newer architecture: each key has its queries, itself and its value."""
    grouped = t.view(K, H // K + 2, E, -1)
    query, key, value = grouped[:, :-2], grouped[:, -2], grouped[:, -1]
    return tuple(p.reshape(-1, t.shape[-1]) for p in (query, key, value))


def by_four(t: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """codegen: four parts, each of queries, values and keys."""
    query, value, key = t.view(4, -1, t.shape[-1]).split(D // 4, dim=1)
    return tuple(p.reshape(D, -1) for p in (query, key, value))


def halves(t: torch.Tensor, dim: int) -> tuple[torch.Tensor, ...]:
    gate, up = t.chunk(2, dim)
    return (gate, up) if dim == 1 else (gate.mT, up.mT)


def pairs(t: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """gpt_oss: gates in the even columns."""
    return t[..., ::2].mT, t[..., 1::2].mT


HEADS = tuple(("[H*E, D]", f'each("w", H, {a}*E, {a + 1}*E)') for a in range(3))
GROUP = "(H // K)"
LAYOUTS: dict[str, Layout] = {
    "heads": Layout((3 * H * E, D), HEADS, by_head),
    "groups": Layout(
        ((H + 2 * K) * E, D),
        (
            ("[H*E, D]", f'each("w", K, 0, {GROUP}*E)'),
            ("[K*E, D]", f'each("w", K, {GROUP}*E, ({GROUP} + 1)*E)'),
            ("[K*E, D]", f'each("w", K, ({GROUP} + 1)*E, ({GROUP} + 2)*E)'),
        ),
        by_group,
    ),
    "one key for all": Layout(
        ((H + 2) * E, D),
        (
            ("[H*E, D]", 'rows("w", 0, H*E)'),
            ("[E, D]", 'rows("w", H*E, (H + 1)*E)'),
            ("[E, D]", 'rows("w", (H + 1)*E, (H + 2)*E)'),
        ),
        lambda t: t.split((H * E, E, E)),
    ),
    "four parts": Layout(
        (3 * D, D),
        (
            ("[D, D]", 'each("w", 4, 0, D // 4)'),
            ("[D, D]", 'each("w", 4, 2*(D // 4), 3*(D // 4))'),
            ("[D, D]", 'each("w", 4, D // 4, 2*(D // 4))'),
        ),
        by_four,
    ),
    "columns of Conv1D": Layout(
        (D, 3 * D),
        tuple(("[D, D]", f'transpose(columns("w", {a}*D, {a + 1}*D))') for a in range(3)),
        lambda t: tuple(p.T for p in t.split(D, 1)),
    ),
    "experts in rows": Layout(
        (X, 2 * F, D),
        tuple(("[X, F, D]", f'matrix_rows("w", {a}*F, {a + 1}*F)') for a in range(2)),
        lambda t: halves(t, 1),
    ),
    "experts in columns": Layout(
        (X, D, 2 * F),
        tuple(("[X, F, D]", f'transpose(columns("w", {a}*F, {a + 1}*F))') for a in range(2)),
        lambda t: halves(t, 2),
    ),
    "alternating columns": Layout(
        (X, D, 2 * F),
        tuple(("[X, F, D]", f'every(transpose("w"), {a}, 2)') for a in range(2)),
        pairs,
    ),
    "alternating biases": Layout(
        (X, 2 * F),
        tuple(("[X, F]", f'transpose(every(transpose("w"), {a}, 2))') for a in range(2)),
        lambda t: (t[:, ::2], t[:, 1::2]),
    ),
    "stacked rows": Layout(
        (X * F, D), (("[X, F, D]", 'fold("w", X)'),), lambda t: (t.view(X, F, D),)
    ),
    "stacked rows turned": Layout(
        (X * F, D),
        (("[X, D, F]", 'transpose(fold("w", X))'),),
        lambda t: (t.view(X, F, D).mT,),
    ),
    "channels of a convolution": Layout(
        (D, 1, 4), (("[D, 4]", 'flat("w", 1)'),), lambda t: (t[:, 0],)
    ),
    "a row of numbers": Layout((1, X), (("[X]", 'flat("w", X)'),), lambda t: (t[0],)),
    "numbers behind two axes": Layout(
        (1, 1, D), (("[D]", 'flat(flat("w", 1), D)'),), lambda t: (t[0, 0],)
    ),
}


def text_of(layout: Layout) -> str:
    lines = ["input x: bf16[B, S, D]"]
    for number, (axes, source) in enumerate(layout.weights):
        lines.append(f"weight w{number}: bf16{axes} from {source}")
    return family("\n".join([*lines, "output y: bf16[B, S, D] = x"]), config=CONFIG)


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_are_those_of_torch(name: str) -> None:
    layout = LAYOUTS[name]
    values = np.random.default_rng(0).normal(size=layout.stored).astype("bfloat16")
    text = text_of(layout).replace("weight w", "weight _w")
    made = graph(text, **{f"key_{n.lower()}": size for n, size in SIZES.items()})
    truth = layout.parts(torch.from_numpy(values.astype(np.float32)))
    assert len(made.body.weights) == len(truth)
    for weight, part in zip(made.body.weights, truth, strict=True):
        array = evaluate(weight, ArrayReader({"w": values}), -1)
        assert np.array_equal(np.asarray(array).astype(np.float32), part.numpy())
    info = TensorInfo("w", DTYPES["bf16"], layout.stored, "f", 0, values.nbytes)
    assert account(made, {"w": info}, lambda a, b: False).diagnostics == ()


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_fit_any_sizes(name: str) -> None:
    said = checked(text_of(LAYOUTS[name]).replace("weight w", "weight _w")).diagnostics
    unused = {"S215"}
    assert {d.code for d in said} <= unused


@pytest.mark.parametrize(
    ("axes", "source", "code"),
    [
        ("[F]", 'matrix_rows("w", 0, F)', "S209"),
        ("[X, F, D]", 'matrix_rows("w", 0, D)', "S209"),
        ("[D, F]", 'flat("w", 0)', "S208"),
        ("[D, F]", 'flat("w", F)', "S209"),
        ("[]", 'flat("w", 1)', "S209"),
    ],
)
def test_sources_that_do_not_fit_are_refused(axes: str, source: str, code: str) -> None:
    layout = Layout((), ((axes, source),), lambda t: ())
    text = text_of(layout).replace("weight w", "weight _w")
    assert code in {d.code for d in checked(text).diagnostics}
