"""`sohu sweep`: vary a design."""

from __future__ import annotations

import argparse


def sweep(options: argparse.Namespace) -> int:
    """Run the command."""
    raise NotImplementedError(options)
