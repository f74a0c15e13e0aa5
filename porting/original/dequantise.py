# SPDX-License-Identifier: Apache-2.0
"""Write the weights of a quantised checkpoint out in numbers times scales, for the reference to load.

By the formats' own definitions, in float64, and apart from the device's reading: transformers has its own for FP8 in
whole blocks alone, and for most of the others none without a GPU. The definitions themselves are in `definitions`.
Works on whatever `torch` it is handed and imports none itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dsl.diagnostics import refuse
from porting.files.strict_json import parse_object, shown
from porting.original import definitions

METHODS = [
    "awq",
    "bitsandbytes",
    "compressed-tensors",
    "fbgemm_fp8",
    "fp8",
    "gptq",
    "modelopt",
    "modelopt_fp4",
    "quark",
]
SHARD_BYTES = 1 << 30
Read = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Folder:
    """The tensors of a checkpoint and what its config says of them."""

    torch: Any
    section: Mapping[str, object]
    names: frozenset[str]
    read: Read

    def has(self, name: str) -> bool:
        """Tell whether there is a tensor of a name."""
        return name in self.names

    def maybe(self, name: str) -> Any:
        """Return a tensor, None where there is none."""
        return self.read(name) if self.has(name) else None


@dataclass(frozen=True, slots=True)
class PackedKind:
    """A way to store weights: the tensors of one beside its base, what the weight is called, and its values."""

    parts: tuple[str, ...]
    own: str
    values: Callable[[Folder, str], Any]
    is_linear: bool = False


def method_of(section: Mapping[str, object]) -> str:
    """Return the method that a section names; modelopt's older files name their producer alone."""
    producer = section.get("producer")
    if "quant_method" not in section and isinstance(producer, Mapping):
        return str(producer.get("name"))
    return str(section.get("quant_method"))


def section_beside(read: Callable[[str], Mapping[str, object] | None]) -> Mapping[str, object]:
    """Return what quantisers' own files beside a silent config.json say, as a section; `read` gives a file."""
    own = read("hf_quant_config.json") or {}
    inner = own.get("quantization")
    if isinstance(inner, Mapping):
        return {**inner, "quant_method": "modelopt"}
    if (said := read("quantize_config.json")) and "bits" in said:
        return {"quant_method": "gptq", **said}
    if (said := read("quant_config.json")) and "w_bit" in said:
        group = said.get("q_group_size", 128)
        return {**said, "quant_method": "awq", "bits": said["w_bit"], "group_size": group}
    return {}


def shards(
    torch: Any,
    section: Mapping[str, object],
    names: Sequence[str],
    read: Read,
    turned: Callable[[str], bool],
) -> Iterator[Mapping[str, Any]]:
    """Yield all tensors of a checkpoint, those of packed weights as one whole weight, some at a time.

    `turned` names the modules whose own weight is [K, N]. Raises `Refused` where scales do not fit their weight.
    """
    folder = Folder(torch, section, frozenset(names), read)
    packed = dict(_packed(folder, names))
    parts = {f"{base}{part}" for base, kind in packed.items() for part in kind.parts}
    some: dict[str, Any] = {}
    size = 0
    for name in (*packed, *(name for name in names if name not in parts)):
        kind = packed.get(name)
        tensor = read(name) if kind is None else _least(torch, kind.values(folder, name))
        if kind is not None and kind.is_linear and turned(name):
            tensor = tensor.T.contiguous()
        some[name if kind is None else f"{name}{kind.own}"] = tensor
        size += tensor.numel() * tensor.element_size()
        if size >= SHARD_BYTES:
            yield some
            some, size = {}, 0
    if some:
        yield some


def _packed(folder: Folder, names: Sequence[str]) -> Iterator[tuple[str, PackedKind]]:
    """Yield the base of each packed weight with its kind; the names of its parts begin with it."""
    for name in names:
        for mark, (base, kind) in MARKS.items():
            if not name.endswith(mark):
                continue
            at = name.removesuffix(mark) + base
            if _is_packed(folder, at, mark):
                yield at, kind
            break


def _is_packed(folder: Folder, base: str, mark: str) -> bool:
    """Tell whether what stands beside a scale has elements of less than 16 bits."""
    if not mark.startswith("_scale"):
        return True
    return folder.has(base) and folder.read(base).element_size() == 1


def _least(torch: Any, whole: Any) -> Any:
    """Return a weight in float32 where that loses nothing, else in float64."""
    single = whole.float()
    return single if torch.equal(single.double(), whole) else whole


def _number(section: Mapping[str, object], key: str, usual: int) -> int:
    value = section.get(key, usual)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise refuse("S551", f"`{key}` is {shown(value)}, not a whole number")


def _block(section: Mapping[str, object]) -> tuple[int, int] | None:
    """Return how many rows and columns share a scale, where it is said."""
    size = section.get("weight_block_size")
    if size is None:
        said = [group.get("block_structure") for group in _groups(section)]
        size = next((block for block in said if block), None)
    if size is None:
        return None
    if isinstance(size, list | tuple) and len(size) == 2:
        rows, columns = size
        if isinstance(rows, int) and isinstance(columns, int) and rows > 0 and columns > 0:
            return rows, columns
    raise refuse("S551", f"`weight_block_size` is {shown(size)}, not two sizes")


def _groups(section: Mapping[str, object]) -> list[Mapping[str, object]]:
    """Return what the groups of a config say of weights."""
    groups = section.get("config_groups")
    each = groups.values() if isinstance(groups, Mapping) else ()
    weights = [group.get("weights") for group in each if isinstance(group, Mapping)]
    return [one for one in weights if isinstance(one, Mapping)]


def _beside(scale: str) -> Callable[[Folder, str], Any]:
    """Return the values of elements that have scales of this name beside them."""

    def values(folder: Folder, base: str) -> Any:
        weight, scales = folder.read(base), folder.read(f"{base}{scale}")
        torch = folder.torch
        if weight.dtype is torch.uint8:
            factor = folder.maybe(f"{base}_scale_2")
            return definitions.fp4(torch, weight, scales, factor)
        return definitions.blocks(torch, base, weight, scales, _block(folder.section))

    return values


def _weight_packed(folder: Folder, base: str) -> Any:
    packed, scales = folder.read(f"{base}.weight_packed"), folder.read(f"{base}.weight_scale")
    torch = folder.torch
    if packed.dtype is torch.uint8:
        divisor = folder.maybe(f"{base}.weight_global_scale")
        return definitions.fp4(torch, packed, scales, None, divisor)
    rows, columns = folder.read(f"{base}.weight_shape").tolist()
    bits = [group.get("num_bits") for group in _groups(folder.section)]
    fitting = [b for b in bits if isinstance(b, int) and -(-columns * b // 32) == packed.shape[1]]
    if not fitting or packed.shape[0] != rows:
        message = f"`{shown(base)}` is [{rows}, {columns}], which its words do not hold"
        raise refuse("S551", message)
    zeros, index = (folder.maybe(f"{base}.weight_{x}") for x in ("zero_point", "g_idx"))
    return definitions.integers(torch, packed, scales, zeros, index, (fitting[0], columns))


def _qweight(folder: Folder, base: str) -> Any:
    torch = folder.torch
    qweight, qzeros, scales = (folder.read(f"{base}.{part}") for part in _WORDS[:3])
    if folder.section.get("quant_method") == "awq":
        group = _number(folder.section, "group_size", 128)
        return definitions.awq(torch, qweight, qzeros, scales, group)
    formats = (folder.section.get("checkpoint_format"), folder.section.get("format"))
    index = folder.read(f"{base}.g_idx")
    bits = 32 * qweight.shape[0] // len(index)
    added = 0 if "gptq_v2" in formats else 1
    return definitions.gptq(torch, qweight, qzeros, scales, index, added, bits)


def _llm_int8(folder: Folder, base: str) -> Any:
    """Return eight-bit numbers, of which 127 is the largest size of each row."""
    weight, largest = folder.read(f"{base}.weight"), folder.read(f"{base}.SCB")
    return weight.double() * (largest.double() / 127)[:, None]


def _absmax(folder: Folder, base: str) -> Any:
    """Return indices of a table times sizes of blocks, by what the JSON object beside them says."""
    kind = "nf4" if folder.has(f"{base}{_STATE}nf4") else "fp4"
    state = bytes(folder.read(f"{base}{_STATE}{kind}").tolist())
    said = parse_object(state, name=base, code="S551")
    parts = [folder.maybe(f"{base}.{part}") for part in _TABLES]
    return definitions.indices(folder.torch, base, folder.read(base), parts, said)


_STATE = ".quant_state.bitsandbytes__"
_TABLES = ("absmax", "quant_map", "nested_absmax", "nested_quant_map")
_SCALES = ("", "_scale", "_scale_2", "_scale_inv")
_PACKED = ["weight_packed", "weight_scale", "weight_shape", "weight_zero_point", "weight_g_idx"]
_WORDS = ("qweight", "qzeros", "scales", "g_idx")
MARKS: Mapping[str, tuple[str, PackedKind]] = {
    ".qweight": (
        "",
        PackedKind(tuple(f".{part}" for part in _WORDS), ".weight", _qweight, is_linear=True),
    ),
    ".weight_packed": (
        "",
        PackedKind(
            (*(f".{part}" for part in _PACKED), ".weight_global_scale"), ".weight", _weight_packed
        ),
    ),
    ".SCB": (
        "",
        PackedKind((".weight", ".SCB", ".weight_format"), ".weight", _llm_int8, is_linear=True),
    ),
    ".absmax": (
        "",
        PackedKind(
            ("", *(f".{x}" for x in _TABLES), f"{_STATE}nf4", f"{_STATE}fp4"),
            "",
            _absmax,
            is_linear=True,
        ),
    ),
    "_scale_inv": ("", PackedKind(_SCALES, "", _beside("_scale_inv"))),
    "_scale": ("", PackedKind(_SCALES, "", _beside("_scale"))),
}
"""What one tensor of every packed weight ends with, and what is its base where that is removed."""
