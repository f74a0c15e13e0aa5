# SPDX-License-Identifier: Apache-2.0
"""Config keys as the classes of a text's architectures have them: which there are, what a file without one means.

The classes are transformers', as `porting.config` has them on record; nothing of transformers is imported.
"""

from __future__ import annotations

from collections.abc import Mapping

from dsl.linking.static import show
from dsl.text import syntax as sx
from porting.config.class_rules import ClassRules, rules_of_class
from sohu.language_server.view import View

ROTARY = "rope_parameters"


def classes_of(view: View) -> tuple[ClassRules, ...]:
    """Return the config classes of the architectures that a text claims, as far as they are known."""
    claimed = (a.value for family in view.file.families for a in family.architectures)
    rules = (rules_of_class(name)[:1] for name in claimed)
    return tuple({r.name: r for first in rules for r in first}.values())


def keys_of(view: View) -> Mapping[str, str]:
    """Return the keys that a text's config may have, each with what its class says of it."""
    keys: dict[str, str] = {}
    for rules in classes_of(view):
        for key, value in rules.keys.items():
            keys.setdefault(key, f"{_json(value)} in {rules.name}")
        for key, name in rules.names.items():
            keys.setdefault(key, f"another name of {name}")
        for key in rules.lists:
            keys.setdefault(key, "a list")
        rotation = rules.rotation
        for key in rotation.absent if rotation else ():
            keys.setdefault(f"{ROTARY}.{key}", "of the rotation")
    return keys


def key_words(view: View, path: str) -> str:
    """Return what is known of a config key."""
    said = [f"config key `{path}`"]
    for rules in classes_of(view):
        if path in rules.keys:
            said.append(f"`{_json(rules.keys[path])}` where a {rules.name} config has none")
        for other, name in rules.names.items():
            if path in (other, name):
                said.append(f"{rules.name} also reads it as `{name if path == other else other}`")
    value = _read(view, path)
    return "; ".join(said if value is None else [*said, value])


def _read(view: View, path: str) -> str | None:
    """Return the name and default that a text binds a key to."""
    for family in view.program.families:
        for bind in sx.binds(family):
            if isinstance(bind.value, sx.Key) and path in bind.value.paths:
                default = (
                    f", else `{bind.default.span.text}`" if bind.default else ", which it must have"
                )
                return f"here it is `{bind.name.id}`{default}"
    return None


def _json(value: object) -> str:
    return "null" if value is None else show(tuple(value) if isinstance(value, list) else value)
