# SPDX-License-Identifier: Apache-2.0
"""Turn a base model and a PEFT adapter into an ordinary checkpoint folder of the merged model, once per content.

The folder lies in the cache under what tells the files apart. Which base is at hand is `resolve`'s affair, what is
merged `lora_changes`' and `lora_merge`'s.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from dsl.diagnostics import refuse
from porting.checkpoint.safetensors_header import read_header
from porting.checkpoint.tensors import Checkpoint
from porting.config.reader import MAX_BYTES as MAX_CONFIG
from porting.config.reader import NAME as CONFIG
from porting.files.files import find_file, list_names
from porting.files.progress import Progress
from porting.files.strict_json import parse_object, shown
from porting.origin.conversions import build, cache_folder, recorded
from porting.origin.lora_changes import Changes, changes
from porting.origin.lora_merge import write_merged
from porting.origin.lora_settings import MAX_BYTES, NAME, LoraSettings, bad, read_settings

ROOM = "adapters"
WEIGHTS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"
DTYPES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")
BESIDE = (
    *TOKENIZER, "added_tokens.json", "chat_template.jinja", "merges.txt", "special_tokens_map.json", "vocab.json",
)  # fmt: skip
"""Files of a tokenizer; an adapter that has its own was trained with that."""
MAX_TEXT = 256 * 2**20
GENERATION = "generation_config.json"


@dataclass(frozen=True, slots=True)
class Merged:
    """A merged model's folder, and what a reader should know."""

    directory: Path
    notes: tuple[str, ...]


def is_adapter(folder: Path) -> bool:
    """Tell whether a folder holds an adapter and no whole model."""
    names = list_names(folder)
    return NAME in names and CONFIG not in names


def merge(folder: Path, base: Path, *, keeps_dtype: bool, progress: Progress) -> Merged:
    """Return the folder of a base with an adapter, from the cache or freshly merged; raises `Refused`.

    The result computes in the format of most of the base's bytes, or, with `keeps_dtype`, in what its config says.
    """
    settings = read_settings(folder)
    adapter, whole = _opened(folder), Checkpoint.open(base)
    config = _config(base)
    target = cache_folder(ROOM) / _identity(folder, adapter, base, whole)
    notes = recorded(target)
    if notes is None:
        made = changes(settings, adapter, whole, str(config.get("model_type")))
        config = _changed(config, made, None if keeps_dtype else _stored(whole))

        def write(work: Path) -> tuple[str, ...]:
            write_merged(whole, adapter, made, work / "model.safetensors", progress)
            text = json.dumps(config, indent=2, sort_keys=True)
            (work / CONFIG).write_text(f"{text}\n", encoding="utf-8")
            return (_note(settings, made, folder), *_copy_text(folder, base, work))

        least = sum(tensor.nbytes for tensor in whole.tensors.values())
        notes = build(target, shown(folder.name), least, write)
    return Merged(target, notes)


def _opened(folder: Path) -> Checkpoint:
    file = find_file(folder, WEIGHTS)
    if file is None:
        pickled = f", only {PICKLE}, which is pickled" if PICKLE in list_names(folder) else ""
        raise bad(f"there is no {WEIGHTS} in its folder{pickled}")
    header = read_header(file)
    tensors = {tensor.name: tensor for tensor in header.tensors}
    return Checkpoint(folder, dict(sorted(tensors.items())), {file.name: file}, "")


def _config(base: Path) -> dict[str, object]:
    file = find_file(base, CONFIG)
    if file is None:
        raise refuse("S511", f"there is no {CONFIG} in the base's folder")
    config = parse_object(file.read(MAX_CONFIG), name=CONFIG, code="S421")
    if config.get("quantization_config"):
        raise bad("its base's weights are packed; port it on the unpacked model")
    return config


def _stored(base: Checkpoint) -> str:
    sizes = dict.fromkeys(DTYPES, 0)
    for tensor in base.tensors.values():
        if tensor.dtype.name in sizes:
            sizes[tensor.dtype.name] += tensor.nbytes
    return DTYPES[max(sizes, key=sizes.__getitem__)]


def _changed(config: dict[str, object], made: Changes, dtype: str | None) -> dict[str, object]:
    """Return the base's config with the format that it computes in, untied where its ends now differ."""
    values = dict(config)
    if dtype is not None:
        values.pop("torch_dtype", None)
        values["dtype"] = dtype
    if made.unties:
        values["tie_word_embeddings"] = False
        inner = values.get("text_config")
        if isinstance(inner, dict):
            values["text_config"] = inner | {"tie_word_embeddings": False}
    return values


def _identity(folder: Path, adapter: Checkpoint, base: Path, whole: Checkpoint) -> str:
    """Return a digest of the adapter's bytes, and of what tells whether a file of the base is still the same."""
    digest = hashlib.sha256()
    for name in (NAME, WEIGHTS):
        file = find_file(folder, name)
        limit = MAX_BYTES if name == NAME else adapter.files[WEIGHTS].size
        digest.update(b"" if file is None else hashlib.sha256(file.read(limit)).digest())
    kept = [find_file(place, name) for place in (folder, base) for name in (*BESIDE, GENERATION)]
    for file in (*whole.files.values(), find_file(base, CONFIG), *kept):
        if file is not None:
            status = file.path.stat()
            facts = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            digest.update(f"{file.path} {facts}\n".encode())
    return digest.hexdigest()


def _note(settings: LoraSettings, made: Changes, folder: Path) -> str:
    added = sum(change.product is not None for change in made.by_name.values())
    others = sum(change.instead is not None for change in made.by_name.values())
    kind = "DoRA" if settings.is_dora else "LoRA"
    whole = f", {others} weights are the adapter's own" if others else ""
    untied = "; head and embedding are no longer one" if made.unties else ""
    name = shown(folder.name)
    return f"{added} weights have the {kind} adapter {name} added in float64, kept in f32{whole}{untied}"


def _copy_text(folder: Path, base: Path, work: Path) -> tuple[str, ...]:
    """Copy the tokenizer, the adapter's where it has one; returns notes."""
    is_own = any(name in TOKENIZER for name in list_names(folder))
    places = [(folder if is_own else base, name) for name in BESIDE] + [(base, GENERATION)]
    for place, name in places:
        file = find_file(place, name)
        if file is not None:
            (work / name).write_bytes(file.read(MAX_TEXT))
    return ("the tokenizer is the adapter's",) if is_own else ()
