"""An SDK session as nanobot uses it: how it begins, what we answer a server, and what becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import mcp_types as types
from mcp.client.session import ClientRequestContext, ClientSession
from mcp.client.subscriptions import listen
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from nanobot import __version__
from nanobot.errors import McpError
from nanobot.mcp.names import LISTED

if TYPE_CHECKING:
    from mcp.client._transport import ReadStream, TransportStreams

    from nanobot.mcp.http import HttpServer
    from nanobot.mcp.stdio import StdioServer

log = logging.getLogger(__name__)

T = TypeVar("T")
_PAGES = 100
_REFUSED = (400, 404, 405)  # 400 and 405: it speaks only the older HTTP with SSE


class LiveSession:
    """One connection from its start to its end. `wake` says that something was noted."""

    session: ClientSession  # once it is connected
    transport: StdioServer | HttpServer | None = None
    ready_at = 0.0  # on the monotonic clock; 0: not yet
    changed = False  # the server has other tools now
    doubted = False  # it should be asked whether it is still there
    ended = False
    reason = ""  # of its end

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.over = asyncio.Event()  # it has ended, and `reason` is known

    @property
    def last_status(self) -> int:
        """HTTP status of the newest answer; 0 without one."""
        return self.transport.last_status if self.transport else 0

    @property
    def refused(self) -> bool:
        """Whether the newest answer was one of a server that speaks otherwise, or knows no such session."""
        return self.last_status in _REFUSED

    def note_end(self) -> None:
        self.ended = True
        self.wake.set()

    def doubt(self) -> None:
        """Ask the server whether it is still there; if not, connect again."""
        self.doubted = True
        self.wake.set()

    def close(self, reason: str) -> None:
        """Tell the calls that wait for the reason."""
        self.ended, self.reason = True, reason
        self.over.set()


async def within(seconds: float, work: Coroutine[Any, Any, T], given_up: set[asyncio.Task[Any]]) -> T:
    """The result of `work`. Raises TimeoutError in time, and CancelledError at once: what is given up is
    cancelled, but telling a server that no longer listens may take the SDK some seconds more, which it
    spends among `given_up`."""

    def end(task: asyncio.Task[Any]) -> None:
        given_up.discard(task)
        if not task.cancelled():
            task.exception()  # known to whoever waited, if anybody still does

    task = asyncio.create_task(work)
    given_up.add(task)
    task.add_done_callback(end)
    try:
        done, _ = await asyncio.wait([task], timeout=seconds)
        if not done:
            raise TimeoutError
        return task.result()
    finally:
        task.cancel()


@contextlib.asynccontextmanager
async def open_session(
    streams: contextlib.AbstractAsyncContextManager[TransportStreams],
    *,
    tools_changed: Callable[[], None],
    ended: Callable[[], None],
) -> AsyncGenerator[ClientSession, None]:
    """A session over a transport. `tools_changed` is told of list_changed, `ended` of the transport's end."""

    async def notice(message: object) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            tools_changed()

    async with streams as (incoming, outgoing):
        session = ClientSession(
            _Watched(incoming, ended),
            outgoing,
            message_handler=notice,
            elicitation_callback=_answer_with_defaults,
            client_info=types.Implementation(name="nanobot", version=__version__),
        )
        async with session:
            yield session


async def greet(session: ClientSession) -> None:
    """`initialize`, which nearly all servers know, else the discovery of MCP 2026-07-28. Raises MCPError."""
    try:
        await session.initialize()
    except MCPError as error:
        if error.code not in (types.UNSUPPORTED_PROTOCOL_VERSION, types.METHOD_NOT_FOUND):
            raise
        await session.discover()


async def all_tools(session: ClientSession) -> list[types.Tool]:
    """Every page of the server's list. Raises MCPError, or McpError for a list without an end."""
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
            return tools
    raise McpError(f"its list of tools has more than {_PAGES} pages")


async def ping(session: ClientSession) -> None:
    """Any answer will do, an error too. Raises MCPError when the connection is gone."""
    try:
        await session.send_request(types.PingRequest(), types.EmptyResult)
    except MCPError as error:
        if error.code == types.CONNECTION_CLOSED or "session" in error.message.lower():
            raise


@contextlib.asynccontextmanager
async def listening_for_changes(
    session: ClientSession, changed: Callable[[], None]
) -> AsyncGenerator[None, None]:
    """Since MCP 2026-07-28 a client has to ask for the list_changed events that servers used to send."""

    async def follow() -> None:
        async with listen(session, tools_list_changed=True) as events:
            async for _ in events:
                changed()

    if session.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        yield
        return
    following = asyncio.create_task(follow())
    try:
        yield
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


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


def _usable(tool: dict[str, Any]) -> dict[str, Any]:
    """What we use of a listed tool, in a form that the SDK takes: one bad tool must not cost all others."""
    schema, hints = tool.get("inputSchema"), tool.get("annotations")
    texts = {key: tool[key] for key in ("name", "title", "description") if isinstance(tool.get(key), str)}
    wrapped = {"type": "object", LISTED: schema if isinstance(schema, dict) else {}}
    usable = {**texts, "inputSchema": wrapped}
    return {**usable, "annotations": hints} if isinstance(hints, dict) else usable


class _Watched:
    """A transport's incoming messages; says when they end, which the SDK keeps to itself."""

    def __init__(self, stream: ReadStream[SessionMessage | Exception], ended: Callable[[], None]) -> None:
        self._stream = stream
        self._ended = ended

    async def receive(self) -> SessionMessage | Exception:
        return await self._stream.receive()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> _Watched:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        item = await self._stream.__anext__()
        if isinstance(item, SessionMessage) and isinstance(item.message, types.JSONRPCResponse):
            listed = item.message.result.get("tools")
            if isinstance(listed, list):
                item.message.result["tools"] = [
                    _usable(tool)
                    for tool in listed
                    if isinstance(tool, dict) and isinstance(tool.get("name"), str)
                ]
        return item

    async def __aenter__(self) -> _Watched:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended()
        await self._stream.aclose()
