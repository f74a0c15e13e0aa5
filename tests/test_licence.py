# SPDX-License-Identifier: Apache-2.0
"""Every Python file says under which licence it is, in its first line, as the project's metadata does.

Texts of the language and data do not: they begin with the version of the language, or are what others read back byte
by byte; the licence beside them covers them.
"""

from __future__ import annotations

import tomllib

from tests.test_architecture import PACKAGES, ROOT

FOLDERS = (*PACKAGES, "tests")
LICENCE = "Apache-2.0"
LINE = f"# SPDX-License-Identifier: {LICENCE}\n"


def test_every_python_file_names_its_licence() -> None:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    files += ROOT.glob("*.py")
    assert [
        str(path.relative_to(ROOT))
        for path in files
        if not path.read_text(encoding="utf-8").startswith(LINE)
    ] == []


def test_it_is_the_licence_of_the_project() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"] == LICENCE
