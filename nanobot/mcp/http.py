"""Remote servers: streamable HTTP and the older HTTP with SSE, through the URL guard.

The owner named the server's address, so that host and port may be private; nothing that the server names
(redirects, login servers) may be, unless `tools.web.allowPrivate` lists it.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TYPE_CHECKING

import httpx2
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from nanobot import __version__
from nanobot.config.mcp_servers import McpServerConfig
from nanobot.mcp.results import WrittenContents
from nanobot.mcp.servers import TransportKind
from nanobot.security.addresses import url_port
from nanobot.security.net import guarded_client

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams

_EVENT_BYTES = 32 * 1024 * 1024  # one event carries a whole result, images included
_GOODBYE = 2.0
_SECONDS = 30.0  # to connect and to send; how long an answer may take is up to toolTimeout


class HttpServer:
    """One connection to a remote server. `last_status` is the status of its newest answer, 0 before."""

    def __init__(
        self,
        server: McpServerConfig,
        kind: TransportKind,
        allow_private: Sequence[str],
        auth: httpx2.Auth | None,
    ) -> None:
        self._url = httpx2.URL(server.url)
        self._headers = {
            "User-Agent": f"nanobot/{__version__}",
            "Accept-Encoding": "identity",
            **server.headers,
        }
        self._kind = kind
        self._auth = auth
        host = self._url.raw_host.decode("ascii")
        host = f"[{host}]" if ":" in host else host
        self._allow_private = (f"{host}:{url_port(self._url)}", *allow_private)
        if self._url.userinfo:  # the guard takes no URL with a password in it
            password = f"{self._url.username}:{self._url.password}".encode()
            self._headers.setdefault("Authorization", f"Basic {base64.b64encode(password).decode()}")
            self._url = self._url.copy_with(userinfo=b"")
        self.last_status = 0
        self.written = WrittenContents()

    @contextlib.asynccontextmanager
    async def streams(self) -> AsyncGenerator[TransportStreams, None]:
        """Connected while the block runs."""
        url = str(self._url)
        if self._kind == "sse":
            async with sse_client(url, httpx_client_factory=self._client) as streams:
                yield streams
            return
        async with self._client() as client:
            opening = streamable_http_client(url, http_client=client, max_sse_event_size=_EVENT_BYTES)
            async with opening as streams:
                yield streams

    def _client(self, *_: object, **__: object) -> httpx2.AsyncClient:
        """A client with our own headers, times and login, whatever the SDK would give it."""
        client = guarded_client(allow_private=self._allow_private, headers=self._headers)
        client.timeout = httpx2.Timeout(_SECONDS, read=None)
        if self._auth is not None:
            client.auth = self._auth
        client.max_redirects = 20  # httpx2 counts the requests of a login, too
        client.event_hooks = {"request": [_limit_goodbye], "response": [self._note]}
        return client

    async def _note(self, response: httpx2.Response) -> None:
        if response.request.url == self._url:  # not one of a login server
            self.last_status = response.status_code
        if isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _Noted(response.stream, self.written)


class _Noted(httpx2.AsyncByteStream):
    """A body of JSON or of server-sent events, whose messages are noted before they are passed on."""

    def __init__(self, body: httpx2.AsyncByteStream, written: WrittenContents) -> None:
        self._body = body
        self._written = written

    async def __aiter__(self) -> AsyncIterator[bytes]:
        line: list[bytes] = []
        async for piece in self._body:
            line.append(piece)
            if b"\n" in piece:
                *whole, rest = b"".join(line).split(b"\n")
                line = [rest]
                for one in whole:
                    self._written.note(one)
            yield piece
        self._written.note(b"".join(line))

    async def aclose(self) -> None:
        await self._body.aclose()


async def _limit_goodbye(request: httpx2.Request) -> None:
    """The end of a session is told to the server, which may have stopped listening."""
    if request.method == "DELETE":
        request.extensions["timeout"] = httpx2.Timeout(_GOODBYE).as_dict()
