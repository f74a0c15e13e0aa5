# SPDX-License-Identifier: Apache-2.0
"""Find and load the function that a user names as reference: `module:function`, or `path/to/file.py:function`.

It is code of the user's. What lies in a model's folder is not, whatever it is called: it is looked at before anything
runs, and refused.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from dsl.diagnostics import did_you_mean, refuse
from dsl.regular_file import is_file, is_inside
from porting.files.strict_json import shown
from porting.original.own_reference import GivenFunction, as_the_users_own

FORMS = (
    "--reference is logits in a .npy file, `module:function` or `path/to/file.py:function`; the function takes tokens "
    "[B, S] and returns logits [B, S, V]"
)


def load_function(named: str, foreign: Sequence[Path]) -> GivenFunction:
    """Return the function of a name; raises `Refused` (S554) where there is none or it lies in a `foreign` folder.

    A module is looked up as Python does, then in the current folder, unless that is foreign.
    """
    place, _, name = named.rpartition(":")
    if not place or not name.isidentifier():
        raise refuse("S554", f"`{shown(named)}` names no reference", help=FORMS)
    is_path = place.endswith(".py")
    module = (_of_file if is_path else _of_name)(place, named, foreign)
    folder = Path(place).resolve().parent if is_path else _here(foreign)
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if isinstance(value, Callable)]  # type: ignore[arg-type]
        message = f"`{shown(place)}` has no function `{shown(name)}`"
        raise refuse("S554", message, help=did_you_mean(name, known) or FORMS)
    return GivenFunction(named, function, folder)


def _here(foreign: Sequence[Path]) -> Path | None:
    here = Path.cwd()
    return None if any(is_inside(here, folder) for folder in foreign) else here


def _of_file(place: str, named: str, foreign: Sequence[Path]) -> ModuleType:
    path = Path(place)
    if not is_file(path):
        raise refuse("S554", f"there is no file `{shown(str(path))}`", help=FORMS)
    _check([path], foreign)
    spec = spec_from_file_location(f"sohu_reference_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise refuse("S554", f"`{shown(str(path))}` is no module of Python", help=FORMS)
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # as an import would: dataclasses look themselves up there
    with as_the_users_own(named, path.resolve().parent):
        spec.loader.exec_module(module)
    return module


def _of_name(place: str, named: str, foreign: Sequence[Path]) -> ModuleType:
    parts = place.split(".")
    if not all(part.isidentifier() for part in parts):
        raise refuse("S554", f"`{shown(place)}` is no name of a module", help=FORMS)
    importlib.invalidate_caches()
    with as_the_users_own(named, _here(foreign)):
        for count in range(1, len(parts) + 1):
            # Looking for a module imports the package that it is in, which has been checked the round before.
            spec = _spec(".".join(parts[:count]))
            if spec is None:
                message = f"there is no module `{shown('.'.join(parts[:count]))}`"
                raise refuse("S554", message, help=FORMS)
            _check(_places(spec), foreign)
        return importlib.import_module(place)


def _spec(name: str) -> ModuleSpec | None:
    try:
        return find_spec(name)
    except ValueError:  # a module that says nothing of where it is from
        return None


def _places(spec: ModuleSpec) -> Iterable[Path]:
    yield from (Path(place) for place in spec.submodule_search_locations or ())
    if spec.has_location and spec.origin is not None:
        yield Path(spec.origin)


def _check(paths: Iterable[Path], foreign: Sequence[Path]) -> None:
    for path in paths:
        if any(is_inside(path, folder) for folder in foreign):
            message = f"`{shown(str(path))}` lies in the folder of a model or a port, whose code is never run"
            raise refuse("S554", message, help="a reference is code of yours: keep it elsewhere")
