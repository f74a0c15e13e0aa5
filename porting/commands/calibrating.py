"""`sohu calibrate`: fit."""

from __future__ import annotations

import argparse


def calibrate(options: argparse.Namespace) -> int:
    """Run the command."""
    raise NotImplementedError(options)
