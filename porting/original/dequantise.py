"""Write the weights of an FP8, GPTQ or AWQ checkpoint out in whole numbers times scales, for the reference to load.

By the formats' own definition, in float64, and apart from the device's reading: for GPTQ and AWQ transformers has none
without a GPU, and its own for FP8 needs whole blocks. Works on whatever `torch` it is handed and imports none itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dsl.diagnostics import refuse
from porting.files.strict_json import shown

METHODS = ("awq", "fp8", "gptq")
MARKS: Mapping[str, str] = {"awq": ".qweight", "fp8": "_scale_inv", "gptq": ".qweight"}
"""What the name of one tensor of every packed weight ends with."""
PARTS = ("qweight", "qzeros", "scales", "g_idx")
USUAL_BLOCK = (128, 128)
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which of eight columns each four bits of a word belong to, from the lowest on."""
SHARD_BYTES = 1 << 30
Read = Callable[[str], Any]


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
    method = str(section["quant_method"])
    mark = MARKS[method]
    packed = {name.removesuffix(mark) for name in names if name.endswith(mark)}
    parts = {part for base in packed for part in _parts(method, base)}
    some: dict[str, Any] = {}
    size = 0
    for name in (*packed, *(name for name in names if name not in parts)):
        is_packed = name in packed
        tensor = _whole(torch, section, name, read) if is_packed else read(name)
        if is_packed and method != "fp8":
            tensor = tensor.T.contiguous() if turned(name) else tensor
        some[f"{name}.weight" if is_packed and method != "fp8" else name] = tensor
        size += tensor.numel() * tensor.element_size()
        if size >= SHARD_BYTES:
            yield some
            some, size = {}, 0
    if some:
        yield some


def _parts(method: str, base: str) -> tuple[str, ...]:
    """Return the names of the tensors that a packed weight may be stored in."""
    return (base, f"{base}_scale_inv") if method == "fp8" else tuple(f"{base}.{p}" for p in PARTS)


def _whole(torch: Any, section: Mapping[str, object], base: str, read: Read) -> Any:
    """Return a packed weight, in float32 where that loses nothing, else in float64."""
    if section["quant_method"] == "fp8":
        whole = fp8(torch, base, read(base), read(f"{base}_scale_inv"), _block(section))
    else:
        whole = _four_bits(torch, section, base, read)
    single = whole.float()
    return single if torch.equal(single.double(), whole) else whole


def _four_bits(torch: Any, section: Mapping[str, object], base: str, read: Read) -> Any:
    qweight, qzeros, scales = (read(f"{base}.{part}") for part in PARTS[:3])
    if section["quant_method"] == "awq":
        return awq(torch, qweight, qzeros, scales)
    is_second = "gptq_v2" in (section.get("checkpoint_format"), section.get("format"))
    return gptq(torch, qweight, qzeros, scales, read(f"{base}.g_idx"), 0 if is_second else 1)


def _block(section: Mapping[str, object]) -> tuple[int, int]:
    """Return how many rows and columns share a scale."""
    size = section.get("weight_block_size") or USUAL_BLOCK
    if isinstance(size, list | tuple) and len(size) == 2:
        rows, columns = size
        if isinstance(rows, int) and isinstance(columns, int) and rows > 0 and columns > 0:
            return rows, columns
    raise refuse("S551", f"`weight_block_size` is {shown(size)}, not two sizes")


def fp8(torch: Any, name: str, weight: Any, scales: Any, block: tuple[int, int]) -> Any:
    """Return a weight [..., N, K] in float64; each scale belongs to one block, the last ones may be cut off."""
    rows, columns = block
    n, k = weight.shape[-2:]
    expected = (*weight.shape[:-2], -(-n // rows), -(-k // columns))
    if tuple(scales.shape) != expected:
        message = f"`{shown(name)}` needs scales {list(expected)} and has {list(scales.shape)}"
        raise refuse("S551", message)
    wide = scales.double()[..., torch.arange(n) // rows, :][..., torch.arange(k) // columns]
    return weight.double() * wide


def gptq(torch: Any, qweight: Any, qzeros: Any, scales: Any, index: Any, added: int) -> Any:
    """Return a weight [N, K] in float64, `added` to the zero points; `index` is the group of each column."""
    bits = torch.arange(0, 32, 4)
    numbers = ((qweight[:, None, :] >> bits[None, :, None]) & 15).flatten(0, 1)
    zeros = ((qzeros[:, :, None] >> bits) & 15).flatten(1) + added
    at = index.long()
    return ((numbers - zeros[at]) * scales.double()[at]).T.contiguous()


def awq(torch: Any, qweight: Any, qzeros: Any, scales: Any) -> Any:
    """Return a weight [N, K] in float64."""
    each = qweight.shape[0] // scales.shape[0]
    zeros = _columns(torch, qzeros).repeat_interleave(each, 0)
    whole = scales.double().repeat_interleave(each, 0)
    return ((_columns(torch, qweight) - zeros) * whole).T.contiguous()


def _columns(torch: Any, words: Any) -> Any:
    numbers = torch.empty(words.shape[0], 8 * words.shape[1], dtype=torch.int32)
    for place, column in enumerate(AWQ_ORDER):
        numbers[:, column::8] = (words >> 4 * place) & 15
    return numbers
