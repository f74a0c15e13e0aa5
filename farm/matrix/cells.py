# SPDX-License-Identifier: Apache-2.0
"""One cell of the matrix: port one tiny oracle, validate it by the rule, and return what came out as data."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import dsl
from dsl.diagnostics import Refused, render
from farm.matrix.registry import family_types, texts
from farm.oracles.published_models import published, tiny_published
from farm.oracles.tiny import tiny
from porting.checkpoint.tensors import Checkpoint
from porting.config.reader import read_config
from porting.origin.resolve import resolve
from porting.original.reference import refusing
from porting.planning.placement import place
from porting.planning.plan import memory, plan
from porting.report.model import versions
from porting.verdict.feeding import MODES
from porting.verdict.validate import NUMERICS, passed, validate

ROOT = Path(dsl.__file__).parent.parent
CODE = ("dsl", "device_model", "porting", "farm")
SUFFIXES = frozenset({".py", ".lark", ".toml"})
# What shows results, and what measures the harness, has no part in them.
APART = (
    "farm/__main__.py",
    "farm/matrix/markdown.py",
    "farm/matrix/status.py",
    "farm/matrix/store.py",
    "farm/mutants/",
)
COUNTED_VERSIONS = ("torch", "transformers", "numpy", "numba")


@dataclass(frozen=True, slots=True)
class Cell:
    """One type of model with the numerics and modes to judge it in.

    Its oracle is made of the defaults of the type's class, or of a published config of this name.
    """

    model_type: str
    numerics: tuple[str, ...] = NUMERICS
    modes: tuple[str, ...] = tuple(mode.name for mode in MODES)
    published: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a cell; `verdict` is pass, fail, refused or broken, `cases` are those of the report."""

    key: str
    model_type: str
    family: str
    verdict: str
    problem: str = ""
    cases: tuple[Mapping[str, Any], ...] = ()
    tokens: int = 0
    lengths: tuple[Mapping[str, Any], ...] = ()
    pins: tuple[Mapping[str, Any], ...] = ()
    weights_bytes: int = 0
    state_bytes_per_token: int = 0
    seconds: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)
    published: str = ""

    @property
    def passed(self) -> bool:
        """Tell whether every case holds."""
        return self.verdict == "pass"

    @property
    def name(self) -> str:
        """Return the type, with the published config that its oracle was made of."""
        return f"{self.model_type} {self.published}".rstrip()

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Result:
        """Return the result of JSON data; raises `TypeError` where a key is missing or unknown."""
        known = {f.name for f in fields(cls)}
        if unknown := set(data) - known:
            raise TypeError(f"unknown keys: {', '.join(sorted(unknown))}")
        lists = {name: tuple(data.get(name, ())) for name in ("cases", "lengths", "pins")}
        return cls(**{**data, **lists})


def key_of(cell: Cell) -> str:
    """Return the digest of all that a cell's result depends on."""
    digest = hashlib.sha256(repr(cell).encode())
    for text in texts(family_types()[cell.model_type]):
        digest.update(text.encode())
    if cell.published:
        digest.update(published()[cell.published].read_bytes())
    digest.update(code_digest().encode())
    return digest.hexdigest()[:32]


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Return the digest of the code that makes results, and of the libraries beneath it."""
    digest = hashlib.sha256()
    known = versions()
    for name in COUNTED_VERSIONS:
        digest.update(f"{name} {known.get(name, '')}\n".encode())
    for path in sorted(path for package in CODE for path in (ROOT / package).rglob("*")):
        name = path.relative_to(ROOT).as_posix()
        if path.suffix in SUFFIXES and not name.startswith(APART):
            digest.update(name.encode() + path.read_bytes())
    return digest.hexdigest()


def judge(cell: Cell) -> Result:
    """Port and validate the cell's oracle; what the oracle does wrong is a result too."""
    start = time.perf_counter()
    family = family_types()[cell.model_type].stem
    counted = {name: version for name, version in versions().items() if name in COUNTED_VERSIONS}
    common: dict[str, Any] = {
        "key": key_of(cell),
        "model_type": cell.model_type,
        "family": family,
        "published": cell.published,
    }
    with tempfile.TemporaryDirectory(prefix="farm-") as name:
        try:
            figures = _validated(cell, Path(name))
        except Refused as refused:
            problem = "\n".join(render(d) for d in refused.diagnostics)
            figures = {"verdict": "refused", "problem": problem}
    seconds = round(time.perf_counter() - start, 3)
    return Result(**common, **figures, seconds=seconds, versions=counted)


def _validated(cell: Cell, directory: Path) -> dict[str, Any]:
    with refusing("S551", "build this model"):
        if cell.published:
            tiny_published(directory, cell.published)
        else:
            tiny(directory, cell.model_type)
    checkpoint = Checkpoint.open(directory)
    planned = plan(resolve(str(directory)), read_config(directory), checkpoint)
    modes = tuple(mode for mode in MODES if mode.name in cell.modes)
    validation = validate(planned.graph, checkpoint, directory, numerics=cell.numerics, modes=modes)
    sizes = memory(planned.graph, place(planned.graph, None, ""))
    return {
        "verdict": "pass" if passed(validation) else "fail",
        "cases": tuple(case.to_dict() for case in validation.cases),
        "tokens": validation.tokens,
        "lengths": tuple(length.to_dict() for length in validation.lengths),
        "pins": tuple(pins.to_dict() for pins in validation.pins),
        "weights_bytes": sizes.weights_bytes or 0,
        "state_bytes_per_token": sizes.state_bytes_per_token or 0,
    }
