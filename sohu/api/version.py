# SPDX-License-Identifier: Apache-2.0
"""The version of the distribution, as installed or as a checkout says."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

from dsl.regular_file import read_shipped

DISTRIBUTION = "sohu"
UNKNOWN = "0+unknown"


def version() -> str:
    """Return the version; a copy of the sources that says none gives `0+unknown`."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return _of_checkout(Path(__file__).parents[2] / "pyproject.toml")


def _of_checkout(path: Path) -> str:
    try:
        project = tomllib.loads(read_shipped(path))["project"]
    except (OSError, KeyError):
        return UNKNOWN
    return str(project["version"]) if project["name"] == DISTRIBUTION else UNKNOWN
