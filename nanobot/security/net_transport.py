"""How a guarded connection is made: resolve, check all addresses, connect to one that was checked.

Imported only when something is opened, since it needs the HTTP client.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from ipaddress import ip_address

import httpcore2
import httpx2

from nanobot.errors import AccessDenied
from nanobot.security.addresses import AllowedTarget, IPAddress, check_target, check_url

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
Dialer = httpcore2.AsyncNetworkBackend

_MAX_ATTEMPTS = 4
_REDIRECTS = (301, 302, 303, 307, 308)


async def resolve_host(host: str, port: int) -> Sequence[str]:
    """The addresses of `host` in the order the system prefers. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class GuardedDialer(httpcore2.AsyncNetworkBackend):
    """Connects to public addresses only. One non-public address among several refuses the host."""

    def __init__(self, allowed: Sequence[AllowedTarget], resolve: Resolve, dial: Dialer) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._dial = dial

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        addresses = (await self._checked_addresses(host, port, timeout))[:_MAX_ATTEMPTS]
        share = timeout / len(addresses) if timeout is not None else None
        failure: Exception | None = None
        for address in addresses:
            try:
                return await self._dial.connect_tcp(str(address), port, share, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise _connect_failure(failure)

    async def _checked_addresses(self, host: str, port: int, timeout: float | None) -> list[IPAddress]:
        try:
            async with asyncio.timeout(timeout):
                addresses = [ip_address(text) for text in await self._resolve(host, port)]
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout("looking up the name took too long") from error
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError("the name cannot be found (wrong name, or no network)") from error
        if not addresses:
            raise httpcore2.ConnectError("the name has no address")
        for address in addresses:
            check_target(host, address, port, self._allowed)
        return addresses

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        raise AccessDenied("Unix sockets are not opened.")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _connect_failure(failure: Exception | None) -> Exception:
    if isinstance(failure, httpcore2.ConnectTimeout):
        return failure
    hint = ""
    proxies = {"https_proxy", "http_proxy", "all_proxy"}
    if any(value for name, value in os.environ.items() if name.lower() in proxies):
        hint = " (proxies from the environment are not used here, as they would bypass the address check)"
    return httpcore2.ConnectError(f"no connection: {failure}{hint}")


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Carries requests over connections of a GuardedDialer. Built on the public API of httpcore2 alone,
    so that no change of a private name there can quietly take the guard away."""

    def __init__(
        self, allow_private: Sequence[str] = (), resolve: Resolve | None = None, dial: Dialer | None = None
    ) -> None:
        self._allow_private = tuple(allow_private)
        allowed = [AllowedTarget.parse(entry) for entry in allow_private]
        dialer = GuardedDialer(allowed, resolve or resolve_host, dial or httpcore2.AnyIOBackend())
        self._pool = httpcore2.AsyncConnectionPool(
            network_backend=dialer, max_connections=20, max_keepalive_connections=5, keepalive_expiry=5
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = check_url(request.url, self._allow_private)
        assert isinstance(request.stream, httpx2.AsyncByteStream)
        with _as_httpx2_errors():
            response = await self._pool.handle_async_request(
                httpcore2.Request(
                    method=request.method,
                    url=httpcore2.URL(
                        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        assert isinstance(response.stream, AsyncIterable)
        stream = _Stream(response)
        names = [name.lower() for name, _ in response.headers]
        if response.status in _REDIRECTS and b"location" in names:
            # The client would load the body of a redirect whole, however long it is.
            await stream.aclose()
            kept = [pair for pair in response.headers if pair[0].lower() in (b"location", b"set-cookie")]
            return httpx2.Response(response.status, headers=kept, extensions=response.extensions)
        return httpx2.Response(
            response.status, headers=response.headers, stream=stream, extensions=response.extensions
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Stream(httpx2.AsyncByteStream):
    """A response body that fails with the errors the client's callers know."""

    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx2_errors():
            async with contextlib.aclosing(self._response.aiter_stream()) as parts:
                async for part in parts:
                    yield part

    async def aclose(self) -> None:
        with _as_httpx2_errors():
            await self._response.aclose()


_HTTPCORE2_ERRORS = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.ProxyError,
    httpcore2.UnsupportedProtocol,
)


@contextlib.contextmanager
def _as_httpx2_errors() -> Iterator[None]:
    """httpx2 has an error of the same name for every one of httpcore2."""
    try:
        yield
    except _HTTPCORE2_ERRORS as error:
        raise getattr(httpx2, type(error).__name__, httpx2.TransportError)(str(error)) from error
