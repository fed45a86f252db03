"""The gateway's HTTP address: `/health` for watchdogs, `/status` for `nanobot channels status`."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from nanobot.config.schema import GatewayConfig
from nanobot.errors import ConfigError

log = logging.getLogger(__name__)

Page = Mapping[str, object]
_EXCHANGE = 5.0  # seconds a client has for request and response together
_LONGEST_HEAD = 8192  # bytes
_EXTRA_HEADERS = {401: "www-authenticate: Bearer\r\n", 405: "allow: GET, HEAD\r\n"}


class HttpSurface:
    """Two pages. With a token configured `/status` needs it; `/health` tells nothing secret."""

    def __init__(self, config: GatewayConfig, report: Callable[[], Awaitable[Page]]) -> None:
        self._config = config
        self._token = config.token.strip().encode()
        self._report = report
        self._loopback = False
        self.port = 0

    async def run(self, listening: Callable[[], None]) -> None:
        """Serve until cancelled; `listening` is told. Raises ConfigError when the address cannot be used."""
        address, port = await listening_address(self._config), self._config.port
        self._loopback = _is_loopback(address)
        try:
            server = await asyncio.start_server(self._serve, address, port, limit=_LONGEST_HEAD)
        except OSError as error:
            problem = f"Cannot listen on {address} port {port}: {error.strerror}."
            raise ConfigError(f"{problem} Choose another with gateway.port or --port.") from error
        with contextlib.closing(server):
            address, self.port = server.sockets[0].getsockname()[:2]
            log.info("/health and /status are at %s port %d", address, self.port)
            listening()
            await asyncio.Event().wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):  # the client left or was too slow
            async with asyncio.timeout(_EXCHANGE):
                await self._exchange(reader, writer)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        import h11

        connection, method = h11.Connection(h11.SERVER, max_incomplete_event_size=_LONGEST_HEAD), b""
        page: Page = {}
        try:
            while (request := connection.next_event()) is h11.NEED_DATA:
                connection.receive_data(await reader.read(_LONGEST_HEAD))
            if not isinstance(request, h11.Request):
                return  # closed before anything was asked
            method = request.method
            status, page = await self._answer(method, request.target, dict(request.headers))
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint
        except Exception:
            log.exception("A request failed")
            status = 500
        phrase = HTTPStatus(status).phrase
        content = json.dumps(page or {"error": phrase}).encode()
        head = f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\nconnection: close\r\n"
        head += f"{_EXTRA_HEADERS.get(status, '')}content-length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + (b"" if method == b"HEAD" else content))
        await writer.drain()

    async def _answer(self, method: bytes, target: bytes, headers: Mapping[bytes, bytes]) -> tuple[int, Page]:
        """Status and content; the content of a refusal is its name."""
        host = headers.get(b"host", b"").decode("latin-1").casefold()
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        own = name in ("localhost", self._config.host.casefold()) or _is_loopback(name)
        if self._loopback and not own:  # a web page whose name was made to lead here (DNS rebinding)
            return 403, {}
        path = target.partition(b"?")[0]
        if path not in (b"/health", b"/status"):
            return 404, {}
        if method not in (b"GET", b"HEAD"):
            return 405, {}
        if path == b"/health":
            return 200, {"status": "ok"}
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if self._token and not (scheme.lower() == b"bearer" and hmac.compare_digest(given, self._token)):
            return 401, {}
        return 200, await self._report()


async def listening_address(config: GatewayConfig) -> str:
    """The IP address of gateway.host. Raises ConfigError when it is not safe to listen there."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(config.host or "0.0.0.0", None)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"gateway.host {config.host!r} is no address of this machine: {error}.") from error
    address = str(min(found)[4][0])  # IPv4 if there is one
    if not _is_loopback(address) and not config.token.strip():
        raise ConfigError(
            f"gateway.host {config.host!r} can be reached by other machines and gateway.token is empty. "
            "Set gateway.host to 127.0.0.1, or set gateway.token."
        )
    return address


def _is_loopback(address: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(address).is_loopback
    return False
