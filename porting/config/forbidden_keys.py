# SPDX-License-Identifier: Apache-2.0
"""Refuse a config whose keys would make transformers read other files, replace classes or rename keys.

The original model is loaded with its config as it lies, so nothing here is taken out: such a file is refused before.
Keys that name code to run (`auto_map`) or an implementation of attention are not here: the arguments of the loading
overrule them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dsl.diagnostics import Diagnostic, Refused, refuse

MAX_DEPTH = 16

FORBIDDEN: Mapping[str, str] = {
    "attribute_map": "gives other keys another meaning",
    "configuration_files": "names another file to be read as the config",
    "fusion_config": "replaces classes of transformers",
    "kernel_config": "names kernels to be fetched and run",
    "transformers_weights": "names another file to be read as the weights",
}


def check_keys(raw: Mapping[str, object], *, name: str) -> None:
    """Refuse the config of a file if it is nested too deep (S421) or has a forbidden key at any depth (S427)."""
    refused = [
        Diagnostic(
            "S427", f"the config key `{path}` {FORBIDDEN[key]}", place=name, help="remove it"
        )
        for path, key in _keys(raw, "", name)
        if key in FORBIDDEN
    ]
    if refused:
        raise Refused(tuple(refused))


def _keys(value: object, path: str, name: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    if depth > MAX_DEPTH:
        raise refuse("S421", f"{name} is nested more than {MAX_DEPTH} deep", place=name)
    if isinstance(value, dict):
        for key, item in value.items():
            own = f"{path}.{key}" if path else key
            # Null is the same as absent.
            if item is not None:
                yield own, key
            yield from _keys(item, own, name, depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _keys(item, path, name, depth + 1)
