"""All configured MCP servers as a source of tools. The SDK is imported when the servers are started."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nanobot.agent.tools import Tool
from nanobot.agent.tools.registry import ToolReport
from nanobot.config.mcp_servers import McpServerConfig
from nanobot.mcp.names import ToolNames
from nanobot.mcp.servers import address_of

if TYPE_CHECKING:
    from nanobot.mcp.connection import ServerConnection
    from nanobot.mcp.oauth import BrowserSignIn

_FIRST_TURN = 5.0  # seconds a terminal's first turn waits for servers that were started, at most
_SILENT = 1.0  # seconds of waiting before it is mentioned
_CHANGE = 1.0  # seconds for a changed list of tools to arrive
_PATIENCE = 1.0  # seconds for a program to end once its input was closed
_CLOSE = 5.0  # seconds for all servers to end


class McpTools:
    """The tools of the servers that are ready (a ToolSource): servers as configured, tools by name."""

    def __init__(
        self,
        servers: Mapping[str, McpServerConfig],
        allow_private: Sequence[str] = (),
        sign_in: BrowserSignIn | None = None,
    ) -> None:
        self._servers = {name: server for name, server in servers.items() if server.usable}
        self._allow_private = tuple(allow_private)
        self._sign_in = sign_in
        self._names = ToolNames(servers)
        self._connections: list[ServerConnection] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._starting: asyncio.Task[None] | None = None
        self._settled = False
        self._first_turn, self._patience = _FIRST_TURN, _PATIENCE

    def start(self, first_turn: float = _FIRST_TURN, patience: float = _PATIENCE) -> asyncio.Task[None]:
        """Start the servers, each as a task of its own, for which the first turn waits so many seconds.

        At the end a program has `patience` seconds until SIGTERM. A second call does nothing.
        """
        if self._starting is None:
            self._first_turn, self._patience = first_turn, patience
        self._starting = self._starting or asyncio.create_task(self._start())
        return self._starting

    async def settle(self) -> AsyncIterator[str]:
        """Start the servers and, once in a process, give them a moment; tells what the owner should know."""
        if self._settled:
            return
        self._settled = True
        if not await self.wait(_SILENT):
            yield f"Waiting for MCP servers: {', '.join(self._unsettled())}."
            await asyncio.wait([self.start()])  # the import does not count
            await self.wait(self._first_turn - _SILENT)
        for name in self._unsettled():
            yield f"MCP server {name} is still starting; its tools come with a later turn."
        for connection in self._connections:
            if connection.error:
                yield f"MCP server {connection.name}: {connection.error}"

    async def wait(self, seconds: float) -> bool:
        """Start the servers and wait until each was ready or failed once. Says whether all did in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.wait([self.start()])
                for connection in self._connections:
                    await connection.settled.wait()
        return not self._unsettled()

    async def tools(self) -> Sequence[Tool]:
        """What is ready now. Starts no server, and waits only for a list that has just changed, a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CHANGE):
                for connection in self._connections:
                    if connection.state == "ready":
                        await connection.current.wait()
        return [tool for connection in self._connections for tool in connection.tools]

    async def report(self) -> list[ToolReport]:
        """The tools of servers that are ready within a few seconds, and what the others say."""
        await self.wait(_FIRST_TURN)
        reports: list[ToolReport] = []
        for server in self.servers():
            origin = f"mcp {server.name}"
            reports += [ToolReport(tool.name, origin) for tool in server.tools]
            reports += [ToolReport(name, origin, reason) for name, reason in server.skipped]
            if server.state != "ready":
                reports.append(ToolReport("", origin, server.error or "it has not answered yet"))
        return reports

    def servers(self) -> list[ServerConnection]:
        """Every server that is switched on, as it is now."""
        return self._connections

    async def aclose(self) -> None:
        """End all servers; programs are stopped with their whole process group."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        late: Collection[asyncio.Task[None]] = self._tasks
        for _ in range(3):  # whoever is late is cancelled once more, which kills
            for task in late:
                task.cancel()
            if late:
                _, late = await asyncio.wait(late, timeout=_CLOSE)

    async def _start(self) -> None:
        await asyncio.to_thread(_import_sdk)  # it takes more than half a second of CPU
        from nanobot.mcp.connection import ServerConnection
        from nanobot.mcp.oauth import Credentials

        for name, server in self._servers.items():
            login = Credentials(name, server.url, self._sign_in)
            connection = ServerConnection(
                name, server, login, self._names, self._allow_private, patience=self._patience
            )
            self._connections.append(connection)
            self._tasks.append(asyncio.create_task(connection.run(), name=f"MCP server {name}"))

    def _unsettled(self) -> list[str]:
        settled = {one.name for one in self._connections if one.settled.is_set()}
        return [name for name in self._servers if name not in settled]


def _import_sdk() -> None:
    """Import the SDK, and keep its log lines out of ours: they name addresses and headers."""
    import nanobot.mcp.connection  # noqa: F401

    for name in ("mcp", "httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


async def try_servers(
    servers: Mapping[str, McpServerConfig], allow_private: Sequence[str], seconds: float
) -> dict[str, ServerConnection]:
    """Connect to the servers side by side; what is ready or failed within so many seconds."""
    logging.getLogger("nanobot.mcp").addHandler(logging.NullHandler())  # the report says it in one line
    async with contextlib.aclosing(McpTools(servers, allow_private)) as tools:
        await tools.wait(seconds)
    return {server.name: server for server in tools.servers()}


def server_row(name: str, server: McpServerConfig, tried: ServerConnection | None) -> dict[str, Any]:
    """A server as JSON; `tried` is None for one that was not."""
    state = tried.state if tried else "failed" if server.usable else "off"
    error = tried.error if tried else server.fault
    if state == "starting":
        state, error = "failed", "it did not answer in time."
    return {
        "name": name,
        "address": address_of(server),
        "state": state,
        "error": error,
        "tools": len(tried.tools) if tried else 0,
        "connect_seconds": round(tried.connect_seconds, 3) if tried else None,
    }


def summary_of(row: dict[str, Any]) -> str:
    """A row in words."""
    if row["state"] == "ready":
        milliseconds = round(1000 * row["connect_seconds"])
        return f"ready at {row['address']}, {row['tools']} tools, connected in {milliseconds} ms"
    if row["state"] == "needs login":
        return f"{row['error']} ({row['address']})"
    return f"{row['state']} ({row['address']}){': ' + row['error'] if row['error'] else ''}"
