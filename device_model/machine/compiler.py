# SPDX-License-Identifier: Apache-2.0
"""Compile functions to an object file: numba reads each of them once, and LLVM's passes run once over all.

numba by itself optimises and emits every function again in each function that calls it, and makes wrappers for the
interpreter, which nobody calls here. This module is imported only by a process that does nothing but compile, because
what it makes numba compile cannot be called in the process itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import llvmlite.binding as llvm
from numba import njit, types
from numba.core import cgutils
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
from numba.core.registry import cpu_target

from device_model.machine.deferred import Compiled
from device_model.machine.native import target_machine


class _Library(JITCodeLibrary):  # type: ignore[misc]  # numba has no types
    """The code of one function as numba writes it: neither optimised nor linked nor emitted."""

    def add_ir_module(self, ir_module: Any) -> None:
        self._raise_if_finalized()
        module = llvm.parse_assembly(cgutils.normalize_ir_text(str(ir_module)))
        module.name = ir_module.name
        self._final_module.link_in(module)

    def finalize(self) -> None:
        self._raise_if_finalized()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        return 0

    @property
    def module(self) -> Any:
        """Return its own code."""
        return self._final_module

    @property
    def callees(self) -> Iterable[_Library]:
        """Return the libraries of the functions that it calls."""
        return tuple(self._linking_libraries)


class _Codegen(JITCPUCodegen):  # type: ignore[misc]  # numba has no types
    _library_class = _Library

    def set_env(self, env_name: str, env: Any) -> None:
        """Code that raises nothing needs no environment."""

    def optimise(self, module: Any) -> None:
        """Run numba's own two pipelines: a cheap one that removes its counting of references, and the full one."""
        cheap = {"loop_vectorize": False, "slp_vectorize": False, "opt": 0, "cost": "cheap"}
        for options in (cheap, {}):
            passes, builder = self._module_pass_manager(**options)
            passes.run(module, builder)


class Compiler:
    """Compiles in this process, which can call nothing that was compiled here."""

    def __init__(self) -> None:
        Compiled.wrapped = False
        self._codegen = _Codegen("sohu")
        cpu_target.target_context._internal_codegen = self._codegen  # noqa: SLF001 - numba's only way

    def compile(self, entries: Mapping[str, tuple[Callable[..., int], int]]) -> bytes:
        """Return an object file with functions by name, each given with how many int64 it takes.

        Each returns an int64, by numba's convention.
        """
        made = {name: _read(function, count) for name, (function, count) in entries.items()}
        module = llvm.parse_assembly("")
        for library in _reached(result.library for result in made.values()):
            module.link_in(library.module, preserve=True)
        names = {result.fndesc.llvm_func_name: name for name, result in made.items()}
        for function in module.functions:
            if function.name in names:
                function.name = names[function.name]
            elif not function.is_declaration:
                function.linkage = "internal"
        self._codegen.optimise(module)
        code: bytes = target_machine(llvm).emit_object(module)
        return code


def _read(function: Callable[..., int], count: int) -> Any:
    """Let numba turn a function and all that it calls into LLVM's language."""
    kinds = types.int64(*[types.int64] * count)
    made = njit(
        kinds, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True
    )(function)  # fmt: skip
    (result,) = made.overloads.values()
    return result


def _reached(libraries: Iterable[_Library]) -> list[_Library]:
    """Return libraries with all that they call, each once."""
    waiting, order = list(libraries), dict[_Library, None]()
    while waiting:
        library = waiting.pop()
        if library not in order:
            order[library] = None
            waiting += library.callees
    return list(order)
