# SPDX-License-Identifier: Apache-2.0
"""Config sections: values, defaults, conditions and requirements, and what is recorded of every key."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from dsl.linking.binding import Bindings, bind, is_generic
from dsl.linking.static import Exploration, Path, Static, Unknown
from dsl.ops.spec import Divides
from dsl.symbolic import symbol
from dsl.text import syntax as sx
from dsl.types import DTYPES
from tests.dsl.snippets import checked, codes, family, program


def section(*lines: str) -> sx.Config:
    config = next(iter(program(family("", config="\n".join(lines))).family().items))
    assert isinstance(config, sx.Config)
    return config


def bound(values: Mapping[str, object], *lines: str) -> Bindings:
    return bind(section(*lines), values, Path(), generic=False)


def free(*lines: str, path: Path | None = None) -> Bindings:
    return bind(section(*lines), None, path or Path(), generic=True)


def said(bindings: Bindings) -> list[str]:
    return [d.code for d in bindings.diagnostics]


def test_a_key_gives_its_value() -> None:
    made = bound({"hidden_size": 64, "rope.theta": 1e4}, "D = hidden_size", "theta = rope.theta")
    assert made.values == {"D": 64, "theta": 1e4}
    assert [(u.key, u.name, u.value, u.defaulted) for u in made.uses] == [
        ("hidden_size", "D", 64, False),
        ("rope.theta", "theta", 1e4, False),
    ]


@pytest.mark.parametrize("values", [{"heads": 4}, {"heads": 4, "kv_heads": None}])
def test_an_absent_key_and_null_both_mean_the_default(values: Mapping[str, object]) -> None:
    made = bound(values, "H = heads", "K = kv_heads ?? H")
    assert made.values == {"H": 4, "K": 4}
    assert made.uses[1].defaulted


def test_a_default_is_not_taken_where_there_is_a_value() -> None:
    assert bound({"a": 0, "b": False}, "x = a ?? 7", "y = b ?? true").values == {"x": 0, "y": False}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("x = 3", 3),
        ("x = -3", -3),
        ("x = 1e-6", 1e-6),
        ('x = "gelu"', "gelu"),
        ("x = true", True),
        ('x = ["a", "b",]', ("a", "b")),
        ("x = []", ()),
        ('x = "bf16"', DTYPES["bf16"]),
        ("x = key ?? 7 // 2", 3),
        ("x = key ?? 7 % 4 + 2 * 3", 9),
        ("x = key ?? sqrt(16)", 4.0),
        ("x = key ?? max(3, 5) - min(2, 1)", 4),
        ("x = key ?? 1 / 4", 0.25),
        ("x = key ?? ceil_div(7, 2)", 4),
        ("x = key ?? pow(2, 0.5) * pow(2, 0.5) > 1.9", True),
        ("x = key ?? pow(2, 3)", 8.0),
        ("x = key ?? abs(2 - 5)", 3),
        ("x = key ?? exp(0)", 1.0),
        ("x = key ?? not (1 < 2 and 3 in [3])", False),
        ('x = key ?? "a" == "b" or 2 != 3', True),
    ],
)
def test_a_value_in_place_of_a_key(line: str, value: Static) -> None:
    assert bound({}, line).values == {"x": value}


@pytest.mark.parametrize(
    ("values", "line", "code"),
    [
        ({}, "D = hidden_size", "S401"),
        ({"hidden_size": None}, "D = hidden_size", "S401"),
        ({"hidden_size": "x"}, "D = hidden_size", "S402"),
        ({"hidden_size": 1.5}, "D = hidden_size", "S402"),
        ({"hidden_size": True}, "D = hidden_size", "S402"),
        ({"hidden_size": -1}, "D = hidden_size", "S402"),
        ({"hidden_size": 2**41}, "D = hidden_size", "S402"),
        ({"hidden_size": {}}, "d = hidden_size", "S402"),
        ({"hidden_size": [{}]}, "d = hidden_size", "S402"),
        ({"hidden_size": 'a"b'}, "d = hidden_size", "S402"),
        ({}, "D = key ?? E", "S201"),
        ({}, "d = key ?? 1 // 0", "S207"),
        ({}, 'd = key ?? 1 + "a"', "S207"),
        ({}, "require 1 == 2", "S403"),
        ({}, "require 1", "S207"),
        ({}, 'require "a" < 2', "S207"),
    ],
)
def test_what_cannot_be_bound(values: Mapping[str, object], line: str, code: str) -> None:
    assert said(bound(values, line)) == [code]


def test_what_failed_is_silent_further_on() -> None:
    made = bound({}, "D = hidden_size", "E = head_dim ?? D // 2", "require E == D", "F = ffn ?? 3")
    assert said(made) == ["S401"]
    assert made.values == {"F": 3}
    assert made.failed == {"D", "E"}


@pytest.mark.parametrize(
    ("kind", "names"), [("a", {"kind", "x"}), ("b", {"kind", "y"}), ("c", {"kind", "z"})]
)
def test_only_the_taken_branch_is_read(kind: str, names: set[str]) -> None:
    lines = 'if kind == "a" { x = kx } else if kind == "b" { y = ky } else { z = kz }'
    made = bound({"kind": kind, "kx": 1, "ky": 2, "kz": 3}, "kind = kind", lines)
    assert made.values.keys() == names
    assert {u.name for u in made.uses} == names


def test_a_failed_requirement_names_the_keys_and_values() -> None:
    made = bound({"heads": 6}, "H = heads", "K = kv ?? 4", "require H % K == 0")
    assert said(made) == ["S403"]
    assert made.diagnostics[0].notes == ("H is heads = 6", "K is kv = 4 (default)")


def test_free_names_are_symbols_and_unknowns() -> None:
    made = free(
        "D = hidden_size", "E = head_dim ?? D // 2", "eps = norm_eps", 'dtype = dt ?? "f16"'
    )
    assert made.values == {
        "D": symbol("D"), "E": symbol("E"), "eps": Unknown("eps"), "dtype": DTYPES["f16"],
    }  # fmt: skip
    assert made.uses == []


def test_a_required_division_is_a_fact() -> None:
    made = free("H = heads", "K = kv", "require H % K == 0")
    assert made.facts == {Divides(symbol("H"), symbol("K"))}


def test_a_required_equality_of_sizes_rewrites() -> None:
    made = free("D = d", "H = h", "E = e", "require D == H * E")
    assert made.values["D"] == symbol("H") * symbol("E")


def test_a_required_value_is_known() -> None:
    path = Path()
    lines = ('act = act ?? "silu"', "bias = bias", 'require act == "silu"', "require not bias")
    made = free(*lines, path=path)
    assert said(made) == []
    assert path.known == {"act": "silu", "bias": False}
    assert path.taken == {}


def test_a_required_choice_limits_the_paths() -> None:
    body = """input x: bf16[B]
        if kind == "a" { x = silu(x) } else if kind == "b" { x = gelu(x) } else { x = nothing }
        output y: bf16[B] = x"""
    lines = 'kind = kind\nrequire kind in ["a", "b"]'
    assert codes(family(body, config=lines)) == []
    assert codes(family(body, config='kind = kind\nrequire kind in ["a", "b", "c"]')) == ["S201"]


@pytest.mark.parametrize("condition", ["DD % 2 == 0", "DD <= D", "not DD", "DD == D", "DD in [1]"])
def test_a_misspelt_requirement_is_found_without_a_config(condition: str) -> None:
    text = family("input x: bf16[D]\noutput y: bf16[D] = x", config=f"D = d\nrequire {condition}")
    assert codes(text) == ["S201"]


def test_a_section_is_generic_while_it_reads_a_key() -> None:
    assert is_generic(section("D = hidden_size"))
    assert is_generic(section("a = true", "if a { D = hidden_size }"))
    assert is_generic(section("a = true", "if a { } else { D = hidden_size }"))
    assert not is_generic(section("D = 4", "require D == 4"))
    assert not is_generic(None)


@pytest.mark.parametrize(
    ("config", "use", "unused"),
    [
        ("cap = cap ?? 0", "x", ["cap"]),
        ("_cap = cap ?? 0", "x", []),
        ("cap = cap ?? 0", "x * cap", []),
        ("a = a\nb = b ?? a", "x * b", []),
        ("a = a\nrequire a == 1", "x", []),
        ("a = a\nif a == 1 { b = b }", "x", ["b"]),
        ("at = at\nH = H", "rms_norm(x, eps=at)", ["H"]),
    ],
)  # fmt: skip
def test_every_name_of_the_section_is_used(config: str, use: str, unused: list[str]) -> None:
    text = family(f"input x: bf16[B]\noutput y: bf16[B] = {use}", config=config)
    found = checked(text).diagnostics
    assert [d.code for d in found] == ["S215"] * len(unused)
    assert [d.span.text for d in found if d.span] == unused


def test_every_key_of_every_path_is_explored() -> None:
    lines = ("a = a ?? false", "b = b ?? false", "if a { x = x }", "if b { y = y }")
    seen = set()
    for path in Exploration():
        seen.add(frozenset(bind(section(*lines), None, path, generic=True).values) - {"a", "b"})
    assert seen == {frozenset(), frozenset("x"), frozenset("y"), frozenset("xy")}
