# SPDX-License-Identifier: Apache-2.0
"""Operations between chips, for a chip that has all of what they give: each of them returns what it is given.

On a mesh the plan of a chip has a meeting wherever a part is not the whole (`device_model/engine/rank_plan.py`), owed
sums being complete before their collective. Nothing here adds or moves anything; the timing of collectives is not here
either.
"""

from __future__ import annotations

from device_model.numbers.numerics import Array
from device_model.program.call import Call
from device_model.program.kernel import Kernel


def reference_identity(call: Call) -> tuple[Array, ...]:
    """Return what is whole already."""
    return (call.array(0),)


KERNELS: dict[str, Kernel] = dict.fromkeys(
    ("all_reduce", "all_gather", "reduce_scatter", "shard"),
    Kernel(reference_identity, view=True),
)
"""Every collective of what is whole."""
