# SPDX-License-Identifier: Apache-2.0
"""The explained codes about collectives as programs: topologies, schedules, what is wrong with them."""

from __future__ import annotations

from dsl.code import Code

COLLECTIVE_CODES: dict[str, Code] = {
    "S620": Code(
        "Not a schedule",
        "A text of topologies and collectives has a form of its own, which `sohu collective template` writes: "
        "`topology`, then `collective` with its steps, and in them sends like `0 -> 1: c3` or `0 -> 1: c3 add`.",
    ),
    "S621": Code(
        "A topology that cannot be",
        "Its sizes do not go together, it is larger than what is followed here, or its name is unknown or given twice.",
    ),
    "S622": Code(
        "A send that its collective does not know",
        "The chip or the chunk is not there, or something is added where nothing is summed, or in a switch that does "
        "not tell the order in which it adds.",
    ),
    "S623": Code(
        "No such link",
        "A send goes over one link, or through switches alone. To go by way of another chip takes a send to that chip, "
        "and in a later step one from it.",
    ),
    "S624": Code(
        "Sent before it is there",
        "The sends of a step take what was there before the step. What arrives in a step can be sent on in the next.",
    ),
    "S625": Code(
        "Arrives twice",
        "What is sent is at its target already, or comes from two sides in one step. One of the two is to be left out.",
    ),
    "S626": Code(
        "Incomplete",
        "At the end a chip lacks something that the operation promises: a chunk, or the parts of some ranks in a sum.",
    ),
    "S627": Code(
        "Not the declared sum",
        "Sums of floats depend on their order, so one order is declared for every mesh: a tree that halves the ranks. "
        "What comes together at one place in one step is added as the tree says; else each addition has to be one of "
        "the tree's. No part may be added twice.",
    ),
    "S628": Code(
        "Too large to follow",
        "A schedule is proven by following every chunk on every chip, which takes room. Larger chunks are as good.",
    ),
    "S629": Code(
        "No such schedule",
        "A template makes schedules of some operations on some topologies, and in the declared order only where its "
        "additions are those of the declared tree.",
    ),
    "S630": Code(
        "No schedule is searched for",
        "A search needs a collective, a buffer, a way from each chip to each, and no more chips than can be followed.",
    ),
}
