"""Machine code on disk: compile a function once, and later load it without the compiler and its library.

The code lies where `NUMBA_CACHE_DIR` says, else beside this file, else in the user's cache, under a name that changes
with the sources, the compiler and the processor. Nothing here knows what the code does.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from device_model.machine.elf import Unplaceable, place
from device_model.machine.processor import processor_facts

ENTRY = "sohu_machine"
DIGEST = 32  # bytes in front of the code: a damaged file is compiled anew
CPU_KEYS = (
    "vendor_id",
    "cpu family",
    "model",
    "stepping",
    "flags",
    "CPU implementer",
    "CPU part",
    "Features",
)
_loaded: list[Any] = []
"""Owners of the memory that loaded code runs from."""


def native(function: Callable[..., int], arguments: int, fingerprint: str) -> Callable[..., int]:
    """Return a compiled function of so many int64, as compiled before or compiled now.

    Calls release the interpreter's lock.
    """
    name = _name(fingerprint)
    code = _find(name)
    if code is None:
        code = _compile(function, arguments)
        _keep(name, code)
    return _load(code, arguments)


def _name(fingerprint: str) -> str:
    parts = (fingerprint, version("numba"), version("llvmlite"), *_processor())
    return f"machine.{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:24]}.o"


def _processor() -> tuple[str, ...]:
    """Return what code compiled for this processor depends on: its kind and what it can do."""
    system, facts = (platform.system(), platform.machine()), processor_facts()
    if not facts:
        llvm = _llvm()
        return (*system, llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())
    return (*system, *(facts.get(key, "") for key in CPU_KEYS))


def _llvm() -> Any:
    """Load the compiler's library, which takes some 90 MB."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


def _target(llvm: Any) -> Any:
    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        jit=True,
    )


def _compile(function: Callable[..., int], arguments: int) -> bytes:
    from numba import njit, types

    llvm = _llvm()
    kinds = types.int64(*[types.int64] * arguments)
    made = njit(
        kinds, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True
    )(function)  # fmt: skip
    (result,) = made.overloads.values()
    module = llvm.parse_assembly(result.library.get_llvm_str())
    module.get_function(result.fndesc.llvm_func_name).name = ENTRY
    code: bytes = _target(llvm).emit_object(module)
    return code


def _load(code: bytes, arguments: int) -> Callable[..., int]:
    # Views of addresses own nothing, so that numba's way to free an array is linked and never taken.
    never = ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p).value or 0
    outside = {"NRT_MemInfo_call_dtor": never}
    try:
        placed = place(code, outside)
        owner, address = placed.memory, placed.addresses[ENTRY]
    except Unplaceable:
        owner, address = _linked(code, outside)
    _loaded.append(owner)
    # numba's convention: where to put the result and the exception, then the arguments; a status comes back.
    places = [ctypes.c_void_p] * 2
    kind = ctypes.CFUNCTYPE(ctypes.c_int32, *places, *[ctypes.c_int64] * arguments)
    call = kind(address)

    def run(*numbers: int) -> int:
        result, raised = ctypes.c_int64(), ctypes.c_void_p()
        status: int = call(ctypes.addressof(result), ctypes.addressof(raised), *numbers)
        if status:
            raise RuntimeError(f"the compiled machine stopped with status {status}")
        return result.value

    return run


def _linked(code: bytes, outside: Mapping[str, int]) -> tuple[Any, int]:
    """Let the compiler's library place the code, where ours does not know its kind."""
    llvm = _llvm()
    for name, address in outside.items():
        llvm.add_symbol(name, address)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target(llvm))
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine, engine.get_function_address(ENTRY)


def _folders() -> Iterator[Path]:
    asked = os.environ.get("NUMBA_CACHE_DIR")
    if asked:
        yield Path(asked)
    yield Path(__file__).parent / "__pycache__"
    yield Path.home() / ".cache" / "sohu"


def _find(name: str) -> bytes | None:
    for folder in _folders():
        try:
            kept = (folder / name).read_bytes()
        except OSError:
            continue
        digest, code = kept[:DIGEST], kept[DIGEST:]
        if hashlib.sha256(code).digest() == digest:
            return code
    return None


def _keep(name: str, code: bytes) -> None:
    """Write the code to the first folder that can be written; whole or not at all."""
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
                file.write(hashlib.sha256(code).digest() + code)
            Path(file.name).replace(folder / name)
        except OSError:
            continue
        return
