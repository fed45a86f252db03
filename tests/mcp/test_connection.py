"""How often a server is tried again, with a clock of the test's own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nanobot.config.mcp_servers import McpServerConfig
from nanobot.errors import ConfigError
from nanobot.mcp.connection import ServerConnection
from nanobot.mcp.names import ToolNames
from nanobot.mcp.oauth import Credentials
from nanobot.mcp.servers import address_of, scrubbed, transport_kinds
from tests.mcp.serving import faulty


class Pauses:
    """Stands in for sleep: remembers how long, and stops the connection after some rounds."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.enough = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        if sum(self.seconds) > 400:
            self.enough.set()
            await asyncio.Event().wait()


async def test_a_server_that_cannot_start_is_tried_again_less_and_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path))
    pauses = Pauses()
    log = tmp_path / "starts"
    server = McpServerConfig(command="sh", args=["-c", f"echo x >> {log}; exit 1"])
    connection = ServerConnection("s", server, Credentials("s", ""), ToolNames(), pause=pauses)
    running = asyncio.create_task(connection.run())
    await pauses.enough.wait()
    running.cancel()
    await asyncio.wait([running])
    longest = [2.0**number / 2 for number in range(1, 12)]  # halved at most, by chance
    starts = len(log.read_text().splitlines())
    assert sum(longest[: starts - 1]) / 2 < sum(pauses.seconds) <= sum(longest[:starts])
    assert 0.5 <= pauses.seconds[0] <= 1
    assert max(pauses.seconds) == 2.0  # it looks for a new login that often


async def test_a_server_that_crashes_again_and_again_is_not_restarted_in_a_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path))
    paused = asyncio.Event()

    async def pause(_: float) -> None:
        paused.set()
        await asyncio.Event().wait()

    server = faulty("crash-when-listed")
    connection = ServerConnection("s", server, Credentials("s", ""), ToolNames(), pause=pause)
    running = asyncio.create_task(connection.run())
    await paused.wait()
    assert connection.state == "failed"
    assert connection.tools == ()
    running.cancel()
    await asyncio.wait([running])


@pytest.mark.parametrize(
    ("server", "kinds"),
    [
        ({"command": "npx"}, ("stdio",)),
        ({"command": "npx", "url": "https://a.example/mcp"}, ("stdio",)),
        ({"command": "npx", "url": "https://a.example/mcp", "type": "http"}, ("http",)),
        ({"url": "https://a.example/mcp"}, ("http", "sse")),
        ({"url": "https://a.example/sse/?key=1"}, ("sse", "http")),
        ({"url": "https://a.example/sse", "type": "streamable-http"}, ("http",)),
        ({"url": "https://a.example/mcp", "type": "streamableHttp"}, ("http",)),
        ({"url": "https://a.example/mcp", "type": "SSE"}, ("sse",)),
    ],
)
def test_how_a_server_is_reached(server: dict[str, str], kinds: tuple[str, ...]) -> None:
    assert transport_kinds("s", McpServerConfig(**server)) == kinds  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("server", "problem"),
    [
        ({}, r"tools.mcpServers.s has neither command nor url. Give command and args"),
        ({"type": "stdio", "url": "https://a.example"}, r"there is no command"),
        ({"type": "carrier-pigeon", "url": "https://a.example"}, r"s.type is unknown. Write \"stdio\""),
        ({"type": "http", "command": "x"}, r"s.url is missing or no http:// or https:// address"),
        ({"url": "ftp://a.example"}, r"s.url is missing or no http://"),
        ({"url": "https://[::1"}, r"s.url is missing or no http://"),
        ({"url": "https://a.example:99999/"}, r"s.url is missing or no http://"),
    ],
)
def test_what_is_wrong_with_a_server(server: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        transport_kinds("s", McpServerConfig(**server))  # type: ignore[arg-type]


def test_addresses_and_errors_show_no_secrets() -> None:
    url = "https://user:pass-word@mcp.example:8443/s/0123456789abcdef0123/mcp?api=query-value"
    remote = McpServerConfig(url=url, headers={"Authorization": "Bearer abc.def.ghi"})
    assert address_of(remote) == "https://mcp.example:8443"
    told = scrubbed(f"Cannot POST {url} with abc.def.ghi: 0123456789abcdef0123, query-value", remote)
    assert "mcp.example" in told
    for secret in ("pass-word", "0123456789abcdef0123", "query-value", "abc.def.ghi"):
        assert secret not in told
    local = McpServerConfig(
        command="/opt/bin/npx",
        args=["-y", "some-package", "--api-key", "sk-123456", "--token=tok-98765"],
        env={"KEY": "envvalue"},
    )
    assert address_of(local) == "npx"
    both = McpServerConfig(command="npx", url="http://127.0.0.1:1/mcp")  # the program is run
    assert address_of(both) == "npx"
    assert scrubbed("some-package: sk-123456 tok-98765 envvalue", local) == "some-package: *** *** ***"
