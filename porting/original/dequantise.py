"""Write the weights of a GPTQ or AWQ checkpoint out in whole numbers times scales, for the reference to load.

By the formats' own definition and apart from the device's reading: transformers has none without a GPU. Works on
whatever `torch` it is handed and imports none itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

METHODS = ("gptq", "awq")
PACKED = ".qweight"
PARTS = frozenset({"qweight", "qzeros", "scales", "g_idx"})
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which of eight columns each four bits of a word belong to, from the lowest on."""
SHARD_BYTES = 1 << 30


def method_of(config: Mapping[str, object]) -> Mapping[str, object] | None:
    """Return what a config says of four-bit weights, None where it has none."""
    section = config.get("quantization_config")
    method = section.get("quant_method") if isinstance(section, dict) else None
    return section if isinstance(section, dict) and method in METHODS else None


def shards(
    torch: Any,
    section: Mapping[str, object],
    names: Sequence[str],
    read: Callable[[str], Any],
    turned: Callable[[str], bool],
) -> Iterator[Mapping[str, Any]]:
    """Yield all tensors of a checkpoint, those of packed weights as one whole weight, some at a time.

    `turned` names the modules whose own weight is [K, N].
    """
    packed = {name.removesuffix(PACKED) for name in names if name.endswith(PACKED)}
    some: dict[str, Any] = {}
    size = 0
    for name in names:
        module, _, part = name.rpartition(".")
        is_packed = module in packed and part in PARTS
        if is_packed and part != "qweight":
            continue
        tensor = _whole(torch, section, module, read) if is_packed else read(name)
        tensor = tensor.T.contiguous() if is_packed and turned(module) else tensor
        some[f"{module}.weight" if is_packed else name] = tensor
        size += tensor.numel() * tensor.element_size()
        if size >= SHARD_BYTES:
            yield some
            some, size = {}, 0
    if some:
        yield some


def _whole(
    torch: Any, section: Mapping[str, object], module: str, read: Callable[[str], Any]
) -> Any:
    qweight, qzeros, scales = (read(f"{module}.{part}") for part in ("qweight", "qzeros", "scales"))
    if section["quant_method"] == "awq":
        whole = awq(torch, qweight, qzeros, scales)
    else:
        is_second = "gptq_v2" in (section.get("checkpoint_format"), section.get("format"))
        index = read(f"{module}.g_idx")
        whole = gptq(torch, qweight, qzeros, scales, index, 0 if is_second else 1)
    # Scales of 16 bits times numbers of five are float32 numbers.
    return whole if scales.dtype is torch.float32 else whole.float()


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
