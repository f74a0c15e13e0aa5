"""Render a model's chat template, which is a program from a stranger: sandboxed, in a child with limits.

Decides nothing about tokens.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from dsl.diagnostics import Refused, refuse
from porting.files.strict_json import shown

MAX_TEMPLATE = 262_144
MAX_TEXT = 4 * 2**20
SECONDS = 5
MEMORY_BYTES = 512 * 2**20
MAX_REASON = 200

CHILD = Path(__file__).with_name("chat_child.py")


def render(template: str, variables: Mapping[str, object]) -> str:
    """Return the text that a template makes of its variables, or refuse the template."""
    if len(template) > MAX_TEMPLATE:
        raise _refused(f"has {len(template):,} characters; at most {MAX_TEMPLATE:,} are read")
    job = {
        "template": template,
        "variables": dict(variables),
        "max_characters": MAX_TEXT,
        "memory_bytes": MEMORY_BYTES,
        "seconds": SECONDS,
    }
    command = [sys.executable, "-I", str(CHILD)]
    try:
        child = subprocess.run(  # noqa: S603 - our own script, its job on standard input
            command,
            input=json.dumps(job).encode(),
            capture_output=True,
            timeout=2 * SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _refused(f"did not finish in {2 * SECONDS} seconds") from error
    if child.returncode != 0:
        raise _refused(f"did not finish within {SECONDS} seconds and {MEMORY_BYTES // 2**20} MiB")
    outcome = json.loads(child.stdout)
    if "text" not in outcome:
        raise _refused(f"failed: {shown(outcome['error'], MAX_REASON)}")
    return str(outcome["text"])


def _refused(fact: str) -> Refused:
    return refuse("S542", f"the chat template {fact}", place="chat_template")
