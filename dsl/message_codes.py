# SPDX-License-Identifier: Apache-2.0
"""The explained codes about chips that exchange arrays: messages, links, nodes."""

from __future__ import annotations

from dsl.code import Code

MESSAGE_CODES: dict[str, Code] = {
    "S640": Code(
        "Chips are out of step",
        "Two chips met in exchanges that are not the same one: another operation, group, type or shape. Each side's "
        "place in the text is named. Chips of one graph, mesh and numerics cannot do this, so one of them runs another "
        "program.",
    ),
    "S641": Code(
        "A chip does not come to an exchange",
        "The time that the others wait for it is over. The message says where the missing chip was last; its node is "
        "alive, else that would be said. A node that is slow for a reason needs more patience.",
    ),
    "S646": Code(
        "A chip failed",
        "A chip ended in an error of its own, so that the others waited in vain; its node shows that error.",
    ),
}
