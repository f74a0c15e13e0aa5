# SPDX-License-Identifier: Apache-2.0
"""Seed sharding mistakes into families and ports of many types, and write what became of them.

`python -m farm sharding`. What a mistake does is `sharding`'s question.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from farm.matrix.markdown import table
from farm.matrix.workers import collected
from farm.mutants.sharding import (
    CAUGHT,
    FAMILY,
    HARMLESS,
    MISSED,
    PORT,
    REFUSED,
    UNCHANGED,
    Seeded,
    seeded,
)
from porting.planning.library import write_text

PAGE = Path("docs") / "sharding-strength.md"
TYPES = (
    "llama",
    "mixtral",
    "deepseek_v3",
    "gemma2",
    "gemma3_text",
    "gpt2",
    "gpt_neox",
    "gpt_oss",
    "olmo2",
    "phi3",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "starcoder2",
    "cohere2",
    "falcon",
    "bloom",
    "opt",
    "granitemoe",
    "llama4_text",
    "bart",
    "stablelm",
    "glm4",
    "dbrx",
    "minimax_m2",
    "smollm3",
)
"""Types whose families differ in how they are split: dense, mixtures, latents, fused weights, biases, two entries."""
IN_PORT = 3
"""Mistakes in a port for each in a family: more of a port's text are branches that it does not take."""
LEAST_REFUSED = 0.99
HOLES = ("batch split on another axis", "layers split on another axis")
"""Kinds that no lockstep of this package can see, because the program has another batch or other stages."""
INTRODUCTION = (
    "Mistakes in how programs are split over chips: mesh axes of types, of the batch and of layers, and collectives; "
    "every fifth is a pair. They are seeded into families, which the checker sees with free symbols, and into ports "
    "of their tiny oracles. One that leaves the graph of the tiny config as it is, in a branch that it does not take, "
    "and one that makes another right program are no bugs. A bug is *refused* by the checker, or *caught* in lockstep: "
    "the bits of one chip or of a mesh are not those of the right program, or no mesh can be planned. It is *missed* "
    "where all bits are right and yet a mesh that takes the program at its word, where collectives alone exchange "
    "anything, gives something else. *Right* ones passed that too."
)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many mistakes of a kind ended how."""

    refused: int
    caught: int
    missed: int
    harmless: int
    unchanged: int

    @property
    def bugs(self) -> int:
        """Return how many were bugs."""
        return self.refused + self.caught + self.missed


def counts(some: Sequence[Seeded]) -> Counts:
    """Return how mistakes ended."""
    ended = Counter(each.verdict for each in some)
    return Counts(*(ended[verdict] for verdict in (REFUSED, CAUGHT, MISSED, HARMLESS, UNCHANGED)))


def run_sharding(
    types: Sequence[str], each: int, pairs: int, jobs: int, told: Callable[[str, int, int], None]
) -> tuple[list[Seeded], dict[str, str]]:
    """Return what became of so many mistakes in the family and in the port of every type, and the types that broke."""
    made, broken = collected(partial(_seeded, each, pairs), types, jobs, told)
    return [one for several in made.values() for one in several], broken


def _seeded(each: int, pairs: int, model_type: str) -> tuple[Seeded, ...]:
    return tuple(seeded(model_type, each, IN_PORT * each, pairs))


def sharding_faults(made: Sequence[Seeded]) -> list[str]:
    """Return the bugs that nothing noticed, and the holes of the checker that only lockstep noticed."""
    return [
        f"{each.model_type} {each.subject}: {each.verdict}: {' + '.join(each.kinds)}: {each.what}: {each.told}"
        for each in made
        if each.verdict == MISSED or (each.verdict == CAUGHT and each.kinds[0] in HOLES)
    ]


def share_refused(made: Sequence[Seeded]) -> float:
    """Return the share of the bugs that the checker refuses."""
    ended = counts(made)
    return ended.refused / ended.bugs if ended.bugs else 1.0


def write_sharding(made: Sequence[Seeded], broken: Mapping[str, str], page: Path) -> None:
    """Write the page."""
    write_text(page, sharding_markdown(made, broken))


def sharding_markdown(made: Sequence[Seeded], broken: Mapping[str, str]) -> str:
    """Return the page."""
    kinds = dict.fromkeys(each.kinds[0] for each in made if len(each.kinds) == 1)
    rows = [(kind, [e for e in made if e.kinds == (kind,)]) for kind in kinds]
    rows.append(("two at once", [e for e in made if len(e.kinds) > 1]))
    subjects = [
        (name, [e for e in made if e.subject == kind])
        for name, kind in (("families, free symbols", FAMILY), ("ports", PORT))
    ]
    heads = ("mistake", "bugs", "refused", "caught", "missed", "right", "unchanged")
    codes = Counter(code for e in made if e.verdict == REFUSED for code in e.told.split())
    parts = [
        "# Which sharding mistakes are noticed",
        f"{INTRODUCTION}\n\n```\n$ python -m farm sharding\n```",
        sharding_summary(made),
        table(heads, [_row(name, some) for name, some in (*rows, *subjects)], left=1),
        "## By code",
        "Mistakes that each code refuses; several codes may refuse one.",
        table(("code", "mistakes"), [(code, str(n)) for code, n in codes.most_common()], left=1),
    ]
    late = [e for e in made if e.verdict in (CAUGHT, MISSED)]
    if late:
        rest = [(e.model_type, e.subject, e.verdict, _short(e.what), _short(e.told)) for e in late]
        parts += ["## Not refused", table(("type", "in", "", "what", "told by"), rest, left=5)]
    if broken:
        parts += ["## Broken", table(("type", "what"), sorted(broken.items()), left=2)]
    return "\n\n".join(parts) + "\n"


def sharding_summary(made: Sequence[Seeded]) -> str:
    """Return how many mistakes ended how, in a sentence."""
    ended = counts(made)
    families = len({e.model_type for e in made if e.subject == FAMILY})
    ports = len({e.model_type for e in made if e.subject == PORT})
    return (
        f"{len(made)} mistakes in {families} families and {ports} ports make {ended.bugs} bugs: {ended.refused} are "
        f"refused ({share_refused(made):.2%}), {ended.caught} caught in lockstep, {ended.missed} missed; "
        f"{ended.harmless} make another right program, {ended.unchanged} change nothing."
    )


def _row(name: str, some: Sequence[Seeded]) -> tuple[str, ...]:
    ended = counts(some)
    numbers = (ended.bugs, ended.refused, ended.caught, ended.missed)
    return (name, *map(str, (*numbers, ended.harmless, ended.unchanged)))


def _short(text: str) -> str:
    flat = " ".join(text.split()).replace("|", "\\|")
    return flat if len(flat) <= 160 else f"{flat[:159]}…"
