"""Calls of a server's tools, over whatever session its connection has."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Mapping
from typing import Any

import mcp_types as types
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from nanobot.agent.tools.base import ToolOutput, report_output
from nanobot.errors import ToolError
from nanobot.mcp.connection import ServerConnection
from nanobot.mcp.names import MESSAGE_CHARS, printable_text
from nanobot.mcp.results import tool_output
from nanobot.mcp.servers import safe_text
from nanobot.mcp.session import within

_VERDICT = 5.0  # seconds to wait for the reason of a loss


async def call_tool(connection: ServerConnection, tool: str, arguments: Mapping[str, Any]) -> ToolOutput:
    """The result of a tool. A call waits for a connection that is being made; cancelling tells the server.

    Raises ToolError: the call failed, took longer than toolTimeout, or the server is gone.
    """
    seconds = connection.server.tool_timeout
    try:
        return await within(seconds, _call(connection, tool, arguments, may_repeat=True))
    except TimeoutError as error:
        connection.doubt()
        raise ToolError(
            f"MCP server {connection.name} did not answer {tool} within {seconds:g} s "
            f"(tools.mcpServers.{connection.name}.toolTimeout). It was told to stop."
        ) from error


async def _call(
    connection: ServerConnection, tool: str, arguments: Mapping[str, Any], *, may_repeat: bool
) -> ToolOutput:
    live = await connection.live()
    report = contextvars.copy_context()  # progress arrives in a task of the SDK

    async def show(progress: float, total: float | None, message: str | None) -> None:
        of = f"/{total:g}" if total else ""
        text = printable_text(f"{message or tool} ({progress:g}{of})", MESSAGE_CHARS)
        report.run(report_output, f"{text}\n")

    try:
        return tool_output(await live.session.call_tool(tool, dict(arguments), progress_callback=show))
    except MCPError as error:
        gone = live.ended or error.message == "Connection closed"
        if error.code == types.CONNECTION_CLOSED and gone:  # servers use this code for errors, too
            await asyncio.wait([live.over], timeout=_VERDICT)
            why = live.over.result() if live.over.done() else "the connection ended."
            raise ToolError(
                f"MCP server {connection.name} broke off during {tool}, whose outcome is unknown: {why} "
                "It is being reconnected."
            ) from error
        if live.refused and may_repeat:  # it knows no such session, so nothing was done
            live.note_end()
            await asyncio.wait([live.over])
            return await _call(connection, tool, arguments, may_repeat=False)
        live.doubt()
        said = error.message
    except ValidationError:
        said = "it answered with something that is no result"
    except RuntimeError as error:  # it needs input in the middle of a call, which nobody can give
        said = str(error)
    raise ToolError(f"MCP server {connection.name}, {tool}: {safe_text(said, connection.server)}")
