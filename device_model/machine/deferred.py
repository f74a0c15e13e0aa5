# SPDX-License-Identifier: Apache-2.0
"""Functions for the compiler that cost nothing until something is compiled.

numba is imported on first use only: a process that loads a compiled machine from the cache never needs it, and it is
a third of what such a process would hold beside its weights. Nothing here is compiled or computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ClassVar


class Deferred:
    """Something of numba's that is made when a compiled function that mentions it is compiled."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    @cached_property
    def made(self) -> Any:
        """Return what stands behind the name."""
        return self._make()

    @cached_property
    def _numba_type_(self) -> Any:
        from numba.core.registry import cpu_target

        made = self.made
        # What was made just now is registered with numba, but its contexts have not looked yet.
        cpu_target.typing_context.refresh()
        cpu_target.target_context.refresh()
        return cpu_target.typing_context.resolve_value_type(made)


class Compiled(Deferred):
    """A function below the machine: it is compiled as a part of it, or when it is called by itself."""

    wrapped: ClassVar[bool] = True
    """Whether the interpreter can call it; a process that only compiles has no use for that."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(self._dispatcher)
        self.function = function

    @property
    def parameters(self) -> Mapping[str, str]:
        """Return the names of its parameters with their annotations, as they are written."""
        code = self.function.__code__
        names = code.co_varnames[: code.co_argcount]
        return {name: str(self.function.__annotations__.get(name, "")) for name in names}

    def _dispatcher(self) -> Any:
        from numba import njit

        bare = not self.wrapped
        return njit(
            nogil=True, error_model="numpy", no_cpython_wrapper=bare, no_cfunc_wrapper=bare
        )(self.function)  # fmt: skip

    def __call__(self, *arguments: Any) -> Any:
        """Call it from the interpreter, compiling it alone."""
        return self.made(*arguments)


def compiled(function: Callable[..., Any]) -> Any:
    """Mark a function below the machine; to the checker it is anything, so that kernels can call it with addresses."""
    return Compiled(function)


def intrinsic(define: Callable[..., Any]) -> Any:
    """Mark a function that gives a signature and writes instructions."""

    def make() -> Any:
        from numba.extending import intrinsic as made

        return made(prefer_literal=False)(define)

    return Deferred(make)


def compiles_for(*features: str) -> bool:
    """Tell whether what is compiled here may use features of the processor, by LLVM's names."""
    import llvmlite.binding as llvm
    from numba.core import config

    chosen = config.CPU_NAME is not None or config.CPU_FEATURES is not None
    known: dict[str, bool] = llvm.get_host_cpu_features()
    return not chosen and all(known.get(feature, False) for feature in features)


def signature(result: str, *arguments: str) -> Any:
    """Return numba's signature for names of its types."""
    from numba.core import types

    return getattr(types, result)(*(getattr(types, name) for name in arguments))


def _carray() -> Any:
    from numba import carray as made

    return made


carray: Any = Deferred(_carray)
