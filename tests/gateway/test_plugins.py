"""Tool plugins of a running gateway: changes count from the next turn, misbehaviour harms nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from nanobot.messages import ToolCall
from nanobot.providers.base import ModelRequest
from nanobot.providers.scripted import Reply, ScriptedProvider
from tests.gateway.conftest import config_for, running_gateway
from tests.gateway.processes import Home
from tests.peers.loopback_platform import Platform
from tests.tools.plugin_folder import plain

SAY = "def execute(self, **kwargs): return {!r}"
PATIENT = """time_limit = 3600
def execute(self, **kwargs):
    import pathlib, time
    pathlib.Path({begun!r}).touch()
    while not pathlib.Path({over!r}).exists():
        time.sleep(0.01)
    return "at last" """


def call_tool(request: ModelRequest) -> Reply | str:
    """Calls the tool that the user names, and repeats its result."""
    last = request.messages[-1]
    if last.tool_results:
        return str(last.tool_results[0].content)
    if last.text not in [tool.name for tool in request.tools]:
        return f"no {last.text}"
    return Reply(tool_calls=[ToolCall("c", last.text, {})])


async def test_changes_count_from_the_next_turn(platform: Platform, home: Path) -> None:
    async with running_gateway(config_for(platform), ScriptedProvider(call_tool)):
        expected: list[str] = []

        async def ask(answer: str) -> None:
            expected.append(answer)
            platform.user_sends("anna", "mine")
            assert await platform.wait_for("anna", len(expected)) == expected

        plugin = home / "workspace" / "tools" / "mine.py"
        await ask("no mine")
        plugin.write_text(plain("mine", SAY.format("one")))
        await ask("one")
        plugin.write_text(plain("mine", SAY.format("two")))
        await ask("two")
        plugin.write_text("oh no")
        await ask("no mine")
        plugin.write_text(plain("mine", SAY.format("six")))
        await ask("six")
        plugin.unlink()
        await ask("no mine")


async def test_a_call_that_blocks_holds_up_its_own_chat_only(platform: Platform, home: Path) -> None:
    begun, over = home / "begun", home / "over"
    async with running_gateway(config_for(platform), ScriptedProvider(call_tool)):
        tools = home / "workspace" / "tools"
        (tools / "a.py").write_text(plain("patient", PATIENT.format(begun=str(begun), over=str(over))))
        (tools / "b.py").write_text(plain("leave", "def execute(self, **kwargs): raise SystemExit"))
        (tools / "c.py").write_text(plain("fine", SAY.format("fine")))
        platform.user_sends("anna", "patient")
        async with asyncio.timeout(20):
            while not begun.exists():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        platform.user_sends("ben", "fine")
        assert await platform.wait_for("ben", 1) == ["fine"]
        platform.user_sends("ben", "leave")
        assert (await platform.wait_for("ben", 2))[1].startswith("Error: SystemExit")
        platform.user_sends("anna", "/stop")
        platform.user_sends("anna", "fine")
        assert (await platform.wait_for("anna", 2))[1] == "fine"
        over.touch()


@pytest.fixture
async def process_home(tmp_path: Path, platform: Platform) -> AsyncIterator[Home]:
    (tmp_path / "process").mkdir()
    made = Home(tmp_path / "process", platform)
    yield made
    await made.close()


async def test_a_gateway_survives_the_worst_plugins(process_home: Home, platform: Platform) -> None:
    tools = process_home.home / "workspace" / "tools"
    tools.mkdir(parents=True)
    (tools / "a_leaving.py").write_text("import sys; print('bye'); sys.exit(1)")
    (tools / "b_hanging.py").write_text("import time; time.sleep(3600)")
    (tools / "c_busy.py").write_text(plain("busy", "def execute(self, **kwargs):\n    while True: pass"))
    (tools / "d_fine.py").write_text(plain("fine", SAY.format("fine")))
    process_home.script(
        {"when": "busy", "tool_calls": [{"name": "busy", "arguments": {}}]},
        {"when": "fine", "tool_calls": [{"name": "fine", "arguments": {}}]},
        {"when": "fine", "text": "It is fine."},
        {"when": "again", "text": "Here again."},
    )
    gateway = await process_home.gateway()
    await gateway.says("Failed to load plugin a_leaving.py: SystemExit: 1")
    await gateway.says("Failed to load plugin b_hanging.py: It was not loaded after 5 seconds.")
    await gateway.says("Registered plugin tool 'fine'")
    port = await gateway.port()
    platform.user_sends("anna", "busy")
    await platform.wait_until(lambda: not platform.unacknowledged)
    platform.user_sends("ben", "fine")
    assert await platform.wait_for("ben", 1) == ["It is fine."]
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"http://127.0.0.1:{port}/health")).status_code == 200
    platform.user_sends("anna", "/stop")
    platform.user_sends("anna", "again")
    assert (await platform.wait_for("anna", 2))[1] == "Here again."
