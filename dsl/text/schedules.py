# SPDX-License-Identifier: Apache-2.0
"""Texts of topologies and collectives: read, and laid out again, comments kept.

They are `.sohu` texts with a form of their own, read in one pass without the grammar's parser, which would take minutes
for the sends of some hundred chips. What the numbers mean, and whether a schedule is right, is not decided here.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

from dsl.diagnostics import Diagnostic, Refused, did_you_mean
from dsl.source import Source, Span

MAX_SCHEDULE = 32_000_000
"""Characters of a schedule: about two million sends."""
WIDTH = 100
_VERSION = "1.0"
_BEGINS = re.compile(r"(?:\s|#[^\n]*\n)*sohu\s+[\d.]+(?:\s|#[^\n]*\n)*(?:topology|collective)\b")
_TOKEN = re.compile(
    r"(?P<send>(s?)(\d{1,9})\s*->\s*(s?)(\d{1,9})\s*:\s*c(\d{1,9})(\s+add)?\b)"
    r"|(?P<word>[A-Za-z_]\w*(?:/s)?)|(?P<number>\d{1,18}(?:\.\d{1,18})?(?:[eE][+-]?\d{1,3})?\b)"
    r"|(?P<sign>->|[{}:;,])|(?P<comment>#[^\n]*)|(?P<space>\s+)|(?P<other>[^\s{}:;,#]+|.)",
    re.ASCII,
)
_SEND = re.compile(
    r"\s*(?:(s?)(\d{1,9})\s*->\s*(s?)(\d{1,9})\s*:\s*c(\d{1,9})(\s+add)?\s*)?\Z", re.ASCII
)
SHAPES = ("ring", "torus", "mesh", "full", "switch", "nodes", "chips")
RATES = {"GB/s": 1e9, "MB/s": 1e6, "kB/s": 1e3, "B/s": 1.0}
TIMES = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


class Token(NamedTuple):
    """A piece of the text; of a send, `match` has the parts."""

    kind: str
    text: str
    start: int
    match: re.Match[str]


class WireSyntax(NamedTuple):
    """Bytes/s and seconds of a link."""

    capacity: float
    latency: float


@dataclass(slots=True)
class TopologySyntax:
    """A topology as it is written; `links` are those written one by one, a switch `s0` being -1, `s1` -2."""

    name: str
    span: Span
    shape: str = ""
    sizes: tuple[int, ...] = ()
    switches: int = 0
    link: WireSyntax | None = None
    network: WireSyntax | None = None
    nics: int = 0
    reduces: str = ""
    links: list[tuple[int, int, WireSyntax]] = field(default_factory=list)


@dataclass(slots=True)
class CollectiveSyntax:
    """A collective as it is written, with flat tables for its sends: ends as above, chunk, `add`; and their places."""

    operation: str
    topology: str
    chunks: int
    exact: bool
    span: Span
    begins: array[int] = field(default_factory=lambda: array("q", [0]))
    sends: array[int] = field(default_factory=lambda: array("q"))
    places: array[int] = field(default_factory=lambda: array("q"))


@dataclass(slots=True)
class PrintedLines:
    """Lines as they are to be printed: statements, and sends as many as go on one."""

    lines: list[str] = field(default_factory=list)
    open: bool = False

    def line(self, depth: int, text: str) -> None:
        """Add a line."""
        self.lines.append("  " * depth + text)
        self.open = False

    def send(self, depth: int, text: str) -> None:
        """Add a send to the line if there is room, else to the next."""
        if self.open and len(self.lines[-1]) + len(text) + 2 <= WIDTH:
            self.lines[-1] += f"; {text}"
        else:
            self.line(depth, text)
        self.open = True

    def comment(self, depth: int, text: str, trailing: bool) -> None:
        """Add a comment behind the last line, or on its own."""
        if trailing and self.lines and not self.lines[-1].lstrip().startswith("#"):
            self.lines[-1] += f"  {text}"
            self.open = False
        else:
            self.line(depth, text)

    def gap(self) -> None:
        """Leave a line free before what follows, unless one is."""
        if self.lines and self.lines[-1]:
            self.line(0, "")

    def text(self) -> str:
        """Return the text."""
        return "\n".join(self.lines).rstrip("\n") + "\n"


@dataclass(slots=True)
class ScheduleFile:
    """What a text declares, and its canonical layout."""

    source: Source
    topologies: list[TopologySyntax] = field(default_factory=list)
    collectives: list[CollectiveSyntax] = field(default_factory=list)
    layout: PrintedLines = field(default_factory=PrintedLines)


def is_schedule(text: str) -> bool:
    """Tell whether a text begins as one of topologies and collectives."""
    return _BEGINS.match(text) is not None


def read_schedule(source: Source, lay_out: bool = False) -> ScheduleFile:
    """Return what a text declares, and its layout if asked for.

    Raises `Refused` at the first place that does not fit (S620), or where there is too much (S106).
    """
    if len(source.text) > MAX_SCHEDULE:
        message = f"the file is too large: {len(source.text):,} characters of {MAX_SCHEDULE:,}"
        raise Refused((Diagnostic("S106", message, place=source.name),))
    return _Reader(source, lay_out).file()


def format_schedule(source: Source) -> str:
    """Return a text in the canonical layout."""
    return read_schedule(source, lay_out=True).layout.text()


class _Reader:
    """One pass over the tokens; every statement is laid out when it has been read."""

    def __init__(self, source: Source, lay_out: bool) -> None:
        self.source = source
        self.lay_out = lay_out
        self.tokens = _TOKEN.finditer(source.text)
        self.ahead: Token | None = None
        self.result = ScheduleFile(source)
        self.depth = 0
        self.broken = True
        self._step()

    def file(self) -> ScheduleFile:
        """Read the whole text."""
        layout = self.result.layout
        self._word("sohu")
        version = self._take("number", "a version such as `1.0`")
        if version.text != _VERSION:
            self._refuse(version, f"version {_VERSION}")
        layout.line(0, f"sohu {_VERSION}")
        self._behind()
        while self.ahead:
            word = self._take("word", "`topology` or `collective`")
            if word.text == "topology":
                self.result.topologies.append(self._topology())
            elif word.text == "collective":
                self.result.collectives.append(self._collective())
            else:
                self._refuse(word, "`topology` or `collective`", ("topology", "collective"))
        if not (self.result.topologies or self.result.collectives):
            self._refuse(None, "`topology` or `collective`")
        return self.result

    # Tokens. Comments are laid out where they stand: behind a statement, or before the one that follows.

    def _step(self) -> None:
        """Go to the next token that is no space; note whether it is on another line than the one before."""
        self.broken = False
        for match in self.tokens:
            kind = match.lastgroup or "other"
            text = match[0]
            if kind == "space":
                self.broken |= "\n" in text
                continue
            if kind == "comment":
                trailing = not self.broken and bool(self.result.layout.lines)
                self.result.layout.comment(self.depth, text.rstrip(), trailing)
                continue
            self.ahead = Token(kind, text, match.start(), match)
            return
        self.ahead = None

    def _behind(self) -> None:
        """Leave a line before the next declaration."""
        self.result.layout.gap()

    def _refuse(self, token: Token | None, wanted: str, known: tuple[str, ...] = ()) -> NoReturn:
        at = token.start if token else len(self.source.text)
        shown = f"`{token.text[:40]}`" if token else "the end of the file"
        span = Span(self.source, at, at + (len(token.text) if token else 0))
        help_ = did_you_mean(token.text, known) if token else ""
        raise Refused((Diagnostic("S620", f"expected {wanted}, found {shown}", span, help=help_),))

    def _take(self, kind: str, wanted: str) -> Token:
        token = self.ahead
        if token is None or token.kind != kind:
            self._refuse(token, wanted)
        self._step()
        return token

    def _word(self, *words: str) -> str:
        token = self.ahead
        wanted = " or ".join(f"`{word}`" for word in words)
        if token is None or token.kind != "word" or token.text not in words:
            self._refuse(token, wanted, words)
        self._step()
        return token.text

    def _sign(self, sign: str, step: bool = True) -> None:
        token = self.ahead
        if token is None or token.text != sign:
            self._refuse(token, f"`{sign}`")
        if step:
            self._step()

    def _is(self, text: str) -> bool:
        return self.ahead is not None and self.ahead.text == text

    def _whole(self) -> int:
        token = self._take("number", "a whole number")
        if not token.text.isdigit() or len(token.text) > 9:
            self._refuse(token, "a whole number of at most nine digits")
        return int(token.text)

    def _open(self, head: str) -> None:
        """Lay out the head of a block, then go inside."""
        self.result.layout.line(self.depth, f"{head} {{")
        self.depth += 1
        self._sign("{")

    def _close(self) -> None:
        self.depth -= 1
        self.result.layout.line(self.depth, "}")
        self._sign("}")

    # Topologies.

    def _topology(self) -> TopologySyntax:
        name = self._take("word", "a name")
        self._behind()
        result = TopologySyntax(
            name.text, Span(self.source, name.start, name.start + len(name.text))
        )
        self._open(f"topology {name.text}")
        while not self._is("}"):
            self._statement(result)
        self._close()
        return result

    def _statement(self, result: TopologySyntax) -> None:
        """Read one statement of a topology; each but single links may stand there once."""
        token = self.ahead
        if token is None:
            self._refuse(token, "`}`")
        if token.kind == "number" or re.fullmatch(r"s\d{1,9}", token.text):
            self._link(result)
            return
        key = self._word(*SHAPES, "switches", "link", "network", "nics", "reduces")
        taken = {
            **dict.fromkeys(SHAPES, bool(result.shape)),
            "switches": bool(result.switches),
            "link": result.link is not None,
            "network": result.network is not None,
            "nics": bool(result.nics),
            "reduces": bool(result.reduces),
        }
        if taken[key]:
            self._refuse(token, "one shape, and nothing else twice")
        if key in SHAPES:
            result.shape, result.sizes = key, self._sizes()
            said = f"{key} {' x '.join(map(str, result.sizes))}"
        elif key in ("link", "network"):
            wire, said = self._wire()
            setattr(result, key, wire)
            said = f"{key} {said}"
        elif key == "reduces":
            result.reduces = self._word("tree", "any")
            said = f"{key} {result.reduces}"
        else:
            setattr(result, key, self._whole())
            said = f"{key} {getattr(result, key)}"
        self._end(said)

    def _end(self, said: str) -> None:
        """Lay out a statement, and pass what may separate it from the next."""
        layout = self.result.layout
        layout.line(self.depth, said)
        if self._is(";"):
            self._step()

    def _sizes(self) -> tuple[int, ...]:
        sizes = [self._whole()]
        while self._is("x"):
            self._step()
            sizes.append(self._whole())
        return tuple(sizes)

    def _wire(self) -> tuple[WireSyntax, str]:
        rate = self._take("number", "a number")
        unit = self._word(*RATES)
        self._sign(",")
        time = self._take("number", "a number")
        second = self._word(*TIMES)
        wire = WireSyntax(float(rate.text) * RATES[unit], float(time.text) * TIMES[second])
        return wire, f"{rate.text} {unit}, {time.text} {second}"

    def _node(self) -> tuple[int, str]:
        token = self.ahead
        if token and re.fullmatch(r"s\d{1,9}", token.text):
            self._step()
            return -1 - int(token.text[1:]), f"s{int(token.text[1:])}"
        number = self._whole()
        return number, str(number)

    def _link(self, result: TopologySyntax) -> None:
        source, from_ = self._node()
        self._sign("->")
        target, to = self._node()
        self._sign(":")
        wire, said = self._wire()
        result.links.append((source, target, wire))
        self._end(f"{from_} -> {to}: {said}")

    # Collectives.

    def _collective(self) -> CollectiveSyntax:
        operation = self._take("word", "an operation")
        self._word("over")
        topology = self._take("word", "the name of a topology")
        self._word("chunks")
        chunks = self._whole()
        exact = self._is("exact")
        if exact:
            self._step()
        self._behind()
        span = Span(self.source, operation.start, topology.start + len(topology.text))
        result = CollectiveSyntax(operation.text, topology.text, chunks, exact, span)
        head = f"collective {operation.text} over {topology.text} chunks {chunks}"
        self._open(head + " exact" * exact)
        while not self._is("}"):
            self._word("step")
            self._open("step")
            self._sends(result)
            self._close()
            result.begins.append(len(result.sends) // 4)
        self._close()
        return result

    def _sends(self, result: CollectiveSyntax) -> None:
        """Read the sends of a step, which has one at least."""
        if self._plain_sends(result):
            return
        layout = self.result.layout
        first = True
        while first or not self._is("}"):
            token = self.ahead
            if token is None or token.kind != "send":
                self._refuse(token, "a send like `0 -> 1: c3` or `0 -> 1: c3 add`")
            parts = token.match.groups()[1:7]
            one, two, chunk = _note(result, parts, token.start, token.start + len(token.text))
            add = " add" if parts[5] else ""
            layout.send(self.depth, f"{parts[0]}{one} -> {parts[2]}{two}: c{chunk}{add}")
            self._step()
            first = False
            # A separator may be left out at the end of a line, and of the step.
            parted = self.broken or self._is("}")
            while self._is(";"):
                parted = True
                self._step()
            if not parted:
                self._refuse(self.ahead, "`;`")

    def _plain_sends(self, result: CollectiveSyntax) -> bool:
        """Read a step of nothing but sends many times faster; return whether it is one, else nothing is read."""
        if self.ahead is None or self.ahead.kind != "send" or self.lay_out:
            return False
        start = self.ahead.start
        end = self.source.text.find("}", start)
        parts = self.source.text[start:end].replace("\n", ";").split(";") if end > start else []
        matches = [_SEND.match(part) for part in parts]
        if not matches or None in matches:
            return False
        at = start
        for match in matches:
            if match and match[2]:
                _note(
                    result,
                    match.groups(),
                    at + match.start(1),
                    at + match.end(6 if match[6] else 5),
                )
            at += len(match.string) + 1 if match else 0
        self.tokens = _TOKEN.finditer(self.source.text, end)
        self._step()
        return True


def _note(
    result: CollectiveSyntax, parts: tuple[str | None, ...], start: int, end: int
) -> tuple[int, int, int]:
    """Add a send of some parts, and its place, to a collective; return its ends and chunk."""
    from_switch, source, to_switch, target, chunk, add = parts
    one, two, what = int(source or 0), int(target or 0), int(chunk or 0)
    result.sends.extend(
        (-1 - one if from_switch else one, -1 - two if to_switch else two, what, 1 if add else 0)
    )
    result.places.extend((start, end))
    return one, two, what
