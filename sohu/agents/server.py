# SPDX-License-Identifier: Apache-2.0
"""`sohu mcp`: the tools over the Model Context Protocol, on standard input and output.

Knows the protocol alone. What a tool may be asked is `tools` and `arguments`, how it is run `work`.
"""

from __future__ import annotations

import json
from typing import Any, cast

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from dsl.diagnostics import Refused, did_you_mean, refuse
from sohu.agents.arguments import Place, admitted, schema
from sohu.agents.lines import Lines
from sohu.agents.tools import TOOLS, CommandLine, asked
from sohu.agents.work import Answer, Limits, answer
from sohu.api.version import version

AT_ONCE = 2
INSTRUCTIONS = (
    "Port transformer models to `.sohu` texts that are proven against the original. Begin with `plan`; where no "
    "family claims a model, `nearest`, then `explain` a family and `explain language`, write a text, `check` it, "
    "`port` with `family`. `port` is the gate: read `proof`, which says what is proven and what is not, and report "
    "it as it stands. Every path is in one folder. A refusal is an answer: each diagnostic has a code, which "
    "`explain` explains."
)


class Door:
    """The server's two handlers, for one folder and its limits."""

    def __init__(self, place: Place, limits: Limits) -> None:
        self.place, self.limits = place, limits
        self.slots = anyio.CapacityLimiter(AT_ONCE)

    async def tools(
        self, _context: ServerRequestContext[Any], _params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        """Return every tool with its schema."""
        return types.ListToolsResult(
            tools=[
                types.Tool(
                    name=name,
                    description=tool.about,
                    input_schema=schema(tool.arguments),
                    annotations=types.ToolAnnotations(
                        read_only_hint=not tool.writes,
                        destructive_hint=False,
                        open_world_hint=self.place.hub,
                    ),
                )
                for name, tool in TOOLS.items()
            ]
        )

    async def call(
        self, _context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        """Return a tool's answer; a refusal is one."""
        try:
            command = _command(params, self.place)
        except Refused as refused:
            diagnostics = [d.as_dict() for d in refused.diagnostics]
            return _result(Answer({"verdict": "refused", "diagnostics": diagnostics}, failed=True))
        async with self.slots:
            return _result(await answer(command, self.place, self.limits))


def _command(params: types.CallToolRequestParams, place: Place) -> CommandLine:
    if params.name not in TOOLS:
        help_ = did_you_mean(params.name, TOOLS) or f"there are {', '.join(TOOLS)}"
        raise refuse("S111", f"there is no tool `{params.name[:80]}`", help=help_)
    given = params.arguments or {}
    values = admitted(TOOLS[params.name].arguments, given, place)
    if params.name == "check" and ("path" in values) == ("text" in values):
        raise refuse("S111", "`check` takes a path or a text", place="path")
    return asked(params.name, values)


def _result(given: Answer) -> types.CallToolResult:
    text = json.dumps(given.data, ensure_ascii=False)
    return types.CallToolResult(
        content=[types.TextContent(text=text)],
        structured_content=dict(given.data),
        is_error=given.failed,
    )


def serve(place: Place, limits: Limits) -> None:
    """Serve until the client goes away, or somebody ends the process."""
    anyio.run(_serve, place, limits)


async def _serve(place: Place, limits: Limits) -> None:
    door = Door(place, limits)
    server: Server[dict[str, Any]] = Server(
        "sohu",
        version=version(),
        instructions=INSTRUCTIONS,
        on_list_tools=door.tools,
        on_call_tool=door.call,
    )
    lines = cast("anyio.AsyncFile[str]", Lines())  # what the transport takes of a file: its lines
    async with stdio_server(stdin=lines) as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())
