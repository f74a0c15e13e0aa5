"""The compiled machine: threads execute the same instructions, each its part, with a barrier after every one.

It is the only function that is compiled to disk. It knows how arguments are laid out and nothing of what they mean.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib import resources
from typing import Any

from llvmlite import ir

from device_model.kernels import (
    attention,
    elementwise,
    layout,
    linear,
    matmul,
    moe,
    norm,
    position,
    quantised,
    reduction,
    routing,
    state,
    unary,
)
from device_model.machine import opcodes
from device_model.machine.deferred import compiled, intrinsic, signature
from device_model.machine.elementary import doubles, integers
from device_model.machine.native import native
from device_model.numbers.numerics import Array
from device_model.program.builder import ARGUMENTS, REALS

COMPILED = ("device_model.kernels", "device_model.machine")
"""Packages whose functions are compiled."""
SPINS = 4000
"""Looks at the barrier before a waiting thread offers its processor to others."""


@intrinsic
def _yield(typing: Any) -> Any:
    def generate(context: Any, builder: Any, types: Any, args: Any) -> Any:
        name, known = "sched_yield", builder.module.globals
        type_ = ir.FunctionType(ir.IntType(32), [])
        function = known[name] if name in known else ir.Function(builder.module, type_, name)
        return builder.call(function, [])

    return signature("int32"), generate


@intrinsic
def _increment(typing: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, types: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        one = ir.Constant(ir.IntType(64), 1)
        return builder.atomic_rmw("add", pointer, one, "seq_cst")

    return signature("int64", "int64"), generate


@intrinsic
def _look(typing: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, types: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(pointer, "seq_cst", 8)

    return signature("int64", "int64"), generate


@compiled
def _meet(barrier: int, expected: int) -> None:
    """Wait until all threads have arrived `expected` times in all."""
    _increment(barrier)
    spins = 0
    while _look(barrier) < expected:
        spins += 1
        if spins > SPINS:
            _yield()
            spins = 0


@compiled
def _execute_more(a: Any, r: Any, part: int, parts: int, scratch: int) -> None:
    """Execute an operation that not every model has."""
    opcode = a[0]
    if opcode == opcodes.CAUSAL_CONV:
        state.causal_conv(
            a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12],
            part, parts, scratch,
        )  # fmt: skip
    elif opcode == opcodes.LINEAR_ATTENTION:
        state.linear_attention(
            a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13],
            a[14], a[15], part, parts, scratch,
        )  # fmt: skip
    elif opcode == opcodes.EXPERT_MATMUL:
        matmul.expert_matmul(
            a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13],
            a[14], a[15], a[16], a[17], a[18], a[19], a[20], part, parts, scratch,
        )  # fmt: skip
    elif opcode == opcodes.ROUTE:
        routing.route(
            a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13],
            a[14], a[15], a[16], r[0], r[1], r[2], r[3], part, parts, scratch,
        )  # fmt: skip
    elif opcode == opcodes.EXPERT_FINISH:
        moe.finish(
            a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], part, parts, scratch,
        )  # fmt: skip
    elif opcode == opcodes.SCALE_ROWS:
        position.scale_rows(a[1], a[2], a[3], a[4], a[5], a[6], a[7], part, parts, scratch)
    elif opcode == opcodes.REDUCE:
        reduction.reduce(a[1], a[2], a[3], a[4], a[5], a[6], a[7], part, parts, scratch)
    elif opcode == opcodes.COMBINE:
        moe.combine(a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], part, parts, scratch)
    elif opcode == opcodes.QUANTISE:
        quantised.quantise(
            a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], r[0], r[1], part, parts, scratch
        )
    elif opcode == opcodes.QUANTISED_MATMUL:
        quantised.matmul(
            a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13],
            a[14], a[15], a[16], a[17], a[18], a[19], a[20], a[21], a[22], a[23],
            part, parts, scratch,
        )  # fmt: skip


@compiled
def _execute(a: Any, r: Any, part: int, parts: int, scratch: int) -> None:
    opcode = a[0]
    if opcode == opcodes.MATMUL:
        matmul.matmul(
            a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13],
            a[14], a[15], part, parts, scratch,
        )  # fmt: skip
    elif opcode == opcodes.CONVERT:
        elementwise.convert(a[1], a[2], a[3], a[4], a[5], part, parts, scratch)
    elif opcode == opcodes.GATHER:
        linear.gather(a[1], a[2], a[3], a[4], a[5], a[6], a[7], part, parts, scratch)
    elif opcode == opcodes.SELECT:
        layout.select(a[1], a[2], a[3], a[4], a[5], part, parts, scratch)
    elif opcode == opcodes.NORM:
        norm.norm(
            a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], r[0], r[1],
            part, parts, scratch,
        )  # fmt: skip
    elif opcode == opcodes.ROPE:
        position.rope(
            a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11],
            part, parts, scratch,
        )  # fmt: skip
    elif opcode == opcodes.APPEND:
        attention.append(a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], part, parts, scratch)
    elif opcode == opcodes.ATTENTION:
        attention.attention(
            a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13],
            a[14], a[15], a[16], a[17], a[18], a[19], a[20], a[21], a[22], a[23], a[24], a[25],
            a[26], a[27], a[28], a[29], a[30], r[0], r[1], part, parts, scratch,
        )  # fmt: skip
    elif opcode == opcodes.BINARY:
        elementwise.binary(
            a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], r[0],
            part, parts, scratch,
        )  # fmt: skip
    elif opcode == opcodes.UNARY:
        unary.unary(
            a[1], a[2], a[3], a[4], a[5], a[6], r[0], r[1], r[2], r[3], part, parts, scratch,
        )  # fmt: skip
    elif opcode == opcodes.COLUMNS:
        layout.columns(a[1], a[2], a[3], a[4], a[5], a[6], part, parts, scratch)
    else:
        _execute_more(a, r, part, parts, scratch)


def _run(
    code: int, reals: int, start: int, stop: int, part: int, parts: int, scratch: int, barrier: int
) -> int:  # fmt: skip
    """Execute instructions `start` to `stop` as thread `part` of `parts`."""
    for index in range(start, stop):
        a = integers(code + index * (ARGUMENTS + 1) * 8, ARGUMENTS + 1)
        _execute(a, doubles(reals + index * REALS * 8, REALS), part, parts, scratch)
        if parts > 1:
            _meet(barrier, (index - start + 1) * parts)
    return 0


_machine: list[Callable[..., int]] = []


def machine() -> Callable[..., int]:
    """Return the compiled machine, compiling it on first use."""
    if not _machine:
        run = native(_run, 8, _fingerprint())

        def execute(code: Array, reals: Array, *numbers: int) -> int:
            return run(code.ctypes.data, reals.ctypes.data, *numbers)

        _machine.append(execute)
    return _machine[0]


def _fingerprint() -> str:
    """Return a digest that changes with the source of anything that is compiled."""
    digest = hashlib.sha256()
    for package in COMPILED:
        for entry in sorted(resources.files(package).iterdir(), key=lambda e: e.name):
            if entry.name.endswith(".py"):
                digest.update(entry.read_bytes())
    return digest.hexdigest()
