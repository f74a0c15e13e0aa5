# SPDX-License-Identifier: Apache-2.0
"""Diagnostic codes: each in use is explained, each explained is in use, and each has a test."""

from __future__ import annotations

import ast

from tests.test_architecture import ROOT, nodes

TABLES = frozenset(
    f"dsl/{name}.py" for name in ("codes", "collective_codes", "message_codes", "model_codes")
)


def codes_used() -> dict[str, str]:
    """Return every string that looks like a diagnostic code, with one place where it stands."""
    return {
        node.value: module.at(node)
        for module, node in nodes(ast.Constant)
        if isinstance(node.value, str)
        and len(node.value) == 4
        and node.value[0] == "S"
        and node.value[1:].isdigit()
        and module.name not in TABLES
    }


def test_every_code_in_use_is_explained():
    from dsl.codes import CODES

    assert {code: place for code, place in codes_used().items() if code not in CODES} == {}


def test_every_explained_code_is_in_use():
    from dsl.codes import CODES

    assert sorted(set(CODES) - set(codes_used())) == []


def test_every_code_has_a_test():
    from dsl.codes import CODES

    texts = [path.read_text() for path in (ROOT / "tests").rglob("*.expect")]
    texts += [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(code for code in CODES if not any(code in text for text in texts)) == []
