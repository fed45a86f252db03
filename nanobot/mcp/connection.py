"""One MCP server: a task that connects, keeps its tools up to date, and connects again when it broke off."""

from __future__ import annotations

import asyncio
import logging
import random
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import mcp_types as types
from mcp.client.auth import OAuthFlowError, OAuthRegistrationError
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from nanobot.config.mcp_servers import McpServerConfig
from nanobot.errors import ConfigError, NanobotError, ToolError
from nanobot.mcp.http import HttpServer
from nanobot.mcp.oauth import Credentials
from nanobot.mcp.servers import TransportKind, safe_text, scrubbed, transport_kinds, with_env_file
from nanobot.mcp.session import LiveSession, all_tools, open_session, ping, within
from nanobot.mcp.stdio import StdioServer

log = logging.getLogger(__name__)

State = Literal["starting", "ready", "needs login", "failed"]

_LIST = 60.0  # seconds for a new list of tools
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 300.0
_STABLE = 60.0  # a connection that lasted this long starts the backoff anew
_LOOK = 2.0  # seconds between two looks for a new login
_CHECK = 30.0  # seconds a doubtful connection has for a ping
_BETWEEN_LISTS = 0.5  # seconds; a server may say all the time that its tools changed
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
        credentials: Credentials | None = None,
        patience: float | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self.state: State = "starting"
        self.error = ""
        self.tools: tuple[types.Tool, ...] = ()
        self.connect_seconds = 0.0
        self.settled = asyncio.Event()  # it was ready or failed at least once
        self.current = asyncio.Event()  # no change of its tools is known that `tools` does not have
        self.current.set()
        self.server = server
        self._allow_private = allow_private
        self._pause = pause
        self._credentials = credentials or Credentials(name, server.url)
        self._patience = patience or server.startup_timeout
        self._kinds: Sequence[TransportKind] = ()
        self._kind = 0  # which of them is in use
        self._failures = 0
        self._renew_token = False
        self._live: LiveSession | None = None
        self._ready = asyncio.Event()

    async def run(self) -> None:
        """Stay connected until cancelled; then the connection is closed in good order."""
        try:
            self.server = with_env_file(self.name, self.server)
            self._kinds = transport_kinds(self.name, self.server)
        except ConfigError as error:
            self._fail("failed", str(error))
            return
        while True:
            await self._one_round()

    async def _one_round(self) -> None:
        """One connection from its start to its end, and the pause before the next one."""
        live = LiveSession()
        try:
            error = await self._connect_once(live)
            state, problem = self._explain(live, error)
            if not live.ready_at and self._can_try_otherwise(live, state):
                return
            lasted = live.ready_at and time.monotonic() - live.ready_at > _STABLE
            self._failures = 0 if lasted else self._failures + 1
            if live.ready_at and self._failures <= 1:
                log.warning("MCP server %s: %s It is being reconnected.", self.name, problem)
                self.state, self.error = "starting", problem
                return
            self._fail(state, problem)
        finally:
            live.ended = True
            live.over.set_result(self.error or "the connection ended.")
        await self._wait_to_reconnect()

    def doubt(self) -> None:
        """Ask the server whether it is still there; if not, connect again."""
        if self._live is not None:
            self._live.doubt()

    async def live(self) -> LiveSession:
        """The session, once there is one. Raises ToolError when there will be none for now."""
        if self._live is None and self.state in ("failed", "needs login"):
            raise ToolError(f"MCP server {self.name} is not connected: {self.error}")
        while self._live is None:
            await self._ready.wait()
        return self._live

    async def _connect_once(self, live: LiveSession) -> Exception | None:
        """Be connected until it ends; what ended it, if that was an error."""

        def changed() -> None:
            self.current.clear()
            live.changed = True
            live.wake.set()

        self.current.set()
        began = time.monotonic()
        try:
            live.transport = self._open_transport()
            opening = open_session(live.transport, tools_changed=changed, ended=live.note_end)
            async with asyncio.timeout(self._patience) as limit, opening as live.session:
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
                    live.ended, self._live = True, None
                    self._ready.clear()
        except Exception as error:  # noqa: BLE001 (logged without secrets)
            log.debug("MCP server %s: %s", self.name, scrubbed(traceback.format_exc(), self.server))
            return error
        return None

    def _open_transport(self) -> StdioServer | HttpServer:
        kind = self._kinds[self._kind]
        if kind == "stdio":
            return StdioServer(self.name, self.server)
        auth = self._credentials.auth(expired=self._renew_token)
        return HttpServer(self.server, kind, self._allow_private, auth)

    async def _serve(self, live: LiveSession) -> None:
        """React to the server until its connection ends."""
        while not live.ended:
            await live.wake.wait()
            live.wake.clear()
            if live.doubted:
                live.doubted = False
                await within(_CHECK, ping(live.session))
            if live.changed and not live.ended:
                live.changed = False
                self._publish(live, await within(_LIST, all_tools(live.session)))
                await self._pause(_BETWEEN_LISTS)

    def _publish(self, live: LiveSession, tools: Sequence[types.Tool]) -> None:
        found = tuple(sorted(tools, key=lambda tool: tool.name))
        if found != self.tools:
            self.tools = found
        if not live.changed:
            self.current.set()

    def _fail(self, state: State, problem: str) -> None:
        if problem != self.error:
            log.warning("MCP server %s: %s", self.name, problem)
        self.state, self.error = state, problem
        self.tools = ()
        self.settled.set()

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
        status = live.transport.last_status if live.transport else 0
        if status == _UNAUTHORIZED or isinstance(error, OAuthFlowError):
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

    def _can_try_otherwise(self, live: LiveSession, state: State) -> bool:
        """Whether there is another way to connect that should be tried at once."""
        if state == "needs login" and not self._renew_token and self._credentials.exist():
            self._renew_token = True  # the token may have been taken back before its time
            return True
        if live.refused:
            self._kind = (self._kind + 1) % len(self._kinds)
        return live.refused and self._kind > 0

    async def _wait_to_reconnect(self) -> None:
        """Exponential backoff with jitter; a new login ends it."""
        longest = min(_FIRST_PAUSE * 2.0 ** min(self._failures, 20), _LONGEST_PAUSE)
        left = longest * (0.5 + random.random() / 2)
        known = self._credentials.changed_at()
        while left > 0 and self._credentials.changed_at() == known:
            step = min(left, _LOOK)
            await self._pause(step)
            left -= step
