"""Machine code on disk: once compiled, it loads without the compiler."""

import subprocess
import sys

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
