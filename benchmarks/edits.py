# SPDX-License-Identifier: Apache-2.0
"""How many seeded edits of the zoo's texts the checker catches: `python -m benchmarks.edits [EACH] [SEED]`.

Prints a row for each kind of edit, then the survivors of the kinds that change a type, and what points elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.seeded_edits import KINDS, TYPED, Outcome, edits, outcome

EACH, SEED = 40, 7


def main(arguments: Sequence[str]) -> None:
    """Make the edits, check them, print."""
    each = int(arguments[0]) if arguments else EACH
    seed = int(arguments[1]) if len(arguments) > 1 else SEED
    outcomes = [outcome(edit) for edit in edits(seed, each)]
    print(f"{len(outcomes)} edits, seed {seed}")
    print(f"{'kind':<30}{'edits':>7}{'generic':>9}{'bound':>7}{'caught':>8}{'at line':>9}")
    for kind in KINDS:
        _row(kind, [o for o in outcomes if o.edit.kind == kind])
    _row("all that change a type", [o for o in outcomes if o.edit.kind in TYPED])
    _row("all", outcomes)
    for o in outcomes:
        if o.edit.kind in TYPED and not o.caught:
            print(f"survives: {_place(o)}")
    for o in outcomes:
        if o.caught and not o.pointed and o.first is not None:
            print(f"elsewhere: {_place(o)}: {o.first.code} {o.first.message}")


def _row(name: str, some: Sequence[Outcome]) -> None:
    caught = [o for o in some if o.caught]
    print(
        f"{name:<30}{len(some):>7}{sum(o.generic for o in some):>9}{sum(o.bound for o in some):>7}"
        f"{len(caught):>8}{sum(o.pointed for o in caught):>9}"
    )


def _place(o: Outcome) -> str:
    lines = ", ".join(str(n + 1) for n in sorted(o.edit.lines))
    return f"{o.edit.file}:{lines} {o.edit.kind} ({o.edit.what})"


if __name__ == "__main__":
    main(sys.argv[1:])
