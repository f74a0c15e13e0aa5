# SPDX-License-Identifier: Apache-2.0
"""`python -m editors grammar` writes what is generated, `python -m editors vsix [FOLDER]` packs the extension."""

from __future__ import annotations

import argparse
from pathlib import Path

from editors.textmate import FILES
from editors.vsix import EXTENSION, write_vsix


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m editors", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("grammar", help="write the grammars of editors/vscode from the language's")
    packed = commands.add_parser("vsix", help="pack editors/vscode for VS Code")
    packed.add_argument("folder", nargs="?", type=Path, default=Path("dist"))
    arguments = parser.parse_args()
    if arguments.command == "vsix":
        print(write_vsix(arguments.folder))
        return
    for name, make in FILES.items():
        (EXTENSION / name).write_text(make(), encoding="utf-8")
        print(EXTENSION / name)


if __name__ == "__main__":
    main()
