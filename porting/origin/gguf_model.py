# SPDX-License-Identifier: Apache-2.0
"""Write the model in a checked .gguf file as config.json, safetensors and tokenizer files.

Names and values are our own reading of the file, every value kept. Config and tokenizer are transformers', which reads
our view of the checked header: its own parser is slow on vocabularies and trusts lengths. What either would leave out
is refused.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from dsl.diagnostics import Refused, refuse
from dsl.extras import require
from porting.checkpoint.gguf_header import ARRAY, STRING, GgufArray, GgufHeader, GgufValue
from porting.checkpoint.gguf_parts import GgufModel
from porting.checkpoint.tensors import SINGLE
from porting.files.files import reading
from porting.files.progress import Progress
from porting.files.strict_json import shown
from porting.origin.gguf_keys import HELP, check_keys, head_dim
from porting.origin.gguf_names import ARCHITECTURES, Names, Piece, names_of, pieces
from porting.origin.gguf_rope import ROPE_FACTORS, rope_scaling, small_values
from porting.origin.gguf_tokenizer import TOKENS, write_tokenizer
from porting.origin.gguf_values import BLOCKS
from porting.origin.gguf_weights import STAGE, write_weights
from porting.original.gguf_config import FACTORS_LONG, FACTORS_SHORT, known, read_config
from porting.original.reference import gguf_reader, libraries, refusing

LINK = "model.gguf"
UINT32 = 4
OF_ROTATION = frozenset({ROPE_FACTORS, FACTORS_LONG, FACTORS_SHORT})
"""Tensors that the config says."""
SAID_BY_SHAPES = frozenset({"feed_forward_length"})
"""Keys of llama.cpp that transformers leaves in GPT-2's config, where the shapes of tensors say the same."""
WHOLE = frozenset({"F32", "F16", "BF16", "F64"})
"""Types of which no block has a scale."""
DTYPES: Mapping[str, str] = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


def write_model(opened: GgufModel, target: Path, progress: Progress) -> tuple[str, ...]:
    """Write the converted model into a folder and return notes about the conversion."""
    require("gguf")
    torch, transformers = libraries()
    header = opened.header
    progress(STAGE, 0, len(header.tensors))
    names = _names(opened.name, header)
    with _alone(opened) as folder, _our_reader(header):
        with refusing("S573", f"convert {opened.name}"):
            loader, tables, _ = gguf_reader()
            config = read_config(
                transformers, loader, folder / LINK, header, partial(small_values, opened)
            )
            with known(loader, header):
                check_keys(opened.name, header, config, tables)
            _set_rotation(opened, config)
            with torch.device("meta"):
                model = transformers.AutoModelForCausalLM.from_config(
                    config, trust_remote_code=False
                )
        placed = _pieces(opened.name, header, names, model)
        with reading(opened.name):
            data = [np.memmap(stream, np.uint8, mode="r") for stream in opened.streams]
        sizes = write_weights(placed, data, target / SINGLE, progress)
        _write_config(config, type(model).__name__, _computed(header, sizes), target)
        notes = write_tokenizer(transformers, header, folder, LINK, target)
    types = ", ".join(sorted({tensor.type_name for tensor in header.tensors}))
    formats = ", ".join(sorted(name.lower() for name in sizes))
    return (f"read from GGUF ({types}), every value kept: {formats}", *notes)


def _computed(header: GgufHeader, sizes: Mapping[str, int]) -> str:
    """Return the format that the model is for: bf16 where most of it is quantised, else what most bytes are in."""
    packed = sum(tensor.nbytes for tensor in header.tensors if tensor.type_name not in WHOLE)
    if 2 * packed > sum(tensor.nbytes for tensor in header.tensors):
        return "bfloat16"
    return DTYPES[max(sizes, key=sizes.__getitem__)]


def _names(name: str, header: GgufHeader) -> Names:
    names = names_of(header)
    if names is None:
        known = ", ".join(sorted(ARCHITECTURES))
        message = f"{name} has the architecture {shown(header.architecture)}; read are {known}"
        raise refuse("S573", message, place=name, help=HELP)
    unknown = sorted({x.type_name for x in header.tensors} - set(BLOCKS))
    if unknown:
        message = f"{name} has tensors of types that are not read: {', '.join(unknown)}"
        raise refuse("S573", message, place=name, help=HELP)
    return names


@contextmanager
def _alone(opened: GgufModel) -> Iterator[Path]:
    """Make a folder with a link to the open file alone, so that transformers finds nothing beside it."""
    itself = Path(f"/proc/self/fd/{opened.streams[0].fileno()}")
    with tempfile.TemporaryDirectory(prefix="sohu-") as name:
        (Path(name) / LINK).symlink_to(itself if itself.exists() else opened.paths[0].resolve())
        yield Path(name)


@contextmanager
def _our_reader(header: GgufHeader) -> Iterator[None]:
    """Make transformers read our view of the file's keys instead of parsing it once more."""
    import gguf  # noqa: PLC0415 - comes with the extra `reference`

    view = _view(header)
    original = gguf.GGUFReader
    gguf.GGUFReader = lambda *_: view
    try:
        yield
    finally:
        gguf.GGUFReader = original


def _view(header: GgufHeader) -> SimpleNamespace:
    """Return the file as the object that gguf's reader would be, without vocabularies and values."""
    fields = {
        key: _field(header.types[key], value)
        for key, value in header.metadata.items()
        if not isinstance(value, GgufArray) or value.values is not None
    }
    tokens = header.metadata.get(TOKENS)
    size_key = f"{header.architecture}.vocab_size"
    if isinstance(tokens, GgufArray) and size_key not in header.metadata:
        fields[size_key] = _field(UINT32, tokens.count)
    tensors = [SimpleNamespace(name=tensor.name) for tensor in header.tensors]
    return SimpleNamespace(fields=fields, tensors=tensors)


def _field(value_type: int, value: GgufValue) -> SimpleNamespace:
    if isinstance(value, GgufArray):
        parts = [np.array([item]) for item in value.values or ()]
        types = [ARRAY, value.item_type]
        return SimpleNamespace(parts=parts, data=list(range(len(parts))), types=types)
    is_string = value_type == STRING
    part = np.frombuffer(str(value).encode(), np.uint8) if is_string else np.array([value])
    return SimpleNamespace(parts=[part], data=[0], types=[value_type])


def _set_rotation(opened: GgufModel, config: Any) -> None:
    rotation = getattr(config, "rope_parameters", None) or {}
    if all(tensor.name != ROPE_FACTORS for tensor in opened.header.tensors):
        return
    if "rope_theta" not in rotation:
        message = f"{opened.name} has `{ROPE_FACTORS}`, but its architecture has no plain rotation"
        raise refuse("S574", message, place=opened.name, help=HELP)
    scaling = rope_scaling(opened, float(rotation["rope_theta"]), head_dim(config))
    if scaling is not None:
        config.rope_parameters = {"rope_theta": rotation["rope_theta"], **scaling}


def _pieces(file: str, header: GgufHeader, names: Names, model: Any) -> list[Piece]:
    """Return every tensor's place in the checkpoint; refuse tensors without one, and places without a tensor."""
    config = model.config
    heads = {
        key: int(getattr(config, key))
        for key in set(names.rotated.values())
        if hasattr(config, key)
    }
    tensors = [tensor for tensor in header.tensors if tensor.name not in OF_ROTATION]
    placed = {tensor.name: pieces(names, tensor, heads) for tensor in tensors}
    shapes = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    if names.experts is not None:
        shapes = names.experts.unfused(shapes)
    made = [x for several in placed.values() for x in several]
    unplaced = [name for name, x in placed.items() if not x or x[0].name not in shapes]
    if unplaced:
        raise _unfit(file, unplaced, "have no place in the model")
    if config.tie_word_embeddings:
        for name in model._tied_weights_keys or ():  # noqa: SLF001 - the only list there is
            shapes.pop(name, None)
    have = {x.name for x in made}
    if missing := [name for name in shapes if name not in have]:
        raise _unfit(file, missing, "are missing")
    if wrong := [x.name for x in made if shapes.get(x.name) != x.shape]:
        raise _unfit(file, wrong, "do not have the shape that the metadata gives them")
    return made


def _unfit(file: str, names: list[str], words: str) -> Refused:
    first = ", ".join(shown(name) for name in names[:3])
    message = f"{file}: {len(names)} tensors {words}: {first}"
    return refuse("S574", message, place=file, help=HELP)


def _write_config(config: Any, architecture: str, dtype: str, target: Path) -> None:
    given = json.loads(config.to_json_string())
    values = {k: v for k, v in given.items() if k[0] != "_" and k not in SAID_BY_SHAPES}
    values |= {"architectures": [architecture], "dtype": dtype}
    text = json.dumps(_shortest(values), indent=2, sort_keys=True)
    (target / "config.json").write_text(f"{text}\n", encoding="utf-8")


def _shortest(value: object) -> object:
    """Return a value with the floats that GGUF rounded to 32 bits as their makers wrote them."""
    if isinstance(value, dict):
        return {key: _shortest(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shortest(item) for item in value]
    if isinstance(value, float) and float(np.float32(value)) == value:
        return float(str(np.float32(value)))
    return value
