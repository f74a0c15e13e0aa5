# SPDX-License-Identifier: Apache-2.0
"""The valid case that hostile inputs break, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.generator import planned


@pytest.fixture(scope="package")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "case"
    planned(folder)
    return folder
