# SPDX-License-Identifier: Apache-2.0
"""Answers of a model to rows of tokens, made together: a token of each at a time, and text as it becomes known.

What is chosen is decided by `device_model.sampling`. Templates, weights and what is printed are elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from time import perf_counter
from typing import Any

import numpy as np

from device_model.sampling.choosing import choose
from device_model.sampling.likelihood import likeliest, logprobs
from device_model.sampling.policy import GREEDY, Sampling
from porting.text.stops import Stops
from porting.text.tokenizer import TextCodec, TextStream
from sohu.api.running import Steps


class End(StrEnum):
    """Why an answer ended: its last token, a stop text, as many tokens as were asked for, no position for more."""

    TOKEN = "token"  # noqa: S105 - of text
    TEXT = "text"
    LENGTH = "length"
    POSITIONS = "positions"

    @property
    def is_cut(self) -> bool:
        """Tell whether the model would have gone on."""
        return self in (End.LENGTH, End.POSITIONS)


@dataclass(frozen=True, slots=True)
class Manner:
    """How answers are made: `most` tokens each, up to one of the `stop` texts.

    `logprobs` is how many of the likeliest tokens are told of beside each chosen one, None for nothing at all.
    """

    most: int = 64
    sampling: Sampling = GREEDY
    stop: tuple[str, ...] = ()
    logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class Likelihood:
    """A token, as the vocabulary writes it, and the natural logarithm of its probability."""

    id: int
    token: str
    logprob: float

    def as_dict(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return {"id": self.id, "token": self.token, "logprob": self.logprob}


@dataclass(slots=True)
class Answer:
    """An answer as far as it is made: its tokens without the one that ends it, its text without what stopped it.

    `prompt` are the ids that it answers; `stop` is the text that ended it. `likelihoods` has, of each token, it and the
    likeliest ones at its place, where they were asked for. `end` is None as long as it goes on.
    """

    prompt: tuple[int, ...]
    ids: list[int] = field(default_factory=list)
    text: str = ""
    end: End | None = None
    stop: str | None = None
    likelihoods: list[tuple[Likelihood, ...]] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """Return it as JSON has it."""
        data: dict[str, object] = {"text": self.text, "end": self.end, "stop": self.stop}
        data |= {"prompt_ids": list(self.prompt), "ids": self.ids}
        if self.likelihoods:
            rows = [(one.as_dict(), [x.as_dict() for x in top]) for one, *top in self.likelihoods]
            data["logprobs"] = [{**one, "likeliest": top} for one, top in rows]
        return data


@dataclass(slots=True)
class Pace:
    """Seconds to the first token and to the last one; `later` tokens came after the first step."""

    first: float = 0.0
    last: float = 0.0
    later: int = 0

    @property
    def tokens_per_second(self) -> float | None:
        """Return the tokens a second after the first step, of all answers together; None where there were none."""
        return self.later / (self.last - self.first) if self.last > self.first else None


class Answering:
    """The answers to some prompts: iterating makes them, and yields the row and the text of each piece.

    `answers` has them as far as they are made, `pace` how fast that was. A prompt's first `known` tokens are those that
    the session has already; `longest` is how many tokens a sequence may have.
    """

    def __init__(
        self, session: Steps, codec: TextCodec, prompts: Sequence[Sequence[int]], manner: Manner,
        longest: int | None = None, known: int = 0,
    ) -> None:  # fmt: skip
        self.answers = tuple(Answer(tuple(map(int, ids))) for ids in prompts)
        self.pace = Pace()
        self._session, self._codec, self._manner = session, codec, manner
        self._longest, self._known = longest, known
        self._streams = [TextStream(codec) for _ in self.answers]
        self._stops = [Stops(manner.stop) for _ in self.answers]
        self._pieces = self._made()

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Return the rows and pieces of text that are still to come."""
        return self._pieces

    def _made(self) -> Iterator[tuple[int, str]]:
        rows = [answer.prompt[self._known :] for answer in self.answers]
        start = perf_counter()
        while any(rows):
            logits = self._session.step([np.asarray(row, np.int64) for row in rows], "last")
            asked = [row for row, given in enumerate(rows) if given]
            for row in asked:
                self._choose(row, logits[row][-1])
            self._count(len(asked), perf_counter() - start)
            pieces = [(row, self._piece(row)) for row in asked]
            rows = [() if answer.end else (answer.ids[-1],) for answer in self.answers]
            yield from ((row, piece) for row, piece in pieces if piece)

    def _count(self, tokens: int, seconds: float) -> None:
        if self.pace.last:
            self.pace.later += tokens
        else:
            self.pace.first = seconds
        self.pace.last = seconds

    def _choose(self, row: int, logits: Any) -> None:
        """Choose a row's next token, and end its answer where that is the last one."""
        answer = self.answers[row]
        position = len(answer.prompt) + len(answer.ids)
        token = choose(logits, self._manner.sampling, position)
        if token in self._codec.stop_ids:
            answer.end = End.TOKEN
            return
        answer.ids.append(token)
        if self._manner.logprobs is not None:
            answer.likelihoods.append(self._likelihoods(logits, token, self._manner.logprobs))
        if len(answer.ids) == self._manner.most:
            answer.end = End.LENGTH
        elif position == self._longest:
            answer.end = End.POSITIONS

    def _piece(self, row: int) -> str:
        """Return what a row's last token adds to its text, and all that was held back where that is the end."""
        answer, stream, stops = self.answers[row], self._streams[row], self._stops[row]
        piece = "" if answer.end is End.TOKEN else stops.take(stream.take(answer.ids[-1]))
        if answer.end is not None:
            piece += stops.take(stream.rest()) + stops.rest()
        if stops.reached is not None:
            answer.end, answer.stop = End.TEXT, stops.reached
        answer.text += piece
        return piece

    def _likelihoods(self, logits: Any, token: int, count: int) -> tuple[Likelihood, ...]:
        """Return the chosen token's likelihood, and those of the likeliest ones that are not excluded."""
        row = logprobs(logits)
        ids = [int(i) for i in likeliest(row, count) if np.isfinite(row[i])]
        return tuple(
            Likelihood(i, self._codec.token(i) or "", float(row[i])) for i in (token, *ids)
        )
