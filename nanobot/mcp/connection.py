"""One MCP server: a task that connects, keeps its tools up to date, and connects again when it broke off."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import random
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import mcp_types as types
from mcp.client.auth import OAuthFlowError, OAuthRegistrationError
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from nanobot.agent.tools.base import ToolOutput, report_output
from nanobot.config.schema import McpServerConfig
from nanobot.errors import ConfigError, NanobotError, ToolError
from nanobot.mcp.http import HttpServer
from nanobot.mcp.names import printable_text
from nanobot.mcp.oauth import Credentials, open_auth
from nanobot.mcp.results import tool_output
from nanobot.mcp.servers import TransportKind, scrubbed, transport_kinds
from nanobot.mcp.session import (
    RemoteTool,
    all_tools,
    greet,
    listening_for_changes,
    open_session,
    ping,
    remote_tool,
)
from nanobot.mcp.stdio import StdioServer

if TYPE_CHECKING:
    from nanobot.mcp.sign_in import BrowserSignIn

log = logging.getLogger(__name__)

T = TypeVar("T")
State = Literal["starting", "ready", "needs login", "failed"]

_CONNECT = 60.0  # seconds for a start with handshake and list; npx may have to download the program first
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 300.0
_STABLE = 60.0  # a connection that lasted this long starts the backoff anew
_LOOK = 2.0  # seconds between two looks for a new login
_CHECK = 30.0  # seconds a doubtful connection has for a ping
_VERDICT = 5.0  # seconds to wait for the reason of a loss
_BETWEEN_LISTS = 0.5  # seconds; a server may say all the time that its tools changed
_MESSAGE_CHARS = 600
_REFUSED = (400, 404, 405)  # how a server answers that speaks only the older HTTP with SSE
_UNAUTHORIZED = 401


class ServerConnection:
    """The connection to one server. `run` is its task; everything else is safe to call at any time.

    `tools` is replaced, never changed, and only when the server's tools are others than before. They
    stay while a broken connection is made anew for the first time, so that a restart of the server
    leaves the prompt as it is.
    """

    def __init__(
        self,
        name: str,
        server: McpServerConfig,
        *,
        allow_private: Sequence[str] = (),
        sign_in: BrowserSignIn | None = None,
        credentials: Credentials | None = None,
        client_url: str | None = None,
        patience: float = _CONNECT,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self.state: State = "starting"
        self.error = ""
        self.tools: tuple[RemoteTool, ...] = ()
        self.connect_seconds = 0.0
        self.list_seconds = 0.0
        self.settled = asyncio.Event()  # it was ready or failed at least once
        self.current = asyncio.Event()  # no change of its tools is known that `tools` does not have
        self.current.set()
        self._server = server
        self._allow_private = allow_private
        self._sign_in = sign_in
        self._client_url = client_url
        self._pause = pause
        self._credentials = credentials or Credentials(name, server.url)
        self._patience = patience
        self._kinds: Sequence[TransportKind] = ()
        self._kind = 0  # which of them is in use
        self._failures = 0
        self._renew_token = False
        self._session: ClientSession | None = None
        self._transport: StdioServer | HttpServer | None = None
        self._ready = asyncio.Event()
        self._lost = asyncio.Event()
        self._wake = asyncio.Event()
        self._changed = self._ended = self._doubted = False
        self._working: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        """Stay connected until cancelled; then the connection is closed in good order."""
        try:
            self._kinds = transport_kinds(self.name, self._server)
            while True:
                await self._one_round()
        except ConfigError as error:
            self._fail("failed", str(error))
        finally:
            self._lost.set()

    async def _one_round(self) -> None:
        """One connection from its start to its end, and the pause before the next one."""
        ready_at, error = await self._connect_once()
        state, problem = self._explain(error)
        if ready_at is None and self._try_otherwise(state):
            return
        lasted = ready_at is not None and time.monotonic() - ready_at > _STABLE
        self._failures = 0 if lasted else self._failures + 1
        if ready_at is not None and self._failures <= 1:
            log.warning("MCP server %s: %s It is being reconnected.", self.name, problem)
            self.state, self.error = "starting", problem
            self._lost.set()
            return
        self._fail(state, problem)
        self._lost.set()
        await self._wait_to_reconnect()

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolOutput:
        """Call a tool. Raises ToolError: it failed, took longer than toolTimeout, or the server is gone.

        Cancelling the call tells the server.
        """
        seconds = self._server.tool_timeout
        try:
            return await self._within(seconds, self._call_twice(tool, arguments))
        except TimeoutError as error:
            self._doubt()
            raise ToolError(
                f"MCP server {self.name} did not answer {tool} within {seconds:g} s "
                f"(tools.mcpServers.{self.name}.toolTimeout). It was told to stop."
            ) from error
        except _SessionGone as error:
            raise ToolError(f"MCP server {self.name}, {tool}: {self._safe(str(error))}") from error

    async def _call_twice(self, tool: str, arguments: Mapping[str, Any]) -> ToolOutput:
        try:
            return await self._call_once(tool, arguments)
        except _SessionGone:  # refused before anything was done, so a second try repeats nothing
            self._note_end()
            await self._lost.wait()
            return await self._call_once(tool, arguments)

    async def _within(self, seconds: float, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`. Raises TimeoutError in time, and CancelledError at once: what is given up is
        cancelled, but telling a server that no longer listens may take the SDK some seconds more."""
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._given_up)
        try:
            done, _ = await asyncio.wait([task], timeout=seconds)
            if not done:
                raise TimeoutError
            return task.result()
        finally:
            task.cancel()

    def _given_up(self, task: asyncio.Task[Any]) -> None:
        self._working.discard(task)
        if not task.cancelled():
            task.exception()  # known to whoever waited, if anybody still does

    async def _call_once(self, tool: str, arguments: Mapping[str, Any]) -> ToolOutput:
        session = await self._connected_session()
        report = contextvars.copy_context()  # progress arrives in a task of the SDK

        async def show(progress: float, total: float | None, message: str | None) -> None:
            of = f"/{total:g}" if total else ""
            text = printable_text(f"{message or tool} ({progress:g}{of})", _MESSAGE_CHARS)
            report.run(report_output, f"{text}\n")

        try:
            result = await session.call_tool(tool, dict(arguments), progress_callback=show)
        except MCPError as error:
            raise await self._call_failed(tool, error) from error
        except ValidationError as error:
            raise ToolError(
                f"MCP server {self.name} answered {tool} with something that is no result."
            ) from error
        except RuntimeError as error:  # it needs input in the middle of a call, which nobody can give
            raise ToolError(f"MCP server {self.name}, {tool}: {self._safe(str(error))}") from error
        return tool_output(result)

    async def _connected_session(self) -> ClientSession:
        """The session, once there is one. Raises ToolError when there will be none for now."""
        if self._session is None and self.state in ("failed", "needs login"):
            raise ToolError(f"MCP server {self.name} is not connected: {self.error}")
        while self._session is None:
            await self._ready.wait()
        return self._session

    async def _call_failed(self, tool: str, error: MCPError) -> Exception:
        gone = self._session is None or self._ended or error.message == "Connection closed"
        if error.code == types.CONNECTION_CLOSED and gone:  # servers use this code for errors, too
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_VERDICT):
                    await self._lost.wait()
            why = self.error or "the connection ended"
            return ToolError(
                f"MCP server {self.name} broke off during {tool}, whose outcome is unknown: {why} "
                "It is being reconnected."
            )
        if isinstance(self._transport, HttpServer) and self._transport.last_status in _REFUSED:
            return _SessionGone(error.message)
        self._doubt()
        return ToolError(f"MCP server {self.name}, {tool}: {self._safe(error.message)}")

    # -- the task

    async def _connect_once(self) -> tuple[float | None, Exception | None]:
        """When the connection became ready, if it did, and what ended it, if that was an error."""
        self._changed = self._ended = self._doubted = False
        self.current.set()
        self._wake.clear()
        self._lost.clear()
        ready_at: float | None = None
        try:
            async with contextlib.AsyncExitStack() as stack:
                async with asyncio.timeout(self._patience):
                    await self._become_ready(stack)
                ready_at = time.monotonic()
                try:
                    await self._serve()
                finally:  # before it is closed, so that no call goes into a dead session
                    self._session = None
                    self._ready.clear()
        except Exception as error:  # noqa: BLE001 (logged without secrets)
            trace = scrubbed(traceback.format_exc(), self._server)
            log.debug("MCP server %s: %s", self.name, trace)
            return ready_at, error
        return ready_at, None

    async def _become_ready(self, stack: contextlib.AsyncExitStack) -> None:
        began = time.monotonic()
        self._transport = self._open_transport()
        session = await stack.enter_async_context(
            open_session(self._transport.streams(), tools_changed=self._note_change, ended=self._note_end)
        )
        await greet(session)
        connected = time.monotonic()
        tools = await all_tools(session)
        self.connect_seconds = connected - began
        self.list_seconds = time.monotonic() - connected
        self._publish(tools)
        self._session = session
        self.state, self.error = "ready", ""
        self._renew_token = False
        self._ready.set()
        self.settled.set()
        log.info("MCP server %s is ready: %d tools", self.name, len(self.tools))

    def _open_transport(self) -> StdioServer | HttpServer:
        kind = self._kinds[self._kind]
        if kind == "stdio":
            return StdioServer(self.name, self._server, self._safe)
        auth = None
        if self._sign_in is not None or self._credentials.exist():
            auth = open_auth(
                self._credentials, self._sign_in, client_url=self._client_url, expired=self._renew_token
            )
        return HttpServer(self._server, kind, self._allow_private, auth)

    async def _serve(self) -> None:
        """React to the server until its connection ends."""
        assert self._session is not None
        session = self._session
        async with listening_for_changes(session, self._note_change):
            while not self._ended:
                await self._wake.wait()
                self._wake.clear()
                if self._doubted:
                    self._doubted = False
                    await self._within(_CHECK, ping(session))
                if self._changed and not self._ended:
                    self._changed = False
                    self._publish(await self._within(_CONNECT, all_tools(session)))
                    await self._pause(_BETWEEN_LISTS)

    def _publish(self, tools: Sequence[types.Tool]) -> None:
        found = tuple(sorted(map(remote_tool, tools), key=lambda tool: tool.name))
        if found != self.tools:
            self.tools = found
        if not self._changed:
            self.current.set()

    def _note_change(self) -> None:
        self._changed = True
        self.current.clear()
        self._wake.set()

    def _note_end(self) -> None:
        self._ended = True
        self._wake.set()

    def _doubt(self) -> None:
        """Ask the server whether it is still there; if not, connect again."""
        self._doubted = True
        self._wake.set()

    def _fail(self, state: State, problem: str) -> None:
        if problem != self.error:
            log.warning("MCP server %s: %s", self.name, problem)
        self.state, self.error = state, problem
        self.tools = ()
        self.settled.set()

    def _explain(self, error: BaseException | None) -> tuple[State, str]:
        """What the end of a connection means to the owner."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        status = self._transport.last_status if isinstance(self._transport, HttpServer) else 0
        if isinstance(error, NanobotError):
            return "failed", self._safe(str(error))
        if self._sign_in is not None and not isinstance(error, MCPError):
            unknown = isinstance(error, OAuthRegistrationError)
            hint = " Register an app at the service and give its --client-id." if unknown else ""
            return "needs login", f"the login failed: {self._safe(str(error)).rstrip('.')}.{hint}"
        if status == _UNAUTHORIZED or isinstance(error, OAuthFlowError):
            hint = " Or correct its headers." if self._server.headers else ""
            return "needs login", f"needs login: nanobot mcp login {self.name}.{hint}"
        if isinstance(error, TimeoutError):
            return "failed", "it did not answer in time."
        if isinstance(self._transport, StdioServer) and self._transport.ended:
            return "failed", self._transport.last_words
        if isinstance(error, ValidationError):
            return "failed", "it answered with something that is no valid MCP message."
        if status >= 300:
            hint = "Its url leads elsewhere; write the final address." if status < 400 else "Check its url."
            return "failed", f"the server answered with HTTP status {status}. {hint}"
        text = self._safe(str(error or "the connection ended")) or type(error).__name__
        return "failed", f"{text.rstrip('.')}."

    def _safe(self, text: str) -> str:
        return printable_text(scrubbed(text, self._server), _MESSAGE_CHARS)

    def _try_otherwise(self, state: State) -> bool:
        """Whether there is another way to connect that should be tried at once."""
        if not isinstance(self._transport, HttpServer):
            return False
        if state == "needs login" and not self._renew_token and self._credentials.exist():
            self._renew_token = True  # the token may have been taken back before its time
            return True
        if self._transport.last_status in _REFUSED:
            self._kind = (self._kind + 1) % len(self._kinds)
            return self._kind > 0
        return False

    async def _wait_to_reconnect(self) -> None:
        """Exponential backoff with jitter; a new login ends it."""
        longest = min(_FIRST_PAUSE * 2.0 ** min(self._failures, 20), _LONGEST_PAUSE)
        left = longest * (0.5 + random.random() / 2)
        known = self._credentials.changed_at()
        while left > 0 and self._credentials.changed_at() == known:
            step = min(left, _LOOK)
            await self._pause(step)
            left -= step


class _SessionGone(Exception):
    """The server does not know our session any more (it was restarted)."""
