# SPDX-License-Identifier: Apache-2.0
"""The rules of the house, read off the syntax tree of every Python file: who imports whom, what is banned, how long.

Each rule is a row of `tests/house_map.py` or a function below; a rule that is broken names file and line. `STAIRS` is
the map of the house.
"""

from __future__ import annotations

import ast
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.house_map import (
    ALLOWED_PROJECT_IMPORTS,
    ANSWERED,
    BANNED_CALLS,
    BANNED_METHODS,
    BOUNDARIES,
    BROAD_CATCHES,
    COMPILERS,
    FOUND_LEFT,
    HEAVY,
    LAST_RESORT,
    LONG_FUNCTIONS,
    MAX_COMPILED_PARAMETERS,
    MAX_FUNCTION,
    MAX_LINES,
    MAX_MEANINGS,
    MAX_PARAMETERS,
    NAMED_BY_MEANING,
    PACKAGES,
    PRINTING,
    REFERENCE,
    ROOT,
    STAIRS,
    WIDE_FUNCTIONS,
)


@dataclass(frozen=True)
class Module:
    """A Python file of a package, with its syntax tree."""

    name: str
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.name.split("/")[0]

    @property
    def room(self) -> str:
        """The folder of the package that the module is in."""
        parts = self.name.split("/")
        return parts[1] if len(parts) > 2 else "."

    @property
    def folder(self) -> str:
        return self.name.rsplit("/", 1)[0]

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


@lru_cache
def links() -> tuple[tuple[Module, str, Module], ...]:
    """Return every import of a project module by another one, with the place where it stands."""
    by_name = {module.name: module for module in modules()}
    return tuple(
        (module, module.at(node), by_name[target])
        for module in modules()
        for node in ast.walk(module.tree)
        for target in targets(node, by_name)
        if target != module.name
    )


def targets(node: ast.AST, known: Container[str]) -> Iterator[str]:
    """Yield the files that an import reads names or modules from; `from a import b` reads a/b.py where that is one."""
    if isinstance(node, ast.Import):
        dotted = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
        inner = [f"{node.module}.{alias.name}" for alias in node.names]
        dotted = [name if any(f in known for f in files(name)) else node.module for name in inner]
    else:
        return
    for name in dict.fromkeys(dotted):
        yield from (file for file in files(name) if file in known)


def files(dotted: str) -> tuple[str, str]:
    path = dotted.replace(".", "/")
    return f"{path}.py", f"{path}/__init__.py"


def circle(edges: Iterable[tuple[str, str]]) -> list[str]:
    """Return the names along one circle of a graph, nothing where there is none."""
    below: dict[str, set[str]] = {}
    for one, other in edges:
        below.setdefault(one, set()).add(other)
    try:
        TopologicalSorter(below).prepare()
    except CycleError as error:
        names: list[str] = error.args[1]
        return names
    return []


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
        if name.split(".")[0] in {*PACKAGES, "tests"}
        and name.split(".")[0] not in ALLOWED_PROJECT_IMPORTS[module.package]
    ] == []


def test_every_room_has_its_place_on_the_stair():
    rooms = {(module.package, module.room) for module in modules()}
    assert sorted(f"{p}/{room}" for p, room in rooms if room not in STAIRS[p]) == []


def test_rooms_import_only_what_stands_before_them():
    assert [
        f"{place} imports {target.name}"
        for module, place, target in links()
        if module.package == target.package
        and STAIRS[module.package].index(target.room) > STAIRS[module.package].index(module.room)
    ] == []


def test_no_folders_import_each_other_in_a_circle():
    assert circle((m.folder, t.folder) for m, _, t in links() if m.folder != t.folder) == []


def test_no_modules_import_each_other_in_a_circle():
    assert circle((module.name, target.name) for module, _, target in links()) == []


def test_imports_of_modules_and_names_are_seen():
    seen = {(module.name, target.name) for module, _, target in links()}
    assert ("porting/verdict/truth.py", "porting/original/reference.py") in seen
    assert ("benchmarks/__main__.py", "benchmarks/peers.py") in seen  # from benchmarks import peers
    assert ("farm/__main__.py", "farm/mutants/campaign.py") in seen  # inside a function


def test_a_circle_is_noticed():
    assert circle([("a", "b"), ("b", "c")]) == []
    assert set(circle([("a", "b"), ("b", "c"), ("c", "a")])) == {"a", "b", "c"}


def test_the_tests_folders_mirror_the_packages():
    tests = ROOT / "tests"
    folders = {path.parent for package in PACKAGES for path in (tests / package).rglob("*.py")}
    mirrored = {folder.relative_to(tests).as_posix() for folder in folders}
    assert {"dsl/ops", "farm/mutants"} < mirrored
    assert sorted(name for name in mirrored if not (ROOT / name).is_dir()) == []


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
        and module.name not in ANSWERED
        and not (module.name == LAST_RESORT and node.type and is_fault(node.body[-1]))
        and (
            node.type is None
            or broad & {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)}
        )
    ] == []


def is_fault(node: ast.stmt) -> bool:
    return ast.unparse(node) == "return EXIT_FAULT"


def test_only_the_console_prints():
    assert [
        module.at(node)
        for module, node in nodes(ast.Call)
        if called(node) == ("print", False)
        and module.package in {"dsl", "device_model", "porting", "sohu"}
        and module.name not in PRINTING
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


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for module, node in nodes(ast.FunctionDef, ast.AsyncFunctionDef):
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        yield f"{module.name} {node.name}", node


def test_functions_fit_on_a_screen():
    lengths = {name: (f.end_lineno or 0) - f.lineno + 1 for name, f in functions()}
    assert {
        name: n for name, n in lengths.items() if n > LONG_FUNCTIONS.get(name, MAX_FUNCTION)
    } == {}


def test_functions_take_few_parameters():
    assert [
        f"{name} takes {count}"
        for name, function in functions()
        if (count := parameters(function))
        > (
            MAX_COMPILED_PARAMETERS
            if is_compiled(function)
            else WIDE_FUNCTIONS.get(name, MAX_PARAMETERS)
        )
    ] == []


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = function.args
    named = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in named if name not in {"self", "cls"}])


def is_compiled(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    names = {
        node.id
        for decorator in function.decorator_list
        for node in ast.walk(decorator)
        if isinstance(node, ast.Name)
    }
    return bool(names & COMPILERS)


def test_a_class_name_has_few_meanings():
    homes: dict[str, list[str]] = {}
    for module, node in nodes(ast.ClassDef):
        homes.setdefault(getattr(node, "name", ""), []).append(module.name)
    assert {name: where for name, where in homes.items() if len(where) > MAX_MEANINGS} == {}


def test_nothing_is_named_after_having_been_found():
    assert [
        module.at(node)
        for module, node in nodes(ast.Name, ast.arg)
        if module.package in NAMED_BY_MEANING
        and module.name not in FOUND_LEFT
        and (node.arg if isinstance(node, ast.arg) else getattr(node, "id", "")) == "found"
    ] == []


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
