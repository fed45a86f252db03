"""Discord through `nanobot gateway` as its owner starts it: a process that is killed and started again."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nanobot.providers.scripted import ScriptedProvider
from tests.channels.conftest import echo, eventually
from tests.channels.discord_setup import config_for, section
from tests.gateway.conftest import running_gateway
from tests.gateway.processes import Home
from tests.peers.discord_api import TOKEN, DiscordServer


@pytest.fixture
async def server() -> AsyncIterator[DiscordServer]:
    async with DiscordServer() as running:
        yield running


@pytest.fixture
async def owner(tmp_path: Path, server: DiscordServer) -> AsyncIterator[Home]:
    home = Home(tmp_path)
    home.configure(channels={"discord": section(server, groupPolicy="mention")})
    yield home
    await home.close()


async def test_a_message_a_tool_and_an_answer(server: DiscordServer, owner: Home) -> None:
    call = {"name": "list_dir", "arguments": {"path": "."}}
    owner.script({"text": "Let me look.", "tool_calls": [call]}, {"text": "There is **nothing** here."})
    ann, general = server.user("ann", "Ann"), server.guild().channel()
    gateway = await owner.gateway()
    await gateway.says("Channel discord is connected")
    ann.send(f"<@{server.bot.id}> what is here?", general)
    await server.wait_for(lambda: "There is **nothing** here." in server.texts(general), 20)
    assert general.id in server.typing
    _, out, _ = await owner.run("channels", "status", "--json")
    channels = {channel["name"]: channel for channel in json.loads(out)["channels"]}
    assert (channels["discord"]["state"], channels["discord"]["received"]) == ("connected", 1)
    gateway.send(signal.SIGTERM)
    assert await gateway.ended() == 0
    with contextlib.closing(sqlite3.connect(owner.home / "nanobot.db")) as database:
        query = "SELECT seen_at FROM chats WHERE channel = 'discord' ORDER BY chat_id"
        stopped, asked = (row[0] for row in database.execute(query))
    assert stopped > asked
    assert not [line for line in gateway.log if TOKEN in line or "what is here" in line]


async def test_a_gateway_killed_while_an_answer_grows_completes_it_in_place(
    server: DiscordServer, owner: Home
) -> None:
    owner.script({"chunks": ["Once upon"], "text": "Once upon", "hang": True})
    ann = server.user("ann")
    gateway = await owner.gateway()
    await gateway.says("Channel discord is connected")
    ann.send("tell me")
    await server.wait_for(lambda: server.texts(ann.dm) == ["Once upon"], 20)
    gateway.send(signal.SIGKILL)
    await gateway.ended()
    ann.send("and one more")
    owner.script({"text": "Once upon a time. The end."}, {"text": "No more."})
    await owner.gateway()
    await server.wait_for(lambda: server.texts(ann.dm) == ["Once upon a time. The end.", "No more."], 20)


async def test_many_chats_at_once_are_each_answered_once_and_in_order(
    server: DiscordServer, home: Path
) -> None:
    people = [server.user(f"user{number}") for number in range(8)]
    server.rates = {"create_message": (5, 0.3), "edit_message": (5, 0.3)}
    async with running_gateway(config_for(server), ScriptedProvider(echo)) as (_, gateway):
        await eventually(lambda: gateway.channels.status["discord"].state == "connected")
        for number in range(5):
            for person in people:
                person.send(f"m{number}")
            server.drop("create_message", after=True)  # the answer to one call is lost, and so is a socket
            server.fail("create_message", 503)
        server.gateway.cut()
        expected = [f"you said: m{number}" for number in range(5)]
        try:
            await server.wait_for(lambda: all(server.texts(one.dm) == expected for one in people), 40)
        except TimeoutError:
            raise AssertionError([server.texts(one.dm) for one in people]) from None
        assert gateway.channels.status["discord"].received == 40
