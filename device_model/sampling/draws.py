# SPDX-License-Identifier: Apache-2.0
"""Random numbers that are functions of a seed and a position, so that nothing else can change them.

Keeps no state: what was drawn before, for whom, and how many rows a batch has is not known here.
"""

from __future__ import annotations

import numpy as np

_COUNTERS = 2**256
_BITS = 53


def uniform(seed: int, position: int) -> float:
    """Return the number in [0, 1) that belongs to a seed, below 2^64, and a position.

    It is the first word of Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) at the
    counter (position, 0, 0, 0) under the key (seed, 0), of which the upper 53 bits count.
    """
    # numpy's generator counts before it makes its first block.
    words = np.random.Philox(counter=(position - 1) % _COUNTERS, key=seed).random_raw(1)
    return float(int(words[0]) >> (64 - _BITS)) / 2.0**_BITS
