"""Connections to test servers, closed when a test leaves them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from nanobot.agent.tools import ToolOutput, tool_surroundings
from nanobot.config.mcp_servers import McpServerConfig
from nanobot.mcp.source import McpTools
from tests.talk import turn_in

FAULTS = Path(__file__).parent / "fault_server.py"
HTTP = FAULTS.with_name("http_server.py")


def faulty(*modes: str, **more: Any) -> McpServerConfig:
    """A fault server in these modes."""
    return McpServerConfig(command=sys.executable, args=[str(FAULTS), *modes], **more)


@contextlib.asynccontextmanager
async def serving(**servers: McpServerConfig) -> AsyncIterator[McpTools]:
    """The tools of these servers, once each was ready or failed; a hanging one does not get that far."""
    tools = McpTools(servers)
    try:
        yield tools
    finally:
        await tools.aclose()


async def until(true: Callable[[], object], seconds: float = 30) -> None:
    """Wait for something that other tasks bring about."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def run(tools: McpTools, name: str, **arguments: Any) -> ToolOutput:
    """Call a tool as a turn does."""
    tool = {tool.name: tool for tool in await tools.tools()}[name]
    with tool_surroundings(turn_in("cli:test"), "call", lambda _: None):
        output = await tool.execute(**arguments)
    assert isinstance(output, ToolOutput)
    return output


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def http_peer(*arguments: str, port: int = 0) -> AsyncIterator[int]:
    """A running `http_server.py`; yields its port."""
    port = port or free_port()
    async with http_process(*arguments, port=port):
        yield port


@contextlib.asynccontextmanager
async def http_process(*arguments: str, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A running `http_server.py`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-Wignore",
        str(HTTP),
        arguments[0],
        str(port),
        *arguments[1:],
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        await process.communicate()
