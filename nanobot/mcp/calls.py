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


class ToolCalls:
    """Calls tools of one server. A call waits for a connection that is being made."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self._name = f"MCP server {connection.name}"
        self._given_up: set[asyncio.Task[Any]] = set()

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolOutput:
        """Raises ToolError: the call failed, took longer than toolTimeout, or the server is gone.

        Cancelling the call tells the server.
        """
        seconds = self._connection.server.tool_timeout
        try:
            return await within(seconds, self._call_twice(tool, arguments), self._given_up)
        except TimeoutError as error:
            self._connection.doubt()
            raise ToolError(
                f"{self._name} did not answer {tool} within {seconds:g} s "
                f"(tools.mcpServers.{self._connection.name}.toolTimeout). It was told to stop."
            ) from error
        except _SessionGone as error:
            raise self._failure(tool, str(error)) from error

    async def _call_twice(self, tool: str, arguments: Mapping[str, Any]) -> ToolOutput:
        live = await self._connection.live()
        try:
            return await self._call_once(live, tool, arguments)
        except _SessionGone:  # refused before anything was done, so a second try repeats nothing
            live.note_end()
            await live.over.wait()
            return await self._call_once(await self._connection.live(), tool, arguments)

    async def _call_once(self, live: LiveSession, tool: str, arguments: Mapping[str, Any]) -> ToolOutput:
        report = contextvars.copy_context()  # progress arrives in a task of the SDK

        async def show(progress: float, total: float | None, message: str | None) -> None:
            of = f"/{total:g}" if total else ""
            text = printable_text(f"{message or tool} ({progress:g}{of})", MESSAGE_CHARS)
            report.run(report_output, f"{text}\n")

        try:
            result = await live.session.call_tool(tool, dict(arguments), progress_callback=show)
        except MCPError as error:
            raise await self._explain(live, tool, error) from error
        except ValidationError as error:
            raise ToolError(f"{self._name} answered {tool} with something that is no result.") from error
        except RuntimeError as error:  # it needs input in the middle of a call, which nobody can give
            raise self._failure(tool, str(error)) from error
        return tool_output(result)

    async def _explain(self, live: LiveSession, tool: str, error: MCPError) -> Exception:
        gone = live.ended or error.message == "Connection closed"
        if error.code == types.CONNECTION_CLOSED and gone:  # servers use this code for errors, too
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_VERDICT):
                    await live.over.wait()
            return ToolError(
                f"{self._name} broke off during {tool}, whose outcome is unknown: "
                f"{live.reason or 'the connection ended'} It is being reconnected."
            )
        if live.refused:
            return _SessionGone(error.message)
        live.doubt()
        return self._failure(tool, error.message)

    def _failure(self, tool: str, said: str) -> ToolError:
        return ToolError(f"{self._name}, {tool}: {safe_text(said, self._connection.server)}")


class _SessionGone(Exception):
    """The server does not know our session any more (it was restarted)."""
