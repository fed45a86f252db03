"""A gateway with MCP servers: they start with it, chats use them, and no turn waits for one that hangs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.processes import Home
from tests.mcp.serving import FAULTS
from tests.peers.loopback_platform import Platform


@pytest.fixture
async def home(tmp_path: Path, platform: Platform) -> AsyncIterator[Home]:  # replaces the in-process one
    made = Home(tmp_path, platform)
    yield made
    await made.close()


def faulty(*modes: str, **more: Any) -> dict[str, Any]:
    return {"command": sys.executable, "args": [str(FAULTS), *modes], **more}


async def test_chats_use_a_server_beside_one_that_hangs(
    home: Home, platform: Platform, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    script = 'echo $$ >> "$PIDS"; exec "$@"'
    words = [sys.executable, str(FAULTS), "stubborn"]
    noted = {"command": "sh", "args": ["-c", script, "sh", *words], "env": {"PIDS": str(pids)}}
    home.configure(tools={"mcpServers": {"hangs": faulty("hang"), "good": noted}})
    call = {"name": "mcp_good_echo", "arguments": {"text": "hello"}}
    home.script(
        {"when": "first", "text": "at once"},
        {"when": "second", "tool_calls": [call, {"name": "mcp_good_die", "arguments": {}}]},
        {"when": "second", "text": "used"},
        {"when": "third", "tool_calls": [call]},
        {"when": "third", "text": "used again"},
    )
    gateway = await home.gateway()
    platform.user_sends("anna", "first")
    assert await platform.wait_for("anna", 1) == ["at once"]
    await gateway.says("MCP server good is ready: 13 tools")
    platform.user_sends("anna", "second")
    assert await platform.wait_for("anna", 2) == ["at once", "used"]
    await gateway.says("MCP server good: the program ended with code 7. Its last words: a last word")
    platform.user_sends("anna", "third")
    assert await platform.wait_for("anna", 3) == ["at once", "used", "used again"]
    gateway.send(signal.SIGTERM)
    assert await gateway.ended() == 0
    started = [int(line) for line in pids.read_text().split()]
    assert len(started) == 2
    for pid in started:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    _, exported, _ = await home.run("session", "export", "loopback:anna", "-f", "jsonl")
    assert exported.count('"content": "hello"') + exported.count('"content":"hello"') == 2
    assert "broke off during die, whose outcome is unknown" in exported
