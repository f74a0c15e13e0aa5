# SPDX-License-Identifier: Apache-2.0
"""What the operating system says of the processor that code runs on.

Nothing here measures, and the compiler's library is not loaded for it.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

FACTS = Path("/proc/cpuinfo")


@lru_cache(maxsize=1)
def processor_facts() -> MappingProxyType[str, str]:
    """Return the facts of the last processor by name, none where the system keeps no such file."""
    try:
        lines = FACTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return MappingProxyType({})
    pairs = (line.partition(":") for line in lines)
    return MappingProxyType({key.strip(): value.strip() for key, _, value in pairs})
