# SPDX-License-Identifier: Apache-2.0
"""Calls that no compiled function can write: a kernel with operands from memory, and a function at an address.

Nothing here knows an instruction; how many operands a kernel has is said by the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from device_model.machine.deferred import Compiled, intrinsic, signature

ENTERED = 5
"""What an entry takes: where its whole and its real operands lie, which thread of how many it is, and scratch."""
WORD = 8
"""Bytes of an operand in memory."""


def entry(kernel: Compiled, ints: int, reals: int) -> Callable[..., int]:
    """Make the function that reads a kernel's operands, `ints` int64 and `reals` float64, and calls the kernel."""

    @intrinsic
    def call(typing: Any, ints_at: Any, reals_at: Any, part: Any, parts: Any, scratch: Any) -> Any:
        from numba.core import types

        function = kernel._numba_type_
        kinds = [types.int64] * ints + [types.float64] * reals + [types.int64] * 3
        wanted = function.get_call_type(typing, kinds, {})

        def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
            whole, real = (
                _loaded(builder, at, kind, count)
                for at, kind, count in (
                    (args[0], ir.IntType(64), ints),
                    (args[1], ir.DoubleType(), reals),
                )
            )
            call = context.get_function(function, wanted)
            context.add_linking_libs(getattr(call, "libs", ()))
            call(builder, [*whole, *real, *args[2:]])
            return context.get_dummy_value()

        return signature("void", *["int64"] * ENTERED), generate

    def entered(ints_at: int, reals_at: int, part: int, parts: int, scratch: int) -> int:
        call(ints_at, reals_at, part, parts, scratch)
        return 0

    return entered


def _loaded(builder: ir.IRBuilder, at: ir.Value, kind: ir.Type, count: int) -> list[ir.Value]:
    """Load so many values that lie side by side."""
    places = [builder.add(at, ir.Constant(ir.IntType(64), WORD * i)) for i in range(count)]
    return [
        builder.load(builder.inttoptr(place, kind.as_pointer()), align=WORD) for place in places
    ]


@intrinsic
def enter(
    typing: Any, address: Any, ints: Any, reals: Any, part: Any, parts: Any, scratch: Any
) -> Any:
    """Call the entry at an address; returns 0, or the status that it stopped with."""

    def generate(context: Any, builder: Any, types: Any, args: Any) -> Any:
        from numba.core.types import int64

        kinds = [int64] * ENTERED
        kind = context.call_conv.get_function_type(int64, kinds)
        function = builder.inttoptr(args[0], kind.as_pointer())
        status, _ = context.call_conv.call_function(builder, function, int64, kinds, args[1:])
        return builder.sext(status.code, ir.IntType(64))

    return signature("int64", *["int64"] * (ENTERED + 1)), generate
