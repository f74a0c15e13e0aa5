"""Check `.sohu` files for the command line: families, blocks, and ports in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dsl.diagnostics import Diagnostic, Refused, Severity
from dsl.inference.inference import Checked, check, check_block
from porting.planning.library import load_program


@dataclass(frozen=True, slots=True)
class Outcome:
    """What checking one file found."""

    path: Path
    names: tuple[str, ...]
    paths: int
    diagnostics: tuple[Diagnostic, ...]

    @property
    def refused(self) -> bool:
        """Tell whether the file is refused."""
        return any(d.severity is Severity.ERROR for d in self.diagnostics)

    def summary(self) -> str:
        """Return one line for a file that is sound."""
        ways = f", {self.paths} combinations of conditions" if self.paths > 1 else ""
        return f"{self.path}: ok ({', '.join(self.names)}{ways})"

    def as_dict(self) -> dict[str, object]:
        """Return the outcome as JSON data."""
        return {
            "path": str(self.path),
            "verdict": "refused" if self.refused else "pass",
            "declares": list(self.names),
            "paths": self.paths,
        }


def check_file(path: Path) -> Outcome:
    """Check every family and block that a file declares."""
    try:
        program = load_program(path)
    except Refused as refused:
        return Outcome(path, (), 0, refused.diagnostics)
    found: list[Checked] = [check(f, program.blocks) for f in program.families]
    if not found:
        found = [check_block(b, program.blocks) for b in program.file.blocks]
    names = [f"family {f.name.id}" for f in program.families]
    names += [f"part {p.name.id}" for p in program.file.parts]
    names += [f"block {b.name.id}" for b in program.file.blocks]
    diagnostics = tuple(d for c in found for d in c.diagnostics)
    return Outcome(path, tuple(names), sum(c.paths for c in found), diagnostics)
