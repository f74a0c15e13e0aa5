"""`sohu profile`: time a program on a device."""

from __future__ import annotations

import argparse


def profile(options: argparse.Namespace) -> int:
    """Run the command."""
    raise NotImplementedError(options)
