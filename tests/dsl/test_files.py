# SPDX-License-Identifier: Apache-2.0
"""Reading what may be anything, and folders that can be believed."""

import os
import socket
from pathlib import Path

import pytest

from dsl.own_folder import is_own_folder, own_folder, read_own
from dsl.regular_file import (
    TooLarge,
    is_file,
    is_folder,
    is_inside,
    is_there,
    open_regular,
    read_regular,
)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def circle(path: Path) -> None:
    path.symlink_to(path.name)


def nowhere(path: Path) -> None:
    path.symlink_to("absent")


TRAPS = {
    "pipe": pipe, "device": device, "socket": listening, "circle": circle, "nowhere": nowhere,
    "folder": Path.mkdir, "absent": lambda path: None,
}  # fmt: skip


@pytest.mark.parametrize("trap", TRAPS)
def test_what_is_no_regular_file_is_an_os_error_at_once(trap, tmp_path):
    path = tmp_path / "x"
    TRAPS[trap](path)
    with pytest.raises(OSError, match=r"x|regular") as caught:
        read_regular(path, 10)
    assert caught.value.strerror
    with pytest.raises(OSError, match=r"x|regular"):
        open_regular(path)
    assert not is_file(path)


@pytest.mark.parametrize("name", ["a" * 300, "a/" * 3000, "a\0b", "\ud800"])
def test_what_can_be_no_name_is_an_os_error_and_nothing_is_there(name, tmp_path):
    path = tmp_path / name
    with pytest.raises(OSError, match="name") as caught:
        read_regular(path, 10)
    assert caught.value.strerror
    assert not is_file(path)
    assert not is_folder(path)
    assert not is_there(path)
    assert not is_inside(path, path / "\0")


def test_a_file_is_read_up_to_its_limit(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"0123456789")
    assert read_regular(path, 10) == b"0123456789"
    with pytest.raises(TooLarge, match="9 bytes"):
        read_regular(path, 9)
    (tmp_path / "link").symlink_to("x")
    assert read_regular(tmp_path / "link", 10) == b"0123456789"
    with pytest.raises(OSError, match="link"):
        open_regular(tmp_path / "link", follow=False)


def test_an_own_folder_is_made_private(tmp_path):
    made = own_folder(tmp_path / "a" / "b")
    assert made == tmp_path / "a" / "b"
    assert made.stat().st_mode & 0o777 == 0o700
    assert is_own_folder(made)
    assert not is_own_folder(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_a_file_or_a_pipe_is_no_own_folder(tmp_path):
    (tmp_path / "x").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    assert own_folder(tmp_path / "x") is None
    assert own_folder(tmp_path / "x" / "below") is None
    assert own_folder(tmp_path / "pipe") is None
    assert own_folder(tmp_path / "a\0b") is None


def test_a_link_of_ones_own_leads_to_a_folder_of_ones_own(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    assert own_folder(tmp_path / "link") == tmp_path / "real"
    (tmp_path / "real").chmod(0o777)
    assert own_folder(tmp_path / "link") is None


def test_an_own_file_is_read_up_to_its_limit(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    assert read_own(tmp_path / "x", 5) == b"12345"
    with pytest.raises(TooLarge):
        read_own(tmp_path / "x", 4)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="regular"):
        read_own(tmp_path / "pipe", 4)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_belongs_to_somebody_else_is_not_believed(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    os.chown(tmp_path / "x", 12345, 12345)
    with pytest.raises(PermissionError):
        read_own(tmp_path / "x", 5)
    (tmp_path / "link").symlink_to(".")
    os.lchown(tmp_path / "link", 12345, 12345)
    assert own_folder(tmp_path / "link") is None
