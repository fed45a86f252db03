"""Calls of a server's tools, over whatever session its connection has."""

from __future__ import annotations

import asyncio
import contextlib
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
from nanobot.mcp.session import LiveSession, within

_VERDICT = 5.0  # seconds to wait for the reason of a loss


class _SessionGone(Exception):
    """The server does not know our session any more (it was restarted)."""


async def call_tool(connection: ServerConnection, tool: str, arguments: Mapping[str, Any]) -> ToolOutput:
    """The result of a tool. A call waits for a connection that is being made; cancelling tells the server.

    Raises ToolError: the call failed, took longer than toolTimeout, or the server is gone.
    """
    seconds = connection.server.tool_timeout
    try:
        return await within(seconds, _call_twice(connection, tool, arguments), connection.given_up)
    except TimeoutError as error:
        connection.doubt()
        raise ToolError(
            f"MCP server {connection.name} did not answer {tool} within {seconds:g} s "
            f"(tools.mcpServers.{connection.name}.toolTimeout). It was told to stop."
        ) from error
    except _SessionGone as error:
        raise _failure(connection, tool, str(error)) from error


async def _call_twice(connection: ServerConnection, tool: str, arguments: Mapping[str, Any]) -> ToolOutput:
    live = await connection.live()
    try:
        return await _call_once(connection, live, tool, arguments)
    except _SessionGone:  # refused before anything was done, so a second try repeats nothing
        live.note_end()
        await live.over.wait()
        return await _call_once(connection, await connection.live(), tool, arguments)


async def _call_once(
    connection: ServerConnection, live: LiveSession, tool: str, arguments: Mapping[str, Any]
) -> ToolOutput:
    report = contextvars.copy_context()  # progress arrives in a task of the SDK

    async def show(progress: float, total: float | None, message: str | None) -> None:
        of = f"/{total:g}" if total else ""
        text = printable_text(f"{message or tool} ({progress:g}{of})", MESSAGE_CHARS)
        report.run(report_output, f"{text}\n")

    try:
        return tool_output(await live.session.call_tool(tool, dict(arguments), progress_callback=show))
    except MCPError as error:
        raise await _explain(connection, live, tool, error) from error
    except ValidationError as error:
        said = f"answered {tool} with something that is no result."
        raise ToolError(f"MCP server {connection.name} {said}") from error
    except RuntimeError as error:  # it needs input in the middle of a call, which nobody can give
        raise _failure(connection, tool, str(error)) from error


async def _explain(
    connection: ServerConnection, live: LiveSession, tool: str, error: MCPError
) -> ToolError | _SessionGone:
    gone = live.ended or error.message == "Connection closed"
    if error.code == types.CONNECTION_CLOSED and gone:  # servers use this code for errors, too
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_VERDICT):
                await live.over.wait()
        return ToolError(
            f"MCP server {connection.name} broke off during {tool}, whose outcome is unknown: "
            f"{live.reason or 'the connection ended'} It is being reconnected."
        )
    if live.refused:
        return _SessionGone(error.message)
    live.doubt()
    return _failure(connection, tool, error.message)


def _failure(connection: ServerConnection, tool: str, said: str) -> ToolError:
    return ToolError(f"MCP server {connection.name}, {tool}: {safe_text(said, connection.server)}")
