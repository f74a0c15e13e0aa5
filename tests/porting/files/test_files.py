# SPDX-License-Identifier: Apache-2.0
"""Files that fail while they are read, and links out of a port's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsl.diagnostics import Refused
from porting.checkpoint.safetensors_header import read_header
from porting.files.files import ModelFile, part_of
from porting.planning.bound import bound_program
from porting.report.reading import read_report

FAILS = Path("/proc/self/mem")  # a regular file by its kind, and every read at its beginning fails


@pytest.mark.skipif(not FAILS.exists(), reason="this system has no such file")
def test_a_file_that_fails_while_it_is_read_is_refused() -> None:
    file = ModelFile("a.safetensors", FAILS.resolve(), 100)
    for read in (lambda: file.read(100), lambda: read_header(file)):
        with pytest.raises(Refused, match=r"S513: a\.safetensors cannot be read: Input/output"):
            read()


@pytest.mark.parametrize("name", ["model.sohu", "report.json"])
@pytest.mark.parametrize("target", ["../private", "loop", "/etc/hostname"])
def test_a_port_does_not_lead_out_of_its_folder(tmp_path: Path, name: str, target: str) -> None:
    (tmp_path / "private").write_text("sohu 1.0")
    port = tmp_path / "port"
    port.mkdir()
    (port / name).symlink_to(name if target == "loop" else target)
    read = read_report if name == "report.json" else bound_program
    with pytest.raises(Refused, match="S512"):
        read(port)


def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "other.sohu").write_text("sohu 1.0")
    (tmp_path / "model.sohu").symlink_to("other.sohu")
    assert part_of(tmp_path, "model.sohu").read_text() == "sohu 1.0"
