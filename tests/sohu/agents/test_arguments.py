# SPDX-License-Identifier: Apache-2.0
"""What a call may ask: types, sizes, and paths that stay in the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsl.diagnostics import Refused
from sohu.agents.arguments import Argument, ArgumentKind, Place, admitted, schema
from sohu.agents.tools import TOOLS, asked
from sohu.commands.parsing import parsed

LOAD = Argument("batch", ArgumentKind.NUMBER, "", least=1, most=10)
PATH = Argument("path", ArgumentKind.PATH, "")
MODEL = Argument("model", ArgumentKind.MODEL, "")
WORD = Argument("what", ArgumentKind.WORD, "")
TEXTS = Argument("prompts", ArgumentKind.TEXTS, "", most=5)
FLAG = Argument("force", ArgumentKind.FLAG, "")
ALL = (LOAD, PATH, MODEL, WORD, TEXTS, FLAG)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_text("x")
    (root / "out").symlink_to(tmp_path)
    (root / "circle").symlink_to("circle")
    (root / "inside").mkdir()
    return Place(root)


def codes(place: Place, **given: object) -> list[str]:
    with pytest.raises(Refused) as refused:
        admitted(ALL, given, place)
    return [d.code for d in refused.value.diagnostics]


@pytest.mark.parametrize(
    "path",
    ["..", "../secret", "inside/../../secret", "out/secret", "out", "circle", "/etc/hostname", "~", "~root/x", "a\0b",
     "x" * 1025, "", "\ud800", 7, None.__class__, ["a"], {"a": 1}, True],
)  # fmt: skip
def test_a_path_that_leaves_the_folder_or_is_none_is_refused(place: Place, path: object) -> None:
    for name in ("path", "model"):
        assert codes(place, **{name: path})[0] in ("S111", "S118")


@pytest.mark.parametrize(
    "given",
    [{"batch": 0}, {"batch": 11}, {"batch": 10**30}, {"batch": "1"}, {"batch": 1.0}, {"batch": True},
     {"what": "--root=/"}, {"what": "a;b\n"}, {"what": "x" * 201}, {"prompts": "a"}, {"prompts": ["a"] * 17},
     {"prompts": ["123456"]}, {"prompts": [1]}, {"force": 1}, {"force": "yes"}, {"nothing": 1}],
    ids=str,
)  # fmt: skip
def test_a_value_of_another_type_or_size_is_refused(place: Place, given: dict[str, object]) -> None:
    assert codes(place, **given) == ["S111"]


def test_all_that_is_wrong_is_said_at_once(place: Place) -> None:
    assert codes(place, batch=0, path="..", x=1) == ["S111", "S111", "S118"]


def test_what_is_in_the_folder_is_admitted(place: Place) -> None:
    given = {"batch": 3, "path": "inside/new", "model": "demo", "what": "blocks/norm", "force": False,
             "prompts": ["a"]}  # fmt: skip
    assert admitted(ALL, given, place) == given | {"prompts": ("a",)}
    assert admitted((PATH,), {"path": str(place.root / "inside")}, place)


def test_a_hub_id_needs_leave_and_a_link_of_its_name_is_none(place: Place) -> None:
    free = Place(place.root, hub=True)
    assert admitted((MODEL,), {"model": "org/name@main"}, free)
    with pytest.raises(Refused):
        admitted((MODEL,), {"model": "out/secret"}, free)
    with pytest.raises(Refused):
        admitted((PATH,), {"path": "../org/name"}, free)


@pytest.mark.parametrize("name", TOOLS)
def test_every_tool_is_a_command_of_the_table(name: str) -> None:
    samples: dict[ArgumentKind, object] = {
        ArgumentKind.NUMBER: 1,
        ArgumentKind.FLAG: True,
        ArgumentKind.TEXTS: ("-a", "--b"),
    }
    given = {a.name: samples.get(a.kind, "-x") for a in TOOLS[name].arguments if a.name != "text"}
    options = parsed(asked(name, given).words)
    assert options is not None
    assert options.json is True


def test_the_schema_says_what_is_admitted() -> None:
    shown = schema(ALL)
    assert shown["additionalProperties"] is False
    assert shown["properties"]["batch"] == {
        "type": "integer", "minimum": 1, "maximum": 10, "description": "",
    }  # fmt: skip
