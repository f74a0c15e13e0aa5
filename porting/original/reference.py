# SPDX-License-Identifier: Apache-2.0
"""Run the original model with transformers: the truth that a port is compared with, and the reader of .gguf models.

The only module that touches torch and transformers, and it imports them late. It fetches nothing, runs no code from a
model folder, and judges no port.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from device_model.numbers.precision import Product
from dsl.diagnostics import Refused, refuse
from dsl.extras import require
from porting.checkpoint.tensors import Checkpoint
from porting.files.progress import Progress, silent
from porting.files.strict_json import shown
from porting.original import adapted, float64, gguf_file, loading, low_precision, random_model
from porting.original.adapted import Adapted
from porting.original.choices import Choice, Decide, Picked, decider
from porting.original.lengths import config_lengths, config_tokens, length_counts

Precision = Literal["float64", "float32", "bfloat16", "float16"]
Array = npt.NDArray[np.floating[Any]]

LIBRARIES = ("torch", "transformers", "accelerate", "safetensors", "tokenizers")
CACHES = ("past_key_values", "cache_params", "state")
"""How transformers names what is handed from one part of a row to the next."""
MAX_REASON = 240
HALF_ROUNDING = 2.0**-24
"""Of float32, relative."""
SMALL = 4_000_000
"""Parameters below which a model runs on one thread."""


@dataclass(frozen=True, slots=True)
class RowOutput:
    """What the reference makes of one row of tokens.

    `logits` is [S, V]; `hidden` holds the output of every decoder layer, [S, D], before the final norm; `choices` what
    was chosen for each token on the way, where it was asked for.
    """

    logits: Array
    hidden: tuple[Array, ...] = ()
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True, slots=True)
class Stretch:
    """What the reference computed between two layers' ends, over one row: its part `number` of `parts`.

    Part 0 stands before the layers, the last one behind them. `entering` and `leaving` are the hidden states [S, D] at
    both ends, where there are such. `values` holds every tensor on the way, weights aside.
    """

    number: int
    parts: int
    entering: Array | None
    leaving: Array | None
    values: tuple[npt.NDArray[Any], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The original model, with its original weights, at one precision; `product` is that of its linear layers."""

    precision: Precision
    vocab_size: int
    layers: int
    _model: Any
    product: Product | None = None
    _kept: dict[int, Any] = field(default_factory=dict)
    _remembers: bool = False
    """Its rotation is that of the longest row so far, until a short one comes."""

    @classmethod
    def load(
        cls,
        original: Path | Adapted,
        precision: Precision,
        progress: Progress = silent,
        product: Product | None = None,
    ) -> Reference:
        """Load a model folder or .gguf file, or one with an adapter; a float64 one is checked to compute in float64."""
        torch, _ = libraries()
        stage = f"load {precision} reference"
        progress(stage, 0, 2)
        model = _loaded(original, precision)
        if precision == "float64":
            _widen(torch, model)
        progress(stage, 1, 2)
        layers = _decoder_layers(torch, model)
        vocab_size = model.config.get_text_config().vocab_size
        remembers = length_counts(model.config.get_text_config().to_dict())
        reference = cls(precision, vocab_size, len(layers), model, product, _remembers=remembers)
        if precision == "float64":
            reference._check_float64()
        progress(stage, 2, 2)
        return reference

    def row(
        self, row: Sequence[int], hidden: bool = False, decide: Decide | None = None
    ) -> RowOutput:
        """Return what the model makes of one row, with every choice on the way; `decide` may replace them."""
        choices: list[Choice] = []

        def hear(number: int, choice: Choice) -> Picked | None:
            instead = None if decide is None else decide(number, choice)
            choices.append(choice if instead is None else Choice(choice.scores, instead))
            return instead

        torch, _ = libraries()
        with _threads(torch, self._model):
            if self._remembers:
                self._row([0], hidden=False)
            with decider(torch, len(row), hear):
                output = self._row(row, hidden)
        return RowOutput(output.logits, output.hidden, tuple(choices))

    @contextmanager
    def disturbed(self, seed: int | None) -> Iterator[None]:
        """Multiply what enters the first layer by 1 + u, |u| up to half a float32 rounding; without a seed, do nothing.

        What the model then makes of a row is as right as before, with other roundings on the way.
        """
        torch, _ = libraries()
        layers = _decoder_layers(torch, self._model)
        if seed is None or not layers:
            yield
            return
        generator = torch.Generator().manual_seed(seed)

        def disturb(values: Any) -> Any:
            unit = torch.rand(values.shape, generator=generator, dtype=torch.float64)
            return (values * (1 + (2 * unit - 1) * HALF_ROUNDING)).to(values.dtype)

        def enter(_module: Any, inputs: Any, named: Any) -> Any:
            if inputs:
                return (disturb(inputs[0]), *inputs[1:]), named
            return inputs, {**named, "hidden_states": disturb(named["hidden_states"])}

        handle = layers[0].register_forward_pre_hook(enter, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def special_tokens(self) -> frozenset[int]:
        """Return the ids that the model's own config names: of padding, pictures, ends."""
        return config_tokens(self._model.config.to_dict())

    def lengths(self) -> dict[int, str]:
        """Return the lengths that the model's own config speaks of, with the keys."""
        return config_lengths(self._model.config.get_text_config().to_dict())

    def logits(
        self,
        rows: Sequence[Sequence[int]],
        hidden: bool = False,
        progress: Progress = silent,
    ) -> tuple[RowOutput, ...]:
        """Return the logits of each row, run alone, and the layers' outputs if asked for."""
        outputs = []
        for number, row in enumerate(rows):
            progress(f"{self.precision} reference", number, len(rows))
            outputs.append(self._row(row, hidden))
        progress(f"{self.precision} reference", len(rows), len(rows))
        return tuple(outputs)

    def cached(self, row: Sequence[int], cuts: Sequence[int]) -> Array:
        """Return the logits [S, V] of a row in parts that end at `cuts`, each handed the cache of those before.

        Raises `Refused` (S553) where the model keeps no cache, or its code does not run with one.
        """
        torch, _ = libraries()
        ends = [*sorted({cut for cut in cuts if 0 < cut < len(row)}), len(row)]
        parts: list[Array] = []
        with (
            refusing("S553", "run this model with its own cache"),
            torch.no_grad(),
            _threads(torch, self._model),
            self._numerics(torch),
        ):
            handed: dict[str, Any] = {}
            for start, end in pairwise((0, *ends)):
                ids = torch.tensor([list(row[start:end])], dtype=torch.int64)
                output = self._model(input_ids=ids, use_cache=True, return_dict=True, **handed)
                parts.append(_numpy(output.logits[0]))
                if end < len(row):
                    handed = _cache(output)
        return np.concatenate(parts)

    def walk(self, row: Sequence[int], visit: Callable[[Stretch], None]) -> None:
        """Run a row and hand over all values between the ends of its layers, one part at a time.

        Only one part's values are held at once.
        """
        torch, _ = libraries()
        layers = _decoder_layers(torch, self._model)
        buffers = [_numpy(b) for b in self._model.buffers() if b.is_floating_point() and b.dim()]
        held = {p.untyped_storage().data_ptr() for p in self._model.parameters()}
        ends: list[Array | None] = [None]
        recorder = float64.recorder(torch, held)

        def hand_over(result: Any) -> None:
            recorder.paused = True
            leaving = _numpy(result[0])
            values = (*buffers, *(_numpy(x) for x in recorder.taken()))
            visit(Stretch(len(ends) - 1, len(layers) + 2, ends[-1], leaving, values))
            ends.append(leaving)
            recorder.paused = False

        def enter(_module: Any, inputs: Any, named: Any) -> None:
            if len(ends) == 1:
                hand_over(inputs[0] if inputs else named["hidden_states"])

        def leave(_module: Any, _inputs: Any, output: Any) -> None:
            hand_over(output[0] if isinstance(output, tuple) else output)

        handles = [layer.register_forward_hook(leave) for layer in layers]
        if layers:
            handles.append(layers[0].register_forward_pre_hook(enter, with_kwargs=True))
        try:
            with torch.no_grad(), _as(torch, self.precision), recorder:
                ids = torch.tensor([list(row)], dtype=torch.int64)
                output = self._model(input_ids=ids, use_cache=False, return_dict=True)
                hand_over(output.logits)
        finally:
            for handle in handles:
                handle.remove()

    def rotary_frequencies(self) -> tuple[Array, ...]:
        """Return the tables of inverse frequencies that the model's rotary modules hold."""
        named = self._model.named_buffers()
        return tuple(_numpy(buffer) for name, buffer in named if name.endswith(".inv_freq"))

    def _row(self, row: Sequence[int], hidden: bool) -> RowOutput:
        torch, _ = libraries()
        carried: list[Array] = []

        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            carried.append(_numpy(first[0]))

        layers = _decoder_layers(torch, self._model) if hidden else ()
        handles = [layer.register_forward_hook(keep) for layer in layers]
        try:
            with refusing("S551", "run this model"), torch.no_grad(), self._numerics(torch):
                ids = torch.tensor([list(row)], dtype=torch.int64)
                output = self._model(input_ids=ids, use_cache=False, return_dict=True)
        finally:
            for handle in handles:
                handle.remove()
        return RowOutput(_numpy(output.logits[0]), tuple(carried))

    def _numerics(self, torch: Any) -> Any:
        if self.product is None:
            return _as(torch, self.precision)
        layers = _decoder_layers(torch, self._model)
        return low_precision.products(torch, layers, self.product, self._kept)

    def _check_float64(self) -> None:
        torch, _ = libraries()
        state = [*self._model.named_parameters(), *self._model.named_buffers()]
        small = {
            name for name, x in state if x.is_floating_point() and x.dtype is not torch.float64
        }
        with float64.watch(torch) as lower:
            self._row([0, 1 % self.vocab_size], hidden=False)
        if small | lower:
            first = ", ".join(sorted(small | lower)[:3])
            message = (
                f"the float64 reference is not float64 in {len(small | lower)} places: {first}"
            )
            raise refuse("S552", message)


def _loaded(original: Path | Adapted, precision: Precision) -> Any:
    if isinstance(original, Path):
        return (
            _from_file(original, precision)
            if original.is_file()
            else _from_folder(original, precision)
        )
    base, adapter = original.base, original.adapter
    is_file = base.is_file()
    model = _from_file(base, precision) if is_file else _from_folder(base, precision, adapter)
    torch, transformers = libraries()
    with refusing("S551", "attach this adapter"):
        adapted.attach(torch, transformers, stores(), model, adapter)
    return model


def _from_file(path: Path, precision: Precision) -> Any:
    torch, transformers = libraries()
    reader, _, _ = gguf_reader()
    dtype = getattr(torch, precision)
    options = {**loading.EAGER, "dtype": dtype, "output_loading_info": True}
    with refusing("S551", "load this file"), _as(torch, precision):
        model, info = gguf_file.load(torch, transformers, reader, path, options)
    loading.check_weights(info)
    return model.eval()


def _from_folder(directory: Path, precision: Precision, adapter: Path | None = None) -> Any:
    torch, transformers = libraries()
    checkpoint = Checkpoint.open(directory)
    raw = loading.checked_config(checkpoint, adapter)
    with refusing("S551", "load this model"):
        config = loading.open_config(transformers, directory, raw)
        with (
            loading.readable(torch, transformers, stores(), checkpoint, config) as whole,
            adapted.alone(whole) as folder,
            _as(torch, precision),
        ):
            return loading.load_model(
                torch, transformers, folder, config, getattr(torch, precision)
            )


def libraries() -> tuple[Any, Any]:
    """Return torch and transformers, imported now, with hub kernels off and no output of their own."""
    os.environ.setdefault("USE_HUB_KERNELS", "NO")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    require(*LIBRARIES)
    try:
        import torch
        import transformers
    except ImportError as error:
        message = f"torch or transformers cannot be loaded: {str(error)[:160]}"
        raise refuse("S550", message) from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return torch, transformers


def gguf_reader() -> tuple[Any, Any, Any]:
    """Return the module of transformers that reads .gguf files, its keys, and its rules for splitting text."""
    libraries()
    from transformers import modeling_gguf_pytorch_utils
    from transformers.integrations import GGUF_CONFIG_MAPPING
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    return modeling_gguf_pytorch_utils, GGUF_CONFIG_MAPPING, GGUF_PRE_TOKENIZER_SPLITS


def stores() -> Any:
    """Return the library that reads and writes safetensors files of PyTorch."""
    libraries()
    import safetensors.torch

    return safetensors


def write_smaller(raw: Mapping[str, Any], folder: Path) -> None:
    """Save a random model of a config's class at small sizes, with every length as the config has it."""
    torch, transformers = libraries()
    with refusing("S551", "make a smaller twin of this model"):
        random_model.write_random(torch, transformers, random_model.smaller(raw), folder)


def save_tensors(tensors: Mapping[str, Any], path: Path) -> None:
    """Write PyTorch tensors as one safetensors file."""
    stores().torch.save_file(dict(tensors), path, metadata={"format": "pt"})


@contextmanager
def _threads(torch: Any, model: Any) -> Iterator[None]:
    """Run a small model on one thread: several wait for each other longer than they compute."""
    threads = torch.get_num_threads()
    if sum(parameter.numel() for parameter in model.parameters()) < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _as(torch: Any, precision: Precision) -> Any:
    return float64.everywhere(torch) if precision == "float64" else nullcontext()


@contextmanager
def refusing(code: str, task: str) -> Iterator[None]:
    """Refuse the input for whatever a library raises about it: it is the input that differs from run to run."""
    try:
        yield
    except (Refused, MemoryError):
        raise
    except Exception as error:
        reason = shown(f"{type(error).__name__}: {error}".splitlines()[0], MAX_REASON)
        raise refuse(code, f"transformers cannot {task}: {reason}") from error


def _widen(torch: Any, model: Any) -> None:
    """Make weights float64 that a module holds in another format: by name, or as they were stored."""
    for parameter in model.parameters():
        if parameter.dtype in (torch.float32, torch.bfloat16, torch.float16):
            parameter.data = parameter.data.double()


def _cache(output: Any) -> dict[str, Any]:
    """Return what an output hands to the next part of its row, by the name of the argument."""
    for name in CACHES:
        if getattr(output, name, None) is not None:
            return {name: getattr(output, name)}
    raise refuse("S553", "this model of transformers keeps no cache")


def _decoder_layers(torch: Any, model: Any) -> Sequence[Any]:
    config = model.config.get_text_config()
    # Where a model has an encoder too, `num_hidden_layers` is the number of its layers.
    count = getattr(config, "decoder_layers", None) or getattr(config, "num_hidden_layers", 0)
    # A tower for pictures may have as many.
    root = model if config is model.config else model.get_decoder()
    lists = [x for x in root.modules() if isinstance(x, torch.nn.ModuleList) and len(x) == count]
    return lists[0] if lists else ()


def _numpy(tensor: Any) -> Array:
    wide = tensor if tensor.dtype.itemsize == 8 else tensor.float()
    return wide.detach().cpu().numpy().copy()  # type: ignore[no-any-return]
