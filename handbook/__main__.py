# SPDX-License-Identifier: Apache-2.0
"""`python -m handbook [OUT]` builds the documentation into OUT (build/docs); status 1 where a link is dead."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from handbook.sources.contents import ROOT
from handbook.whole import make


def main() -> int:
    """Build, and say what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m handbook", description=__doc__)
    parser.add_argument("out", nargs="?", type=Path, default=ROOT / "build" / "docs")
    out: Path = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        wrong = make(out, Path(folder))
    for line in wrong:
        print(line, file=sys.stderr)
    print(out / "index.html")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
