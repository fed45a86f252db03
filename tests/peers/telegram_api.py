"""A strict Telegram Bot API on loopback, written from https://core.telegram.org/bots/api.

In a test's event loop:

    async with TelegramServer() as server:      # server.url + "/bot" is the base URL for the library
        ann = server.user(7, "ann", "Ann")
        ann.send("hello")
        await server.wait_for(lambda: server.texts(ann))

Leaving the block fails the test if the client sent something Telegram does not document (the real
platform ignores unknown parameters). For tests that kill processes: `python -m
tests.peers.telegram_api --port 0` prints `{"port": …}` and is steered through POST /control/….
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
from collections import defaultdict, deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

from tests.peers.telegram_http import BadForm, DropConnection, HttpServer, Request, Response, parse_form
from tests.peers.telegram_methods import UPLOAD_LIMIT, ApiError, Methods
from tests.peers.telegram_parameters import METHODS, WrongParameter, read_parameters
from tests.peers.telegram_world import Json, World

TOKEN = "123456:loopback-token"
_CALL = re.compile(r"/bot([^/]+)/([A-Za-z]+)")
_DOWNLOAD = re.compile(r"/file/bot([^/]+)/(.+)")
_DESCRIPTIONS = {
    401: "Unauthorized",
    409: "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running",
    429: "Too Many Requests: retry after {retry_after}",
    500: "Internal Server Error",
}


@dataclass
class Fault:
    """What happens to one call instead of, or (`lost answer`) after, doing it."""

    kind: Literal["answer", "drop", "lost answer", "stall"]
    status: int = 0
    retry_after: int = 0
    description: str = ""


class TelegramServer(World):
    """The platform, its HTTP side and its faults. Faults queue up per method, one for each call."""

    def __init__(self, token: str = TOKEN, bot_username: str = "nano_bot") -> None:
        super().__init__(bot_username)
        self.token = token
        self.url = ""
        self.calls: list[tuple[str, Json]] = []
        self.violations: list[str] = []
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._released = asyncio.Event()
        self._methods = Methods(self)
        self._http = HttpServer(self._handle)

    async def start(self, port: int = 0) -> int:
        bound = await self._http.start(port)
        self.url = f"http://127.0.0.1:{bound}"
        return bound

    async def stop(self) -> None:
        await self._http.stop()

    async def __aenter__(self) -> TelegramServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if error is None and self.violations:
            raise AssertionError(f"the client broke the Bot API contract: {self.violations}")

    # Faults

    def fail(
        self, method: str, status: int, *, times: int = 1, retry_after: int = 1, description: str = ""
    ) -> None:
        """Answer the next `times` calls with `status` (429 carries `retry_after`, in seconds)."""
        self._faults[method.lower()].extend([Fault("answer", status, retry_after, description)] * times)

    def drop(self, method: str, *, times: int = 1, after: bool = False) -> None:
        """Cut the socket of the next calls, before or after the call took effect."""
        self._faults[method.lower()].extend([Fault("lost answer" if after else "drop")] * times)

    def stall(self, method: str, *, times: int = 1) -> None:
        """Leave the next calls without an answer until `release`."""
        self._released.clear()
        self._faults[method.lower()].extend([Fault("stall")] * times)

    def release(self) -> None:
        """Let stalled calls go on."""
        self._released.set()

    def count(self, method: str) -> int:
        """How many calls of a method arrived, refused ones included."""
        return sum(name == method for name, _ in self.calls)

    # HTTP

    async def _handle(self, request: Request) -> Response:
        if request.path.startswith("/control/"):
            from tests.peers.telegram_control import control

            arguments = json.loads(request.body or b"{}")
            return Response.of(await control(self, request.path.removeprefix("/control/"), arguments))
        if download := _DOWNLOAD.fullmatch(request.path):
            return self._download(download[1], download[2])
        try:
            return Response.of({"ok": True, "result": await self._call(request)})
        except ApiError as error:
            return _refusal(error)

    def _download(self, token: str, path: str) -> Response:
        data = dict(self.files.values()).get(path)
        if token != self.token or data is None:
            return _refusal(ApiError(404, "Not Found"))
        return Response(data, content_type="application/octet-stream")

    async def _call(self, request: Request) -> Any:
        call = _CALL.fullmatch(request.path)
        if call is None or call[2].lower() not in METHODS or request.verb not in ("GET", "POST"):
            self.violations.append(f"no such method: {request.verb} {request.path.rpartition('/')[2]}")
            raise ApiError(404, "Not Found")
        if call[1] != self.token:
            raise ApiError(401, "Unauthorized")
        if request.too_large or len(request.body) > UPLOAD_LIMIT + 4096:
            raise ApiError(413, "Request Entity Too Large")
        method = METHODS[call[2].lower()]
        parameters = self._parameters(method, request)
        self.calls.append((method, parameters))
        self.notify()
        return await self._with_fault(method, parameters)

    def _parameters(self, method: str, request: Request) -> Json:
        try:
            return read_parameters(method, parse_form(request))
        except BadForm as error:
            self.violations.append(f"{method}: {error}")
            raise ApiError(400, f"Bad Request: {error}") from error
        except WrongParameter as error:
            if error.unknown:
                self.violations.append(str(error))
            raise ApiError(400, f"Bad Request: {error}") from error

    async def _with_fault(self, method: str, parameters: Json) -> Any:
        waiting = self._faults[method.lower()]
        fault = waiting.popleft() if waiting else None
        match fault:
            case Fault("answer"):
                raise _scripted(fault)
            case Fault("drop"):
                raise DropConnection
            case Fault("stall"):
                await self._released.wait()
            case Fault("lost answer"):
                await self._methods.call(method, parameters)
                raise DropConnection
        return await self._methods.call(method, parameters)


def _scripted(fault: Fault) -> ApiError:
    description = fault.description or _DESCRIPTIONS.get(fault.status, "Bad Request: scripted")
    parameters = {"retry_after": fault.retry_after} if fault.status == 429 else {}
    return ApiError(fault.status, description.format(retry_after=fault.retry_after), parameters)


def _refusal(error: ApiError) -> Response:
    if error.code > 500:  # the front end answers, not the Bot API
        page = f"<html><head><title>{error.code}</title></head></html>"
        return Response(page.encode(), error.code, "text/html")
    body: Json = {"ok": False, "error_code": error.code, "description": error.description}
    if error.parameters:
        body["parameters"] = error.parameters
    return Response.of(body, error.code)


async def _serve(port: int, token: str) -> None:
    server = TelegramServer(token)
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
