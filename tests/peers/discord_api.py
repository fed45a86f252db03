"""A strict Discord on loopback, gateway and REST, written from https://discord.com/developers/docs.

In a test's event loop:

    async with DiscordServer() as server:       # server.url + "/api/v10" and server.gateway_url
        ann = server.user("ann", "Ann")
        ann.send("hello")
        await server.wait_for(lambda: server.texts(ann.dm))

Leaving the block fails the test if the client sent something Discord does not document (the real
platform ignores unknown fields). For tests that kill processes: `python -m tests.peers.discord_api
--port 0` prints `{"port": …}` and is steered through POST /control/….
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

from aiohttp import web

from tests.peers.discord_forms import ApiError, Undocumented
from tests.peers.discord_gateway import Gateway
from tests.peers.discord_rest import Call, Calls
from tests.peers.discord_world import World, signature

TOKEN = "MTIzNDU2Nzg5MDEyMzQ1Njc4.loopback.token"
_BASE = "/api/v10"
_NO_TOKEN = {"callback"}  # its address holds a secret instead
_MESSAGES = {
    400: "Bad Request",
    401: "401: Unauthorized",
    403: "Missing Permissions",
    404: "404: Not Found",
    500: "500: Internal Server Error",
}


@dataclass
class Fault:
    """What happens to one call instead of, or (`lost answer`) after, doing it."""

    kind: Literal["answer", "drop", "lost answer", "stall"]
    status: int = 0
    code: int = 0
    retry_after: float = 0.0
    everywhere: bool = False


class DiscordServer(World):
    """The platform, its HTTP side and its faults. Faults queue up per call, one for each time.

    `rates` limits a call: name to (how many, in how many seconds), for each channel.
    """

    def __init__(self, token: str = TOKEN) -> None:
        super().__init__()
        self.token = token
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.rates: dict[str, tuple[int, float]] = {}
        self.gateway = Gateway(self, token)
        self.rest = Calls(self)
        self._recent: dict[tuple[str, str], deque[float]] = defaultdict(deque)
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._released = asyncio.Event()
        self._runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=0.1)

    @property
    def api_base(self) -> str:
        return self.url + _BASE

    @property
    def gateway_url(self) -> str:
        return self.url.replace("http", "ws", 1) + "/gw"

    def _application(self) -> web.Application:
        app = web.Application(client_max_size=64 << 20)
        for (verb, path), call in self.rest.routes().items():
            app.router.add_route(verb, _BASE + path, self._handler(call))
        app.router.add_get("/gw", self.gateway.handle)
        app.router.add_get("/attachments/{path:.+}", self._handler(self.download))
        app.router.add_post("/control/{name}", self._control)
        app.router.add_route("*", "/{path:.*}", self._unknown)
        return app

    async def start(self, port: int = 0) -> int:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        bound = int(self._runner.addresses[0][1])
        self.url = f"http://127.0.0.1:{bound}"
        return bound

    async def stop(self) -> None:
        self.gateway.cut()
        await self._runner.cleanup()

    async def __aenter__(self) -> DiscordServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if error is None and self.violations:
            raise AssertionError(f"the client broke Discord's contract: {self.violations}")

    # Faults

    def fail(
        self,
        call: str,
        status: int,
        *,
        times: int = 1,
        code: int = 0,
        retry_after: float = 1.0,
        everywhere: bool = False,
    ) -> None:
        """Answer the next `times` calls with `status`; 429 carries `retry_after`, maybe for all calls."""
        self._faults[call].extend([Fault("answer", status, code, retry_after, everywhere)] * times)

    def drop(self, call: str, *, times: int = 1, after: bool = False) -> None:
        """Cut the socket of the next calls, before or after the call took effect."""
        self._faults[call].extend([Fault("lost answer" if after else "drop")] * times)

    def stall(self, call: str, *, times: int = 1) -> None:
        """Leave the next calls without an answer until `release`."""
        self._released.clear()
        self._faults[call].extend([Fault("stall")] * times)

    def release(self) -> None:
        """Let stalled calls go on."""
        self._released.set()

    def count(self, call: str) -> int:
        """How many calls of a name arrived, refused ones included."""
        return self.counts[call]

    # HTTP

    def _handler(self, call: Call) -> Any:
        name = call.__name__

        async def handle(request: web.Request) -> web.StreamResponse:
            self.counts[name] += 1
            self.notify()
            try:
                if name != "download":
                    self._check_headers(name, request)
                self._check_rate(name, request)
                return _answer(await self._with_fault(name, call, request))
            except ApiError as error:
                if isinstance(error, Undocumented):
                    self.violations.append(f"{name}: {error}")
                return _refusal(error)
            except ConnectionResetError:
                if request.transport is not None:
                    request.transport.abort()
                return web.Response(status=500)  # nobody will see it
            finally:
                self.notify()

        return handle

    def _check_headers(self, name: str, request: web.Request) -> None:
        if name in _NO_TOKEN:
            return
        if not request.headers.get("User-Agent", "").startswith("DiscordBot ("):
            self.violations.append(f"{name}: no valid User-Agent")
        if request.headers.get("Authorization") != f"Bot {self.token}":
            raise ApiError(401, 0, "401: Unauthorized")

    def _check_rate(self, name: str, request: web.Request) -> None:
        if name in self.rates:
            most, seconds = self.rates[name]
            recent = self._recent[name, request.match_info.get("channel", "")]
            while recent and recent[0] <= time.monotonic() - seconds:
                recent.popleft()
            if len(recent) >= most:
                raise _too_many(recent[0] + seconds - time.monotonic())
            recent.append(time.monotonic())

    async def _with_fault(self, name: str, call: Call, request: web.Request) -> Any:
        waiting = self._faults[name]
        match waiting.popleft() if waiting else None:
            case Fault("answer", 429, _, retry_after, everywhere):
                raise _too_many(retry_after, everywhere=everywhere)
            case Fault("answer", status, code):
                raise ApiError(status, code, _MESSAGES.get(status, "Scripted"))
            case Fault("drop"):
                raise ConnectionResetError
            case Fault("stall"):
                await self._released.wait()
            case Fault("lost answer"):
                await call(request)
                raise ConnectionResetError
        return await call(request)

    async def download(self, request: web.Request) -> web.Response:
        """A file of the CDN: no token, but a signed address."""
        path = "attachments/" + request.match_info["path"]
        if path not in self.files or request.query.get("hm") != signature(path):
            return web.Response(status=404, text="This content is no longer available.")
        return web.Response(body=self.files[path], content_type="application/octet-stream")

    async def _unknown(self, request: web.Request) -> web.Response:
        self.violations.append(f"no such call: {request.method} {request.path}")
        return _refusal(ApiError(404, 0, "404: Not Found"))

    async def _control(self, request: web.Request) -> web.Response:
        from tests.peers.discord_control import control

        return _json(await control(self, request.match_info["name"], await request.json()))


def _too_many(seconds: float, *, everywhere: bool = False) -> ApiError:
    more = {"retry_after": round(max(seconds, 0.001), 3), "global": everywhere}
    return ApiError(429, 0, "You are being rate limited.", more)


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    # `text=` would add a charset to the type, which Discord does not, and its clients look for.
    return web.Response(
        body=json.dumps(value).encode(), status=status, content_type="application/json", headers=headers
    )


def _answer(value: Any) -> web.Response:
    if isinstance(value, web.Response):
        return value
    return web.Response(status=204) if value is None else _json(value)


def _refusal(error: ApiError) -> web.Response:
    if error.status > 500:  # the proxy in front answers
        return web.Response(text="<html>error</html>", status=error.status, content_type="text/html")
    headers = {"Via": "1.1 google"}  # what tells an answer of Discord from one of its proxy
    if error.status == 429:
        seconds, everywhere = error.body["retry_after"], error.body["global"]
        headers["Retry-After"] = str(max(1, round(seconds)))
        headers["X-RateLimit-Scope"] = "global" if everywhere else "user"
        if everywhere:
            headers["X-RateLimit-Global"] = "true"
        else:
            bucket = {"Limit": "5", "Remaining": "0", "Reset-After": str(seconds), "Bucket": "loopback"}
            headers.update({f"X-RateLimit-{name}": value for name, value in bucket.items()})
    return _json(error.body, error.status, headers)


async def _serve(port: int, token: str) -> None:
    server = DiscordServer(token)
    print(json.dumps({"port": await server.start(port)}), flush=True)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    await server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token", default=TOKEN)
    options = parser.parse_args()
    asyncio.run(_serve(options.port, options.token))
