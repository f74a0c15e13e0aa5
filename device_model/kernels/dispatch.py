# SPDX-License-Identifier: Apache-2.0
"""The compiled machine: threads execute the same instructions, each its part, with a barrier after every one.

It follows the table of instructions: a part of the table is an object file, an opcode is a place in a list of
addresses. It knows how operands are laid out and nothing of what they mean.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir

from device_model.kernels.table import INSTRUCTIONS, PARTS
from device_model.machine import native
from device_model.machine.calls import ENTERED, WORD, enter, entry
from device_model.machine.deferred import compiled, intrinsic, signature
from device_model.machine.elementary import integers
from device_model.machine.team import Execute
from device_model.machine.workers import compile_parts, processes
from device_model.numbers.numerics import Array
from device_model.program.instruction import Instruction

COMPILED = ("device_model.kernels", "device_model.machine")
"""Packages whose functions are compiled."""
WORKER = "device_model.kernels.worker"
RUN, RUN_PART, RUN_TAKES = "sohu_run", "rows", 9
"""The function that runs instructions: its name, the part that it is compiled with, and how many int64 it takes."""
KNOWN, CODE_BYTES, REAL_BYTES = (
    len(INSTRUCTIONS.rows), WORD * (INSTRUCTIONS.ints + 1), WORD * INSTRUCTIONS.reals,
)  # fmt: skip
SPINS = 4000
"""Looks at the barrier before a waiting thread offers its processor to others."""

Progress: TypeAlias = Callable[[str, int, int], None]
"""Hears which parts are being compiled now, how many are done and how many there are in all."""


def silent(_parts: str, _done: int, _total: int) -> None:
    """Report to nobody."""


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


def _run(
    code: int, reals: int, known: int, start: int, stop: int, part: int, parts: int, scratch: int,
    barrier: int,
) -> int:  # fmt: skip
    """Execute instructions `start` to `stop` as thread `part` of `parts`.

    code[instructions, 1 + ints] int64, reals[instructions, reals] float64, known[1 + opcodes] addresses of entries.
    Returns 0, or one more than the number of the instruction at which it stopped.
    """
    for index in range(start, stop):
        at = code + index * CODE_BYTES
        opcode = integers(at, 1)[0]
        if opcode < 1 or opcode > KNOWN:
            return index + 1
        entry_at = integers(known + opcode * WORD, 1)[0]
        if enter(entry_at, at + WORD, reals + index * REAL_BYTES, part, parts, scratch) != 0:
            return index + 1
        if parts > 1:
            _meet(barrier, (index - start + 1) * parts)
    return 0


def _symbol(instruction: Instruction) -> str:
    return f"sohu_{instruction.name}"


def entries(part: str) -> dict[str, tuple[Callable[..., int], int]]:
    """Return the functions of a part by the names that they have in its object file, and how many int64 they take."""
    functions = {
        _symbol(row): (entry(row.kernel, len(row.ints), len(row.reals)), ENTERED)
        for row in PARTS[part]
    }
    return functions | ({RUN: (_run, RUN_TAKES)} if part == RUN_PART else {})


_machine: list[Execute] = []
_making = Lock()


def machine(progress: Progress = silent) -> Execute:
    """Return the compiled machine, compiling on first use what is not on disk; says which parts of how many it has."""
    with _making:
        if not _machine:
            _machine.append(_made(progress))
    return _machine[0]


def _made(progress: Progress) -> Execute:
    edition = native.edition(_fingerprint())
    parts = {part: native.find(_file(edition, part)) for part in PARTS}
    if None in parts.values():
        with native.alone():
            objects = _compiled(edition, progress)
    else:
        objects = {part: code for part, code in parts.items() if code is not None}
    return _placed(objects)


def _placed(objects: Mapping[str, bytes]) -> Execute:
    """Return what runs instructions, from the object files of all parts."""
    known = np.zeros(len(INSTRUCTIONS.rows) + 1, np.int64)
    addresses: dict[str, int] = {}
    for part, code in objects.items():
        addresses |= native.load(code, tuple(entries(part)))
    for row in INSTRUCTIONS.rows:
        known[INSTRUCTIONS.opcode(row)] = addresses[_symbol(row)]
    run = native.function_at(addresses[RUN], RUN_TAKES)

    def execute(code: Array, reals: Array, *numbers: int) -> int:
        return run(code.ctypes.data, reals.ctypes.data, known.ctypes.data, *numbers)

    return execute


def kept() -> tuple[int, int]:
    """Return how many parts of the machine are on disk for this processor, and how many there are; compiles none."""
    edition = native.edition(_fingerprint())
    return sum(native.find(_file(edition, part)) is not None for part in PARTS), len(PARTS)


def _file(edition: str, part: str) -> str:
    return f"machine.{edition}.{part.replace(' ', '-')}.o"


def _compiled(edition: str, progress: Progress) -> dict[str, bytes]:
    """Return every part's object file, those that are not on disk compiled now; nobody else compiles meanwhile."""
    parts = {part: native.find(_file(edition, part)) for part in PARTS}
    objects = {part: code for part, code in parts.items() if code is not None}
    missing = [part for part in PARTS if part not in objects]
    progress(_in_work(missing), len(objects), len(PARTS))
    for part, code in compile_parts(WORKER, tuple(missing)):
        native.keep(_file(edition, part), code)
        objects[part] = code
        missing.remove(part)
        progress(_in_work(missing), len(objects), len(PARTS))
    return objects


def _in_work(missing: Sequence[str]) -> str:
    return ", ".join(missing[: processes(len(missing))])


def _fingerprint() -> str:
    """Return a digest that changes with the source of anything that is compiled."""
    digest = hashlib.sha256()
    for package in COMPILED:
        for source in sorted(resources.files(package).iterdir(), key=lambda e: e.name):
            if source.name.endswith(".py"):
                digest.update(source.read_bytes())
    return digest.hexdigest()
