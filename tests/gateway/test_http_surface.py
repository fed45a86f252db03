"""`/health` and `/status`: who may ask, and what odd clients get."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from nanobot.config.schema import GatewayConfig
from nanobot.errors import ConfigError
from nanobot.gateway.http import HttpSurface, listening_address

REPORT = {"leading": True}
Report = Callable[[], Awaitable[Mapping[str, object]]]


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Speaks raw bytes: what a polite HTTP library would never send can be sent."""

    port: int

    async def raw(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        try:
            return await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def ask(self, path: str, method: str = "GET", host: str = "", **headers: str) -> Answer:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{self.port}'}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return parse(await self.raw("\r\n".join([*lines, "", ""]).encode()))


def parse(answer: bytes) -> Answer:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
    return Answer(int(first.split()[1]), headers, body)


async def report() -> Mapping[str, object]:
    return REPORT


@contextlib.asynccontextmanager
async def serving(
    caplog: pytest.LogCaptureFixture, report: Report = report, **config: Any
) -> AsyncIterator[Client]:
    caplog.set_level(logging.INFO, "nanobot.gateway.http")
    surface = HttpSurface(GatewayConfig(port=0, **config), report)
    listening = asyncio.Event()
    task = asyncio.create_task(surface.run(listening.set))
    waiting = asyncio.create_task(listening.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    try:
        if task.done():
            await task
        yield Client(int(caplog.messages[-1].rsplit(" ", 1)[1]))
    finally:
        waiting.cancel()
        task.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)


async def test_health_and_status(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(caplog) as client:
        health = await client.ask("/health")
        assert (health.status, health.json) == (200, {"status": "ok"})
        assert health.headers["connection"] == "close"
        assert (await client.ask("/health?x=1")).status == 200
        assert (await client.ask("/status")).json == REPORT


async def test_head_has_the_length_and_no_body(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(caplog) as client:
        answer = await client.ask("/health", "HEAD")
        assert answer.status == 200
        assert answer.body == b""
        assert int(answer.headers["content-length"]) == len((await client.ask("/health")).body)


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/status/", "//status", "/../status", "http://127.0.0.1/status"]
)
async def test_other_paths_do_not_exist(caplog: pytest.LogCaptureFixture, path: str) -> None:
    async with serving(caplog) as client:
        assert (await client.ask(path)).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get"])
async def test_other_methods_are_refused(caplog: pytest.LogCaptureFixture, method: str) -> None:
    async with serving(caplog) as client:
        answer = await client.ask("/health", method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


TOKEN = "s3cret-token"


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN.upper()}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer tökén",
    ],
)
async def test_a_wrong_token_is_refused(caplog: pytest.LogCaptureFixture, given: str | None) -> None:
    async with serving(caplog, token=TOKEN) as client:
        answer = await client.ask("/status", **({} if given is None else {"Authorization": given}))
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert TOKEN.encode() not in answer.body
        assert (await client.ask("/health")).status == 200
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
async def test_the_token_opens_status(caplog: pytest.LogCaptureFixture, scheme: str) -> None:
    async with serving(caplog, token=TOKEN) as client:
        assert (await client.ask("/status", Authorization=f"{scheme} {TOKEN}")).json == REPORT


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:18790",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "[::2]",
        "10.0.0.1",
        "@",
        "[",
        "127.0.0.1@evil.example",
    ],
)
async def test_a_name_of_somebody_else_is_refused(caplog: pytest.LogCaptureFixture, host: str) -> None:
    async with serving(caplog) as client:
        for path in ("/health", "/status", "/"):
            assert (await client.ask(path, host=host)).status == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.2:80", "[::1]:18790"])
async def test_loopback_names_are_answered(caplog: pytest.LogCaptureFixture, host: str) -> None:
    async with serving(caplog, host="localhost") as client:
        assert (await client.ask("/health", host=host)).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "  ", "192.0.2.1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("token", ["", "   "])
async def test_an_open_address_needs_a_token(host: str, token: str) -> None:
    with pytest.raises(ConfigError, match=r"gateway\.host") as caught:
        await listening_address(GatewayConfig(host=host, token=token))
    assert "gateway.token" in str(caught.value) or "no address" in str(caught.value)


async def test_an_open_address_with_a_token_answers_under_any_name(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(caplog, host="0.0.0.0", token=TOKEN) as client:
        assert (await client.ask("/health", host="bot.example")).status == 200
        assert (await client.ask("/status", host="bot.example")).status == 401
        answer = await client.ask("/status", host="bot.example", Authorization=f"Bearer {TOKEN}")
        assert answer.json == REPORT


async def test_a_name_that_does_not_resolve_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"gateway\.host"):
        await listening_address(GatewayConfig(host="nowhere.invalid"))


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",  # no Host
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20000,
    ],
)
async def test_malformed_requests_are_refused(caplog: pytest.LogCaptureFixture, request_bytes: bytes) -> None:
    async with serving(caplog) as client:
        assert parse(await client.raw(request_bytes)).status in (400, 431)
        assert (await client.ask("/health")).status == 200


async def test_a_client_that_never_finishes_is_cut_off_and_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(caplog) as client:
        slow = [asyncio.create_task(client.raw(b"GET /health HTTP/1.1\r\nHost: local")) for _ in range(20)]
        assert (await client.ask("/health")).status == 200
        assert await asyncio.gather(*slow) == [b""] * 20


async def test_a_failing_report_is_an_internal_error_without_details(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken() -> Mapping[str, object]:
        raise RuntimeError("the disk says no")

    async with serving(caplog, report=broken) as client:
        answer = await client.ask("/status")
        assert answer.status == 500
        assert b"disk" not in answer.body
        assert "the disk says no" in caplog.text


async def test_a_busy_port_is_an_error_that_names_the_setting(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(caplog) as client:
        with pytest.raises(ConfigError, match=r"gateway\.port or --port"):
            await HttpSurface(GatewayConfig(port=client.port), report).run(lambda: None)
