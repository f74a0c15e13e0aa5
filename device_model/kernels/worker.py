# SPDX-License-Identifier: Apache-2.0
"""The process that compiles parts of the machine: `python -m device_model.kernels.worker`.

It is started by `dispatch`, which also says what is in a part.
"""

from __future__ import annotations

import gc

from device_model.kernels.dispatch import entries
from device_model.machine.compiler import Compiler
from device_model.machine.workers import serve


def main() -> None:
    """Compile the parts that are asked for."""
    gc.disable()  # hardly anything that the compiler makes is garbage before the process ends
    compiler = Compiler()
    serve(lambda part: compiler.compile(entries(part)))


if __name__ == "__main__":
    main()
