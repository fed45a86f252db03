"""An SDK session as nanobot uses it: how it begins, what we answer a server, and what becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import mcp_types as types
from mcp.client.session import ClientRequestContext, ClientSession
from mcp.client.subscriptions import listen
from mcp.shared.exceptions import MCPError
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from nanobot import __version__
from nanobot.errors import McpError
from nanobot.mcp.names import LISTED

if TYPE_CHECKING:
    from nanobot.mcp.http import HttpServer
    from nanobot.mcp.stdio import StdioServer

log = logging.getLogger(__name__)

T = TypeVar("T")
Task = Literal["list", "ping", "end"]
_PAGES = 100


class LiveSession:
    """One connection from its start to its end, and what is to be done about it."""

    session: ClientSession  # once it is connected
    transport: StdioServer | HttpServer | None = None
    ready_at = 0.0  # on the monotonic clock; 0: not yet

    def __init__(self) -> None:
        self.todo: set[Task] = set()
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()  # why, when it is over
        self._noted = asyncio.Event()

    def note(self, task: Task) -> None:
        """Fetch its tools anew, ask whether it is still there, or end."""
        self.todo.add(task)
        self._noted.set()

    async def noted(self) -> set[Task]:
        """What was noted since the last time, once there is something."""
        await self._noted.wait()
        self._noted.clear()
        todo, self.todo = self.todo, set()
        return todo

    @property
    def last_status(self) -> int:
        """HTTP status of the newest answer; 0 without one."""
        return self.transport.last_status if self.transport else 0


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`. Raises TimeoutError in time, and CancelledError at once: what is given up is
    cancelled, but telling a server that no longer listens may take the SDK some seconds more."""
    task = asyncio.create_task(work)
    try:
        done, _ = await asyncio.wait([task], timeout=seconds)
        if not done:
            raise TimeoutError
        return task.result()
    finally:
        task.cancel()
        task.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody waits for it


@contextlib.asynccontextmanager
async def open_session(
    transport: StdioServer | HttpServer, tools_changed: Callable[[], None], ended: Callable[[], None]
) -> AsyncGenerator[ClientSession, None]:
    """A session that has begun: with `initialize`, which nearly all servers know, else with the discovery
    of MCP 2026-07-28. `tools_changed` is told of changes, `ended` of the transport's end. Raises MCPError."""

    async def notice(message: object) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            tools_changed()

    async def follow() -> None:
        async with listen(session, tools_list_changed=True) as events:
            async for _ in events:
                tools_changed()

    async with transport.streams() as streams:
        session = ClientSession(
            dispatcher=_Dispatcher(streams, ended),
            message_handler=notice,
            elicitation_callback=_answer_with_defaults,
            client_info=types.Implementation(name="nanobot", version=__version__),
        )
        async with session:
            try:
                await session.initialize()
            except MCPError as error:
                if error.code not in (types.UNSUPPORTED_PROTOCOL_VERSION, types.METHOD_NOT_FOUND):
                    raise
                await session.discover()
            if session.protocol_version not in MODERN_PROTOCOL_VERSIONS:
                yield session
                return
            following = asyncio.create_task(follow())  # they tell of changes only when they are asked to
            try:
                yield session
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)


async def all_tools(session: ClientSession) -> list[types.Tool]:
    """Every page of the server's list, by name. Raises MCPError, or McpError for a list without an end."""
    capabilities = session.server_capabilities
    if capabilities is not None and capabilities.tools is None:
        return []
    tools: list[types.Tool] = []
    cursor: str | None = None
    for _ in range(_PAGES):
        page = await session.list_tools(params=types.PaginatedRequestParams(cursor=cursor))
        tools += page.tools
        cursor = page.next_cursor
        if not cursor:
            return sorted(tools, key=lambda tool: tool.name)
    raise McpError(f"its list of tools has more than {_PAGES} pages")


async def ping(session: ClientSession) -> None:
    """Any answer will do, an error too. Raises MCPError when the connection is gone."""
    try:
        await session.send_ping()
    except MCPError as error:
        if error.code == types.CONNECTION_CLOSED or "session" in error.message.lower():
            raise


async def _answer_with_defaults(
    context: ClientRequestContext, params: types.ElicitRequestParams
) -> types.ElicitResult:
    """Nobody can be asked in the middle of a tool call: take the server's own defaults if it has one for
    every field (SEP-1034), else decline."""
    fields = params.requested_schema.get("properties") if params.mode == "form" else None
    fields = fields if isinstance(fields, dict) else {}
    content: dict[str, Any] = {
        name: field["default"]
        for name, field in fields.items()
        if isinstance(field, dict) and "default" in field
    }
    if fields and len(content) == len(fields):
        log.info("A question of an MCP server was answered with its own defaults")
        return types.ElicitResult(action="accept", content=content)
    log.info("A question of an MCP server was declined: nobody can be asked while a tool runs")
    return types.ElicitResult(action="decline")


class _Dispatcher(JSONRPCDispatcher[Any]):
    """The SDK's. It says when the connection ends, and lets no tool of a list cost all the others."""

    def __init__(self, streams: tuple[Any, Any], ended: Callable[[], None]) -> None:
        super().__init__(*streams)
        self._ended = ended

    async def run(self, *args: Any, **kwargs: Any) -> None:
        try:
            await super().run(*args, **kwargs)
        finally:
            self._ended()

    async def send_raw_request(self, method: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        result = await super().send_raw_request(method, *args, **kwargs)
        if method == "tools/list" and isinstance(listed := result.get("tools"), list):
            tools = [tool for tool in listed if isinstance(tool, dict)]
            result["tools"] = [_usable(tool) for tool in tools if isinstance(tool.get("name"), str)]
        return result


def _usable(tool: dict[str, Any]) -> dict[str, Any]:
    """What we use of a listed tool, in a form that the SDK takes."""
    schema, hints = tool.get("inputSchema"), tool.get("annotations")
    hints = hints if isinstance(hints, dict) else {}
    texts = {key: tool[key] for key in ("name", "title", "description") if isinstance(tool.get(key), str)}
    if isinstance(hints.get("title"), str):
        texts.setdefault("title", hints["title"])
    return texts | {
        "inputSchema": {"type": "object", LISTED: schema if isinstance(schema, dict) else {}},
        "annotations": {key: value for key, value in hints.items() if isinstance(value, bool)},
    }
