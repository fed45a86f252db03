"""The loopback Discord's gateway, tried with the real discord.py and with a raw socket."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import discord
import pytest

from tests.peers.discord_api import TOKEN, DiscordServer
from tests.peers.discord_client import INTENTS, Client, connected
from tests.peers.discord_gateway import HEARTBEAT, IDENTIFY, INVALID_SESSION, RECONNECT, RESUME
from tests.peers.discord_world import DIRECT_MESSAGES, GUILDS, MESSAGE_CONTENT, Event


async def test_a_client_that_resumes_gets_what_it_missed(server: DiscordServer, client: Client) -> None:
    ann = server.user("ann")
    ann.send("one")
    await client.told("one")
    server.gateway.cut()
    ann.send("two")
    await client.told("one", "two")
    assert (len(server.gateway.identifies), server.gateway.resumes) == (1, 1)
    server.gateway.tell(RECONNECT)
    ann.send("three")
    await client.told("one", "two", "three")
    server.gateway.repeat_on_resume = 2
    await server.gateway.close(4000)
    await client.told("one", "two", "three", "two", "three")
    assert server.gateway.resumes == 3


async def test_a_forgotten_session_starts_anew(server: DiscordServer, client: Client) -> None:
    ann = server.user("ann")
    server.gateway.cut(forget=True)
    ann.send("missed")
    await server.wait_for(lambda: len(server.gateway.identifies) == 2)
    ann.send("seen")
    await client.told("seen")
    server.gateway.tell(INVALID_SESSION, False)
    await server.wait_for(lambda: len(server.gateway.identifies) == 3)
    server.gateway.tell(INVALID_SESSION, True)
    await server.wait_for(lambda: server.gateway.resumes == 1)
    before = server.gateway.heartbeats
    server.gateway.tell(HEARTBEAT)
    await server.wait_for(lambda: server.gateway.heartbeats > before)


async def test_who_may_connect(server: DiscordServer) -> None:
    with pytest.raises(discord.LoginFailure):
        async with connected(token="wrong"):
            pass
    server.gateway.privileged = 0
    with pytest.raises(discord.ConnectionClosed, match="4014"):
        async with connected():
            pass
    with pytest.raises(discord.ConnectionClosed) as closed:
        async with connected(1 << 30):
            pass
    assert closed.value.code == 4013
    server.gateway.token = "changed meanwhile"
    with pytest.raises(discord.ConnectionClosed) as closed:
        async with connected(GUILDS):
            pass
    assert closed.value.code == 4004


async def test_content_is_hidden_without_the_intent(server: DiscordServer) -> None:
    ann, general = server.user("ann"), server.guild().channel()
    server.gateway.privileged = 0
    async with connected(INTENTS & ~MESSAGE_CONTENT) as client:
        ann.send("a secret", general, files=[("a.txt", b"a")])
        ann.send(f"<@{server.bot.id}> for you", general)
        ann.send("private")
        hidden, *_ = await client.told("", f"<@{server.bot.id}> for you", "private")
        assert hidden.attachments == []
    async with connected(GUILDS | DIRECT_MESSAGES) as client:
        ann.send("in the guild", general)
        ann.send("to me")
        await client.told("to me")


async def test_an_event_that_cannot_be_read_ends_the_librarys_connection(server: DiscordServer) -> None:
    async def poisoned() -> None:
        async with connected() as client:
            server.emit(Event("MESSAGE_CREATE", {"id": "1", "channel_id": "1"}, DIRECT_MESSAGES))
            assert client.work is not None
            await asyncio.wait({client.work}, timeout=10)

    with pytest.raises(KeyError):  # so a channel has to step over it itself
        await poisoned()


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ("no json", 4002),
        ("[]", 4002),
        ('{"op": 99}', 4001),
        ('{"op": 3, "d": {}}', 4003),
        ('{"op": 1, "d": "x"}', 4002),
        (json.dumps({"op": IDENTIFY, "d": {"token": TOKEN, "properties": {}, "intents": 1}}), 4002),
        (json.dumps({"op": IDENTIFY, "d": {"token": TOKEN, "colour": 1}}), 4002),
        (json.dumps({"op": RESUME, "d": {"token": TOKEN}}), 4002),
        (json.dumps({"op": 1, "d": None, "t": "x" * 5000}), 4002),
    ],
)
async def test_a_gateway_closes_on_nonsense(server: DiscordServer, payload: str, code: int) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.ws_connect(server.gateway_url + "?v=10&encoding=json") as socket:
            assert (await socket.receive_json())["op"] == 10
            await socket.send_str(payload)
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
            assert socket.close_code == code


async def test_a_gateway_of_another_version_is_none(server: DiscordServer) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.ws_connect(server.gateway_url + "?v=6&encoding=json") as socket:
            await socket.receive()
            await socket.receive()
            assert socket.close_code == 4012
