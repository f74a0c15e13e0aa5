# SPDX-License-Identifier: Apache-2.0
"""A program that is bound, as an object: run it, let it answer, validate it, ask what it costs and whether it fits.

Loading reads the text alone. Weights, kernels and the libraries that only running needs load with the first run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dsl.diagnostics import refuse
from dsl.extras import naming_extras, require
from dsl.graph import Graph
from dsl.types import Kind
from porting.files.progress import Progress, silent
from porting.planning.bound import bound_graph
from porting.planning.library import named_text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from device_model.memory.capacity import Fit
    from device_model.memory.use import Logits
    from device_model.mesh.opening import AnyEngine
    from device_model.sampling.policy import Sampling
    from porting.report.model import Report
    from sohu.api.answering import Answering, Manner
    from sohu.api.chatting import Chat
    from sohu.api.reference import Reference
    from sohu.api.running import Places, Sessions
    from sohu.performance.costing import Cost
    from sohu.performance.profile.model import Profile
    from sohu.performance.question import Asked

RUNNING = ("numba", "llvmlite")
ANSWERING = (*RUNNING, "tokenizers")
VALIDATION = (*ANSWERING, "torch", "transformers", "accelerate", "safetensors")

OF_TOKENS = "what is run takes tokens, int [B, S], and gives logits, [B, S, V]"


def load(path: str | Path) -> Model:
    """Return the model in a port's folder or in a `.sohu` file; raises `Refused` where it is generic or faulty.

    A model's own folder, or its `config.json`, is planned first: it can be asked what it costs, as a text can. Where
    nothing lies at the path, it may name a program of the zoo: `load("llama-3.1-70b")`.
    """
    model = Model(named_text(Path(path)))
    _ = model.graph  # refuses a text that is not bound before anything is asked of it
    return model


class Model:
    """A bound program, of a port's folder or of a `.sohu` file alone.

    A folder runs on its checkpoint. A file has none: it runs on `weights="mine.safetensors"`, or on random ones of a
    seed, `weights="random:7"`. Weights and kernels stay loaded from one call to the next, for one choice of numerics,
    device and weights at a time. `mesh` is written as `tp=8,ep=2` or as a mapping; `numerics` and `device` are names as
    on the command line. `notes` say what was assumed, where the program was planned from a config.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        self._engine: tuple[tuple[object, ...], AnyEngine] | None = None
        self._elsewhere: Sessions | None = None

    def __repr__(self) -> str:
        return f"Model({str(self.path)!r})"

    def run_on(self, engine: Sessions) -> None:
        """Run and answer on an engine that was made elsewhere, whose numerics and weights are its own."""
        self._elsewhere = engine

    @cached_property
    def graph(self) -> Graph:
        """Return the typed graph of the program: inputs, states, operations with their shapes, outputs."""
        return bound_graph(self.path, self.notes.append)

    @property
    def vocabulary(self) -> int:
        """Return the number of tokens that the logits range over."""
        given, made = [value.type for value in self.graph.inputs], self.graph.outputs[0].type
        takes = len(given) == 1 and given[0].rank == 2 and given[0].dtype.kind is Kind.INTEGER
        size = made.axes[-1].dim if made.rank == 3 else None
        if not takes or not isinstance(size, int):
            types = f"{', '.join(map(str, given)) or 'nothing'} gives {made}"
            raise refuse("S532", f"the program is none of tokens: {types}", help=OF_TOKENS)
        return size

    @naming_extras()
    def run(
        self,
        tokens: npt.ArrayLike,
        *,
        numerics: str = "bf16",
        device: str | None = None,
        mesh: str | Mapping[str, int] = "",
        chunk: int | None = None,
        weights: str | Path | None = None,
        progress: Progress = silent,
    ) -> npt.NDArray[np.float32]:
        """Return the logits, float32 [B, S, V], of token ids, int [B, S].

        `weights` in place of the port's own are a safetensors file, a folder of them, or `random:7`.
        All are fed at once, or `chunk` a step, on one chip or on all of a mesh, in this process; the bits are the same.
        Raises `Refused` for ids that are not in the vocabulary, for a file without weights, for positions that the
        model does not have, and for a mesh that does not fit the program or the rows.
        """
        require(*RUNNING)
        from sohu.api.running import logits_of
        from sohu.api.tokens import checked_tokens

        _positive("chunk", chunk)
        rows = checked_tokens(tokens, self.vocabulary, "tokens")
        sizes = self._mesh(mesh, len(rows))
        engine = self._elsewhere or self._opened(numerics, device, weights, sizes, progress)
        return logits_of(engine, rows, chunk, progress)

    @naming_extras()
    def generate(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 64,
        system: str | None = None,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
        raw: bool = False,
        numerics: str = "bf16",
        device: str | None = None,
        mesh: str | Mapping[str, int] = "",
        progress: Progress = silent,
    ) -> Iterator[str]:
        """Return a port's answer to a prompt, piece by piece as it is made; `answers` has its options."""
        made = self.answers(
            [prompt],
            max_new_tokens=max_new_tokens,
            system=system,
            sampling=sampling,
            stop=stop,
            raw=raw,
            numerics=numerics,
            device=device,
            mesh=mesh,
            progress=progress,
        )
        return (piece for _, piece in made)

    @naming_extras()
    def answers(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int = 64,
        system: str | None = None,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
        logprobs: int | None = None,
        raw: bool = False,
        numerics: str = "bf16",
        device: str | None = None,
        mesh: str | Mapping[str, int] = "",
        progress: Progress = silent,
    ) -> Answering:
        """Return a port's answers to prompts, made together while they are iterated: rows, and pieces of their text.

        A prompt goes through the checkpoint's chat template where it has one, unless it is `raw`, with a system message
        only where one is given, an empty one too: many templates have one of theirs otherwise. Tokens are chosen
        greedily, or as `sampling` says; an answer ends before a `stop` text. With `logprobs` each token has its own and
        those of as many likeliest ones. What is refused is refused at the call.
        """
        require(*ANSWERING)
        from sohu.api.answering import Answering
        from sohu.api.running import codec_of, encoded

        if raw and system is not None:
            raise ValueError("a raw prompt has no system message")
        manner = _manner(max_new_tokens, sampling, stop, logprobs)
        sizes = self._mesh(mesh, len(prompts))
        codec, places = codec_of(self.path, progress), self._places()
        rows = [
            places.checked(encoded(codec, prompt, system, raw=raw), codec, "a shorter prompt")
            for prompt in prompts
        ]
        engine = self._elsewhere or self._opened(numerics, device, None, sizes, progress)
        session = engine.session(len(rows))
        return Answering(session, codec, rows, manner, places.longest)

    @naming_extras()
    def chat(
        self,
        *,
        max_new_tokens: int = 512,
        system: str | None = None,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
        numerics: str = "bf16",
        device: str | None = None,
        mesh: str | Mapping[str, int] = "",
        progress: Progress = silent,
    ) -> Chat:
        """Return a conversation with a port, in its chat template; raises `Refused` where it has none (S558).

        `chat.say("…")` gives an answer's pieces. The options are those of `answers`.
        """
        require(*ANSWERING)
        from sohu.api.chatting import Chat
        from sohu.api.running import codec_of

        manner = _manner(max_new_tokens, sampling, stop, None)
        sizes = self._mesh(mesh, 1)
        codec = codec_of(self.path, progress)
        codec.require_template()
        if system is not None:
            codec.encode_messages([("system", system), ("user", "?")])
        engine = self._opened(numerics, device, None, sizes, progress)
        return Chat(engine, codec, self._places(), manner, system)

    @naming_extras()
    def validate(
        self,
        *,
        numerics: Sequence[str] = (),
        device: str | None = None,
        mesh: str | Mapping[str, int] = "",
        prompts: Sequence[str] = (),
        tokens: Sequence[npt.ArrayLike] = (),
        weights: str | Path | None = None,
        reference: Reference | None = None,
        progress: Progress = silent,
    ) -> Report:
        """Return the report of a port validated again, in f32 and bf16 or in the numerics that are given.

        A file's text is validated on `weights` (a safetensors file or a folder of them), by a `reference`: logits
        [B, S, V] or [S, V] of the rows of `tokens`, as an array or in a .npy file, or a function from tokens [B, S] to
        logits, as such or as `module:function`. It is the truth in place of transformers, in f32 alone.

        `prompts` and `tokens`, arrays [S] or [B, S] of ids, are judged beside the rows that every model is judged on.
        On a mesh it is the chips' result that is judged, and its bits must be one chip's in every mode.
        A text that no longer checks, or no longer fits its checkpoint, has the verdict `FAIL` like one that computes
        something else. Raises `Refused` for what is no port.
        """
        require(*(VALIDATION if reference is None else ANSWERING))
        from porting.pipeline import validate_port, validate_text
        from sohu.api.reference import brought

        own = brought(prompts, tokens, reference)
        if weights is None and self.path.is_dir():
            return validate_port(
                self.path,
                progress,
                numerics=numerics,
                device_name=device,
                mesh=written(mesh),
                own=own,
            )
        given = None if weights is None else Path(weights)
        return validate_text(
            self.path,
            given,
            progress,
            numerics=numerics,
            device_name=device,
            mesh=written(mesh),
            own=own,
        )

    def cost(
        self,
        *,
        mesh: str | Mapping[str, int] = "",
        batch: int = 1,
        seq: int = 1,
        context: int = 4096,
        numerics: str = "bf16",
        logits: str = "last",
    ) -> Cost:
        """Return memory and work as formulas, with their values for a prefill and a decode step; bytes and FLOPs.

        The prefill is of `seq` tokens, or of as many as the context where that is 1. `numerics` is the format of
        products; `logits` are of the `last` new token of each sequence or of `all`.
        """
        from sohu.performance.costing import cost

        return cost(self.graph, _asked(mesh, batch, seq, context, numerics, logits))

    def fit(
        self,
        device: str,
        *,
        mesh: str | Mapping[str, int] = "",
        batch: int = 1,
        seq: int = 1,
        context: int = 4096,
        numerics: str = "bf16",
        logits: str = "last",
    ) -> Fit:
        """Return whether one chip of a mesh holds the program, in bytes, and how far it could grow there.

        Asked are the same two steps as of `cost`.
        """
        from sohu.performance.fitting import fit

        return fit(self.graph, device, _asked(mesh, batch, seq, context, numerics, logits))

    def profile(
        self,
        device: str,
        *,
        numerics: str = "bf16",
        mesh: str | Mapping[str, int] = "",
        batch: int = 1,
        seq: int = 1,
        context: int = 4096,
        skew: float = 0.0,
        host: float = 0.0,
        logits: str = "last",
    ) -> Profile:
        """Return the time of a decode step and a prefill on a device, task by task, in seconds.

        `skew` is the exponent of a power law of expert loads; `host` are seconds between steps.
        """
        from sohu.performance.profile.model import profile_of

        _positive("batch", batch)
        _positive("seq", seq)
        return profile_of(
            self.path,
            device,
            numerics,
            mesh=written(mesh),
            batch=batch,
            seq=seq,
            context=context,
            skew=skew,
            host=host,
            logits=_logits(logits),
        )

    def _places(self) -> Places:
        """Return which tokens the model has places for."""
        from dsl.counting.longest import longest
        from sohu.api.running import Places

        return Places(self.vocabulary, longest(self.graph))

    def _mesh(self, mesh: str | Mapping[str, int], batch: int) -> dict[str, int]:
        """Return the sizes of a mesh for so many rows; raises `Refused` where it does not fit."""
        from device_model.memory.meshes import mesh_sizes

        text = written(mesh)
        return mesh_sizes(self.graph, text, batch) if text else {}

    def _opened(
        self, numerics: str, device: str | None, weights: str | Path | None,
        mesh: Mapping[str, int], progress: Progress,
    ) -> AnyEngine:  # fmt: skip
        """Return the engine of these choices, the last one where they are the same."""
        from device_model.chips.chip import device as device_named
        from device_model.numbers.catalogue import numerics_named
        from sohu.api.running import open_engine

        given = None if weights is None else str(weights)
        choice = (numerics, device, given, tuple(sorted(mesh.items())))
        if self._engine is not None and self._engine[0] == choice:
            return self._engine[1]
        computed = numerics_named(numerics, None if device is None else device_named(device))
        self._engine = None  # its weights go before others come
        engine = open_engine(self.path, self.graph, computed, given, mesh, progress)
        self._engine = choice, engine
        return engine


def written(mesh: str | Mapping[str, int]) -> str:
    """Return a mesh as it is written: `tp=8,ep=2`."""
    if isinstance(mesh, str):
        return mesh
    return ",".join(f"{axis}={size}" for axis, size in mesh.items())


def _manner(
    most: int, sampling: Sampling | None, stop: Sequence[str], logprobs: int | None
) -> Manner:
    """Return how answers are made; raises `ValueError` for what no answer can be."""
    from device_model.sampling.policy import GREEDY
    from sohu.api.answering import Manner

    _positive("max_new_tokens", most)
    if isinstance(stop, str) or not all(stop):
        raise ValueError("stop is a list of texts, and none of them is empty")
    if logprobs is not None and logprobs < 0:
        raise ValueError(f"logprobs is {logprobs}; it is 0 or more")
    return Manner(most, GREEDY if sampling is None else sampling, tuple(stop), logprobs)


def _asked(
    mesh: str | Mapping[str, int], batch: int, seq: int, context: int, numerics: str, logits: str
) -> Asked:
    """Return a question about memory as the commands ask it."""
    from sohu.performance.question import Asked

    _positive("batch", batch)
    _positive("seq", seq)
    return Asked(written(mesh), batch, seq, context, numerics, _logits(logits))


def _logits(name: str) -> Logits:
    from device_model.memory.use import Logits

    return Logits(name)


def _positive(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise ValueError(f"{name} is {value}; it is 1 or more")
