# SPDX-License-Identifier: Apache-2.0
"""The extension of VS Code: its grammar is the language's as it is now, and its file is what VS Code installs."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
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
    named.append(PACKAGE["main"])
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


NODE = shutil.which("node") or ""
CLIENT = EXTENSION / PACKAGE["main"]
BUNDLED = EXTENSION.with_name("client")


def test_the_client_is_made_of_its_source() -> None:
    digest = hashlib.sha256((BUNDLED / "extension.js").read_bytes()).hexdigest()
    head = CLIENT.read_text(encoding="utf-8").splitlines()[0]
    assert (
        head == f"// extension.js sha256 {digest}; licences of its libraries: client-licenses.txt"
    )


def test_licences_of_all_that_is_bundled_are_kept() -> None:
    notices = (EXTENSION / "client-licenses.txt").read_text(encoding="utf-8")
    lock = json.loads((BUNDLED / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    shipped = {
        f"{name.removeprefix('node_modules/')} {row['version']} ({row['license']})"
        for name, row in lock.items()
        if name and not row.get("dev") and not row.get("optional")
    }
    assert set(re.findall(r"^(\S+ [0-9.]+ \(\w+\))$", notices, re.MULTILINE)) == shipped
    assert {row.rsplit("(")[-1] for row in shipped} == {"MIT)", "ISC)"}


def test_only_the_machine_says_which_program_is_started() -> None:
    settings = PACKAGE["contributes"]["configuration"]["properties"]
    assert settings["sohu.server.path"]["scope"] == "machine"
    asked = set(
        re.findall(r'settings\.get\("(\w+)"\)', (BUNDLED / "extension.js").read_text("utf-8"))
    )
    assert {f"sohu.server.{name}" for name in asked} == set(settings)


@pytest.mark.skipif(not NODE, reason="there is no Node here")
def test_the_client_starts_the_server_and_speaks_with_it(tmp_path: Path) -> None:
    program = tmp_path / "sohu"
    start = "import sys; from sohu.commands.cli import main; sys.exit(main())"
    program.write_text(
        f"#!/bin/sh\nPYTHONPATH='{ROOT}' exec '{sys.executable}' -c '{start}' \"$@\"\n"
    )
    program.chmod(0o755)
    stub = Path(__file__).with_name("vscode_stub.js")
    command = [NODE, str(stub), str(CLIENT), str(program)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    told = ended.stdout.splitlines()
    assert told[0] == "command sohu.server.restart"
    assert told[-1] == "ended"
    assert {
        "registerHoverProvider",
        "registerCompletionItemProvider",
        "registerRenameProvider",
    } <= set(told)
    assert [line for line in told if line.startswith("warned")] == []
