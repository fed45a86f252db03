"""MCP servers that nobody here wrote, used by turns: npm server-everything (over all three transports),
server-filesystem and server-memory, PyPI mcp-server-time and mcp-server-fetch. `make peers` installs them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from nanobot.bus.events import ToolOutputDelta
from nanobot.config.mcp_servers import McpServerConfig
from nanobot.mcp.source import McpTools
from nanobot.messages import ToolCall, ToolResult
from nanobot.providers.scripted import Reply
from tests.agent.harness import play
from tests.mcp.serving import free_port, serving, until
from tests.tools.loopback import always, http_server, reply

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]

ROOT = Path(os.environ.get("NANOBOT_PEERS_DIR", Path(__file__).parents[2]))
PROGRAMS = ROOT / "node_modules" / ".bin"
PYTHON_PROGRAMS = ROOT / ".venv-peers" / "bin"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path / "home"))


async def turn(tools: McpTools, *calls: tuple[str, dict[str, Any]]) -> tuple[list[ToolResult], list[Any]]:
    """A turn whose model makes these calls: their results, and the turn's events."""
    assert await tools.wait(60)
    assert [report.error for report in tools.servers() if report.error] == []
    script = [
        Reply(tool_calls=[ToolCall(f"c{number}", *call) for number, call in enumerate(calls)]),
        Reply(text="done"),
    ]
    played = await play(script, await tools.tools())
    return played.results, played.events


@contextlib.asynccontextmanager
async def everything_over(transport: str) -> AsyncIterator[McpServerConfig]:
    program = str(PROGRAMS / "mcp-server-everything")
    if transport == "stdio":
        yield McpServerConfig(command="node", args=[program, "stdio"])
        return
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *("node", program, transport),
        env={**os.environ, "PORT": str(port)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        while b"port" not in await process.stderr.readline():
            pass
        path = "sse" if transport == "sse" else "mcp"
        yield McpServerConfig(url=f"http://127.0.0.1:{port}/{path}")
    finally:
        process.kill()
        await process.communicate()


@pytest.mark.parametrize("transport", ["stdio", "streamableHttp", "sse"])
async def test_server_everything(transport: str) -> None:
    async with everything_over(transport) as server, serving(peer=server) as tools:
        results, events = await turn(
            tools,
            ("mcp_peer_echo", {"message": "hello"}),
            ("mcp_peer_get-sum", {"a": 2, "b": "3"}),
            ("mcp_peer_get-tiny-image", {}),
            ("mcp_peer_get-structured-content", {"location": "Chicago"}),
            ("mcp_peer_get-resource-links", {"count": 2}),
            ("mcp_peer_get-resource-reference", {"resourceType": "Text", "resourceId": 1}),
            ("mcp_peer_trigger-long-running-operation", {"duration": 1, "steps": 4}),
            ("mcp_peer_get-sum", {"a": "two", "b": 3}),
        )
        echo, total, image, structured, links, resource, long, wrong = results
        assert "hello" in echo.content
        assert "5" in total.content
        assert [part.media_type for part in image.images] == ["image/png"]
        assert '"temperature"' in structured.content
        assert links.content.count("[link] ") == 2
        assert "[resource <demo://resource/dynamic/text/1> (text/plain)]\n" in resource.content
        assert long.outcome == "ok"
        assert [event.text for event in events if isinstance(event, ToolOutputDelta)][:1] != []
        assert wrong.outcome == "error"


async def test_server_everything_sees_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-secret")
    async with everything_over("stdio") as server, serving(peer=server) as tools:
        [result], _ = await turn(tools, ("mcp_peer_get-env", {}))
        assert '"PATH"' in result.content
        assert "secret" not in result.content


async def test_server_filesystem(tmp_path: Path) -> None:
    """The README's example: the folder is the one in args, whatever the workspace is."""
    folder = tmp_path / "folder"
    folder.mkdir()
    server = McpServerConfig(command="node", args=[str(PROGRAMS / "mcp-server-filesystem"), str(folder)])
    async with serving(files=server) as tools:
        results, _ = await turn(
            tools,
            ("mcp_files_write_file", {"path": str(folder / "a.txt"), "content": "written"}),
            ("mcp_files_read_text_file", {"path": str(folder / "a.txt")}),
            ("mcp_files_list_directory", {"path": str(folder)}),
            ("mcp_files_read_text_file", {"path": "/etc/passwd"}),
        )
    assert [result.outcome for result in results] == ["ok", "ok", "ok", "error"]
    assert results[1].content == "written"
    assert "a.txt" in results[2].content
    assert "denied" in results[3].content
    assert (folder / "a.txt").read_text() == "written"


async def test_server_memory_keeps_what_it_is_told(tmp_path: Path) -> None:
    server = McpServerConfig(
        command="node",
        args=[str(PROGRAMS / "mcp-server-memory")],
        env={"MEMORY_FILE_PATH": str(tmp_path / "memory.json")},
    )
    entity = {"name": "Anna", "entityType": "person", "observations": ["likes tea"]}
    async with serving(memory=server) as tools:
        results, _ = await turn(
            tools,
            ("mcp_memory_create_entities", {"entities": [entity]}),
            ("mcp_memory_search_nodes", {"query": "tea"}),
        )
    assert [result.outcome for result in results] == ["ok", "ok"]
    assert "Anna" in results[1].content
    assert results[1].content.count("likes tea") == 1  # the structured copy is not repeated


async def test_server_time() -> None:
    server = McpServerConfig(
        command=str(PYTHON_PROGRAMS / "mcp-server-time"), args=["--local-timezone", "UTC"]
    )
    noon = {"source_timezone": "Asia/Tokyo", "time": "12:00", "target_timezone": "Europe/Berlin"}
    async with serving(time=server) as tools:
        results, _ = await turn(
            tools,
            ("mcp_time_get_current_time", {"timezone": "Asia/Tokyo"}),
            ("mcp_time_convert_time", noon),
            ("mcp_time_get_current_time", {"timezone": "Mars/Olympus"}),
        )
    assert [result.outcome for result in results] == ["ok", "ok", "error"]
    assert "Asia/Tokyo" in results[0].content
    assert "Europe/Berlin" in results[1].content


async def test_server_fetch() -> None:
    page = b"<html><body><article><h1>Tides</h1><p>High water at noon.</p></article></body></html>"
    server = McpServerConfig(
        command=str(PYTHON_PROGRAMS / "mcp-server-fetch"), args=["--ignore-robots-txt", "--allow-private-ips"]
    )
    async with (
        http_server(always(reply(page, Content_Type="text/html"))) as port,
        serving(web=server) as tools,
    ):
        results, _ = await turn(tools, ("mcp_web_fetch", {"url": f"http://127.0.0.1:{port}/"}))
    assert results[0].outcome == "ok", results[0].content
    assert "High water at noon." in results[0].content


async def test_server_everything_tells_of_its_own_logging_and_lives() -> None:
    """Notifications nobody asked for do no harm."""
    async with everything_over("streamableHttp") as server, serving(peer=server) as tools:
        results, _ = await turn(
            tools, ("mcp_peer_toggle-simulated-logging", {}), ("mcp_peer_echo", {"message": "x"})
        )
        assert [result.outcome for result in results] == ["ok", "ok"]
        await until(lambda: tools.servers()[0].state == "ready")
