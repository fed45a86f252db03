"""The loopback Discord's REST calls, tried with the real discord.py and with raw HTTP."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import discord
import pytest
from discord.http import Route

from tests.peers.discord_api import TOKEN, DiscordServer
from tests.peers.discord_client import Client
from tests.peers.discord_world import FORUM, Json

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) + b"\r\n--boundary\r\n"


class Raw:
    """Plain HTTP, for what the library would not send."""

    def __init__(self, server: DiscordServer, http: aiohttp.ClientSession) -> None:
        self._base = server.api_base
        self._http = http
        self._headers = {"Authorization": f"Bot {TOKEN}", "User-Agent": "DiscordBot (test, 1)"}

    async def __call__(self, verb: str, path: str, body: Any = None, **headers: str) -> tuple[int, Json]:
        sent = {**self._headers, **headers}
        async with self._http.request(verb, self._base + path, json=body, headers=sent) as response:
            text = await response.text()
            return response.status, json.loads(text) if text else {}


@pytest.fixture
async def raw(server: DiscordServer) -> AsyncIterator[Raw]:
    async with aiohttp.ClientSession() as http:
        yield Raw(server, http)


async def test_messages_arrive_and_are_answered(server: DiscordServer, client: Client) -> None:
    ann = server.user("ann", "Ann")
    guild = server.guild("Home")
    general = guild.channel("general")
    ann.send("hello")
    asked = ann.send(f"<@{server.bot.id}> here", general)
    private, public = await client.told("hello", f"<@{server.bot.id}> here")
    assert isinstance(private.channel, discord.DMChannel)
    assert private.author.display_name == "Ann"
    assert isinstance(public.channel, discord.TextChannel)
    assert public.guild is not None
    assert (public.guild.name, public.channel.name) == ("Home", "general")
    assert client.user in public.mentions
    await private.channel.send("hi")
    await public.reply("here, too", mention_author=False)
    assert server.texts(ann.dm) == ["hi"]
    assert server.sent[1].reply_to == asked["id"]
    assert server.sent[1].message["mentions"] == []
    back = ann.send("good", general, reply_to=server.sent[1].message)
    answer = (await client.told("hello", public.content, "good"))[2]
    assert answer.reference is not None
    assert isinstance(answer.reference.resolved, discord.Message)
    assert answer.reference.resolved.author == client.user
    assert back["type"] == 19


async def test_threads_forums_and_who_is_a_role(server: DiscordServer, client: Client) -> None:
    ann, guild = server.user("ann"), server.guild()
    general, forum = guild.channel("general"), guild.channel("help", type=FORUM)
    thread, post = guild.thread(general, "bugs"), guild.thread(forum, "how?")
    ann.send(f"<@&{guild.bot_role}> one", thread)
    ann.send("two", post)
    first, second = await client.told(f"<@&{guild.bot_role}> one", "two")
    assert isinstance(first.channel, discord.Thread)
    assert isinstance(second.channel, discord.Thread)
    assert (first.channel.parent_id, second.channel.parent_id) == (general.id, forum.id)
    assert first.guild is not None
    assert first.role_mentions == [first.guild.self_role]
    await first.channel.send("there")
    assert server.texts(thread) == ["there"]
    assert isinstance(first.channel.parent, discord.TextChannel)
    created = await first.channel.parent.create_thread(name="new", type=discord.ChannelType.public_thread)
    assert created.id in server.channels
    with pytest.raises(discord.HTTPException, match="50008"):
        await client.get_partial_messageable(forum.id).send("a forum has no messages of its own")


async def test_edits_deletions_forwards_and_what_people_send(server: DiscordServer, client: Client) -> None:
    ann = server.user("ann")
    asked = ann.send("one")
    ann.edit(asked, "two")
    forwarded = ann.forward(ann.send("three"))
    ann.delete(asked)
    seen = await client.told("one", "two", "three", "")
    await client.after(lambda: client.deleted)
    assert client.deleted == [int(asked["id"])]
    assert [snapshot.content for snapshot in seen[3].message_snapshots] == ["three"]
    assert seen[3].reference is not None
    assert seen[3].reference.type is discord.MessageReferenceType.forward
    ann.send("gone", reply_to=asked)
    ann.send("joined", type=7)
    last = (await client.told("one", "two", "three", "", "gone", "joined"))[-2:]
    assert last[0].reference is not None
    assert isinstance(last[0].reference.resolved, discord.DeletedReferencedMessage)
    assert last[1].type is discord.MessageType.new_member
    assert forwarded["content"] == ""


async def test_what_a_message_may_be(server: DiscordServer, client: Client, raw: Raw) -> None:
    ann = server.user("ann")
    chat = await client.create_dm(discord.Object(ann.id))
    await chat.send("🐈" * 2000)
    with pytest.raises(discord.HTTPException, match="2000 or fewer") as refused:
        await chat.send("x" * 2001)
    assert (refused.value.status, refused.value.code) == (400, 50035)
    with pytest.raises(discord.HTTPException, match="empty message"):
        await chat.send(" \n ")
    await chat.send("  trimmed ")
    assert server.texts() == ["🐈" * 2000, "trimmed"]
    with pytest.raises(discord.HTTPException, match="25 or fewer"):
        await chat.send("x", nonce="n" * 26)
    gone = discord.MessageReference(message_id=1, channel_id=chat.id)
    with pytest.raises(discord.HTTPException, match="Unknown message"):
        await chat.send("x", reference=gone)
    gone.fail_if_not_exists = False
    await chat.send("still", reference=gone)
    assert server.sent[-1].reply_to is None
    path = f"/channels/{chat.id}/messages"
    clash = {"parse": ["users"], "users": ["1"]}
    assert (await raw("POST", path, {"content": "x", "allowed_mentions": clash}))[0] == 400
    assert (await raw("POST", path, {"content": 5}))[1]["code"] == 50035
    assert (await raw("POST", path, [1]))[1]["code"] == 50109
    assert (await raw("POST", path, {"content": "x"}, Authorization="Bot wrong"))[0] == 401
    assert (await raw("POST", "/channels/1/messages", {"content": "x"}))[1]["code"] == 10003
    ann.dm.close(403, 50007, "Cannot send messages to this user")
    with pytest.raises(discord.Forbidden, match="50007"):
        await chat.send("x")


async def test_a_nonce_makes_sending_idempotent_for_a_while(server: DiscordServer, client: Client) -> None:
    chat = await client.create_dm(discord.Object(server.user("ann").id))
    first = await chat.send("once", nonce="n-1")
    assert (await chat.send("once", nonce="n-1")).id == first.id
    await chat.send("once", nonce="n-2")
    server.drop("create_message", after=True)
    with pytest.raises(aiohttp.ClientError):
        await chat.send("lost", nonce="n-3")
    await chat.send("lost", nonce="n-3")
    assert server.texts() == ["once", "once", "lost"]
    server.rest.forget_nonces()
    assert (await chat.send("once", nonce="n-1")).id != first.id


async def test_whom_a_message_notifies(server: DiscordServer, client: Client) -> None:
    ann, general = server.user("ann"), server.guild().channel()
    chat = client.get_partial_messageable(general.id)
    words = f"@everyone <@{ann.id}>"
    await chat.send(words)
    await chat.send(words, allowed_mentions=discord.AllowedMentions.none())
    loud, quiet = (sent.message for sent in server.sent)
    assert (loud["mention_everyone"], [user["id"] for user in loud["mentions"]]) == (True, [str(ann.id)])
    assert (quiet["mention_everyone"], quiet["mentions"]) == (False, [])


async def test_editing_and_deleting_own_messages(server: DiscordServer, client: Client) -> None:
    ann = server.user("ann")
    chat = await client.create_dm(discord.Object(ann.id))
    sent = await chat.send("one")
    await sent.edit(content="two")
    assert server.texts() == ["two"]
    assert [before for before, _ in server.sent[0].edits] == ["one"]
    with pytest.raises(discord.HTTPException, match="2000 or fewer"):
        await sent.edit(content="x" * 2001)
    with pytest.raises(discord.Forbidden, match="50005"):
        await chat.get_partial_message(int(ann.send("mine")["id"])).edit(content="x")
    await sent.delete()
    assert server.texts() == []
    with pytest.raises(discord.NotFound, match="10008"):
        await sent.edit(content="three")


async def test_files_travel_both_ways(server: DiscordServer, client: Client) -> None:
    ann = server.user("ann")
    ann.send("look", files=[("cat.png", PNG), ("notes.txt", b"words")])
    (message,) = await client.told("look")
    photo, notes = message.attachments
    assert (photo.filename, photo.content_type, photo.size) == ("cat.png", "image/png", len(PNG))
    assert [await photo.read(), await notes.read()] == [PNG, b"words"]
    files = [discord.File(io.BytesIO(PNG), "a.png"), discord.File(io.BytesIO(b"b"), "b.txt")]
    await message.channel.send("two files", files=files)
    await message.channel.send(file=discord.File(io.BytesIO(b"alone"), "c.txt"))
    assert [(sent.text, sent.files) for sent in server.sent] == [
        ("two files", [("a.png", PNG), ("b.txt", b"b")]),
        ("", [("c.txt", b"alone")]),
    ]
    server.rest.upload_limit = 10
    with pytest.raises(discord.HTTPException, match="40005"):
        await message.channel.send(file=discord.File(io.BytesIO(b"x" * 11), "big"))
    with pytest.raises(discord.NotFound):
        await client.http.get_from_cdn(photo.url.replace("hm=", "hm=0"))


async def test_history_typing_reactions_and_channels(server: DiscordServer, client: Client) -> None:
    ann = server.user("ann")
    chat = await client.create_dm(discord.Object(ann.id))
    sent = [ann.send(str(number)) for number in range(5)]
    after = discord.Object(int(sent[1]["id"]))
    assert [m.content async for m in chat.history(after=after, limit=2)] == ["2", "3"]
    assert [m.content async for m in chat.history(limit=2)] == ["4", "3"]
    await chat.typing()
    assert server.typing == [chat.id]
    message = chat.get_partial_message(int(sent[0]["id"]))
    assert (await message.fetch()).content == "0"
    await message.add_reaction("👀")
    assert server.reactions == {message.id: ["👀"]}
    await message.remove_reaction("👀", discord.Object(client.application_id or 0))
    with pytest.raises(discord.HTTPException, match="10014"):
        await message.add_reaction("no-emoji")
    assert isinstance(await client.fetch_channel(chat.id), discord.DMChannel)
    with pytest.raises(discord.NotFound, match="10003"):
        await client.fetch_channel(1)


async def test_slash_commands(server: DiscordServer, client: Client) -> None:
    ann, general = server.user("ann"), server.guild().channel()
    option = {"type": 3, "name": "text", "description": "What to do", "required": False}
    command = {"name": "new", "description": "Start over", "options": [option], "contexts": [0, 1]}
    await client.http.bulk_upsert_global_commands(client.application_id or 0, [command])
    assert server.commands == [command]
    with pytest.raises(discord.HTTPException, match="name is invalid"):
        await client.http.bulk_upsert_global_commands(1, [{**command, "name": "Not Good"}])
    with pytest.raises(discord.HTTPException, match="unique"):
        await client.http.bulk_upsert_global_commands(1, [command, command])
    first, second = ann.command("new"), ann.command("new", general, text="now")
    await client.after(lambda: len(client.used) == 2)
    private, public = client.used
    assert public.data is not None
    assert public.data.get("options") == [{"name": "text", "type": 3, "value": "now"}]
    assert (public.user.name, public.channel_id) == ("ann", general.id)
    await private.response.send_message("done", ephemeral=True)
    await public.response.defer()
    assert [server.answered[number]["type"] for number in (first, second)] == [4, 5]
    private.response._response_type = None
    with pytest.raises(discord.HTTPException, match="already been acknowledged"):
        await private.response.send_message("again")


async def test_rate_limits_and_broken_servers(server: DiscordServer, client: Client) -> None:
    chat = await client.create_dm(discord.Object(server.user("ann").id))
    server.fail("create_message", 429, retry_after=0.01)
    server.fail("create_message", 429, retry_after=0.01, everywhere=True)
    await chat.send("at the third try")
    assert server.count("create_message") == 3
    client.http.max_ratelimit_timeout = 30.0
    server.fail("create_message", 429, retry_after=99)
    with pytest.raises(discord.RateLimited) as limited:
        await chat.send("x")
    assert limited.value.retry_after == 99
    server.fail("typing", 503)
    with pytest.raises(discord.DiscordServerError):
        await chat.typing()
    server.drop("typing")
    with pytest.raises(aiohttp.ClientError):
        await chat.typing()
    server.rates["create_dm"] = (1, 60.0)
    await client.create_dm(discord.Object(server.user("bob").id))
    with pytest.raises(discord.RateLimited):
        await client.create_dm(discord.Object(server.user("cy").id))
    server.stall("current_user")
    asking = asyncio.create_task(client.http.request(Route("GET", "/users/@me")))
    await server.wait_for(lambda: server.count("current_user") == 2)
    assert not asking.done()
    server.release()
    assert (await asking)["username"] == "nano_bot"


async def test_undocumented_requests_fail_the_test() -> None:
    async def ask() -> None:
        async with DiscordServer() as server, aiohttp.ClientSession() as http:
            path = f"/channels/{server.user('ann').dm.id}/messages"
            assert (await Raw(server, http)("POST", path, {"content": "x", "colour": "blue"}))[0] == 400

    with pytest.raises(AssertionError, match="colour"):
        await ask()


async def test_requests_of_the_wrong_kind() -> None:
    server = DiscordServer()
    await server.start()
    path = f"/channels/{server.user('ann').dm.id}/messages"
    async with aiohttp.ClientSession() as http:
        ask = Raw(server, http)
        assert (await ask("GET", "/gateway/bot"))[1]["url"] == server.gateway_url
        assert (await ask("GET", "/conquer/world"))[0] == 404
        form = aiohttp.FormData({"what": "ever"})
        headers = {"Authorization": f"Bot {TOKEN}", "User-Agent": "DiscordBot (test, 1)"}
        async with http.post(server.api_base + path, data=form, headers=headers) as response:
            assert response.status == 400
        assert (await ask("GET", "/gateway", **{"User-Agent": "curl"}))[0] == 200
    await server.stop()
    assert len(server.violations) == 2


async def test_the_stand_alone_server_survives_its_clients() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.peers.discord_api", "--token", "x"), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    port = json.loads(await process.stdout.readline())["port"]
    headers = {"Authorization": "Bot x", "User-Agent": "DiscordBot (test, 1)"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as http:

        async def do(path: str, **body: Any) -> Any:
            async with http.post(path, json=body) as response:
                return await response.json(content_type=None)

        ann = await do("/control/user", username="ann", id=7)
        home = await do("/control/guild", name="Home")
        asked = await do("/control/send", user="7", text="hello", channel=home["channel"], mention=True)
        assert asked["channel_id"] == home["channel"]
        await do("/control/fail", call="create_message", status=500)
        path = f"/api/v10/channels/{ann['dm']}/messages"
        assert (await do(path, content="x"))["message"] == "500: Internal Server Error"
        await do(path, content="hello back")
        state = await do("/control/wait", sent=1)
        assert [sent["content"] for sent in state["sent"]] == ["hello back"]
        assert (state["calls"]["create_message"], state["violations"]) == (2, [])
    process.terminate()
    assert await process.wait() == 0
