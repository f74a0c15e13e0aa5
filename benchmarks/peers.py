# SPDX-License-Identifier: Apache-2.0
"""The peers in `build/peers`: whether they are installed, their versions, and measurements of them.

`make peers` installs them from `peers.txt`. The project never imports them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from benchmarks.launch import ROOT, child

HOME = ROOT / "build" / "peers"
PYTHON = HOME / "bin" / "python"
DONE = HOME / ".installed"


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer: the module that measures it, its package and format, and the numerics of ours that it is put beside.

    `alike` is the least share of positions at which both must expect the same token, or they run different models.
    """

    name: str
    module: str
    package: str
    format: str
    numerics: str
    alike: float

    def versions(self) -> dict[str, str]:
        """Return the versions of what is measured, nothing where it is not installed."""
        return _versions(self.module) if DONE.exists() else {}

    def label(self, package: str = "") -> str | None:
        """Return a name with its version, None where it is not installed."""
        package = package or self.package
        installed = self.versions().get(package)
        return None if installed is None else f"{package} {installed}"

    def measure(self, name: str, *arguments: str) -> dict[str, Any]:
        """Run one measurement with the peers' Python."""
        return child(self.module, name, *arguments, python=str(PYTHON))

    def check(self, ours: Sequence[int], theirs: Sequence[int]) -> None:
        """Stop where the peer does not run the same model."""
        share = float(np.mean(np.asarray(ours) == np.asarray(theirs)))
        if share < self.alike:
            message = f"{self.name} expects our token at {share:.0%} of the positions only"
            raise SystemExit(f"{message}: it runs another model")


@cache
def _versions(module: str) -> dict[str, str]:
    return child(module, "versions", python=str(PYTHON))


ONNX = Peer("ONNX Runtime", "onnx_runtime", "onnxruntime", "f32", "f32", alike=0.99)
LLAMA = Peer("llama.cpp", "llama_cpp", "llama-cpp-python", "4 bit", "bf16", alike=0.8)
