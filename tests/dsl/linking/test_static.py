# SPDX-License-Identifier: Apache-2.0
"""What is known before anything runs: the paths through conditions, and what conditions on one name share."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsl.linking.static import MAX_PATHS, Exploration, Path, Unknown, show
from dsl.symbolic import symbol
from tests.dsl.snippets import checked, codes, family

X = "input x: bf16[B]\n"
OUT = "\noutput y: bf16[B] = x"


def paths(body: str, config: str) -> int:
    outcome = checked(family(X + body + OUT, config=config))
    assert [d.message for d in outcome.diagnostics] == []
    return outcome.paths


def test_a_program_without_conditions_is_one_path() -> None:
    assert paths("x = x * eps", "eps = eps") == 1


def test_each_condition_is_taken_both_ways() -> None:
    assert paths("if a { x = silu(x) }\nif b { x = gelu(x) }", "a = a\nb = b") == 4


def test_the_same_condition_has_one_answer_on_a_path() -> None:
    assert (
        paths("if a { x = silu(x) }\nif a { x = gelu(x) }\nif not a { x = relu(x) }", "a = a") == 2
    )


def test_a_name_has_one_value_on_a_path() -> None:
    body = 'if k == "a" { x = silu(x) } else if k == "b" { x = gelu(x) } else { x = relu(x) }'
    assert paths(body, "k = k") == 3
    assert paths(body + '\nif k in ["a", "b"] { x = relu(x) }', "k = k") == 3
    assert paths(body, 'k = k\nrequire k in ["a", "b"]') == 2
    assert paths(body, 'k = k\nrequire k == "b"') == 1


def test_conditions_on_sizes_are_explored_too() -> None:
    assert paths("if D > 4 { x = silu(x) }\nif D == 8 { x = gelu(x) }", "D = d") == 4


def test_only_what_is_reached_is_explored() -> None:
    assert paths("if a { if b { x = silu(x) } }", "a = a\nb = b") == 3


@pytest.mark.parametrize(
    "body",
    [
        "if a { x = wrong(x) }",
        "if a { } else { x = wrong(x) }",
        "if a { if b { x = wrong(x) } }",
        "if a { } else { if b { } else { x = wrong(x) } }",
        "if a and not b { x = wrong(x) }",
        "if not (a or b) { x = wrong(x) }",
    ],
)
def test_a_fault_in_any_branch_is_found(body: str) -> None:
    config = "\n".join(
        f"{name} = {name}" for name in "ab" if f"{name} " in body or f"{name})" in body
    )
    assert codes(family(X + body + OUT, config=config)) == ["S206"]


def test_a_fault_says_where_it_shows() -> None:
    text = family(X + "if a { x = silu(x) } else { if k == 3 { } else { x = wrong(x) } }" + OUT,
                  config="a = a\nk = k")  # fmt: skip
    (found,) = checked(text).diagnostics
    assert found.notes == ("this is where `not a` and `k != 3`",)


def test_a_fault_of_every_path_says_nothing_of_paths() -> None:
    text = family(X + "if a { x = silu(x) }\nx = wrong(x)" + OUT, config="a = a")
    (found,) = checked(text).diagnostics
    assert found.notes == ()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=5))
def test_exploration_takes_every_combination_of_answers(asked: list[str]) -> None:
    seen = [tuple(path.decide(name) for name in asked) for path in Exploration()]
    names = sorted(set(asked))
    every = {
        tuple(dict(zip(names, values, strict=True))[name] for name in asked)
        for values in itertools.product([True, False], repeat=len(names))
    }
    assert len(seen) == len(set(seen))
    assert set(seen) == every


def test_beyond_the_cap_single_flips_come_first() -> None:
    paths_ = Exploration()
    names = [f"c{i}" for i in range(20)]
    seen = [{n for n in names if not path.decide(n)} for path in paths_]
    assert paths_.capped
    assert len(seen) == MAX_PATHS
    assert all({n} in seen for n in names)


def test_a_name_with_a_domain_takes_each_of_its_values() -> None:
    taken = []
    for path in Exploration():
        path.domains["k"] = ("a", "b", "c")
        k = Unknown("k")
        taken.append([v for v in ("a", "b", "c") if path.is_value(k, v)])
        assert not path.is_value(k, "d")
    assert sorted(taken) == [["a"], ["b"], ["c"]]


def test_a_known_name_is_only_its_value() -> None:
    path = Path(known={"k": 3})
    assert path.is_value(Unknown("k"), 3)
    assert not path.is_value(Unknown("k"), 4)
    assert path.taken == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"), (3, "3"), (0.5, "0.5"), ("a", '"a"'), ((1, "b"), '[1, "b"]'),
        (symbol("D") * 2, "2*D"), (Unknown("k"), "k"),
    ],
)  # fmt: skip
def test_values_are_shown_as_they_are_written(value: object, text: str) -> None:
    assert show(value) == text  # type: ignore[arg-type]


def test_a_whole_number_of_an_unknown_is_a_size() -> None:
    config = "E = head_dim\nshare = share\nrequire int(E * share) % 2 == 0"
    body = "freqs = rope_frequencies(int(E * share), theta=1e4)\n"
    rotated = "input x: bf16[B, 1, S, E]\noutput y: bf16[B, 1, S, E] = rope(x, freqs, at=C)"
    assert codes(family(body + rotated, config=config)) == []
    assert codes(family(body + rotated, config=config.replace("% 2", "% 3"))) == ["S203"]
