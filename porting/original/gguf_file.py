# SPDX-License-Identifier: Apache-2.0
"""Load the model in a .gguf file as it lies, with transformers' own reader, for the reference.

Names, order, values and config are the reader's; of ours is only the check of the header before it, and that nothing
is left out. Texts are stepped over, since the package's parser takes 70 microseconds for each. Works on whatever
`torch` and `transformers` it is handed and imports neither itself.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from dsl.diagnostics import refuse
from dsl.extras import require
from porting.checkpoint.gguf_header import ARRAY, MAX_KEPT_ARRAY, SCALARS, STRING, GgufHeader
from porting.checkpoint.gguf_parts import GgufModel, open_gguf
from porting.files.strict_json import shown
from porting.original.gguf_config import FACTORS_LONG, FACTORS_SHORT, known, read_config, renamed

TOKENS = "tokenizer.ggml.tokens"
FREQUENCY_DIVISORS = "rope_freqs.weight"
"""What llama.cpp divides each frequency of the rotation by; transformers' reader has no place for it."""


def load(
    torch: Any, transformers: Any, loader: Any, path: Path, options: Mapping[str, object]
) -> tuple[Any, Mapping[str, Any]]:
    """Return the model of a .gguf file and what transformers says about loading it.

    `loader` is the module of transformers that reads such files, `options` are those of `from_pretrained`.
    """
    require("gguf")
    with open_gguf(path) as opened, tempfile.TemporaryDirectory(prefix="sohu-") as name:
        # The parts alone, so that transformers finds nothing beside them.
        first, *others = _links(opened, Path(name))
        with _quick(loader, opened.header, others) as reader, known(loader, opened.header):
            read = reader(str(first))
            factors = partial(_small_values, read.tensors)
            config = read_config(transformers, loader, first, opened.header, factors)
            model, info = transformers.AutoModelForCausalLM.from_pretrained(
                name, gguf_file=first.name, config=config, **options
            )
            processor = _processor(loader, opened.header.architecture)
            names = loader.get_gguf_hf_weights_map(model, processor)
        tensors = {tensor.name: tensor for tensor in read.tensors}
        divisors = tensors.pop(FREQUENCY_DIVISORS, None)
        for name_of_factors in (FACTORS_LONG, FACTORS_SHORT):
            tensors.pop(name_of_factors, None)
        # Experts are one parameter, whose name has no part behind it.
        if dropped := [x for x in tensors if not {x, x.removesuffix(".weight")} & set(names)]:
            few = ", ".join(shown(name) for name in dropped[:3])
            message = f"{opened.name}: transformers' reader drops {len(dropped)} tensors: {few}"
            raise refuse("S551", message, place=opened.name)
        if divisors is not None:
            _divide(torch, model, np.array(divisors.data, np.float32), opened.name)
    return model, info


def _links(opened: GgufModel, folder: Path) -> list[Path]:
    """Make links to the open parts, in their order."""
    links = []
    for number, (path, stream) in enumerate(zip(opened.paths, opened.streams, strict=True)):
        itself = Path(f"/proc/self/fd/{stream.fileno()}")
        links.append(folder / f"model-{number}.gguf")
        links[-1].symlink_to(itself if itself.exists() else path.resolve())
    return links


def _small_values(tensors: Sequence[Any], name: str) -> list[float] | None:
    values = [tensor.data for tensor in tensors if tensor.name == name]
    return [float(x) for x in values[0].reshape(-1)] if values else None


def _processor(loader: Any, architecture: str) -> Any:
    return loader.TENSOR_PROCESSORS.get(architecture, loader.TensorProcessor)(config={})


def _divide(torch: Any, model: Any, divisors: Any, name: str) -> None:
    """Divide the frequencies of a model's rotation, which must be the plain one."""
    tables = [m for m in model.modules() if "inv_freq" in dict(m.named_buffers(recurse=False))]
    if not tables or any(len(table.inv_freq) != len(divisors) for table in tables):
        message = f"{name}: `{FREQUENCY_DIVISORS}` does not fit the model's rotation"
        raise refuse("S551", message, place=name)
    for table in tables:
        exact = torch.from_numpy(divisors).to(table.inv_freq.dtype)
        table.inv_freq = table.inv_freq / exact


@contextmanager
def _quick(
    loader: Any, header: GgufHeader, others: Sequence[Path]
) -> Iterator[Callable[[str], Any]]:
    """Let the package parse a file once, without its texts, and build its map of names once; yields its reader.

    The file gets the tensors of the other parts, where it is the first of several.
    """
    import gguf  # noqa: PLC0415 - comes with the extra `reference`

    changes: tuple[tuple[ModuleType, str, object], ...] = (
        (gguf, "GGUFReader", cache(_reader(gguf, others))),
        (gguf, "get_tensor_name_map", cache(gguf.get_tensor_name_map)),
        (gguf, "MODEL_ARCH_NAMES", {**gguf.MODEL_ARCH_NAMES, **renamed(gguf, header)}),
        (loader, "tqdm", _without_bar),
    )
    originals = [getattr(module, name) for module, name, _ in changes]
    for module, name, value in changes:
        setattr(module, name, value)
    try:
        yield gguf.GGUFReader
    finally:
        for (module, name, _), original in zip(changes, originals, strict=True):
            setattr(module, name, original)


def _without_bar(items: Iterable[Any], **_: object) -> Iterable[Any]:
    return items


def _reader(gguf: Any, others: Sequence[Path]) -> Callable[[str], Any]:
    """Return the package's reader of a file, without long lists; the vocabulary's gives its length alone."""

    class Part(gguf.GGUFReader):  # type: ignore[misc]
        fields: Any
        tensors: Any

        def __init__(self, path: str) -> None:
            super().__init__(path)
            fields = self.fields.items()
            short = {k: f for k, f in fields if k == TOKENS or len(f.data) <= MAX_KEPT_ARRAY}
            self.fields = type(self.fields)(short)
            # Slices of a plain array cost a third of a mapping's, and it is sliced 16 rows at a time.
            self.tensors = [x._replace(data=x.data.view(np.ndarray)) for x in self.tensors]

        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
            if raw_type != ARRAY:
                return super()._get_field_parts(orig_offs, raw_type)
            item_type, count = struct.unpack_from("<IQ", self.data, orig_offs)
            if count <= MAX_KEPT_ARRAY:
                return super()._get_field_parts(orig_offs, raw_type)
            end = orig_offs + struct.calcsize("<IQ")
            end += (
                _texts(self.data, end, count) if item_type == STRING else _numbers(item_type, count)
            )
            types = [gguf.GGUFValueType(ARRAY), gguf.GGUFValueType(item_type)]
            return end - orig_offs, [np.zeros(1, np.uint8)], [0] * count, types

    def read(path: str) -> Any:
        first = Part(path)
        for other in others:
            first.tensors += Part(str(other)).tensors
        return first

    return read


def _texts(data: Any, start: int, count: int) -> int:
    """Return the bytes that texts take from a place on."""
    end = start
    for _ in range(count):
        (length,) = struct.unpack_from("<Q", data, end)
        end += 8 + length
    return end - start


def _numbers(item_type: int, count: int) -> int:
    return struct.calcsize(SCALARS[item_type]) * count
