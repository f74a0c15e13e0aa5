# SPDX-License-Identifier: Apache-2.0
"""Keep results on disk, one JSON line a cell, so that an interrupted or repeated run skips what is known."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from farm.matrix.cells import Result
from porting.files.atomic import replace_file

DEFAULT = Path(".farm/results.jsonl")


@dataclass(frozen=True, slots=True)
class Store:
    """A file of results; what it cannot read, such as the lines of an older layout, counts as not there."""

    path: Path = DEFAULT

    def load(self) -> dict[str, Result]:
        """Return the results by key."""
        if not self.path.is_file():
            return {}
        lines = self.path.read_text(encoding="utf-8").splitlines()
        results = [result for line in lines if (result := _read(line)) is not None]
        return {result.key: result for result in results}

    def save(self, results: Iterable[Result]) -> None:
        """Replace the file at once."""
        text = "".join(f"{json.dumps(result.to_dict())}\n" for result in results)

        def write(stream: BinaryIO) -> None:
            stream.write(text.encode())

        replace_file(self.path, write)


def newest(results: Mapping[str, Result], keys: Iterable[str]) -> dict[str, Result]:
    """Return those results whose key is still current, by their names."""
    current = [results[key] for key in keys if key in results]
    return {result.name: result for result in current}


def _read(line: str) -> Result | None:
    try:
        return Result.from_dict(json.loads(line))
    except (ValueError, TypeError, AttributeError):
        return None
