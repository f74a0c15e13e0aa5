# SPDX-License-Identifier: Apache-2.0
"""Machine code on disk: once compiled, it loads without the compiler."""

import ctypes
import hashlib
import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest

from device_model.kernels.dispatch import machine
from device_model.machine import native
from device_model.machine.elf import Forbidden, Unplaceable, place
from dsl.own_folder import own_folder, user_cache

LOAD = """
import sys
from device_model.kernels.dispatch import machine
machine()
print("numba" in sys.modules, "llvmlite.binding" in sys.modules)
"""


def test_a_compiled_machine_loads_without_the_compiler():
    machine()
    done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=True)
    expected = "False False\n" if platform.machine() == "x86_64" else "False True\n"
    assert done.stdout == expected


def test_a_damaged_file_is_not_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    native.keep("machine.test.o", b"code")
    assert native.find("machine.test.o") == b"code"
    path = tmp_path / f"sohu-{os.geteuid()}" / "machine.test.o"
    path.write_bytes(path.read_bytes()[:-1])
    assert native.find("machine.test.o") is None


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        native.keep("machine.test.o", b"code")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def alone_in(folder, monkeypatch):
    """Let code lie in one folder only."""
    monkeypatch.setattr(native, "_folders", lambda: iter([p for p in [own_folder(folder)] if p]))


@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
def test_code_that_others_can_write_is_not_loaded(tmp_path, monkeypatch, mode):
    alone_in(tmp_path, monkeypatch)
    native.keep("machine.test.o", b"code")
    assert native.find("machine.test.o") == b"code"
    (tmp_path / "machine.test.o").chmod(mode)
    assert native.find("machine.test.o") is None


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_code_in_a_folder_that_others_can_write_is_not_loaded(tmp_path, monkeypatch, mode):
    alone_in(tmp_path, monkeypatch)
    native.keep("machine.test.o", b"code")
    tmp_path.chmod(mode)
    assert native.find("machine.test.o") is None
    native.keep("machine.other.o", b"code")
    assert not (tmp_path / "machine.other.o").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_code_of_somebody_else_is_not_loaded(tmp_path, monkeypatch):
    alone_in(tmp_path, monkeypatch)
    native.keep("machine.test.o", b"code")
    os.chown(tmp_path / "machine.test.o", 12345, 12345)
    assert native.find("machine.test.o") is None
    native.keep("machine.test.o", b"code")
    os.chown(tmp_path, 12345, 12345)
    assert native.find("machine.test.o") is None


def test_a_link_to_code_is_not_followed(tmp_path, monkeypatch):
    alone_in(tmp_path, monkeypatch)
    native.keep("machine.real.o", b"code")
    (tmp_path / "machine.test.o").symlink_to("machine.real.o")
    assert native.find("machine.test.o") is None


def test_a_shared_cache_folder_is_used_below_the_users_own_name(tmp_path, monkeypatch):
    tmp_path.chmod(0o1777)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    native.keep("machine.test.o", b"code")
    (folder,) = tmp_path.iterdir()
    assert (folder.name, folder.stat().st_mode & 0o777) == (f"sohu-{os.geteuid()}", 0o700)
    digest = hashlib.sha256(b"other").digest()
    (tmp_path / "machine.planted.o").write_bytes(digest + b"other")
    assert native.find("machine.planted.o") is None


def test_without_a_home_there_is_still_a_folder_or_none(tmp_path, monkeypatch):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    for name in ("SOHU_CACHE", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    assert native.find("machine.absent.o") is None
    assert user_cache("kernels") is None


def test_loading_takes_nothing_that_kernels_do_not_call():
    if platform.machine() != "x86_64":
        pytest.skip("objects of other processors go through the compiler's library")
    module = llvm.parse_assembly("""
        declare i32 @system(ptr)
        define i32 @run(ptr %words) {
          %x = call i32 @system(ptr %words)
          ret i32 %x
        }
    """)
    code = native.target_machine(native._llvm()).emit_object(module)
    with pytest.raises(Forbidden, match="system"):
        native.load(code, ["run"])


def test_one_compiles_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    order, waiting = [], threading.Event()

    def second():
        waiting.set()
        with native.alone():
            order.append("second")

    with native.alone():
        thread = threading.Thread(target=second)
        thread.start()
        waiting.wait()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


SMALL = """
@numbers = internal constant [3 x i64] [i64 5, i64 7, i64 11]
declare double @exp(double)
declare i64 @given(i64)
define i64 @pick(i64 %i) {
  %at = getelementptr [3 x i64], ptr @numbers, i64 0, i64 %i
  %x = load i64, ptr %at
  %y = call i64 @given(i64 %x)
  ret i64 %y
}
define double @grow(double %x) {
  %y = call double @exp(double %x)
  ret double %y
}
"""


@pytest.fixture(scope="module")
def small():
    if platform.machine() != "x86_64":
        pytest.skip("objects of other processors go through the compiler's library")
    return native.target_machine(native._llvm()).emit_object(llvm.parse_assembly(SMALL))


def doubled(x):
    return 2 * x


def test_code_calls_what_is_outside_and_reads_its_constants(small):
    given = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(doubled)
    placed = place(small, {"given": ctypes.cast(given, ctypes.c_void_p).value})
    pick = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(placed.addresses["pick"])
    grow = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(placed.addresses["grow"])
    assert [pick(i) for i in range(3)] == [10, 14, 22]
    assert grow(0.0) == 1.0


def test_a_function_that_nobody_has_is_said(small):
    with pytest.raises(Forbidden, match="given"):
        place(small, {})


@pytest.mark.parametrize("size", [0, 1, 15, 16, 63, 64, 65, 200])
def test_a_short_object_is_unplaceable(small, size):
    with pytest.raises(Unplaceable):
        place(small[:size], {"given": 1})


def test_a_damaged_object_is_placed_or_unplaceable(small):
    generator = np.random.default_rng(3)
    for _ in range(300):
        damaged = bytearray(small)
        damaged[generator.integers(len(small))] = int(generator.integers(256))
        try:
            place(bytes(damaged), {"given": 1})
        except (Unplaceable, Forbidden):
            continue
