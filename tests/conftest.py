# SPDX-License-Identifier: Apache-2.0
"""Options and fixtures for all tests.

A golden is a text file under `tests/` that a result must equal; `--update-golden` rewrites it, and the diff is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pytest

TESTS = Path(__file__).parent


class Golden(Protocol):
    """Compares a text with a file."""

    def __call__(self, actual: str, name: str) -> None:
        """Fail unless the file of this name, relative to `tests/`, holds the text."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite the golden files that differ"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    update = bool(request.config.getoption("--update-golden"))

    def compare(actual: str, name: str) -> None:
        path = TESTS / name
        if update and (not path.exists() or _read(path) != actual):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(actual.encode())
        if not path.exists():
            pytest.fail(f"tests/{name} does not exist; pytest --update-golden writes it")
        assert actual == _read(path), f"differs from tests/{name}; --update-golden rewrites it"

    return compare


def _read(path: Path) -> str:
    return path.read_bytes().decode()
