# SPDX-License-Identifier: Apache-2.0
"""Libraries that not every installation has: which extra of the distribution brings each, and what to say without it.

Imports none of them. Which of them are there is asked before any work begins; what was not asked for is named where
its import fails.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec

from dsl.diagnostics import Refused, refuse

EXTRAS: Mapping[str, str] = {
    "accelerate": "reference",
    "gguf": "reference",
    "safetensors": "reference",
    "torch": "reference",
    "transformers": "reference",
    "llvmlite": "run",
    "numba": "run",
    "tokenizers": "run",
    "huggingface_hub": "hub",
    "lsprotocol": "lsp",
    "pygls": "lsp",
    "mcp": "mcp",
    "perfetto": "trace",
    "ray": "nodes",
    "pyarrow": "tables",
    "scipy": "calibrate",
}
"""The extra that brings a module, by the name under which it is imported."""


def require(*modules: str) -> None:
    """Raise `Refused`, with the extra that brings it, for the first of these modules that is not installed."""
    for module in modules:
        if find_spec(module) is None:
            raise _absent(module)


@contextmanager
def naming_extras() -> Iterator[None]:
    """Turn a failed import of a module of an extra into `Refused`; any other failed import is a fault of ours."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRAS:
            raise
        raise _absent(module) from error


def _absent(module: str) -> Refused:
    message = f"{module} is not installed, and this needs it"
    return refuse("S517", message, help=f"pip install 'sohu[{EXTRAS[module]}]'")
