"""Load the model in a .gguf file as it lies, with transformers' own reader, for the reference.

Names, order, values and config are the reader's; of ours is only the check of the header before it, and that nothing
is left out. Texts are stepped over, since the package's parser takes 70 microseconds for each. Works on whatever
`torch` and `transformers` it is handed and imports neither itself.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from dsl.diagnostics import refuse
from dsl.extras import require
from porting.checkpoint.gguf_header import (
    ARRAY,
    MAX_KEPT_ARRAY,
    SCALARS,
    STRING,
    check_sizes,
    read_gguf_header,
)
from porting.files.files import ModelFile
from porting.files.strict_json import shown

LINK = "model.gguf"
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
    resolved = path.resolve()
    file = ModelFile(path.name, resolved, resolved.stat().st_size)
    header = read_gguf_header(file)
    check_sizes(header, file.name)
    with tempfile.TemporaryDirectory(prefix="sohu-") as name, _quick(loader) as reader:
        # The file alone, so that transformers finds nothing beside it.
        (Path(name) / LINK).symlink_to(file.path)
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            name, gguf_file=LINK, **options
        )
        read = reader(str(Path(name) / LINK))
        names = loader.get_gguf_hf_weights_map(model, _processor(loader, header.architecture))
    tensors = {tensor.name: tensor for tensor in read.tensors}
    divisors = tensors.pop(FREQUENCY_DIVISORS, None)
    if dropped := [name for name in tensors if name not in names]:
        first = ", ".join(shown(name) for name in dropped[:3])
        message = f"{file.name}: transformers' reader drops {len(dropped)} tensors: {first}"
        raise refuse("S551", message, place=file.name)
    if divisors is not None:
        _divide(torch, model, np.array(divisors.data, np.float32), file.name)
    return model, info


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
def _quick(loader: Any) -> Iterator[Callable[[str], Any]]:
    """Let the package parse a file once, without its texts, and build its map of names once; yields its reader."""
    import gguf  # noqa: PLC0415 - comes with the extra `reference`

    changes: tuple[tuple[ModuleType, str, object], ...] = (
        (gguf, "GGUFReader", cache(_reader(gguf))),
        (gguf, "get_tensor_name_map", cache(gguf.get_tensor_name_map)),
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


def _reader(gguf: Any) -> Any:
    """Return the package's reader of a file, without long lists; the vocabulary's gives its length alone."""

    class Reader(gguf.GGUFReader):  # type: ignore[misc]
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

    return Reader


def _texts(data: Any, start: int, count: int) -> int:
    """Return the bytes that texts take from a place on."""
    end = start
    for _ in range(count):
        (length,) = struct.unpack_from("<Q", data, end)
        end += 8 + length
    return end - start


def _numbers(item_type: int, count: int) -> int:
    return struct.calcsize(SCALARS[item_type]) * count
