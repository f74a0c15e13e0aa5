# SPDX-License-Identifier: Apache-2.0
"""Port a Hugging Face model: `sohu.port`, which is `porting.pipeline` with its result as one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsl.extras import naming_extras, require
from porting.files.progress import Progress, silent
from porting.pipeline import port as run_stages
from porting.report.model import Report, Verdict
from sohu.api.model import ANSWERING, VALIDATION, Model, load, written
from sohu.api.reference import Reference, brought


@dataclass(frozen=True, slots=True)
class PortResult:
    """A port as written: the folder with `model.sohu`, `report.json` and `report.html`, and the report as a value."""

    folder: Path
    report: Report

    @property
    def verdict(self) -> Verdict:
        """Return what became of it: `PASS`, `FAIL`, or `PLANNED` where nothing was validated."""
        return self.report.verdict

    def load(self) -> Model:
        """Return the port as a model that runs."""
        return load(self.folder)


@naming_extras()
def port(
    model: str | Path,
    *,
    out: str | Path | None = None,
    revision: str | None = None,
    adapter: str | Path | None = None,
    device: str | None = None,
    mesh: str | Mapping[str, int] = "",
    numerics: str = "bf16",
    plan: bool = False,
    validate: bool = True,
    prompts: Sequence[str] = (),
    tokens: Sequence[Any] = (),
    family: str | Path | None = None,
    reference: Reference | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> PortResult:
    """Port a model and write the result into `out`, by default `ports/<org>--<name>/`.

    `model` is a folder, a hub id (`org/name` or `org/name@revision`), a `.gguf` file, or `demo`; `adapter` a PEFT
    adapter's folder or hub id. A folder of an adapter alone stands for the base that it names, with it.

    A device must hold on one chip of the mesh what `Model.fit` asks by default, with products in `numerics`, or the
    verdict is `FAIL`. `plan` stops before weights are read; without `validate` the port is written without a verdict. A
    faulty port is a verdict; what cannot be ported raises `Refused`. `prompts` and `tokens`, arrays [S] or [B, S] of
    ids, are judged beside the rows that every model is judged on.

    A text in `out` that was edited since it was ported, or that no report knows, is refused; `force` writes over it.
    The family of the file `family` is used in place of the one that claims the model's architecture. A `reference` is
    judged by in place of transformers, as in `Model.validate`.
    """
    validated = validate and not plan
    if validated:
        require(*(VALIDATION if reference is None else ANSWERING))
    report, folder = run_stages(
        str(model),
        revision,
        None if out is None else Path(out),
        device=device,
        mesh=written(mesh),
        numerics=numerics,
        plan_only=plan,
        validated=validated,
        own=brought(prompts, tokens, reference, family, adapter),
        force=force,
        progress=progress,
    )
    return PortResult(folder, report)
