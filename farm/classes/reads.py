# SPDX-License-Identifier: Apache-2.0
"""Find the config keys that transformers' own code reads, by its source: a key in none of them is of no effect.

Errs towards "read": every attribute of something that is called a config counts, every name that a mapping or an
attribute is asked for by a constant, and every name in a list of names. Imports nothing of what it reads.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

CONFIG = re.compile(r"config|cfg", re.IGNORECASE)
NAME = re.compile(r"_*[A-Za-z][A-Za-z0-9_]*", re.ASCII)
ASKED = frozenset({"get", "pop", "setdefault"})
ASKING = frozenset({"getattr", "hasattr", "setattr", "getattr_iter"})
CORE = (
    "cache_utils.py",
    "configuration_utils.py",
    "conversion_mapping.py",
    "core_model_loading.py",
    "masking_utils.py",
    "modeling_attn_mask_utils.py",
    "modeling_layers.py",
    "modeling_rope_utils.py",
    "modeling_utils.py",
    "pytorch_utils.py",
    "integrations/eager_paged.py",
    "integrations/heterogeneity/configuration_utils.py",
    "integrations/moe.py",
    "integrations/sdpa_attention.py",
)
"""What every model runs through besides its own module, when it is loaded and run eagerly on one device."""


def core_reads(root: Path) -> frozenset[str]:
    """Return the keys that the modules common to all models read."""
    paths = [root / name for name in CORE]
    paths += sorted((root / "integrations" / "heterogeneity").glob("*.py"))
    return frozenset().union(*(_reads(path) for path in paths))


def module_reads(root: Path, module: str) -> frozenset[str]:
    """Return the keys that a folder of `models` reads, with those of other models that its modules import."""
    seen: set[Path] = set()
    todo = [root / "models" / module]
    while todo:
        folder = todo.pop()
        if folder not in seen and folder.is_dir():
            seen.add(folder)
            todo += [root / "models" / name for path in _sources(folder) for name in _others(path)]
    return frozenset().union(*(_reads(path) for folder in seen for path in _sources(folder)))


def _sources(folder: Path) -> list[Path]:
    return sorted({*folder.glob("modeling_*.py"), *folder.glob("configuration_*.py")})


@cache
def _others(path: Path) -> frozenset[str]:
    """Return the other models that a module imports from; the automatic classes lead to configs of their own."""
    nodes = [n for n in ast.walk(_tree(path)) if isinstance(n, ast.ImportFrom) and n.module]
    named = {str(n.module).partition(".")[0] for n in nodes if n.level == 2}
    return frozenset(named - {"auto"})


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _reads(path: Path) -> frozenset[str]:
    tree = _tree(path)
    own = frozenset({"self"}) if path.name.startswith("configuration_") else frozenset[str]()
    configs = own | _called_configs(tree, own)
    names = {name for node in ast.walk(tree) for name in _read_by(node, configs)}
    return frozenset(name for name in names if NAME.fullmatch(name))


def _called_configs(tree: ast.Module, own: frozenset[str]) -> frozenset[str]:
    """Return the names that a config is assigned to, however it is called there."""
    configs: set[str] = set()
    assigned = [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    while True:
        more = {
            target.id
            for node in assigned
            if isinstance(node.value, ast.Attribute | ast.Name)
            and _last(node.value) not in own
            and _is_config(node.value, frozenset(configs), whole=True)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        if more <= configs:
            return frozenset(configs)
        configs |= more


def _last(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _is_config(node: ast.expr, configs: frozenset[str], *, whole: bool = False) -> bool:
    """Tell whether an expression is a config by its name, or, unless `whole`, a part of one."""
    match node:
        case ast.Name(id=name):
            return name in configs or bool(CONFIG.search(name))
        case ast.Attribute(value=value, attr=name):
            return bool(CONFIG.search(name)) or (not whole and _is_config(value, configs))
        case ast.Call(func=ast.Attribute(attr=name)):
            return bool(CONFIG.search(name))
        case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str(name)), *_]):
            return bool(CONFIG.search(name))
        case ast.Subscript(value=value):
            return _is_config(value, configs, whole=whole)
    return False


def _read_by(node: ast.AST, configs: frozenset[str]) -> Iterator[str]:
    match node:
        case ast.Attribute(value=value, attr=name, ctx=ast.Load()):
            if _is_config(value, configs):
                yield name
        case ast.Call(func=ast.Name(id=asking), args=[_, ast.Constant(value=str(name)), *_]):
            if asking in ASKING:
                yield name
        case ast.Call(func=ast.Attribute(attr=asked), args=[ast.Constant(value=str(name)), *_]):
            if asked in ASKED:
                yield name
        case ast.Subscript(slice=ast.Constant(value=str(name))):
            yield name
        case ast.Compare(left=ast.Constant(value=str(name)), ops=[ast.In() | ast.NotIn()]):
            yield name
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            yield from _constants(items)
        case ast.FunctionDef(name="__init__" | "__post_init__", args=arguments):
            if "self" in configs:
                yield from (a.arg for a in (*arguments.args, *arguments.kwonlyargs))


def _constants(items: list[ast.expr]) -> Iterator[str]:
    for item in items:
        if isinstance(item, ast.Constant) and isinstance(item.value, str):
            yield item.value
