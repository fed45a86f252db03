"""Logging in at an OAuth-protected server: a browser, and a moment's web server for what it sends back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull
from pydantic import AnyUrl

from nanobot.config.schema import McpServerConfig
from nanobot.errors import McpError, UsageError
from nanobot.mcp.connection import ServerConnection
from nanobot.mcp.oauth import Credentials
from nanobot.mcp.servers import transport_kinds

CALLBACK_PORT = 18791
_PATIENCE = 600.0  # seconds for a person to log in
_PAGE = "<!doctype html><title>nanobot</title><p>Done. The terminal says whether it worked."


class BrowserSignIn:
    """A login in the owner's browser. `open_page` shows the login page; `pasted` gives the
    address the browser was sent to, for a browser on another machine."""

    def __init__(
        self, open_page: Callable[[str], Awaitable[None]], pasted: Callable[[], Awaitable[str]] | None = None
    ) -> None:
        self.open_page = open_page
        self._pasted = pasted
        self._arrived: asyncio.Queue[str] = asyncio.Queue()
        self.redirect_uri = ""

    @contextlib.asynccontextmanager
    async def listening(self, port: int, *, exact: bool = False) -> AsyncGenerator[BrowserSignIn, None]:
        """Take the browser's callback on loopback while the block runs: at `port`, or at any free one
        unless it has to be `exact`. Raises UsageError."""
        try:
            server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        except OSError as error:
            if exact:
                raise UsageError(f"Port {port} is in use. Free it, or choose one with --port.") from error
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            self.redirect_uri = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/callback"
            yield self

    async def answer(self) -> AuthorizationCodeResult:
        """The code, from the browser or the terminal. Raises McpError when the login was refused."""
        waiting = [asyncio.ensure_future(self._arrived.get())]
        if self._pasted is not None:
            waiting.append(asyncio.ensure_future(self._pasted()))
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            return _code_in(done.pop().result())
        finally:
            for task in waiting:
                task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError):
            words = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split(" ")
            target = words[1] if len(words) > 1 else ""
            found = urlsplit(target).path == "/callback"
            page = _PAGE if found else ""
            status = HTTPStatus.OK if found else HTTPStatus.NOT_FOUND
            writer.write(
                f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/html\r\n"
                f"Content-Length: {len(page)}\r\nConnection: close\r\n\r\n{page}".encode()
            )
            await writer.drain()
            if found:
                self._arrived.put_nowait(target)
        writer.close()


def _code_in(address: str) -> AuthorizationCodeResult:
    query = parse_qs(urlsplit(address.strip()).query)
    found = {key: query[key][0] for key in ("code", "state", "iss") if key in query}
    if "code" not in found:
        reason = " ".join(query.get("error", []) + query.get("error_description", [])) or "no code came back"
        raise McpError(f"the login was refused: {reason[:200]}. Try again.")
    return AuthorizationCodeResult(**found)


async def log_in(
    name: str,
    server: McpServerConfig,
    sign_in: BrowserSignIn,
    *,
    allow_private: Sequence[str] = (),
    client_id: str = "",
    client_secret: str = "",
    port: int = CALLBACK_PORT,
) -> bool:
    """Log in at the server and keep the tokens. False when the server wants no login.

    `client_id` is that of an app registered at the service beforehand, or the https address of a client
    metadata document; without it nanobot registers itself. Raises NanobotError.
    """
    if transport_kinds(name, server) == ("stdio",):
        raise UsageError(f"{name} is a program on this machine; only remote servers have logins.")
    credentials = Credentials(name, server.url, new=True)
    client_url = client_id if client_id.startswith("https://") else None
    async with sign_in.listening(port, exact=bool(client_id)):
        if client_id and client_url is None:
            await credentials.set_client_info(
                OAuthClientInformationFull(
                    client_id=client_id,
                    client_secret=client_secret or None,
                    token_endpoint_auth_method="client_secret_basic" if client_secret else "none",
                    redirect_uris=[AnyUrl(sign_in.redirect_uri)],
                )
            )
        connection = ServerConnection(
            name,
            server,
            allow_private=allow_private,
            sign_in=sign_in,
            credentials=credentials,
            client_url=client_url,
            patience=_PATIENCE,
        )
        running = asyncio.create_task(connection.run())
        try:
            await connection.settled.wait()
        finally:
            running.cancel()
            await asyncio.wait([running])
            done = credentials.exist()
            if done and connection.state == "ready":
                credentials.keep()
            credentials.delete()
    if connection.error:
        raise McpError(f"MCP server {name}: {connection.error}")
    return done


def has_screen() -> bool:
    """Without one, Python would open a text browser in this terminal."""
    return sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


async def typed_line() -> str:
    """A line typed in the terminal, without a thread that would outlive the login."""
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()
    loop.add_reader(sys.stdin, lambda: None if line.done() else line.set_result(sys.stdin.readline()))
    try:
        return await line
    finally:
        loop.remove_reader(sys.stdin)
