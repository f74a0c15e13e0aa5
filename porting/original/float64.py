# SPDX-License-Identifier: Apache-2.0
"""Make a PyTorch model compute in float64 where its code says float32, and find out where it does not.

Works on whatever `torch` it is handed and imports none itself: `porting.original.reference` alone does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def everywhere(torch: Any) -> Iterator[None]:
    """Turn each request for a smaller float into one for float64, and make it the default.

    Modules ask for float32 in norms, softmax and rotary tables whatever the model's dtype is; calls are rewritten as
    they happen, in this thread. Reinterpreting bytes keeps its dtype.
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _lift(torch):
            yield
    finally:
        torch.set_default_dtype(default)


def _lift(torch: Any) -> Any:
    smaller = frozenset({torch.float32, torch.bfloat16, torch.float16})
    casts = frozenset({torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16})
    bytes_stay = frozenset({torch.frombuffer, torch.Tensor.view})

    def lifted(value: object) -> object:
        is_smaller = isinstance(value, torch.dtype) and value in smaller
        return torch.float64 if is_smaller else value

    class Lift(torch.overrides.TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, func: Any, _types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            named = kwargs or {}
            if func in casts:
                return args[0].double()
            if func in bytes_stay:
                return func(*args, **named)
            lifted_args = [lifted(arg) for arg in args]
            return func(*lifted_args, **{key: lifted(value) for key, value in named.items()})

    return Lift()


@contextmanager
def watch(torch: Any) -> Iterator[set[str]]:
    """Collect the operations that give a float tensor smaller than float64."""
    lower: set[str] = set()

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):  # type: ignore[misc]  # noqa: SLF001 - its only home
        def __torch_dispatch__(
            self, func: Any, _types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            results = func(*args, **(kwargs or {}))
            for result in results if isinstance(results, tuple | list) else (results,):
                if not isinstance(result, torch.Tensor) or not result.is_floating_point():
                    continue
                if result.dtype is not torch.float64:
                    lower.add(f"{func} gives {str(result.dtype).removeprefix('torch.')}")
            return results

    with Watch():
        yield lower


def recorder(torch: Any, held: Collection[int]) -> Any:
    """Return a mode that keeps a copy of every result; `taken` gives and forgets them.

    Left out are views of memory that starts at an address in `held`, such as weights, and what is done while `paused`.
    """

    class Recorder(torch.utils._python_dispatch.TorchDispatchMode):  # type: ignore[misc]  # noqa: SLF001 - its only home
        def __init__(self) -> None:
            super().__init__()
            self._kept: list[Any] = []
            self.paused = False

        def __torch_dispatch__(
            self, func: Any, _types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            results = func(*args, **(kwargs or {}))
            for result in results if isinstance(results, tuple | list) else (results,):
                if isinstance(result, torch.Tensor) and result.dim() and result.numel():
                    self._keep(result)
            return results

        def _keep(self, result: Any) -> None:
            # A copy, since memory may be written to in place or used again.
            if not self.paused and result.untyped_storage().data_ptr() not in held:
                self._kept.append(result.detach().clone())

        def taken(self) -> list[Any]:
            """Return what was kept since the last call."""
            kept, self._kept = self._kept, []
            return kept

    return Recorder()
