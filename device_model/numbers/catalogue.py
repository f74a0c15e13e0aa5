# SPDX-License-Identifier: Apache-2.0
"""The choices of `--numerics`, read from the device's table and checked: every fault of a table is a diagnostic.

A device may offer some of them, with accumulators of its own. What the words of the table mean is elsewhere.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import lru_cache
from importlib import resources
from typing import TypeVar

from device_model.chips.chip import Device
from device_model.numbers.formats import FORMATS
from device_model.numbers.numerics import STORAGE, Numerics
from device_model.numbers.packed import FOUR_BITS
from device_model.numbers.precision import (
    F32_SIGNIFICAND,
    INTEGERS,
    Accumulator,
    Operand,
    Overflow,
    Product,
    Rounding,
    Scale,
    ScaleRounding,
)
from dsl.diagnostics import Diagnostic, Refused, did_you_mean, refuse
from dsl.ops import OPS
from dsl.ops.spec import Work
from dsl.types import DTYPES, DType

TABLE = "numerics.toml"
SECTIONS = ("accumulators", "operands", "places", "numerics")
PRODUCTS = tuple(s.name for s in OPS.values() if s.work in (Work.GEMM, Work.EXPERTS))
RUN_FORMATS = ("f32", "bf16", "f16")
MAX_CHUNK = 1 << 20
GROUPS = (16, 32, 64, 128, 256)

Table = Mapping[str, object]
Word = TypeVar("Word", bound=Enum)
Entry = TypeVar("Entry")


@lru_cache(maxsize=1)
def known_numerics() -> Mapping[str, Numerics]:
    """Return every numerics of the table by its name."""
    text = resources.files("device_model.chips").joinpath(TABLE).read_text(encoding="utf-8")
    return parse_numerics(text, TABLE)


def numerics_named(name: str, device: Device | None = None) -> Numerics:
    """Return a numerics, with the device's own accumulator if one is given; raises `Refused` where there is none."""
    known = known_numerics()
    if name not in known:
        help_ = did_you_mean(name, known) or f"there are {', '.join(known)}"
        raise refuse("S601", f"there are no numerics `{name}`", help=help_)
    found = known[name]
    if device is None:
        return found
    if name not in device.numerics:
        offered = ", ".join(device.numerics) or "none that is described"
        message = f"{device.name} does not compute in `{name}`"
        raise refuse("S607", message, help=f"it offers {offered}")
    own = device.numerics[name]
    if not own or found.product is None:
        return found
    known_sums = _accumulators()
    if own not in known_sums:
        message = f"{device.name} sums `{name}` in `{own}`, which is no accumulator"
        raise refuse(
            "S608",
            message,
            help=did_you_mean(own, known_sums) or f"there are {', '.join(known_sums)}",
        )
    return replace(found, product=replace(found.product, accumulator=known_sums[own]))


@lru_cache(maxsize=1)
def _accumulators() -> Mapping[str, Accumulator]:
    text = resources.files("device_model.chips").joinpath(TABLE).read_text(encoding="utf-8")
    reader = _Reader(tomllib.loads(text), TABLE)
    return dict(reader.accumulators())


def parse_numerics(text: str, place: str) -> Mapping[str, Numerics]:
    """Return the numerics that a table describes; raises `Refused` with every fault of it."""
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise refuse("S606", f"no TOML: {str(error)[:160]}", place=place) from error
    reader = _Reader(data, place)
    found = reader.read()
    if reader.faults:
        raise Refused(tuple(reader.faults))
    return found


@dataclass(slots=True)
class _Reader:
    """Reads one table and collects what is wrong with it."""

    data: Table
    place: str
    faults: list[Diagnostic] = field(default_factory=list)

    def read(self) -> Mapping[str, Numerics]:
        self._only(self.data, SECTIONS, "the table")
        accumulators = dict(self.accumulators())
        operands = dict(self._operands())
        places = dict(self._tables("places"))
        found = {}
        for name, table in self._tables("numerics"):
            where = f"numerics.{name}"
            self._only(table, ("activation", "weight", "product"), where)
            activation = self._dtype(table, "activation", where)
            weight = self._dtype(table, "weight", where) if "weight" in table else None
            product = None
            if "product" in table:
                entry = self._table(table["product"], f"{where}.product")
                product = self._product(entry, f"{where}.product", accumulators, operands, places)
            found[name] = Numerics(name, activation, weight, product=product)
        return found

    def accumulators(self) -> Iterator[tuple[str, Accumulator]]:
        for name, table in self._tables("accumulators"):
            where = f"accumulators.{name}"
            self._only(table, ("format", "significand", "rounding", "chunk", "source"), where)
            format_ = self._word(table, "format", where, ("f32", "i32"))
            bits = self._number(table, "significand", where, F32_SIGNIFICAND, F32_SIGNIFICAND)
            rounding = self._enum(table, "rounding", where, Rounding, Rounding.NEAREST)
            chunk = self._number(table, "chunk", where, 0, MAX_CHUNK)
            if format_ == "i32" and ("significand" in table or "chunk" in table):
                self._fault(f"{where}: whole numbers are exact; they have no width and no chunk")
            yield name, Accumulator(name, DTYPES[format_], bits, rounding, chunk)

    def _operands(self) -> Iterator[tuple[str, Operand]]:
        known = tuple(name for name in FORMATS if name not in RUN_FORMATS)
        for name, table in self._tables("operands"):
            where = f"operands.{name}"
            self._only(table, ("format", "scale", "group", "overflow", "rounding"), where)
            format_ = self._word(table, "format", where, (*known, *INTEGERS))
            operand = Operand(
                name,
                format_,
                self._enum(table, "scale", where, Scale, Scale.ROW),
                self._number(table, "group", where, 0, max(GROUPS)),
                self._enum(table, "overflow", where, Overflow, Overflow.SATURATE),
                self._enum(table, "rounding", where, ScaleRounding, ScaleRounding.FLOOR),
            )
            for fault in _operand_faults(operand):
                self._fault(f"{where}: {fault}")
            yield name, operand

    def _product(
        self,
        table: Table,
        where: str,
        accumulators: Mapping[str, Accumulator],
        operands: Mapping[str, Operand],
        places: Mapping[str, Table],
    ) -> Product | None:
        self._only(table, ("places", "weight", "activation", "accumulator"), where)
        place = self._choice(table, "places", where, places)
        weight = self._choice(table, "weight", where, operands)
        accumulator = self._choice(table, "accumulator", where, accumulators)
        activation = None
        if "activation" in table:
            activation = self._choice(table, "activation", where, operands)
        if place is None or weight is None or accumulator is None:
            return None
        self._only(place, ("operations", "head", "router"), "places")
        operations = place.get("operations")
        if not isinstance(operations, list) or not set(operations) <= set(PRODUCTS):
            self._fault(f"places: `operations` is a list of {', '.join(PRODUCTS)}")
            return None
        flags = [place.get(key, False) for key in ("head", "router")]
        if not all(isinstance(flag, bool) for flag in flags):
            self._fault("places: `head` and `router` are true or false")
        head, router = (bool(flag) for flag in flags)
        product = Product(frozenset(operations), head, router, weight, activation, accumulator)
        for fault in _product_faults(product):
            self._fault(f"{where}: {fault}")
        return product

    def _tables(self, section: str) -> Iterator[tuple[str, Table]]:
        for name, entry in self._table(self.data.get(section, {}), section).items():
            yield name, self._table(entry, f"{section}.{name}")

    def _table(self, entry: object, where: str) -> Table:
        if isinstance(entry, dict):
            return entry
        self._fault(f"{where} is no table")
        return {}

    def _only(self, table: Table, keys: tuple[str, ...], where: str) -> None:
        for key in table:
            if key not in keys:
                help_ = did_you_mean(key, keys) or f"there are {', '.join(keys)}"
                self._fault(f"{where} has an unknown key `{key}`", help_)

    def _choice(
        self, table: Table, key: str, where: str, known: Mapping[str, Entry]
    ) -> Entry | None:
        name = self._word(table, key, where, tuple(known))
        return known.get(name)

    def _word(self, table: Table, key: str, where: str, known: tuple[str, ...]) -> str:
        value = table.get(key)
        if isinstance(value, str) and value in known:
            return value
        said = "is missing" if value is None else f"is {value!r}"
        self._fault(f"{where}: `{key}` {said}", f"it is one of {', '.join(known)}")
        return known[0] if known else ""

    def _enum(self, table: Table, key: str, where: str, words: type[Word], default: Word) -> Word:
        if key not in table:
            return default
        return words(self._word(table, key, where, tuple(str(word.value) for word in words)))

    def _number(self, table: Table, key: str, where: str, default: int, most: int) -> int:
        value = table.get(key, default)
        if key not in table or (
            isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
        ):
            return default if not isinstance(value, int) else value
        self._fault(f"{where}: `{key}` is {value!r}; it is a whole number from 1 to {most}")
        return default

    def _dtype(self, table: Table, key: str, where: str) -> DType:
        return DTYPES[self._word(table, key, where, RUN_FORMATS)]

    def _fault(self, message: str, help_: str = "") -> None:
        self.faults.append(Diagnostic("S606", message, place=self.place, help=help_))


def _operand_faults(operand: Operand) -> Iterator[str]:
    if operand.is_integer and operand.scale not in (Scale.ROW, Scale.GROUP):
        yield "whole numbers have a scale for each row or group"
    if (operand.scale is Scale.GROUP) != (operand.group in GROUPS):
        yield f"a group, and nothing else, has a length: one of {', '.join(map(str, GROUPS))}"
    if operand.overflow is Overflow.NONFINITE and (
        operand.format not in STORAGE or operand.is_integer or operand.scale is Scale.BLOCK
    ):
        yield "blocks, whole numbers and four bits have no pattern beyond the finite ones"


def _product_faults(product: Product) -> Iterator[str]:
    sides = [product.weight] + ([product.activation] if product.activation else [])
    if product.activation and product.activation.scale is Scale.GROUP:
        yield "rows of activations have no groups"
    if product.activation and product.activation.format in FOUR_BITS:
        yield "activations of four bits are not computed"
    whole = len(sides) == 2 and all(s.is_integer and s.scale is Scale.ROW for s in sides)
    if product.accumulator.is_integer and not whole:
        yield "sums of whole numbers need whole numbers on both sides, with a scale for each row"
