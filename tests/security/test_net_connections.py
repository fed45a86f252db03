"""The URL guard at work: attacks C2 (redirects) and C3 (rebinding), and bounded downloads."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpcore2
import httpx2
import pytest

from nanobot.errors import AccessDenied, ToolError
from nanobot.security.net import download, guarded_client
from tests.tools.loopback import always, http_server, reply

# Self-signed for good.example until 2126, key included; made for this test and good for nothing else.
CERTIFICATE = Path(__file__).parent / "good.example.pem"
PUBLIC = "93.184.216.34"


# --- C2: redirects


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:{other}/",
        "//127.0.0.1:{other}/",
        "http://localhost:{other}/",
        "http://2130706433:{other}/",
        "http://[::ffff:127.0.0.1]:{other}/",
        "http://169.254.169.254/",
        "http://user:pass@127.0.0.1:{port}/",
        "file:///etc/passwd",
        "ftp://127.0.0.1:{port}/",
    ],
)
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent"])
async def test_c2_redirects_are_checked_like_first_requests(target: str, status: str) -> None:
    reached: list[str] = []

    async def secret(head: str, writer: asyncio.StreamWriter) -> None:
        reached.append(head)
        writer.write(reply(b"secret"))

    async with http_server(secret) as other:
        place: list[str] = []

        async def redirect(head: str, writer: asyncio.StreamWriter) -> None:
            location = "/second" if head.startswith("GET /first") else place[0]
            writer.write(reply(status=status, Location=location))

        async with http_server(redirect) as port:
            place.append(target.format(other=other, port=port))
            with pytest.raises(ToolError):
                await download(
                    f"http://127.0.0.1:{port}/first", max_bytes=100, allow_private=[f"127.0.0.1:{port}"]
                )
    assert reached == []


async def test_c2_five_redirects_are_followed_and_a_sixth_is_not() -> None:
    async def count_down(head: str, writer: asyncio.StreamWriter) -> None:
        left = int(head.split()[1].strip("/"))
        writer.write(reply(status="302 Found", Location=f"/{left - 1}") if left else reply(b"end"))

    async with http_server(count_down) as port:
        allowed = ["127.0.0.1"]
        found = await download(f"http://127.0.0.1:{port}/5", max_bytes=100, allow_private=allowed)
        assert (found.url, found.body) == (f"http://127.0.0.1:{port}/0", b"end")
        with pytest.raises(ToolError, match="more than 5 times"):
            await download(f"http://127.0.0.1:{port}/6", max_bytes=100, allow_private=allowed)


async def test_c2_the_body_of_a_redirect_is_not_loaded() -> None:
    sent = 0

    async def endless(head: str, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        if head.startswith("GET /end"):
            writer.write(reply(b"end"))
            return
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /end\r\nContent-Encoding: gzip\r\n\r\n")
        while True:
            writer.write(bytes(65536))
            await writer.drain()
            sent += 65536

    async with http_server(endless) as port:
        found = await download(f"http://127.0.0.1:{port}/", max_bytes=100, allow_private=["127.0.0.1"])
    assert found.body == b"end"
    assert sent < 30_000_000


async def test_credentials_do_not_follow_to_another_origin() -> None:
    seen: list[str] = []

    async def note(head: str, writer: asyncio.StreamWriter) -> None:
        seen.append(head.lower())
        writer.write(reply(b"end"))

    async with http_server(note) as other:
        elsewhere = reply(status="302 Found", Location=f"http://127.0.0.1:{other}/")
        async with http_server(always(elsewhere)) as port:
            await download(
                f"http://127.0.0.1:{port}/",
                max_bytes=100,
                allow_private=["127.0.0.1"],
                headers={"Authorization": "Bearer secret"},
            )
    assert len(seen) == 1
    assert "secret" not in seen[0]


# --- C3: rebinding


class RecordingDialer(httpcore2.AnyIOBackend):
    """Notes every address asked for, and connects to a loopback port in its place."""

    def __init__(self, port: int, refuse: Sequence[str] = ()) -> None:
        self.dialled: list[str] = []
        self._port = port
        self._refuse = refuse

    async def connect_tcp(self, host: str, port: int, *rest: Any, **named: Any) -> Any:
        self.dialled.append(host)
        if host in self._refuse:
            raise httpcore2.ConnectError("refused")
        return await super().connect_tcp("127.0.0.1", self._port)


async def test_c3_the_connection_goes_to_the_address_that_was_checked() -> None:
    answers = [[PUBLIC], ["127.0.0.1"]]

    async def rebinding(host: str, port: int) -> Sequence[str]:
        return answers.pop(0)

    async with http_server(always(reply(b"page"))) as port:
        dialer = RecordingDialer(port)
        async with guarded_client(resolve=rebinding, dial=dialer) as client:
            assert (await client.get("http://rebind.example/")).text == "page"
            with pytest.raises(AccessDenied, match=r"rebind\.example is 127\.0\.0\.1"):
                await client.get("http://rebind.example/")
    assert dialer.dialled == [PUBLIC]


async def test_c3_a_redirect_to_the_same_name_is_resolved_and_checked_again() -> None:
    answers = [[PUBLIC], ["169.254.169.254"]]

    async def rebinding(host: str, port: int) -> Sequence[str]:
        return answers.pop(0)

    async with http_server(always(reply(status="302 Found", Location="/next"))) as port:
        dialer = RecordingDialer(port)
        async with guarded_client(resolve=rebinding, dial=dialer) as client:
            with pytest.raises(AccessDenied):
                await client.get("http://rebind.example/")
    assert dialer.dialled == [PUBLIC]


@pytest.mark.parametrize("addresses", [[PUBLIC, "10.0.0.1"], ["::1", PUBLIC], [PUBLIC] * 9 + ["127.0.0.1"]])
async def test_c3_one_private_address_among_public_ones_refuses_the_host(addresses: list[str]) -> None:
    async def mixed(host: str, port: int) -> Sequence[str]:
        return addresses

    dialer = RecordingDialer(1)
    async with guarded_client(resolve=mixed, dial=dialer) as client:
        with pytest.raises(AccessDenied):
            await client.get("http://mixed.example/")
    assert dialer.dialled == []


async def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    async def two(host: str, port: int) -> Sequence[str]:
        return ["2606:4700:4700::1111", PUBLIC]

    async with http_server(always(reply(b"page"))) as port:
        dialer = RecordingDialer(port, refuse=["2606:4700:4700::1111"])
        async with guarded_client(resolve=two, dial=dialer) as client:
            assert (await client.get("http://two.example/")).text == "page"
    assert dialer.dialled == ["2606:4700:4700::1111", PUBLIC]


async def test_the_host_name_is_sent_and_the_certificate_is_checked_against_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    asked: list[str] = []

    async def note(head: str, writer: asyncio.StreamWriter) -> None:
        asked.append(head.lower())
        writer.write(reply(b"page"))

    async def resolve(host: str, port: int) -> Sequence[str]:
        return [PUBLIC]

    async with (
        http_server(note, ssl=context) as port,
        guarded_client(resolve=resolve, dial=RecordingDialer(port)) as client,
    ):
        assert (await client.get("https://good.example/")).text == "page"
        with pytest.raises(httpx2.ConnectError, match="certificate"):
            await client.get("https://bad.example/")
    assert len(asked) == 1
    assert "host: good.example" in asked[0]


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def note(head: str, writer: asyncio.StreamWriter) -> None:
        asked.append(head)
        writer.write(reply(b"from the proxy"))

    async def resolve(host: str, port: int) -> Sequence[str]:
        return [PUBLIC]

    async with http_server(note) as proxy, http_server(always(reply(b"direct"))) as port:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
        async with guarded_client(resolve=resolve, dial=RecordingDialer(port)) as client:
            assert (await client.get("http://site.example/")).text == "direct"
        dead = RecordingDialer(port, refuse=[PUBLIC])
        async with guarded_client(resolve=resolve, dial=dead) as client:
            with pytest.raises(httpx2.ConnectError, match="proxies from the environment are not used"):
                await client.get("http://site.example/")
    assert asked == []


async def test_a_name_that_cannot_be_found_says_so() -> None:
    async def nothing(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    async with guarded_client(resolve=nothing) as client:
        with pytest.raises(httpx2.ConnectError, match="cannot be found"):
            await client.get("http://nowhere.example/")


async def test_a_resolver_that_hangs_is_a_timeout() -> None:
    async def hang(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    async with guarded_client(resolve=hang) as client:
        with pytest.raises(httpx2.ConnectTimeout):
            await client.get("http://slow.example/", timeout=0.05)


# --- bounded downloads


@pytest.mark.parametrize(("size", "cut"), [(999, False), (1000, False), (1001, True), (100_000, True)])
async def test_a_download_stops_at_its_limit(size: int, cut: bool) -> None:
    async with http_server(always(reply(b"x" * size))) as port:
        found = await download(f"http://127.0.0.1:{port}/", max_bytes=1000, allow_private=["127.0.0.1"])
    assert (found.body, found.cut, found.size) == (b"x" * min(size, 1000), cut, size)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_decompression_bomb_is_cut(coding: str) -> None:
    plain = bytes(200_000_000)
    packed = gzip.compress(plain, 9) if coding == "gzip" else zlib.compress(plain, 9)
    async with http_server(always(reply(packed, Content_Encoding=coding))) as port:
        found = await download(f"http://127.0.0.1:{port}/", max_bytes=10_000, allow_private=["127.0.0.1"])
    assert (found.body, found.cut) == (bytes(10_000), True)


async def test_layers_of_compression_are_refused() -> None:
    packed = gzip.compress(gzip.compress(b"x"))
    async with http_server(always(reply(packed, Content_Encoding="gzip, gzip"))) as port:
        with pytest.raises(ToolError, match="more than once"):
            await download(f"http://127.0.0.1:{port}/", max_bytes=100, allow_private=["127.0.0.1"])


async def test_a_server_that_drips_is_cut_by_the_deadline() -> None:
    async def drip(head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with http_server(drip) as port:
        with pytest.raises(ToolError, match="in time"):
            await download(
                f"http://127.0.0.1:{port}/", max_bytes=10**6, timeout=0.3, allow_private=["127.0.0.1"]
            )


async def test_an_unwanted_type_is_not_read() -> None:
    async with http_server(always(reply(b"%PDF", Content_Type="application/pdf"))) as port:
        found = await download(
            f"http://127.0.0.1:{port}/",
            max_bytes=100,
            allow_private=["127.0.0.1"],
            wanted=lambda kind: kind.startswith("text/"),
        )
    assert (found.body, found.size, found.content_type) == (None, 4, "application/pdf")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nthis is not gzip",
        b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000 + b"\r\n\r\n",
    ],
    ids=["nothing", "nonsense", "short", "bad-chunk", "bad-gzip", "bad-location", "huge-header"],
)
async def test_broken_answers_are_tool_errors_that_name_only_the_host(answer: bytes) -> None:
    async with http_server(always(answer)) as port:
        with pytest.raises(ToolError, match=r"127\.0\.0\.1") as caught:
            await download(
                f"http://127.0.0.1:{port}/bot-secret-token/", max_bytes=1000, allow_private=["127.0.0.1"]
            )
    assert "secret-token" not in str(caught.value)


async def test_a_closed_port_is_a_tool_error() -> None:
    async with http_server(always(b"")) as port:
        pass
    with pytest.raises(ToolError, match=r"Cannot open 127\.0\.0\.1"):
        await download(f"http://127.0.0.1:{port}/", max_bytes=10, allow_private=["127.0.0.1"])
