"""Proxies of the environment: they work, or the one that does not is named, without its password."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from nanobot.errors import ProviderError, ToolError, UnreachableError
from nanobot.providers.chat_completions import ChatCompletionsProvider
from nanobot.providers.registry import ProviderSpec
from nanobot.tools.search_engines import brave
from tests.providers.calling import Collected, Waits, ask, collect, fast_settings
from tests.providers.loopback import Loopback, chat_stream, json_answer

SPEC = ProviderSpec(name="acme", keywords=("acme",), env_key="", display_name="Acme")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


async def asked(base: str) -> Collected:
    settings = fast_settings(Waits(), max_retries=0)
    provider = ChatCompletionsProvider(SPEC, api_key="k", api_base=base, settings=settings)
    try:
        return await collect(provider, ask())
    finally:
        await provider.aclose()


async def failure(base: str) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await asked(base)
    assert "hunter22" not in str(caught.value)
    return caught.value


@asynccontextmanager
async def socks_proxy(port: int) -> AsyncIterator[tuple[str, list[str]]]:
    """A SOCKS 5 proxy (RFC 1928) that leads every name to `port` of this machine; the names it was given."""
    names: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, methods = await reader.readexactly(2)
        await reader.readexactly(methods)
        writer.write(b"\x05\x00")
        kind, length = (await reader.readexactly(5))[3:]
        assert kind == 3, "a name was expected, not an address"
        names.append((await reader.readexactly(length)).decode())
        await reader.readexactly(2)
        there, onwards = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while piece := await source.read(65_536):
                target.write(piece)
            target.close()

        await asyncio.gather(copy(reader, onwards), copy(there, writer), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", names


@pytest.mark.parametrize("scheme", ["socks", "socks5", "socks5h"])
async def test_a_socks_proxy_in_every_spelling(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Loopback(chat_stream("There.")) as server:
        async with socks_proxy(int(server.url.rpartition(":")[2])) as (address, names):
            monkeypatch.setenv("all_proxy", f"{scheme}://{address}/")
            assert (await asked("http://model.invalid/v1")).shown == "There."
    assert names == ["model.invalid"]


async def test_an_http_proxy_is_used_and_hosts_in_no_proxy_are_not_sent_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Loopback(chat_stream("There.")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("all_proxy", "socks://127.0.0.1:9/")
        assert (await asked("http://model.invalid/v1")).shown == "There."
        assert proxy.requests[0].path == "http://model.invalid/v1/chat/completions"
        monkeypatch.setenv("NO_PROXY", ".invalid")
        assert "proxy" not in str(await failure("http://model.invalid/v1"))


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_dead_proxy_is_named(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://user:hunter22@127.0.0.1:9")
    error = await failure("https://user:hunter22@model.invalid/v1?key=hunter22")
    assert type(error) is UnreachableError
    assert f"https://model.invalid/v1 through the proxy {scheme}://127.0.0.1:9 (from HTTPS_PROXY)" in str(
        error
    )
    monkeypatch.setenv("no_proxy", "model.invalid")
    assert "proxy" not in str(await failure("https://model.invalid/v1"))


async def test_a_proxy_that_wants_a_login_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Loopback(json_answer({}, 407)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//user:hunter22@"))
        error = await failure("http://model.invalid/v1")
        assert f"a login (407, test-model). Put it into the address of {proxy.url} (from http_proxy)." in str(
            error
        )


async def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks://user:hunter22@127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "socksio", None)
    error = await failure("https://model.invalid/v1")
    assert "the proxy socks5h://127.0.0.1:9 (from all_proxy) needs a package: pip install socksio" in str(
        error
    )
    assert not error.retryable


async def test_an_address_whose_password_looks_like_a_port() -> None:
    await failure("https://user:hunter22?x@model.invalid/v1")


async def test_a_search_names_the_proxy_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks://user:hunter22@127.0.0.1:9")
    with pytest.raises(
        ToolError, match=r"through the proxy socks5h://127\.0\.0\.1:9 \(from all_proxy\)"
    ) as caught:
        await brave("x", 1, "key", "https://search.invalid/")
    assert "hunter22" not in str(caught.value)
