# SPDX-License-Identifier: Apache-2.0
"""Machine code on disk: what was compiled once is later loaded without the compiler and its library.

Object files lie in a folder of this user in `NUMBA_CACHE_DIR`, else beside this file, else in the user's cache, under
names that change with the sources, the compiler and the processor. What is loaded runs, so a folder or a file that
somebody else could have written counts as not there. Nothing here compiles, or knows what the code does.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from device_model.machine.elf import MOST_BYTES, Unplaceable, place
from device_model.machine.processor import processor_facts
from dsl.own_folder import own_folder, read_own, user_cache

LOCK = "machine.lock"
SHARED = 0o644  # of an object file: users of one installation need not compile for themselves
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


def edition(fingerprint: str) -> str:
    """Return what tells code compiled here from sources with that digest from any other."""
    parts = (fingerprint, version("numba"), version("llvmlite"), *_processor())
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:24]


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


def target_machine(llvm: Any) -> Any:
    """Return LLVM's writer of machine code for this processor, in the large code model."""
    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        jit=True,
    )


def load(code: bytes, names: Sequence[str]) -> dict[str, int]:
    """Return the addresses of an object file's functions by name; they stay for as long as the process."""
    # Views of addresses own nothing, so that numba's way to free an array is linked and never taken.
    never = ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p).value or 0
    outside = {"NRT_MemInfo_call_dtor": never}
    try:
        placed = place(code, outside)
    except Unplaceable:
        owner, addresses = _linked(code, outside, names)
    else:
        owner, addresses = placed.memory, {name: placed.addresses[name] for name in names}
    _loaded.append(owner)
    return addresses


def function_at(address: int, arguments: int) -> Callable[..., int]:
    """Return what calls a compiled function of so many int64, without the interpreter's lock."""
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


def _linked(
    code: bytes, outside: Mapping[str, int], names: Sequence[str]
) -> tuple[Any, dict[str, int]]:
    """Let the compiler's library place the code, where ours does not know its kind."""
    llvm = _llvm()
    for name, address in outside.items():
        llvm.add_symbol(name, address)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine(llvm))
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine, {name: engine.get_function_address(name) for name in names}


def _folders() -> Iterator[Path]:
    """Yield the folders that this user alone can write, best first."""
    asked, cache = os.environ.get("NUMBA_CACHE_DIR"), user_cache("kernels")
    candidates = (
        Path(asked) / f"sohu-{os.geteuid()}" if asked else None,
        Path(__file__).parent / "__pycache__",
        cache,
    )
    for folder in candidates:
        own = None if folder is None else own_folder(folder)
        if own is not None:
            yield own


def find(name: str) -> bytes | None:
    """Return the object file of a name, if it lies in one of the folders undamaged."""
    for folder in _folders():
        try:
            kept = read_own(folder / name, MOST_BYTES)
        except OSError:
            continue
        digest, code = kept[:DIGEST], kept[DIGEST:]
        if hashlib.sha256(code).digest() == digest:
            return code
    return None


def keep(name: str, code: bytes) -> None:
    """Write an object file to the first folder that can be written; whole or not at all."""
    for folder in _folders():
        try:
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".kernel.", delete=False) as file:
                written = Path(file.name)
                try:
                    file.write(hashlib.sha256(code).digest() + code)
                    file.flush()
                    written.chmod(SHARED)
                    written.replace(folder / name)
                finally:
                    written.unlink(missing_ok=True)  # it has its name by now, or was interrupted
        except OSError:
            continue
        return


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no other process compiles into the same folder, where that can be told."""
    with ExitStack() as stack:
        for folder in _folders():
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                lock = os.open(folder / LOCK, flags, mode=0o600)
                stack.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError:
                continue
            break
        yield
