# SPDX-License-Identifier: Apache-2.0
"""Files are replaced whole: at every event on the file system a process may be killed, and old or new is left."""

from __future__ import annotations

import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from porting.files.atomic import replace_directory, replace_file

OLD = {name: f"old {name}".encode() * 1000 for name in ("model.sohu", "report.html", "report.json")}
NEW = {name: f"new {name}".encode() * 1000 for name in OLD}
EVENTS = frozenset({
    "open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.listdir", "os.scandir",
    "ctypes.dlsym", "tempfile.mkdtemp", "tempfile.mkstemp", "shutil.rmtree", "shutil.copymode", "glob.glob",
})  # fmt: skip
SIGNALS = (signal.SIGKILL, signal.SIGINT)
FINISHED = 7


def killed_at(event: int, number: int, write) -> int:
    """Run `write` in a child that gets a signal at its nth event on files; return the status of its end."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seen = 0

    def hook(name: str, _arguments: object) -> None:
        nonlocal seen
        seen += name in EVENTS
        if seen == event and name in EVENTS:
            os.kill(os.getpid(), number)

    sys.addaudithook(hook)
    try:
        write()
    except KeyboardInterrupt:
        os._exit(1)
    os._exit(FINISHED)


def there(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name in OLD}


def nothing(target: Path) -> None:
    del target


def old_port(target: Path) -> None:
    target.mkdir()
    for name, content in OLD.items():
        (target / name).write_bytes(content)


def with_notes(target: Path) -> None:
    old_port(target)
    (target / "notes.txt").write_text("mine")
    (target / "link").symlink_to("notes.txt")


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("before", [nothing, old_port, with_notes])
def test_a_folder_is_old_or_new_at_every_kill(tmp_path, before, number):
    for event in range(1, 200):
        home = tmp_path / str(event)
        home.mkdir()
        target = home / "port"
        before(target)
        status = killed_at(event, number, lambda t=target: replace_directory(t, NEW))
        left = there(target) if target.is_dir() else {}
        assert left in ({} if before is nothing else OLD, NEW)
        if before is with_notes:
            assert (target / "notes.txt").read_text() == (target / "link").read_text() == "mine"
        if status == FINISHED:
            assert left == NEW
            break
    assert event > 8


@pytest.mark.parametrize("number", SIGNALS)
def test_beside_a_folder_each_file_is_whole_at_every_kill(tmp_path, number):
    for event in range(1, 200):
        target = tmp_path / str(event) / "port"
        target.parent.mkdir()
        old_port(target)
        (target / "mine").mkdir()
        status = killed_at(event, number, lambda t=target: replace_directory(t, NEW))
        left = there(target)
        assert all(left[name] in (OLD[name], NEW[name]) for name in OLD)
        if number == signal.SIGINT:
            assert left in (OLD, NEW)
        if status == FINISHED:
            break
    assert left == NEW
    assert event > 8


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("is_there", [True, False])
def test_a_file_is_old_or_new_at_every_kill(tmp_path, is_there, number):
    for event in range(1, 100):
        path = tmp_path / str(event) / "file"
        path.parent.mkdir()
        if is_there:
            path.write_bytes(b"old")
        status = killed_at(
            event, number, lambda p=path: replace_file(p, lambda out: out.write(b"new"))
        )
        left = path.read_bytes() if path.exists() else None
        assert left in (b"old" if is_there else None, b"new")
        if status == FINISHED:
            break
    assert left == b"new"
    assert event > 4


def save(out) -> None:
    out.write(b"x")


def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    pipe, folder, link = tmp_path / "pipe", tmp_path / "model.sohu", tmp_path / "link"
    os.mkfifo(pipe)
    (folder / "inner").mkdir(parents=True)
    link.symlink_to(pipe)
    for path in (pipe, folder, link, Path(os.devnull)):
        with pytest.raises(OSError, match=r"no regular file|there is a folder"):
            replace_file(path, save)
    with pytest.raises(OSError, match="there is a folder"):
        replace_directory(tmp_path, NEW)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert (folder / "inner").is_dir()


def test_a_link_into_another_folder_is_not_written_through(tmp_path):
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    for folder in (mine, theirs):
        folder.mkdir()
    (theirs / "kept").write_text("theirs")
    (mine / "out").symlink_to("../theirs/kept")
    (mine / "new").symlink_to(theirs / "new")
    for name in ("out", "new"):
        with pytest.raises(OSError, match="in another folder"):
            replace_file(mine / name, save)
    assert [(path.name, path.read_text()) for path in theirs.iterdir()] == [("kept", "theirs")]
    (mine / "real").write_text("old")
    (mine / "same").symlink_to("real")
    replace_file(mine / "same", save)
    assert (mine / "same").is_symlink()
    assert (mine / "real").read_text() == "x"


def test_modes_are_kept_and_new_ones_obey_the_mask(tmp_path):
    path = tmp_path / "private"
    path.touch(mode=0o600)
    replace_file(path, save)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = os.umask(0o077)
    try:
        replace_file(tmp_path / "new", save)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def test_what_killed_runs_left_is_swept_once_it_is_old(tmp_path):
    stale, fresh, other = (
        tmp_path / name for name in (".port.sohu-a", ".port.sohu-b", ".port.mine")
    )
    for path in (stale, fresh, other):
        path.mkdir()
        (path / "x").touch()
    for path in (stale, other):
        os.utime(path, (0, 0))
    replace_directory(tmp_path / "port", NEW)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".port.mine", ".port.sohu-b", "port"]
