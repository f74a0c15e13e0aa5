# SPDX-License-Identifier: Apache-2.0
"""Operations on positions: every constraint violated alone, and the types of sound calls."""

from __future__ import annotations

import pytest

from dsl.graph import Node
from tests.dsl.snippets import checked, family, found, gives, graph, violated

FREQS = "f32[R]"
X = "bf16[B, H, S, 2*R]"
TOKENS = "i32[B, S]"


def test_positions_type() -> None:
    assert gives("positions(t, at=C, offset=2)", TOKENS, t=TOKENS)
    table = {"w": "bf16[N, D]", "t": TOKENS}
    assert gives("gather(w, positions(t, at=C))", "bf16[B, S, D]", **table)


def test_positions_c1() -> None:
    for type_ in ("f32[B, S]", "i32[B, S, N]", "i32[S]"):
        assert violated("positions(t, at=C)", t=type_) == "positions_c1"


def test_sinusoids_type() -> None:
    assert gives("sinusoids(t, 2*N, at=C)", "f32[B, S, 2*N]", t=TOKENS)
    call = 'sinusoids(t, 8, at=C, offset=2, ends=true, order="cos_sin")'
    assert gives(call, "f32[B, S, 8]", t=TOKENS)


def test_sinusoids_c1() -> None:
    assert violated("sinusoids(t, 8, at=C)", t="f32[B, S]") == "sinusoids_c1"


def test_sinusoids_c2() -> None:
    for width in ("7", "N", "0"):
        assert violated(f"sinusoids(t, {width}, at=C)", t=TOKENS) == "sinusoids_c2"
    assert violated("sinusoids(t, 2, at=C, ends=true)", t=TOKENS) == "sinusoids_c2"


def test_alibi_slopes_type() -> None:
    assert gives("alibi_slopes(H, bias_max=16, scale=0.5)", "f32[H]", require=("H > 0",))


def test_alibi_slopes_c1() -> None:
    assert violated("alibi_slopes(0)") == "alibi_slopes_c1"


def test_position_scale_type() -> None:
    for x in ("bf16[B, H @tp, S, E]", "f32[B, S, D]"):
        assert gives("position_scale(x, at=C, length=8192, gain=0.1, offset=1)", x, x=x)


def test_position_scale_c1() -> None:
    call = "position_scale(x, at=C, length=8, gain=0.1)"
    for x in ("i32[B, S, D]", "bf16[B, S]"):
        assert violated(call, x=x) == "position_scale_c1"


def test_position_scale_c2() -> None:
    for length in ("0", "-1.5"):
        call = f"position_scale(x, at=C, length={length}, gain=0.1)"
        assert violated(call, x="bf16[B, S, D]") == "position_scale_c2"


def test_rope_frequencies_type() -> None:
    assert gives("rope_frequencies(64, theta=1e4)", "f32[32]")


def test_rope_frequencies_c1() -> None:
    assert violated("rope_frequencies(63, theta=1e4)") == "rope_frequencies_c1"
    assert violated("rope_frequencies(0, theta=1e4)") == "rope_frequencies_c1"
    odd = violated("rope_frequencies(E, theta=1e4)", require=("E >= 2",))
    assert odd == "rope_frequencies_c1"


def test_rope_frequencies_c2() -> None:
    call = "rope_frequencies(4, theta=1e4, factors={factors})"
    assert gives(call.format(factors="[1, 2.5]"), "f32[2]")
    for factors in ("[1.0]", "[1.0, 0.0]", "[1.0, -2.0]", "[]"):
        assert violated(call.format(factors=factors)) == "rope_frequencies_c2"


def test_factors_are_numbers() -> None:
    for factors in ('["a"]', "[true]", "1.0"):
        (diagnostic,) = found(f"rope_frequencies(2, theta=1e4, factors={factors})")
        assert diagnostic.code == "S207"


def test_factors_that_the_config_gives() -> None:
    body = """input x: bf16[B, H, S, 4]
output y: bf16[B, H, S, 4] = rope(x, rope_frequencies(4, theta=1e4, factors=f), at=C)"""
    text = family(body, config="H = heads\nf = rope_parameters.short_factor")
    assert checked(text).diagnostics == ()
    made = graph(text, **{"heads": 3, "rope_parameters.short_factor": [1, 2.5]})
    node = next(step for step in made.body.steps if isinstance(step, Node))
    assert node.attrs["factors"] == (1.0, 2.5)


def test_rope_frequencies_c3() -> None:
    yarn = 'rope_frequencies(8, theta=1e4, scaling="yarn", factor=2.0, original_max_position_embeddings=64.0'
    assert gives(f"{yarn})", "f32[4]")
    for value in ("0.0", "-1.0"):
        assert violated(f"{yarn}, beta_fast={value})") == "rope_frequencies_c3"
        assert violated(f"{yarn}, beta_slow={value})") == "rope_frequencies_c3"
        assert violated(f"rope_frequencies(8, theta={value})") == "rope_frequencies_c3"
    assert violated(yarn.replace("1e4", "1.0") + ")") == "rope_frequencies_c3"
    llama3 = (
        'rope_frequencies(8, theta=1e4, scaling="llama3", original_max_position_embeddings=64.0'
    )
    assert violated(f"{llama3}, low_freq_factor=0.0)") == "rope_frequencies_c3"


@pytest.mark.parametrize(
    "numbers",
    [
        "theta=1e-80",
        'theta=1e4, scaling="linear", factor=1e-39',
        'theta=1e-30, scaling="llama3", factor=1e-30, original_max_position_embeddings=64.0',
        "theta=1e4, factors=[1.0, 1e-45, 1.0, 1.0]",
        'theta=1e4, scaling="yarn", original_max_position_embeddings=64.0, beta_slow=1e-308',
        'theta=1e4, scaling="yarn", original_max_position_embeddings=64.0, beta_fast=1e308',
        'theta=1e4, scaling="yarn", original_max_position_embeddings=1e308, beta_slow=1e-3',
        'theta=1e4, scaling="proportional", proportion=1e308',
        'theta=1e4, scaling="proportional", proportion=-1.0',
    ],
)
def test_rope_frequencies_c4(numbers: str) -> None:
    """Each would end in an overflow, a logarithm of 0, or infinity: in transformers too."""
    assert violated(f"rope_frequencies(8, {numbers})") == "rope_frequencies_c4"


@pytest.mark.parametrize(
    "numbers", ["theta=1e-38", "theta=1e300", 'theta=1e4, scaling="linear", factor=1e-30']
)
def test_frequencies_that_are_numbers_are_taken(numbers: str) -> None:
    assert gives(f"rope_frequencies(8, {numbers})", "f32[4]")


def test_rope_type() -> None:
    x = "bf16[B, H @tp, S, 2*R]"
    assert gives("rope(x, freqs, at=C)", x, x=x, freqs=FREQS)
    part = "bf16[B, H, S, 64]"
    assert gives("rope(x, freqs, at=C)", part, x=part, freqs="f32[16]")


def test_rope_c1() -> None:
    assert violated("rope(x, freqs, at=C)", x="bf16[B, S, 2*R]", freqs=FREQS) == "rope_c1"
    assert violated("rope(x, freqs, at=C)", x="i32[B, H, S, 2*R]", freqs=FREQS) == "rope_c1"


def test_rope_c2() -> None:
    x = "bf16[B, H, S, 2*R]"
    assert violated("rope(x, freqs, at=C)", x=x, freqs="f32[S, R]") == "rope_c2"


def test_rope_c3() -> None:
    assert violated("rope(x, freqs, at=C)", x="bf16[B, H, S, 64]", freqs="f32[33]") == "rope_c3"
    assert violated("rope(x, freqs, at=C)", x="bf16[B, H, S, R]", freqs=FREQS) == "rope_c3"


def test_rope_c4() -> None:
    x = "bf16[B, H, S, 2*R @tp]"
    assert violated("rope(x, freqs, at=C)", x=x, freqs=FREQS) == "rope_c4"


def test_rope_c5() -> None:
    call = "rope(x, freqs, at=C, long=long, original=64)"
    assert gives(call, X, x=X, freqs=FREQS, long=FREQS)
    for long in ("f32[N]", "f32[R, R]"):
        assert violated(call, x=X, freqs=FREQS, long=long) == "rope_c5"


def test_rope_c6() -> None:
    both = "rope(x, freqs, at=C, long=long, growth=2.0, original=64)"
    assert violated(both, x=X, freqs=FREQS, long=FREQS) == "rope_c6"
    assert violated("rope(x, freqs, at=C, long=long)", x=X, freqs=FREQS, long=FREQS) == "rope_c6"
    types = {"x": X, "freqs": FREQS}
    for call in ("long_scale=1.5", "growth=2.0", "growth=2.0, long_scale=1.5, original=64"):
        assert violated(f"rope(x, freqs, at=C, {call})", **types) == "rope_c6"
    for call in ("long_scale=1.5, original=64", "growth=2.0, original=64", "backwards=true"):
        assert gives(f"rope(x, freqs, at=C, {call})", X, **types)
    one = {"x": "bf16[B, H, S, 2]", "freqs": "f32[1]"}
    assert violated("rope(x, freqs, at=C, growth=2.0, original=64)", **one) == "rope_c6"


def test_rope_c7() -> None:
    types = {"x": X, "freqs": FREQS}
    for scale in ("1e39", "-1e39", "1.0, long_scale=1e300, original=64"):
        assert violated(f"rope(x, freqs, at=C, scale={scale})", **types) == "rope_c7"
    for scale in ("3e38", "0.0", "-1.5"):
        assert gives(f"rope(x, freqs, at=C, scale={scale})", X, **types)


def test_rope_takes_over_how_its_frequencies_grow() -> None:
    body = """input x: bf16[B, H, S, 4]
freqs = rope_frequencies(4, theta=1e4, growth=g, original=64)
y = rope(x, freqs, at=C)
output z: bf16[B, H, S, 4] = rope(y, freqs, at=C, growth=0, original=0)"""
    made = graph(family(body, config="H = h\ng = g"), h=2, g=3.0)
    table, *turns = [step for step in made.body.steps if isinstance(step, Node)]
    assert [(n.attrs["growth"], n.attrs["original"]) for n in (table, *turns)] == [
        (3.0, 64.0), (3.0, 64.0), (0.0, 0.0),
    ]  # fmt: skip


def test_frequencies_that_grow_are_read_by_rope_alone() -> None:
    call = "rope_frequencies(64, theta=1e4, growth=2, original=64) * 0.5"
    (diagnostic,) = found(call)
    assert diagnostic.code == "S207"
    assert "multiply would lose the `growth`" in diagnostic.message
    assert gives("rope_frequencies(64, theta=1e4) * 0.5", "f32[32]")


def test_frequencies_that_grow_are_not_carried() -> None:
    body = """freqs = rope_frequencies(4, theta=1e4, growth=2, original=64)
repeat i < 2 carry freqs { freqs = freqs }
output y: f32[2] = freqs"""
    (diagnostic,) = checked(family(body)).diagnostics
    assert "carry would lose the `growth`" in diagnostic.message
