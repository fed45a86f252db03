"""All configured MCP servers as a source of tools. The SDK is imported when the servers are started."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nanobot.agent.tools.base import Tool, ToolOutput
from nanobot.agent.tools.registry import ToolReport
from nanobot.config.mcp_servers import McpServerConfig
from nanobot.mcp.names import DESCRIPTION_CHARS, LISTED, ToolNames, fit_schema, printable_text

if TYPE_CHECKING:
    import mcp_types as types

    from nanobot.mcp.connection import ServerConnection
    from nanobot.mcp.sign_in import BrowserSignIn

log = logging.getLogger(__name__)

_FIRST_TURN = 5.0  # seconds a terminal's first turn waits for servers that were started, at most
_SILENT = 1.0  # seconds of waiting before it is mentioned
_CHANGE = 1.0  # seconds for a changed list of tools to arrive
_CLOSE = 5.0  # seconds for all servers to end

# What of a server's tools is offered to models; what is not, with the reason.
_Offer = tuple[tuple[Tool, ...], tuple[tuple[str, str], ...]]


class McpTool(Tool):
    """One tool of a server. What the server claims about it decides only whether calls may run side by
    side (readOnlyHint) and again after a crash (readOnlyHint, idempotentHint), which concerns it alone."""

    name = description = ""  # each tool has its own, as its schema
    parameters: dict[str, Any] = {}  # noqa: RUF012
    errors_are_text = False
    origin = "mcp"

    def __init__(self, name: str, connection: ServerConnection, remote: types.Tool) -> None:
        self.name = name
        self._connection = connection
        self._remote = remote.name
        hints = remote.annotations
        description = remote.description or remote.title or (hints and hints.title) or ""
        self.description = printable_text(description, DESCRIPTION_CHARS) or remote.name
        self.parameters, self._real_names = fit_schema(remote.input_schema[LISTED])
        self.read_only = bool(hints and hints.read_only_hint)
        self.repeatable = self.read_only or bool(hints and hints.idempotent_hint)

    async def execute(self, /, **arguments: Any) -> ToolOutput:
        real = {self._real_names.get(key, key): value for key, value in arguments.items()}
        return await self._connection.call(self._remote, real)


@dataclass(frozen=True, slots=True)
class ServerReport:
    """How a server is doing. `skipped` are names of tools that are not offered, with the reason;
    `connect_seconds` the time it took to be ready."""

    name: str
    state: str
    error: str
    tools: tuple[Tool, ...]
    skipped: tuple[tuple[str, str], ...]
    connect_seconds: float


class McpTools:
    """The tools of the servers that are ready (a ToolSource), servers in the order of the configuration
    and tools by name, so that requests begin alike as long as nothing changed."""

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
        self._connections: dict[str, ServerConnection] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._starting: asyncio.Task[None] | None = None
        self._offers: dict[str, tuple[Sequence[types.Tool], _Offer]] = {}
        self._settled = False

    def start(self) -> asyncio.Task[None]:
        """Start the servers, each as a task of its own; a second call does nothing."""
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
            await self.wait(_FIRST_TURN - _SILENT)
        for name in self._unsettled():
            yield f"MCP server {name} is still starting; its tools come with a later turn."
        for connection in self._connections.values():
            if connection.error:
                yield f"MCP server {connection.name}: {connection.error}"

    async def wait(self, seconds: float) -> bool:
        """Start the servers and wait until each was ready or failed once. Says whether all did in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.wait([self.start()])
                for connection in self._connections.values():
                    await connection.settled.wait()
        return not self._unsettled()

    async def tools(self) -> Sequence[Tool]:
        """What is ready now. Starts no server, and waits only for a list that has just changed, a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CHANGE):
                for connection in self._connections.values():
                    if connection.state == "ready":
                        await connection.current.wait()
        return [tool for name in self._connections for tool in self._offer(name)[0]]

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

    def servers(self) -> list[ServerReport]:
        """Every server that is switched on, as it is now."""
        return [
            ServerReport(name, one.state, one.error, *self._offer(name), one.connect_seconds)
            for name, one in self._connections.items()
        ]

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
            connection = ServerConnection(name, server, allow_private=self._allow_private, credentials=login)
            self._connections[name] = connection
            self._tasks.append(asyncio.create_task(connection.run(), name=f"MCP server {name}"))

    def _unsettled(self) -> list[str]:
        settled = {name for name, one in self._connections.items() if one.settled.is_set()}
        return [name for name in self._servers if name not in settled]

    def _offer(self, name: str) -> _Offer:
        """The tools of a server, made anew only when they changed: same objects, same prompt."""
        connection = self._connections[name]
        if name not in self._offers or self._offers[name][0] is not connection.tools:
            self._offers[name] = connection.tools, _offer_of(connection, self._names)
        return self._offers[name][1]


def _offer_of(connection: ServerConnection, names: ToolNames) -> _Offer:
    server, enabled = connection.server, connection.server.enabled_tools
    tools: dict[str, Tool] = {}
    skipped: list[tuple[str, str]] = []
    for remote in connection.tools:
        name = names.name(connection.name, remote.name)
        if enabled is not None and not {remote.name, name, "*"} & {*enabled}:
            skipped.append((remote.name, "not in enabledTools"))
        elif {remote.name, name} & {*server.disabled_tools}:
            skipped.append((remote.name, "in disabledTools"))
        elif name in tools:
            skipped.append((remote.name, "listed twice"))
        else:
            tools[name] = McpTool(name, connection, remote)
    known = {
        name
        for remote in connection.tools
        for name in (remote.name, names.name(connection.name, remote.name))
    }
    for key, wanted in (("enabledTools", enabled or []), ("disabledTools", server.disabled_tools)):
        unknown = [printable_text(name, 64) for name in wanted if name not in {*known, "*"}]
        if unknown and known:
            skipped += [(name, f"in {key}, but unknown to the server") for name in unknown]
            log.warning(
                "tools.mcpServers.%s.%s names %s, which the server does not have. It has: %s",
                connection.name,
                key,
                ", ".join(unknown),
                ", ".join(printable_text(remote.name, 64) for remote in connection.tools),
            )
    return tuple(tools.values()), tuple(skipped)


def _import_sdk() -> None:
    """Import the SDK, and keep its log lines out of ours: they name addresses and headers."""
    import nanobot.mcp.connection  # noqa: F401

    for name in ("mcp", "httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
