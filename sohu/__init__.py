# SPDX-License-Identifier: Apache-2.0
"""Port Hugging Face models to a transformer-only accelerator: check, run, validate, cost.

    result = sohu.port("org/name", out="ports/name")   # a text, proved against the original model
    model = sohu.load("ports/name")                    # or a .sohu file
    logits = model.run([[1, 2, 3]])                    # float32 [B, S, V]

What stands in `__all__` is the public face; modules below it may move. Everything loads when it is first asked for, so
that `import sohu` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from device_model.sampling.policy import Sampling
    from dsl.diagnostics import Diagnostic, Refused, Severity
    from porting.report.model import Report, Verdict
    from sohu.api.checking import check
    from sohu.api.model import Model, load
    from sohu.api.port import PortResult, port

    __version__: str

__all__ = [
    "Diagnostic",
    "Model",
    "PortResult",
    "Refused",
    "Report",
    "Sampling",
    "Severity",
    "Verdict",
    "__version__",
    "check",
    "load",
    "port",
]

_HOMES = {
    "Diagnostic": "dsl.diagnostics",
    "Model": "sohu.api.model",
    "PortResult": "sohu.api.port",
    "Refused": "dsl.diagnostics",
    "Report": "porting.report.model",
    "Sampling": "device_model.sampling.policy",
    "Severity": "dsl.diagnostics",
    "Verdict": "porting.report.model",
    "check": "sohu.api.checking",
    "load": "sohu.api.model",
    "port": "sohu.api.port",
}


def __getattr__(name: str) -> object:
    """Return a public name from the module that it lives in."""
    if name == "__version__":
        value: object = import_module("sohu.api.version").version()
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'sohu' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
