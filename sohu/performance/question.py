# SPDX-License-Identifier: Apache-2.0
"""What is asked of a program's memory: a mesh, a load, and how a step computes."""

from __future__ import annotations

from dataclasses import dataclass

from device_model.memory.use import Logits


@dataclass(frozen=True, slots=True)
class Asked:
    """The mesh as it is written, sequences, tokens of a prompt and of the context, the format of products, logits."""

    mesh: str
    batch: int
    seq: int
    context: int
    numerics: str
    logits: Logits
