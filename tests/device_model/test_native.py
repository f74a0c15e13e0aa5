"""Machine code on disk: once compiled, it loads without the compiler."""

import subprocess
import sys

from device_model.kernels import native
from device_model.kernels.machine import machine

LOAD = """
import sys
from device_model.kernels.machine import machine
machine()
print("numba" in sys.modules)
"""


def test_a_compiled_machine_loads_without_the_compiler():
    machine()
    done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_damaged_file_is_not_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    native._keep("machine.test.o", b"code")
    assert native._find("machine.test.o") == b"code"
    path = tmp_path / "machine.test.o"
    path.write_bytes(path.read_bytes()[:-1])
    assert native._find("machine.test.o") is None
