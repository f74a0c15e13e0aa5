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
    "S642": Code(
        "A link is down",
        "What was sent over it did not arrive in one piece, however often it was sent again.",
    ),
    "S643": Code(
        "A node is silent",
        "Nothing was heard of it for two heartbeats, or its connection ended. The ranks it had are named.",
    ),
    "S644": Code(
        "Not a message",
        "The bytes are no message between chips, or say of themselves what cannot be.",
    ),
    "S645": Code(
        "Nodes do not run the same thing",
        "Before the first step nodes compare digests of graph, weights, mesh, numerics and kernels. The message names "
        "what differs, and on which node.",
    ),
    "S646": Code(
        "A chip failed",
        "A chip ended in an error of its own, so that the others waited in vain; its node shows that error.",
    ),
    "S647": Code(
        "No cluster there",
        "There is no Ray cluster at the address, or none can be started here. Without --address one is started on this "
        "machine, for as long as the command runs.",
    ),
    "S648": Code(
        "Nodes that a mesh does not fit",
        "The nodes have too few chips for the mesh, or what is asked of them makes no sense: --nodes needs --mesh, "
        "at most as many nodes as chips, and a mesh without copies of the model.",
    ),
}
