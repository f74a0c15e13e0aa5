"""The extension of VS Code: its grammar is the language's as it is now, and its file is what VS Code installs."""

from __future__ import annotations

import json
import re
import tomllib
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from dsl.text.words import TokenKind, patterns
from editors.textmate import FILES, SCOPES
from editors.vsix import EXTENSION, TYPES, manifest, write_vsix
from tests.conftest import TESTS, Golden

ROOT = TESTS.parent
PACKAGE = json.loads((EXTENSION / "package.json").read_text(encoding="utf-8"))
NAMESPACE = "{http://schemas.microsoft.com/developer/vsx-schema/2011}"


@pytest.mark.parametrize("name", FILES)
def test_grammars_are_fresh(golden: Golden, name: str) -> None:
    golden(FILES[name](), f"../editors/vscode/{name}")


def test_every_kind_of_token_has_a_scope() -> None:
    assert set(SCOPES) == set(TokenKind) - {TokenKind.OTHER}


def test_no_pattern_asks_for_what_only_python_has() -> None:
    only_pythons = re.compile(r"\(\?P|\(\?[aLu]|\\Z|\\A")
    assert [pattern for _, pattern in patterns() if only_pythons.search(pattern)] == []


def test_files_that_the_extension_names_are_there() -> None:
    given = PACKAGE["contributes"]
    named = [given["languages"][0]["configuration"], *(g["path"] for g in given["grammars"])]
    assert [name for name in named if not (EXTENSION / name).is_file()] == []
    for path in EXTENSION.rglob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))


def test_versions_and_licences_are_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (PACKAGE["version"], PACKAGE["license"]) == (project["version"], project["license"])


def test_the_packed_extension_is_whole(tmp_path: Path) -> None:
    path = write_vsix(tmp_path)
    assert path.name == f"sohu-{PACKAGE['version']}.vsix"
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        told = ET.fromstring(archive.read("extension.vsixmanifest"))  # noqa: S314 - our own
        assert archive.read("extension/package.json") == (EXTENSION / "package.json").read_bytes()
    assert names >= {"[Content_Types].xml", *(f"extension/{name}" for name in FILES)}
    assert {Path(name).suffix for name in names} - {".xml"} == set(TYPES)
    assets = {asset.get("Path") for asset in told.iter(f"{NAMESPACE}Asset")}
    assert assets < names
    identity = next(told.iter(f"{NAMESPACE}Identity"))
    assert identity.get("Version") == PACKAGE["version"]


def test_the_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    one, other = (write_vsix(tmp_path / name).read_bytes() for name in ("one", "other"))
    assert one == other


def test_what_the_extension_says_of_itself_is_escaped() -> None:
    told = ET.fromstring(manifest(PACKAGE | {"description": "<&>", "version": '"'}))  # noqa: S314 - our own
    assert next(told.iter(f"{NAMESPACE}Description")).text == "<&>"
    assert next(told.iter(f"{NAMESPACE}Identity")).get("Version") == '"'
