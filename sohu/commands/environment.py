# SPDX-License-Identifier: Apache-2.0
"""`sohu env`: what a report of a fault should say of the machine: versions, processor, caches, compiled kernels.

Names no user: the home is `~`, a user's name in a path is left out, and of settings only the names are told. Starts
nothing and compiles nothing.
"""

from __future__ import annotations

import getpass
import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from device_model.machine.processor import processor_facts
from dsl.extras import EXTRAS
from dsl.own_folder import user_cache
from sohu.api.version import version
from sohu.terminal import console

CORE = ("jinja2", "lark", "ml_dtypes", "numpy", "pygments", "rich", "sympy")
ROOMS = ("kernels", "gguf", "adapters", "originals", "faults")
"""The rooms of this user's cache."""
NUMBERS = re.compile(
    r"(sse4|ssse3|avx|fma|f16c|amx|asimd|sve|neon|i8mm|bf16|fphp|dotprod)\w*", re.ASCII
)
"""Instructions that work on numbers, as the system calls them."""
SETTINGS = re.compile(r"(SOHU|HF|NUMBA|OMP|OPENBLAS|MKL|PYTHON|XDG_CACHE)_?\w*", re.ASCII)
MODEL_NAMES = ("model name", "CPU part", "Processor")
MOST_FILES = 200_000


@dataclass(frozen=True, slots=True)
class CacheFolder:
    """A folder of a cache: where it is, how many files it has, and their bytes."""

    name: str
    place: str
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Environment:
    """What results and faults depend on. `packages` has None for what is not installed; `memory` is in bytes."""

    packages: Mapping[str, str | None]
    processor: str
    instructions: tuple[str, ...]
    cores: int
    memory: int | None
    kernels: str
    caches: tuple[CacheFolder, ...]
    settings: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """Return it as JSON data."""
        return {
            "sohu": version(),
            "python": f"{platform.python_version()} ({platform.python_implementation()})",
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "processor": {
                "name": self.processor,
                "cores": self.cores,
                "instructions": list(self.instructions),
            },
            "memory_bytes": self.memory,
            "kernels": self.kernels,
            "packages": dict(self.packages),
            "caches": [
                {"name": c.name, "place": c.place, "files": c.files, "bytes": c.bytes}
                for c in self.caches
            ],
            "settings": list(self.settings),
        }


def environment() -> Environment:
    """Return what there is here."""
    facts = processor_facts()
    name = next((facts[key] for key in MODEL_NAMES if facts.get(key)), platform.processor())
    flags = f"{facts.get('flags', '')} {facts.get('Features', '')}".split()
    return Environment(
        {package: _version(package) for package in sorted({*CORE, *EXTRAS})},
        name or "unknown",
        tuple(sorted(flag for flag in flags if NUMBERS.fullmatch(flag))),
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        _memory(),
        _kernels(),
        tuple(_caches()),
        tuple(sorted(name for name in os.environ if SETTINGS.fullmatch(name))),
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _kernels() -> str:
    """Return whether the kernels of this version are compiled for this processor."""
    if _version("numba") is None or _version("llvmlite") is None:
        return "cannot be compiled: numba is not installed"
    try:
        from device_model.kernels.dispatch import kept  # noqa: PLC0415 - with the compiler's library
    except ImportError as error:  # a broken installation is what such a report is for
        return f"cannot be compiled: {error.name} cannot be imported"
    there, of = kept()
    return "compiled" if there == of else f"{there} of {of} parts compiled"


def _caches() -> Iterator[CacheFolder]:
    for room in ROOMS:
        folder = user_cache(room)
        if folder is not None and folder.is_dir():
            yield _measured(room, folder)
    hub = _hub()
    if hub is not None and hub.is_dir():
        yield _measured("hub", hub)


def _hub() -> Path | None:
    """Return where the hub's library keeps models, as it says itself."""
    if named := os.environ.get("HF_HUB_CACHE"):
        return Path(named)
    home = os.environ.get("HF_HOME")
    try:
        return Path(home or Path.home() / ".cache" / "huggingface") / "hub"
    except RuntimeError:  # no home
        return None


def _measured(name: str, folder: Path) -> CacheFolder:
    """Return the files of a folder and their bytes; links are counted, not followed, and no more than so many."""
    files = total = 0
    for inner, _, names in os.walk(folder):
        for entry in names:
            try:
                total += Path(inner, entry).lstat().st_size
            except OSError:
                continue
            files += 1
        if files > MOST_FILES:
            break
    return CacheFolder(name, anonymous(folder), files, total)


def anonymous(path: Path) -> str:
    """Return a path with the home as `~` and without the user's name."""
    try:
        home = Path.home()
        path = Path("~") / path.relative_to(home) if path.is_relative_to(home) else path
        user = getpass.getuser()
    except (KeyError, OSError, RuntimeError):
        return str(path)
    return str(Path(*("USER" if part == user else part for part in path.parts)))


def show(found: Environment) -> None:
    """Print it for people, so that it can be pasted into a report."""
    data = found.as_dict()
    memory = "unknown" if found.memory is None else f"{found.memory / 2**30:.1f} GiB"
    rows = [
        *((name, str(data[name])) for name in ("sohu", "python", "system")),
        ("processor", f"{found.processor}, {found.cores} cores"),
        ("instructions", " ".join(found.instructions) or "unknown"),
        ("memory", memory),
        ("kernels", found.kernels),
        ("packages", ", ".join(f"{k} {v}" for k, v in found.packages.items() if v)),
        ("absent", ", ".join(k for k, v in found.packages.items() if not v) or "none"),
        *(
            (f"cache {c.name}", f"{c.place}: {c.files:,} files, {c.bytes / 2**20:,.1f} MiB")
            for c in found.caches
        ),
        ("settings", ", ".join(found.settings) or "none"),
    ]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        console.say(f"{name:{width}}  {text}")
