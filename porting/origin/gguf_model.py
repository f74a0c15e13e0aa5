"""Write the model in a checked .gguf file as config.json, bf16 safetensors and tokenizer files.

transformers' reader does the work on our view of the file, made from the checked header: its own parser is slow on
vocabularies and trusts lengths. Whatever that reader would leave out is refused here.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from dsl.diagnostics import Refused, refuse
from dsl.extras import require
from porting.checkpoint.tensors import SINGLE
from porting.files.files import ModelFile
from porting.files.progress import Progress
from porting.files.strict_json import shown
from porting.origin.gguf_header import ARRAY, STRING, TYPES, GgufArray, GgufHeader, GgufValue
from porting.origin.gguf_rope import ROPE_FACTORS, rope_scaling
from porting.original.reference import gguf_reader, libraries, refusing, save_tensors

STAGE = "convert"
LINK = "model.gguf"
UINT32 = 4
TOKENS = "tokenizer.ggml.tokens"
SPLITTING = "tokenizer.ggml.pre"

# Splitting rules that transformers takes for GPT-2's: rightly, and but for digits, which stand alone.
SPLITS_LIKE_GPT2 = frozenset({"default", "gpt-2", "gpt2"})
DIGITS_APART = frozenset({"smollm"})

HELP = "port the original safetensors model"


def write_model(
    file: ModelFile, header: GgufHeader, target: Path, progress: Progress
) -> tuple[str, ...]:
    """Write the converted model into a folder and return notes about the conversion."""
    require("gguf")
    torch, transformers = libraries()
    progress(STAGE, 0, len(header.tensors))
    with _alone(file) as folder, _our_reader(file, header, progress):
        with refusing("S573", f"convert {file.name}"):
            config = transformers.AutoConfig.from_pretrained(
                folder, gguf_file=LINK, local_files_only=True, trust_remote_code=False
            )
            _check_keys(file, header, config)
            _set_rotation(file, header, config)
            with torch.device("meta"):
                model = transformers.AutoModelForCausalLM.from_config(
                    config, trust_remote_code=False
                )
            tensors = _tensors(torch, file, header, model)
        save_tensors(tensors, target / SINGLE)
        _write_config(config, type(model).__name__, target)
        notes = _write_tokenizer(transformers, header, folder, target)
    types = ", ".join(sorted({tensor.type_name for tensor in header.tensors}))
    return (f"converted from GGUF ({types}) to bf16", *notes)


@contextmanager
def _alone(file: ModelFile) -> Iterator[Path]:
    """Make a folder with a link to the file alone, so that transformers finds nothing beside it."""
    with tempfile.TemporaryDirectory(prefix="sohu-") as name:
        (Path(name) / LINK).symlink_to(file.path)
        yield Path(name)


@contextmanager
def _our_reader(file: ModelFile, header: GgufHeader, progress: Progress) -> Iterator[None]:
    """Make transformers read our view of the file instead of parsing it once more."""
    import gguf  # noqa: PLC0415 - comes with the extra `reference`

    view = _view(file, header)

    def each_tensor(tensors: Iterable[Any], **_: object) -> Iterator[Any]:
        for number, tensor in enumerate(tensors):
            progress(STAGE, number, len(header.tensors))
            yield tensor
        progress(STAGE, len(header.tensors), len(header.tensors))

    loader, _, _ = gguf_reader()
    # It builds the map of all names once for every module of the model.
    names = cache(gguf.get_tensor_name_map)
    with (
        _replaced(gguf, "GGUFReader", lambda *_: view),
        _replaced(gguf, "get_tensor_name_map", names),
        _replaced(loader, "tqdm", each_tensor),
    ):
        yield


@contextmanager
def _replaced(module: Any, name: str, value: object) -> Iterator[None]:
    original = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)


def _view(file: ModelFile, header: GgufHeader) -> SimpleNamespace:
    """Return the file as the object that gguf's reader would be, without vocabularies."""
    fields = {
        key: _field(header.types[key], value)
        for key, value in header.metadata.items()
        if not isinstance(value, GgufArray) or value.values is not None
    }
    tokens = header.metadata.get(TOKENS)
    size_key = f"{header.architecture}.vocab_size"
    if isinstance(tokens, GgufArray) and size_key not in header.metadata:
        fields[size_key] = _field(UINT32, tokens.count)
    data = np.memmap(file.path, np.uint8, mode="r")
    return SimpleNamespace(fields=fields, tensors=[_tensor(data, x) for x in header.tensors])


def _field(value_type: int, value: GgufValue) -> SimpleNamespace:
    if isinstance(value, GgufArray):
        parts = [np.array([item]) for item in value.values or ()]
        types = [ARRAY, value.item_type]
        return SimpleNamespace(parts=parts, data=list(range(len(parts))), types=types)
    is_string = value_type == STRING
    part = np.frombuffer(str(value).encode(), np.uint8) if is_string else np.array([value])
    return SimpleNamespace(parts=[part], data=[0], types=[value_type])


def _tensor(data: Any, tensor: Any) -> SimpleNamespace:
    import gguf  # noqa: PLC0415 - comes with the extra `reference`

    _, per_block, block_bytes = TYPES[tensor.type]
    shape = (*tensor.shape[:-1], tensor.shape[-1] // per_block * block_bytes)
    raw = data[tensor.offset : tensor.offset + tensor.nbytes].reshape(shape)
    number = gguf.GGMLQuantizationType(tensor.type)
    return SimpleNamespace(name=tensor.name, data=raw, tensor_type=number)


def _check_keys(file: ModelFile, header: GgufHeader, config: Any) -> None:
    _, tables, _ = gguf_reader()
    table = tables.get(header.architecture) or tables.get(config.model_type) or {}
    prefix = f"{header.architecture}."
    head_dim = getattr(config, "head_dim", None)
    harmless: dict[str, object] = {
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "rope.dimension_count": head_dim,
        "rope.scaling.type": "none",
        "vocab_size": config.vocab_size,
    }
    for key, value in header.metadata.items():
        short = key.removeprefix(prefix)
        if short == key or (table.get(short) not in (None, -1) and short not in harmless):
            continue
        if harmless.get(short) != value:
            is_long = isinstance(value, GgufArray)
            text = "a list" if is_long else shown(value)
            message = f"{file.name}: transformers' reader drops `{shown(key)}` = {text}"
            raise refuse("S574", message, place=file.name, help=HELP)


def _set_rotation(file: ModelFile, header: GgufHeader, config: Any) -> None:
    rotation = getattr(config, "rope_parameters", None) or {}
    if all(tensor.name != ROPE_FACTORS for tensor in header.tensors):
        return
    if "rope_theta" not in rotation:
        message = f"{file.name} has `{ROPE_FACTORS}`, but its architecture has no plain rotation"
        raise refuse("S574", message, place=file.name, help=HELP)
    scaling = rope_scaling(file, header, float(rotation["rope_theta"]), int(config.head_dim))
    if scaling is not None:
        config.rope_parameters = {"rope_theta": rotation["rope_theta"], **scaling}


def _tensors(torch: Any, file: ModelFile, header: GgufHeader, model: Any) -> Mapping[str, Any]:
    loader, _, _ = gguf_reader()
    processor = loader.TENSOR_PROCESSORS.get(header.architecture, loader.TensorProcessor)
    names = loader.get_gguf_hf_weights_map(model, processor(config={}))
    dropped = [x.name for x in header.tensors if x.name not in names and x.name != ROPE_FACTORS]
    if dropped:
        raise _unfit(file, dropped, "would be dropped by transformers' reader")
    parsed = loader.load_gguf_checkpoint(
        str(file.path), return_tensors=True, model_to_load=model, torch_dtype=torch.bfloat16
    )
    tensors: dict[str, Any] = {name: x.contiguous() for name, x in parsed["tensors"].items()}
    shapes = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        for name in model._tied_weights_keys or ():  # noqa: SLF001 - the only list there is
            shapes.pop(name, None)
    if missing := [name for name in shapes if name not in tensors]:
        raise _unfit(file, missing, "are missing")
    if wrong := [name for name, x in tensors.items() if shapes.get(name) != tuple(x.shape)]:
        raise _unfit(file, wrong, "do not have the shape that the metadata gives them")
    return tensors


def _unfit(file: ModelFile, names: list[str], words: str) -> Refused:
    first = ", ".join(shown(name) for name in names[:3])
    message = f"{file.name}: {len(names)} tensors {words}: {first}"
    return refuse("S574", message, place=file.name, help=HELP)


def _write_config(config: Any, architecture: str, target: Path) -> None:
    values = {k: v for k, v in json.loads(config.to_json_string()).items() if k[0] != "_"}
    values |= {"architectures": [architecture], "dtype": "bfloat16"}
    text = json.dumps(_shortest(values), indent=2, sort_keys=True)
    (target / "config.json").write_text(f"{text}\n", encoding="utf-8")


def _shortest(value: object) -> object:
    """Return a value with the floats that GGUF rounded to 32 bits as their makers wrote them."""
    if isinstance(value, dict):
        return {key: _shortest(item) for key, item in value.items()}
    if isinstance(value, float) and float(np.float32(value)) == value:
        return float(str(np.float32(value)))
    return value


def _write_tokenizer(
    transformers: Any, header: GgufHeader, folder: Path, target: Path
) -> tuple[str, ...]:
    if TOKENS not in header.metadata:
        return ("the file has no tokenizer",)
    try:
        with refusing("S573", "read the tokenizer"):
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, gguf_file=LINK, local_files_only=True, trust_remote_code=False
            )
            notes = _set_splitting(tokenizer, header)
            tokenizer.save_pretrained(target)
    except Refused as refused:
        return (f"without tokenizer: {refused.diagnostics[0].message}",)
    path = target / "tokenizer_config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    for key in ("is_local", "local_files_only"):
        values.pop(key, None)
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return notes


def _set_splitting(tokenizer: Any, header: GgufHeader) -> tuple[str, ...]:
    """Split text as the vocabulary's merges were learned, or note that the rule is not known."""
    from tokenizers import pre_tokenizers  # noqa: PLC0415 - transformers brings it

    rule = header.metadata.get(SPLITTING, "default")
    _, _, known = gguf_reader()
    is_bytes = header.metadata.get("tokenizer.ggml.model") == "gpt2"
    if not is_bytes or rule in SPLITS_LIKE_GPT2 or rule in known:
        return ()
    if rule not in DIGITS_APART:
        return (f"text is split as by GPT-2: the rule {shown(rule)} is not known",)
    digits = pre_tokenizers.Digits(individual_digits=True)
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pieces])
    return ()
