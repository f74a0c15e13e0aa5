# SPDX-License-Identifier: Apache-2.0
"""Open weights that a user names: one safetensors file of any name, or a folder of them as of a model.

What a text reads of them is accounted for like any checkpoint.
"""

from __future__ import annotations

from pathlib import Path

from dsl.diagnostics import refuse
from dsl.regular_file import is_file, is_folder
from porting.checkpoint.beside import check_beside
from porting.checkpoint.tensors import Checkpoint
from porting.files.strict_json import shown

SUFFIX = ".safetensors"
FORMS = f"--weights is a {SUFFIX} file, a folder with model{SUFFIX} or its index, or random:7 where nothing is judged"


def open_weights(path: Path) -> Checkpoint:
    """Return the tensors of a file or a folder; raises `Refused`, S533 where the path names neither."""
    if is_folder(path):
        checkpoint = Checkpoint.open(path)
        check_beside(checkpoint, is_quantised=False)
        return checkpoint
    if not is_file(path):
        raise refuse("S533", f"there is no file or folder `{shown(str(path), 240)}`", help=FORMS)
    if path.suffix != SUFFIX:
        message = f"`{shown(str(path), 240)}` is no {SUFFIX} file"
        raise refuse("S533", message, help=FORMS)
    real = path.resolve()  # a link that the user names is theirs to follow
    return Checkpoint.open_file(real.parent, real.name)
