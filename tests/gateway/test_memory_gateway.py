"""Memory in chats: consolidated beside them, forgotten in them, each chat its own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from nanobot.bus.hub import wait_for
from nanobot.gateway import Gateway
from nanobot.memory.consolidation_table import ConsolidationTable
from nanobot.providers.base import ModelRequest
from nanobot.providers.scripted import Reply, ScriptedProvider
from tests.gateway.conftest import config_for, running_gateway
from tests.peers.loopback_platform import Platform

QUIET = {"heartbeat": {"enabled": False}, "channels": {"sendProgress": False}}


async def until_written(gateway: Gateway, path: Path, text: str) -> str:
    """Wait until a memory file says `text`; a change of it is stored."""
    async with asyncio.timeout(20):
        with gateway.hub.changes() as changed:
            while not path.exists() or text not in path.read_text():
                await wait_for(changed, 0.2)
    return path.read_text()


def holding(home: Path, word: str) -> list[str]:
    files = (path for path in home.rglob("*") if path.is_file())
    return [path.name for path in files if word.encode() in path.read_bytes()]


async def test_a_chat_is_answered_while_its_past_is_consolidated(home: Path, platform: Platform) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    def model(request: ModelRequest) -> Reply:
        if "Known facts:" not in request.messages[0].text:
            return Reply(f"re {request.messages[-1].text}")
        asked.set()
        add = {"op": "add", "text": "I live in Berlin.", "evidence": [1]}
        return Reply(json.dumps({"history": "They met.", "operations": [add]}), wait=go)

    config = config_for(platform, agents={"defaults": {"memoryWindow": 4}}, **QUIET)
    async with running_gateway(config, ScriptedProvider(model)) as (_, gateway):
        for text in ("I live in Berlin.", "two"):
            platform.user_sends("anna", text)
        await platform.wait_for("anna", 2)
        await asyncio.wait_for(asked.wait(), 20)
        platform.user_sends("anna", "three")
        assert await platform.wait_for("anna", 3) == ["re I live in Berlin.", "re two", "re three"]
        go.set()
        folder = home / "workspace" / "memory"
        assert "<!-- loopback:anna#1-2 -->" in await until_written(
            gateway, folder / "HISTORY.md", "They met."
        )
        await until_written(gateway, folder / "MEMORY.md", "- I live in Berlin. <!-- ")


async def test_new_answers_at_once_and_nothing_of_the_conversation_is_lost(
    home: Path, platform: Platform
) -> None:
    def model(request: ModelRequest) -> Reply:
        if "Known facts:" in request.messages[0].text:
            return Reply(wait=asyncio.Event())
        return Reply(f"re {request.messages[-1].text}, {len(request.messages)}")

    async with running_gateway(config_for(platform, **QUIET), ScriptedProvider(model)) as (app, _):
        for text in ("one", "/new", "two"):
            platform.user_sends("anna", text)
        shown = await platform.wait_for("anna", 3)
        assert (shown[0], shown[2]) == ("re one, 1", "re two, 1")
        (waiting,) = await ConsolidationTable(app.store.database).unconsolidated(100)
        assert (waiting.session, waiting.consolidated, waiting.until) == ("loopback:anna", 0, 2)
        assert len(await app.store.sessions.history("loopback:anna")) == 4


async def test_a_chat_forgets_after_confirmation(home: Path, platform: Platform) -> None:
    provider = ScriptedProvider(lambda request: f"You said: {request.messages[-1].text}")
    async with running_gateway(config_for(platform, **QUIET), provider) as (app, _):
        platform.user_sends("anna", "I live in Berlin.")
        platform.user_sends("bob", "I live in Berlin, too.")
        await platform.wait_for("anna", 1)
        await platform.wait_for("bob", 1)
        platform.user_sends("anna", "/forget Berlin")
        preview = (await platform.wait_for("anna", 2))[1]
        assert "message loopback:anna#1 user: I live in Berlin." in preview
        assert "too" not in preview
        platform.user_sends("anna", "/forget yes")
        done = (await platform.wait_for("anna", 3))[2]
        assert done.startswith("Forgotten; 2 messages lost their words.")
        texts = [entry.message.text for entry in await app.store.sessions.history("loopback:anna")]
        assert texts == ["[forgotten]", "[forgotten]"]
        assert len(holding(home, "I live in Berlin, too")) > 0
        platform.user_sends("bob", "/forget Berlin")
        await platform.wait_for("bob", 2)
        platform.user_sends("bob", "/forget yes")
        await platform.wait_for("bob", 3)
        assert holding(home, "Berlin") == []
