# SPDX-License-Identifier: Apache-2.0
"""Place an object file in memory and make its functions callable, without a linker or a compiler at hand.

Knows what our own compiler emits for x86-64 in its large code model, and refuses anything else (`Unplaceable`); knows
nothing of where objects come from. After the ELF-64 format and the System V ABI's table of x86-64 relocations.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass

RELOCATABLE, X86_64 = 1, 62
RELA, NOBITS = 4, 8
ALLOCATED = 0x2
UNDEFINED = 0
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
RELOCATION = struct.Struct("<QQq")
# Kinds of relocation: how many bytes, and whether the distance from the place is wanted.
KINDS: Mapping[int, tuple[str, bool]] = {
    1: ("<q", False),
    24: ("<q", True),
    2: ("<i", True),
    4: ("<i", True),
}
MOST_BYTES = 64 * 2**20
_OF_NUMBERS = (
    "ceil", "cos", "erf", "exp", "exp2", "expm1", "floor", "fma", "log", "log1p", "log2", "pow",
    "sin", "sqrt", "tanh",
)  # fmt: skip
OUTSIDE = frozenset(
    {*_OF_NUMBERS, *(f"{name}f" for name in _OF_NUMBERS)}
    | {"memcpy", "memmove", "memset", "sched_yield"}
)
"""What compiled kernels may call of the C library; nothing else of it is ever linked."""
UNWINDING = ".eh_frame"
"""Tables for exceptions, which compiled kernels neither raise nor pass on."""


class Unplaceable(Exception):
    """The object is of a kind that is not known here."""


class Forbidden(Exception):
    """The object calls what no kernel calls, so it is none of ours."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of an object file."""

    name: str
    kind: int
    flags: int
    at: int
    size: int
    link: int
    info: int
    align: int

    @property
    def placed(self) -> bool:
        """Tell whether it has a place in memory."""
        return bool(self.flags & ALLOCATED) and self.name != UNWINDING


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Code in memory: `addresses` of its functions, and the memory, which must be kept."""

    addresses: Mapping[str, int]
    memory: mmap.mmap


def place(code: bytes, outside: Mapping[str, int]) -> Placed:
    """Return an object file's functions in memory; raises `Unplaceable`, or `Forbidden` for what is no kernel.

    `outside` has the addresses of functions that the C library does not have.
    """
    try:
        return _place(code, outside)
    except (struct.error, IndexError, OverflowError, ValueError) as error:
        raise Unplaceable(f"the object file is damaged: {error}") from error


def _place(code: bytes, outside: Mapping[str, int]) -> Placed:
    sections = _sections(code)
    starts, total = _layout(sections)
    memory = mmap.mmap(-1, max(total, 1))
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for index, start in starts.items():
        section = sections[index]
        if section.kind != NOBITS:
            memory[start : start + section.size] = _bytes(code, section)
    symbols = _symbols(code, sections, {i: base + start for i, start in starts.items()}, outside)
    for section in sections:
        if section.kind == RELA and section.info in starts:
            _relocate(code, section, memory, starts[section.info], base, symbols)
    _make_executable(base, total)
    return Placed({name: address for name, address in symbols if name and address}, memory)


def _sections(code: bytes) -> tuple[Section, ...]:
    header = HEADER.unpack_from(code)
    magic, kind, machine, at = header[0], header[1], header[2], header[6]
    size, count, names_at = header[11], header[12], header[13]
    if magic[:6] != b"\x7fELF\x02\x01" or (kind, machine) != (RELOCATABLE, X86_64):
        raise Unplaceable("it is no object file for x86-64")
    rows = [SECTION.unpack_from(code, at + size * i) for i in range(count)]
    names = rows[names_at]
    return tuple(
        Section(_text(code, names[4] + row[0]), row[1], row[2], row[4], row[5], row[6], row[7], row[8])
        for row in rows
    )  # fmt: skip


def _layout(sections: tuple[Section, ...]) -> tuple[dict[int, int], int]:
    """Return where each section starts, and the size of all."""
    starts: dict[int, int] = {}
    end = 0
    for index, section in enumerate(sections):
        if section.placed:
            align = max(section.align, 1)
            starts[index] = end = (end + align - 1) // align * align
            end += section.size
            if end > MOST_BYTES or align > mmap.PAGESIZE:
                raise Unplaceable("it is too large")
    return starts, end


def _symbols(
    code: bytes, sections: tuple[Section, ...], bases: Mapping[int, int], outside: Mapping[str, int]
) -> list[tuple[str, int]]:
    """Return name and address of every symbol, in order; address 0 for one that is in no section with a place."""
    table = next((s for s in sections if s.name == ".symtab"), None)
    if table is None:
        raise Unplaceable("it has no symbols")
    names, found = sections[table.link], []
    for at in range(table.at, table.at + table.size, SYMBOL.size):
        name_at, _, _, index, value, _ = SYMBOL.unpack_from(code, at)
        name = _text(code, names.at + name_at)
        if index == UNDEFINED:
            address = _outside(name, outside) if name else 0
        else:
            address = bases[index] + value if index in bases else 0
        found.append((name, address))
    return found


def _outside(name: str, outside: Mapping[str, int]) -> int:
    if name in outside:
        return outside[name]
    if name not in OUTSIDE:
        raise Forbidden(f"`{name}` is no function that kernels call")
    for library in (None, "libm.so.6"):
        try:
            function = getattr(ctypes.CDLL(library), name)
        except (OSError, AttributeError):
            continue
        return ctypes.cast(function, ctypes.c_void_p).value or 0
    raise Unplaceable(f"there is no function `{name}`")


def _relocate(
    code: bytes, section: Section, memory: mmap.mmap, start: int, base: int, symbols: list[tuple[str, int]]
) -> None:  # fmt: skip
    for at in range(section.at, section.at + section.size, RELOCATION.size):
        offset, info, addend = RELOCATION.unpack_from(code, at)
        kind = KINDS.get(info & 0xFFFFFFFF)
        name, address = symbols[info >> 32]
        if kind is None or not address:
            raise Unplaceable(f"relocation {info & 0xFFFFFFFF} of `{name}` is not known")
        form, relative = kind
        value = address + addend - (base + start + offset if relative else 0)
        struct.pack_into(form, memory, start + offset, value)


def _make_executable(base: int, size: int) -> None:
    """Allow to run what is no longer written."""
    pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    if protect(base, pages, mmap.PROT_READ | mmap.PROT_EXEC):
        raise Unplaceable(f"the system does not run it: error {ctypes.get_errno()}")


def _bytes(code: bytes, section: Section) -> bytes:
    found = code[section.at : section.at + section.size]
    if len(found) != section.size:
        raise Unplaceable("the object file is cut short")
    return found


def _text(code: bytes, at: int) -> str:
    return code[at : code.index(b"\0", at)].decode() if at < len(code) else ""
