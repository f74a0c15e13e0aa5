"""The rules of the house, read off the syntax tree of every Python file: who imports whom, what is banned, how long.

Each rule is a row or a function below; a rule that is broken names file and line.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("dsl", "device_model", "porting", "sohu", "farm", "model_zoo")
MAX_LINES = 500
REFERENCE = "porting/original/reference.py"

# Nothing imports to its own right; `model_zoo` is data.
ALLOWED_PROJECT_IMPORTS = {
    "dsl": {"dsl"},
    "device_model": {"device_model", "dsl"},
    "porting": {"device_model", "dsl", "model_zoo", "porting"},
    "sohu": {"device_model", "dsl", "model_zoo", "porting", "sohu"},
    "farm": {"device_model", "dsl", "farm", "model_zoo", "porting", "sohu"},
    "model_zoo": set[str](),
}
# Packages with a single home, or none in some folders: (package, where it must not be, the one place it may be).
BOUNDARIES = (
    ("numpy", "dsl", ()),
    ("ml_dtypes", "dsl", ()),
    ("numba", "dsl", ()),
    ("safetensors", "dsl", ()),
    ("huggingface_hub", "dsl", ()),
    ("huggingface_hub", "device_model", ()),
    ("tokenizers", "dsl", ()),
    ("tokenizers", "device_model", ()),
    ("lark", "", ("dsl/text/parser.py", "dsl/text/tree_builder.py")),
    ("sympy", "", ("dsl/symbolic.py",)),
    ("torch", "", (REFERENCE,)),
    ("transformers", "", (REFERENCE,)),
    ("pickle", "", ()),
    ("cloudpickle", "", ()),
    ("dill", "", ()),
    ("marshal", "", ()),
    ("shelve", "", ()),
)
BANNED_CALLS = frozenset(
    {"simplify", "subs", "sympify", "parse_expr", "eval", "exec", "compile", "__import__"}
)
BANNED_METHODS = frozenset({"simplify", "subs", "sympify", "equals", "parse_expr"})
# Where a library may raise anything about a hostile file; the handler must end by raising a diagnostic.
BROAD_CATCHES = {
    REFERENCE: "transformers raises whatever its parsers raise",
    "porting/text/tokenizer.py": "a panic in tokenizers is a BaseException",
}
HEAVY = frozenset({"torch", "transformers", "numba", "llvmlite"})


@dataclass(frozen=True)
class Module:
    """A Python file of a package, with its syntax tree."""

    name: str
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.name.split("/")[0]

    def at(self, node: ast.AST) -> str:
        return f"{self.name}:{getattr(node, 'lineno', 1)}"


@lru_cache
def modules() -> tuple[Module, ...]:
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return tuple(_read(path) for path in paths)


def _read(path: Path) -> Module:
    name, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    return Module(name, text, ast.parse(text, name))


def nodes(*kinds: type[ast.AST]) -> Iterator[tuple[Module, ast.AST]]:
    """Yield every node of these kinds with the module it is in."""
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, kinds):
                yield module, node


def imports(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Yield each import with the dotted name of what it imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            yield node, "." * node.level + (node.module or "")


def called(node: ast.Call) -> tuple[str, bool]:
    """Return the name that a call calls, and whether it is a method."""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr, True
    return (node.func.id, False) if isinstance(node.func, ast.Name) else ("", False)


def outside_functions(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield every node that runs when the module is imported; annotations for the checker do not."""
    stack: list[ast.AST] = list(tree.body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            stack.extend(node.orelse)
            continue
        yield node
        stack.extend(ast.iter_child_nodes(node))


# Imports


def test_the_packages_are_found():
    assert {module.package for module in modules()} == set(PACKAGES)


def test_project_imports_go_one_way():
    assert [
        f"{module.at(node)} imports {name}"
        for module in modules()
        for node, name in imports(module.tree)
        if name.split(".")[0] in PACKAGES
        and name.split(".")[0] not in ALLOWED_PROJECT_IMPORTS[module.package]
    ] == []


def test_imports_are_absolute():
    assert [
        f"{module.at(node)} imports {name}"
        for module in modules()
        for node, name in imports(module.tree)
        if name.startswith(".")
    ] == []


@pytest.mark.parametrize(("library", "folder", "homes"), BOUNDARIES)
def test_a_library_stays_in_its_place(library, folder, homes):
    assert [
        f"{module.at(node)} imports {name}"
        for module in modules()
        if module.name.startswith(folder) and module.name not in homes
        for node, name in imports(module.tree)
        if name.split(".")[0] == library
    ] == []


def test_the_reference_model_is_imported_inside_functions():
    assert [
        f"{module.at(node)} imports {name}"
        for module in modules()
        if module.name == REFERENCE
        for statement in outside_functions(module.tree)
        if isinstance(statement, ast.Import | ast.ImportFrom)
        for node, name in imports(statement)
        if name.split(".")[0] in HEAVY
    ] == []


def test_no_star_imports():
    assert [
        module.at(node)
        for module, node in nodes(ast.ImportFrom)
        if any(alias.name == "*" for alias in node.names)
    ] == []


# What is banned


def test_no_banned_calls():
    found = []
    for module, node in nodes(ast.Call):
        name, is_method = called(node)
        # A method `compile` or `eval` belongs to another library (`re.compile`, a model's `.eval()`).
        if name in (BANNED_METHODS if is_method else BANNED_CALLS):
            found.append(f"{module.at(node)} calls {name}")
    assert found == []


def test_no_banned_names_are_imported():
    assert [
        f"{module.at(node)} imports {alias.name}"
        for module, node in nodes(ast.ImportFrom)
        for alias in node.names
        if alias.name in BANNED_METHODS
    ] == []


def test_exceptions_are_caught_by_name():
    broad = {"Exception", "BaseException"}
    assert [
        module.at(node)
        for module, node in nodes(ast.ExceptHandler)
        if not (module.name in BROAD_CATCHES and node.type and isinstance(node.body[-1], ast.Raise))
        and (
            node.type is None
            or broad & {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)}
        )
    ] == []


def test_no_bare_exception_is_raised():
    assert [
        module.at(node)
        for module, node in nodes(ast.Raise)
        if node.exc is not None
        and any(
            isinstance(x, ast.Name) and x.id in {"Exception", "BaseException"}
            for x in (node.exc, getattr(node.exc, "func", None))
        )
    ] == []


def test_no_assert_in_package_code():
    assert [module.at(node) for module, node in nodes(ast.Assert)] == []


# Size and documentation


def test_modules_are_short():
    lengths = {module.name: len(module.text.splitlines()) for module in modules()}
    assert {name: n for name, n in lengths.items() if n > MAX_LINES} == {}


def test_modules_say_what_they_do():
    assert [module.name for module in modules() if not ast.get_docstring(module.tree)] == []


def test_type_ignores_give_the_code():
    assert [
        f"{module.name}:{number}"
        for module in modules()
        for number, line in enumerate(module.text.splitlines(), 1)
        if "type: " + "ignore" in line and "type: " + "ignore[" not in line
    ] == []


def test_the_zoo_is_data():
    zoo = [module for module in modules() if module.package == "model_zoo"]
    assert [module.name for module in zoo] == ["model_zoo/__init__.py"]
    assert [type(node).__name__ for node in zoo[0].tree.body] == ["Expr"]


# Diagnostic codes


def codes_used() -> dict[str, str]:
    """Return every string that looks like a diagnostic code, with one place where it stands."""
    return {
        node.value: module.at(node)
        for module, node in nodes(ast.Constant)
        if isinstance(node.value, str)
        and len(node.value) == 4
        and node.value[0] == "S"
        and node.value[1:].isdigit()
        and module.name != "dsl/codes.py"
    }


def test_every_code_in_use_is_explained():
    from dsl.codes import CODES

    assert {code: place for code, place in codes_used().items() if code not in CODES} == {}


def test_every_explained_code_is_in_use():
    from dsl.codes import CODES

    assert sorted(set(CODES) - set(codes_used())) == []


def test_every_code_has_a_test():
    from dsl.codes import CODES

    texts = [path.read_text() for path in (ROOT / "tests").rglob("*.expect")]
    texts += [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(code for code in CODES if not any(code in text for text in texts)) == []


# Pins


def test_the_weights_of_the_demo_are_pinned_alike():
    from porting.origin.resolve import DEMO_INSTALL

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (pin,) = project["dependency-groups"]["demo-weights"]
    assert DEMO_INSTALL.split()[-1] == pin


# Start-up


def test_check_starts_without_heavy_libraries():
    family = ROOT / "model_zoo" / "families" / "llama.sohu"
    command = [sys.executable, "-X", "importtime", "-m", "sohu", "check", str(family)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr[-2000:]
    loaded = {
        line.rsplit("|", 1)[-1].strip().split(".")[0]
        for line in result.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "dsl" in loaded
    assert loaded & HEAVY == set()


def test_the_language_imports_no_number_library():
    script = "import dsl, sys; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in result.stdout.split()}
    assert loaded & (HEAVY | {"numpy", "safetensors", "device_model", "porting", "sohu"}) == set()
