# SPDX-License-Identifier: Apache-2.0
"""The site as a whole: stage its sources, build it, add what language models read, look for dead links."""

from __future__ import annotations

from pathlib import Path

from handbook.dead_links import faults
from handbook.llms import index, whole
from handbook.site import build
from handbook.staging import stage


def make(out: Path, work: Path) -> list[str]:
    """Build the site into `out`, with what lies between in `work`; returns warnings and dead links, or nothing."""
    texts = stage(work / "source")
    warnings = build(work / "source", out, work / "memory").splitlines()
    (out / "llms.txt").write_text(index(texts), encoding="utf-8")
    (out / "llms-full.txt").write_text(whole(texts), encoding="utf-8")
    return [*warnings, *faults(out)]
