"""One MCP server: a task that connects, keeps its tools up to date, and connects again when it broke off."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

import mcp_types as types
from mcp.client.auth import OAuthFlowError, OAuthRegistrationError
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from nanobot.agent.tools import Tool, ToolOutput, report_output
from nanobot.config.mcp_servers import McpServerConfig
from nanobot.errors import ConfigError, NanobotError, ToolError
from nanobot.mcp.http import HttpServer
from nanobot.mcp.names import MESSAGE_CHARS, ToolNames, printable_text
from nanobot.mcp.oauth import Credentials
from nanobot.mcp.results import tool_output
from nanobot.mcp.servers import TransportKind, safe_text, scrubbed, transport_kinds, with_env_file
from nanobot.mcp.session import LiveSession, all_tools, open_session, ping, within
from nanobot.mcp.stdio import StdioServer
from nanobot.mcp.tool import choose

log = logging.getLogger(__name__)

State = Literal["starting", "ready", "needs login", "failed"]

_LIST = 60.0  # seconds for a new list of tools
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 300.0
_STABLE = 60.0  # a connection that lasted this long starts the backoff anew
_LOOK = 2.0  # seconds between two looks for a new login
_CHECK = 30.0  # seconds a doubtful connection has for a ping
_VERDICT = 5.0  # seconds a call waits for the reason of a loss
_BETWEEN_LISTS = 0.5  # seconds; a server may say all the time that its tools changed
_CLOSED = (types.CONNECTION_CLOSED, "Connection closed")  # servers use this code for errors, too
_REFUSED = (400, 404, 405)  # by a server that speaks otherwise, or knows no such session


class ServerConnection:
    """The connection to one server. `run` is its task; everything else is safe to call at any time.

    `tools` are those offered to models, `skipped` the names of others with the reason. They are replaced,
    never changed, and only when the server has others than before: same objects, same prompt. They stay
    while a broken connection is made anew for the first time.
    """

    def __init__(
        self,
        name: str,
        server: McpServerConfig,
        credentials: Credentials,
        names: ToolNames,
        allow_private: Sequence[str] = (),
        *,
        patience: float = 1.0,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self.server = server
        self.state: State = "starting"
        self.error = ""
        self.tools: tuple[Tool, ...] = ()
        self.skipped: tuple[tuple[str, str], ...] = ()
        self.connect_seconds = 0.0
        self.settled = asyncio.Event()  # it was ready or failed at least once
        self.current = asyncio.Event()  # no change of its tools is known that `tools` does not have
        self.current.set()
        self._allow_private = allow_private
        self._patience = patience  # a program's, once its input was closed
        self._pause = pause
        self._names = names
        self._credentials = credentials
        self._listed: list[types.Tool] = []
        self._kind = 0  # which of the ways to reach it is in use
        self._failures = 0
        self._renew_token = False
        self._live: LiveSession | None = None
        self._ready = asyncio.Event()

    async def run(self) -> None:
        """Stay connected until cancelled; then the connection is closed in good order."""
        try:
            self.server = with_env_file(self.name, self.server)
            kinds = transport_kinds(self.name, self.server)
        except ConfigError as error:
            self._fail("failed", str(error))
            return
        while True:
            live = LiveSession()
            try:
                again_at_once = self._judge(live, await self._connect_once(live, kinds[self._kind]), kinds)
            finally:
                live.over.set_result(self.error or "the connection ended.")
            if not again_at_once:
                await self._wait_to_reconnect()

    async def call(self, tool: str, arguments: dict[str, Any]) -> ToolOutput:
        """The result of a tool. It waits for a connection that is being made; cancelling tells the server.

        Raises ToolError: the call failed, took longer than toolTimeout, or the server is gone.
        """
        seconds = self.server.tool_timeout
        try:
            return await within(seconds, self._call(tool, arguments, may_repeat=True))
        except TimeoutError as error:
            if self._live is not None:
                self._live.note("ping")
            raise ToolError(
                f"MCP server {self.name} did not answer {tool} within {seconds:g} s "
                f"(tools.mcpServers.{self.name}.toolTimeout). It was told to stop."
            ) from error

    async def _call(self, tool: str, arguments: dict[str, Any], *, may_repeat: bool) -> ToolOutput:
        if self._live is None and self.state in ("failed", "needs login"):
            raise ToolError(f"MCP server {self.name} is not connected: {self.error}")
        while self._live is None:
            await self._ready.wait()
        live, report = self._live, contextvars.copy_context()  # progress arrives in a task of the SDK

        async def show(progress: float, total: float | None, message: str | None) -> None:
            of = f"/{total:g}" if total else ""
            text = printable_text(f"{message or tool} ({progress:g}{of})", MESSAGE_CHARS)
            report.run(report_output, f"{text}\n")

        try:
            result = await live.session.call_tool(tool, arguments, progress_callback=show)
            return tool_output(result, live.transport.written.newest if live.transport else ())
        except MCPError as error:
            if (error.code, error.message) == _CLOSED:
                await asyncio.wait([live.over], timeout=_VERDICT)
                why = live.over.result() if live.over.done() else "the connection ended."
                raise ToolError(
                    f"MCP server {self.name} broke off during {tool}, whose outcome is unknown: {why} "
                    "It is being reconnected."
                ) from error
            if live.last_status in _REFUSED and may_repeat:  # it knows no such session: nothing was done
                live.note("end")
                await asyncio.wait([live.over])
                return await self._call(tool, arguments, may_repeat=False)
            live.note("ping")
            said = error.message
        except ValidationError:
            said = "it answered with something that is no result"
        except RuntimeError as error:  # it needs input in the middle of a call, which nobody can give
            said = str(error)
        raise ToolError(f"MCP server {self.name}, {tool}: {safe_text(said, self.server)}")

    async def _connect_once(self, live: LiveSession, kind: TransportKind) -> Exception | None:
        """Be connected until it ends; what ended it, if that was an error."""

        def changed() -> None:
            self.current.clear()
            live.note("list")

        self.current.set()
        began = time.monotonic()
        try:
            if kind == "stdio":
                live.transport = StdioServer(self.name, self.server, self._patience)
            else:
                auth = self._credentials.auth(expired=self._renew_token)
                live.transport = HttpServer(self.server, kind, self._allow_private, auth)
            opening = open_session(live.transport, changed, lambda: live.note("end"))
            async with asyncio.timeout(self.server.startup_timeout) as limit, opening as live.session:
                self._publish(live, await all_tools(live.session))
                limit.reschedule(None)
                live.ready_at = time.monotonic()
                self.connect_seconds = live.ready_at - began
                self._live, self.state, self.error, self._renew_token = live, "ready", "", False
                self._ready.set()
                self.settled.set()
                log.info("MCP server %s is ready: %d tools", self.name, len(self.tools))
                try:
                    await self._serve(live)
                finally:  # before it is closed, so that no call goes into a dead session
                    self._live = None
                    self._ready.clear()
        except Exception as error:  # noqa: BLE001 (logged without secrets)
            log.debug("MCP server %s: %s", self.name, scrubbed(traceback.format_exc(), self.server))
            return error
        return None

    async def _serve(self, live: LiveSession) -> None:
        """React to the server until its connection ends."""
        while "end" not in (todo := await live.noted()):
            if "ping" in todo:
                await within(_CHECK, ping(live.session))
            if "list" in todo:
                self._publish(live, await within(_LIST, all_tools(live.session)))
                await self._pause(_BETWEEN_LISTS)

    def _publish(self, live: LiveSession, tools: list[types.Tool]) -> None:
        if tools != self._listed:
            self._listed = tools
            self.tools, self.skipped = choose(self.name, self.server, tools, self._names, self.call)
        if "list" not in live.todo:
            self.current.set()

    def _fail(self, state: State, problem: str) -> None:
        if problem != self.error:
            log.warning("MCP server %s: %s", self.name, problem)
        self.state, self.error = state, problem
        self.tools, self.skipped, self._listed = (), (), []
        self.settled.set()

    def _judge(self, live: LiveSession, error: Exception | None, kinds: Sequence[TransportKind]) -> bool:
        """Note what became of a connection. Says whether another should be tried at once."""
        state, problem = self._explain(live, error)
        if not live.ready_at:
            if state == "needs login" and not self._renew_token and self._credentials.exist():
                self._renew_token = True  # the token may have been taken back before its time
                return True
            if live.last_status in _REFUSED:
                self._kind = (self._kind + 1) % len(kinds)
                if self._kind > 0:
                    return True
        lasted = live.ready_at and time.monotonic() - live.ready_at > _STABLE
        self._failures = 0 if lasted else self._failures + 1
        if live.ready_at and self._failures <= 1:
            log.warning("MCP server %s: %s It is being reconnected.", self.name, problem)
            self.state, self.error = "starting", problem
            return True
        self._fail(state, problem)
        return False

    def _explain(self, live: LiveSession, error: BaseException | None) -> tuple[State, str]:
        """What the end of a connection means to the owner."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        said = safe_text(str(error or "the connection ended"), self.server) or type(error).__name__
        if isinstance(error, NanobotError):
            return "failed", said
        if self._credentials.sign_in and not isinstance(error, MCPError):
            unknown = isinstance(error, OAuthRegistrationError)
            hint = " Register an app at the service and give its --client-id." if unknown else ""
            return "needs login", f"the login failed: {said.rstrip('.')}.{hint}"
        status = live.last_status
        if status == 401 or isinstance(error, OAuthFlowError):
            hint = " Or correct its headers." if self.server.headers else ""
            return "needs login", f"needs login: nanobot mcp login {self.name}.{hint}"
        if isinstance(error, TimeoutError):
            return "failed", "it did not answer in time."
        if isinstance(live.transport, StdioServer) and live.transport.ended:
            return "failed", live.transport.last_words
        if isinstance(error, ValidationError):
            return "failed", "it answered with something that is no valid MCP message."
        if status >= 300:
            hint = "Its url leads elsewhere; write the final address." if status < 400 else "Check its url."
            return "failed", f"the server answered with HTTP status {status}. {hint}"
        return "failed", f"{said.rstrip('.')}."

    async def _wait_to_reconnect(self) -> None:
        """Exponential backoff with jitter; a new login ends it."""
        longest = min(_FIRST_PAUSE * 2.0 ** min(self._failures, 20), _LONGEST_PAUSE)
        left = longest * (0.5 + random.random() / 2)
        known = self._credentials.changed_at()
        while left > 0 and self._credentials.changed_at() == known:
            step = min(left, _LOOK)
            await self._pause(step)
            left -= step
