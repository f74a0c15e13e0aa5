# SPDX-License-Identifier: Apache-2.0
"""What packed numbers stand for, in float64, by the definitions of the formats that store them.

Shares nothing with the device's reading of the same formats. Works on whatever `torch` it is handed.

Sources: FP8, DeepSeek-V3's technical report, section 3.3; FP4 and its scales, OCP microscaling formats 1.0 and
NVIDIA's NVFP4; GPTQ, AutoGPTQ's `qlinear_cuda_old`; AWQ, AutoAWQ's its two linear layers; whole numbers in
words, compressed-tensors' `pack_to_int32`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dsl.diagnostics import refuse
from porting.files.strict_json import shown

USUAL_BLOCK = 128
WORD_BITS = 32
FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""The sizes of four-bit floats, by their lower three bits; the fourth is the sign."""
POWERS = (*(2.0 ** (exponent - 127) for exponent in range(255)), float("nan"))
"""What the bytes of E8M0 stand for."""
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which of eight columns each four bits of a word belong to, from the lowest on."""
AWQ_WORDS = 8


def factors(torch: Any, scales: Any) -> Any:
    """Return scales in float64; bytes are exponents of two, of which 255 is none."""
    if scales.dtype is not torch.uint8:
        return scales.double()
    return torch.tensor(POWERS, dtype=torch.float64)[scales.long()]


def blocks(torch: Any, name: str, weight: Any, scales: Any, block: tuple[int, int] | None) -> Any:
    """Return a weight [..., N, K]; each scale belongs to one block, the last ones may be cut off."""
    wide = factors(torch, scales)
    if wide.numel() == 1:
        return weight.double() * wide.reshape(())
    if wide.ndim == 1 and weight.ndim == 2:
        wide = wide[:, None]
    sizes, counts = tuple(weight.shape), tuple(wide.shape)
    said = block or (None, None)
    each = [
        _each(size, count, own)
        for size, count, own in zip(sizes[-2:], counts[-2:], said, strict=False)
    ]
    expected = (
        *sizes[:-2],
        *(-(-size // by) for size, by in zip(sizes[-2:], each, strict=False)),
    )
    if counts != expected:
        message = f"`{shown(name)}` needs scales {list(expected)} and has {list(scales.shape)}"
        raise refuse("S551", message)
    for axis, (size, by) in zip((-2, -1), zip(sizes[-2:], each, strict=True), strict=True):
        wide = wide.index_select(axis, torch.arange(size) // by)
    return weight.double() * wide


def _each(size: int, count: int, said: int | None) -> int:
    """Return how many rows or columns share a scale."""
    if count == 1 and said is None:
        return max(size, 1)
    if said is not None:
        return said
    if count and -(-size // USUAL_BLOCK) != count and size % count == 0:
        return size // count
    return USUAL_BLOCK


def fp4(torch: Any, packed: Any, scales: Any, factor: Any, divisor: Any = None) -> Any:
    """Return four-bit floats, the lower half of a byte first, times the scale of their columns, and the tensor's."""
    sizes = torch.tensor(FP4, dtype=torch.float64)
    halves = torch.stack([packed & 15, packed >> 4], dim=-1).flatten(-2).long()
    values = sizes[halves & 7] * (1 - 2 * (halves >> 3)).double()
    wide = factors(torch, scales)
    each = values.shape[-1] // wide.shape[-1]
    if factor is not None:
        wide = wide * factor.double().reshape(())
    if divisor is not None:
        wide = wide / divisor.double().reshape(())
    return values * wide.repeat_interleave(each, -1)


def numbers(torch: Any, words: Any, bits: int) -> Any:
    """Return the whole numbers in rows of words: bit by bit, the lowest first, wherever words end."""
    each = (words.long()[..., None] >> torch.arange(WORD_BITS)) & 1
    stream = each.flatten(-2)
    count = stream.shape[-1] // bits
    places = stream[..., : count * bits].reshape(*stream.shape[:-1], count, bits)
    return (places << torch.arange(bits)).sum(-1)


def integers(
    torch: Any, packed: Any, scales: Any, zeros: Any, index: Any, how: tuple[int, int]
) -> Any:
    """Return whole numbers around their middle or zero points, times their groups' scales; `how` is bits and K."""
    bits, k = how
    values = numbers(torch, packed, bits)[:, :k]
    wide = scales.double()
    middle = torch.full(wide.shape, 1 << (bits - 1))
    points = middle if zeros is None else numbers(torch, zeros.T, bits)[:, : len(packed)].T
    at = torch.arange(k) // (k // wide.shape[1]) if index is None else index.long()
    return (values - points[:, at]).double() * wide[:, at]


def gptq(
    torch: Any, qweight: Any, qzeros: Any, scales: Any, index: Any, added: int, bits: int = 4
) -> Any:
    """Return a weight [N, K], `added` to the zero points; `index` is the group of each column."""
    values = numbers(torch, qweight.T, bits)
    zeros = numbers(torch, qzeros, bits).T + added
    at = index.long()
    return (values - zeros[:, at]).double() * scales.double().T[:, at]


def awq(torch: Any, qweight: Any, qzeros: Any, scales: Any, group: int) -> Any:
    """Return a weight [N, K], of words along N as for `gemm`, or along K as for `gemv`."""
    if qweight.shape[0] == qzeros.shape[0] and qweight.shape[1] != qzeros.shape[1]:
        values = numbers(torch, qweight, 4)
        each = values.shape[1] if group == -1 else group
        at = torch.arange(values.shape[1]) // each
        zeros = numbers(torch, qzeros, 4)
        return (values - zeros[:, at]).double() * scales.double()[:, at]
    each = qweight.shape[0] // scales.shape[0]
    zeros = _columns(torch, qzeros).repeat_interleave(each, 0)
    whole = scales.double().repeat_interleave(each, 0)
    return ((_columns(torch, qweight) - zeros) * whole).T.contiguous()


def _columns(torch: Any, words: Any) -> Any:
    values = torch.empty(words.shape[0], AWQ_WORDS * words.shape[1], dtype=torch.int32)
    for place, column in enumerate(AWQ_ORDER):
        values[:, column::AWQ_WORDS] = (words >> 4 * place) & 15
    return values


def indices(
    torch: Any, name: str, packed: Any, parts: list[Any], said: Mapping[str, object]
) -> Any:
    """Return numbers of a table by their indices, the upper half of a byte first, times the sizes of their blocks.

    `parts` are the sizes and the table and, where sizes are indices too, their scales and their table. `said` is what
    bitsandbytes says beside them. Raises `Refused` where these do not fit.
    """
    sizes, table, scales, second = parts
    try:
        n, k = _pair(said["shape"])
        block = min(int(str(said["blocksize"])), 2 * packed.numel())
        if scales is not None:
            each = min(int(str(said["nested_blocksize"])), len(sizes))
            wide = scales.double().repeat_interleave(each)[: len(sizes)]
            offset = float(str(said["nested_offset"]))
            sizes = second.double()[sizes.long()] * wide + offset
        halves = torch.stack([packed.flatten() >> 4, packed.flatten() & 15], dim=-1).flatten()
        values = table.double()[halves[: n * k].long()]
        return (values * sizes.double().repeat_interleave(block)[: n * k]).reshape(n, k)
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        message = f"what `{shown(name)}` says of itself does not fit its tensors"
        raise refuse("S551", message) from error


def _pair(value: object) -> tuple[int, int]:
    match value:
        case [int(n), int(k)]:
            return n, k
    raise ValueError("no two sizes")
