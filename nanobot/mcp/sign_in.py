"""A login in the owner's browser, and a moment's web server for what the browser sends back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from urllib.parse import parse_qs, urlsplit

from mcp.shared.auth import AuthorizationCodeResult

from nanobot.errors import McpError, UsageError

_PAGE = b"""HTTP/1.1 200 OK\r
Content-Type: text/html\r
Connection: close\r
\r
<!doctype html><title>nanobot</title><p>Done. The terminal says whether it worked."""


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
        with contextlib.suppress(OSError, ValueError, LookupError, asyncio.IncompleteReadError):
            request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            writer.write(_PAGE)
            await writer.drain()
            target = request.split(" ")[1]
            if urlsplit(target).path == "/callback":
                self._arrived.put_nowait(target)
        writer.close()


def _code_in(address: str) -> AuthorizationCodeResult:
    query = parse_qs(urlsplit(address.strip()).query)
    found = {key: query[key][0] for key in ("code", "state", "iss") if key in query}
    if "code" not in found:
        reason = " ".join(query.get("error", []) + query.get("error_description", [])) or "no code came back"
        raise McpError(f"the login was refused: {reason[:200]}. Try again.")
    return AuthorizationCodeResult(**found)
