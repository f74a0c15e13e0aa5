# SPDX-License-Identifier: Apache-2.0
"""A conversation with a port: what was said, in the model's own template, and the states of what is said again.

Reads and prints nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import takewhile

from device_model.mesh.opening import AnyEngine
from porting.text.tokenizer import TextCodec
from sohu.api.answering import Answer, Answering, Manner
from sohu.api.running import Places

SHORTER = "reset the conversation (/reset), or say less"


class Chat:
    """A conversation: each message is answered in view of those before it.

    `said` are the messages, each a role and a text; one that is refused is not among them. `answer` is the last answer
    with its tokens and why it ended; who stops iterating leaves it as far as it came. A turn computes what the session
    has not: `known` tokens of the last prompt began as the turn before did, up to where the model's states could go
    back.
    """

    def __init__(
        self, engine: AnyEngine, codec: TextCodec, places: Places, manner: Manner,
        system: str | None,
    ) -> None:  # fmt: skip
        self.said: list[tuple[str, str]] = []
        self.answer: Answer | None = None
        self.known = 0
        self.system = system
        self._codec, self._places, self._manner = codec, places, manner
        self._session = engine.session(1)
        self._tokens: tuple[int, ...] = ()  # those that the session has for certain
        self._answering: Generator[str, None, None] | None = None

    def reset(self) -> None:
        """Forget what was said; the system message stays."""
        self._end_answer()
        self.said = []

    def begin(self, system: str | None) -> None:
        """Forget what was said, and go on with another system message, or none; raises `Refused` (S542) for no use."""
        if system is not None:
            self._codec.encode_messages([("system", system), ("user", "?")])
        self.system = system
        self.reset()

    def say(self, text: str) -> Iterator[str]:
        """Return the answer to a message, piece by piece; raises `Refused` at the call for what cannot be said."""
        said = [*self.said, ("user", text)]
        before = [] if self.system is None else [("system", self.system)]
        ids = self._codec.encode_messages([*before, *said])
        checked = self._places.checked(ids, self._codec, SHORTER)
        self._end_answer()
        self._answering = self._answered(said, checked)
        return self._answering

    def _end_answer(self) -> None:
        """Leave an answer that nobody has iterated to its end: there is one session."""
        if self._answering is not None:
            self._answering.close()

    def _answered(
        self, said: list[tuple[str, str]], ids: tuple[int, ...]
    ) -> Generator[str, None, None]:
        self.known = self._go_back(ids)
        longest = self._places.longest
        made = Answering(self._session, self._codec, [ids], self._manner, longest, self.known)
        self.answer = made.answers[0]
        for _, piece in made:
            self._keep(said, self.answer)
            yield piece
            self._tokens = ()  # a step that fails leaves nothing that can be relied on
        self._keep(said, self.answer)

    def _keep(self, said: list[tuple[str, str]], answer: Answer) -> None:
        """Keep what is answered and computed; the last token was chosen, and is not computed yet."""
        self.said = [*said, ("assistant", answer.text)]
        self._tokens = (*answer.prompt, *answer.ids)[: self._session.lengths[0]]

    def _go_back(self, ids: tuple[int, ...]) -> int:
        """Let the session have the tokens that it shares with a prompt's beginning, but for the prompt's last one."""
        pairs = zip(self._tokens, ids[:-1], strict=False)
        alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        self._tokens = ()
        return self._session.rewind(0, alike)
