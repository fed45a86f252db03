"""What people write on Discord, and what of it reaches a turn: the real library, a loopback platform."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from nanobot.messages import Quoted
from tests.channels.discord_setup import Host, running_channel
from tests.peers.discord_api import DiscordServer
from tests.peers.discord_world import FORUM, GUILDS


@pytest.fixture
async def server() -> AsyncIterator[DiscordServer]:
    async with DiscordServer() as running:
        yield running


@pytest.fixture
def host() -> Host:
    return Host()


async def test_a_direct_message(server: DiscordServer, host: Host) -> None:
    ann = server.user("ann", "Ann")
    async with running_channel(server, host):
        ann.send("hello")
        (inbound,) = await host.got("hello")
    assert inbound.session_key == f"discord:{ann.dm.id}"
    assert (inbound.chat_id, inbound.sender_id, inbound.is_group) == (str(ann.dm.id), str(ann.id), False)
    assert inbound.sent_at == pytest.approx(
        int(inbound.external_id.split(":")[1]) / 2**22 / 1000 + 1_420_070_400, abs=0.001
    )


async def test_who_is_allowed_by_name_has_one_that_nobody_else_can_have(
    server: DiscordServer, host: Host
) -> None:
    ann, eve = server.user("ann"), server.user("eve", "ann")
    host.allow_from = ["@ann"]
    async with running_channel(server, host):
        eve.send("by the name that is shown")
        eve.send("by an old name", author={**eve.to_json(), "username": "ann", "discriminator": "0007"})
        ann.send("it is me")
        await host.got("it is me")


async def test_in_a_server_the_bot_waits_to_be_addressed(server: DiscordServer, host: Host) -> None:
    ann, guild = server.user("ann", "Ann"), server.guild()
    general, me = guild.channel(), server.bot.id
    async with running_channel(server, host):
        ann.send("not for the bot", general)
        ann.send(f"hey <@{me}> one", general)
        ann.send(f"<@&{guild.bot_role}> two", general)
        ann.send(f"<@!{me}> ask <@{ann.id}> in <#{general.id}>", general)
        own = server.new_message(general, server.bot, "an answer")
        ann.send("three", general, reply_to=own)
        ann.send("@everyone four", general, mention_everyone=True)
        accepted = await host.got("hey one", "two", "ask @Ann in #general", "three")
    assert all(inbound.is_group for inbound in accepted)
    assert accepted[3].quoted == (Quoted("reply", "an answer", "nano_bot", own=True),)


async def test_a_server_that_the_library_does_not_know_is_no_direct_message(
    server: DiscordServer, host: Host
) -> None:
    ann, general = server.user("ann"), server.guild().channel()
    async with running_channel(server, host, intents=37377 & ~GUILDS):
        ann.send("not for the bot", general)
        ann.send(f"<@{server.bot.id}> hello", general)
        (inbound,) = await host.got("hello")
    assert inbound.is_group


async def test_group_policies(server: DiscordServer, host: Host) -> None:
    ann, guild = server.user("ann"), server.guild()
    general, other = guild.channel(), guild.channel("other")
    thread = guild.thread(general)
    async with running_channel(server, host, groupPolicy="open"):
        ann.send("open", other)
        await host.got("open")
    async with running_channel(server, host, groupPolicy="allowlist", groupAllowFrom=[general.id]):
        ann.send("elsewhere", other)
        ann.send("listed", general)
        ann.send("in its thread", thread)
        await host.got("open", "listed", "in its thread")


async def test_threads_and_posts(server: DiscordServer, host: Host) -> None:
    ann, guild = server.user("ann"), server.guild()
    general, forum = guild.channel(), guild.channel("help", type=FORUM)
    thread = guild.thread(general)
    async with running_channel(server, host, groupPolicy="open"):
        ann.send("in a thread", thread)
        post = guild.thread(forum, "It does not start")
        ann.send("Why?", post, id=str(post.id))
        ann.send("Anyone?", post)
        accepted = await host.got("in a thread", "It does not start\nWhy?", "Anyone?")
    assert [inbound.session_key for inbound in accepted] == [
        f"discord:{general.id}:{thread.id}",
        f"discord:{forum.id}:{post.id}",
        f"discord:{forum.id}:{post.id}",
    ]


async def test_replies_forwards_files_and_the_rest(server: DiscordServer, host: Host) -> None:
    ann, bob = server.user("ann", "Ann"), server.user("bob", "Bob")
    general = server.guild().channel()
    rest = {
        "answers": [],
        "expiry": "2040-01-01T00:00:00+00:00",
        "allow_multiselect": False,
        "layout_type": 1,
    }
    poll = {"question": {"text": "tea?"}, **rest}
    said = bob.send("the plan", general, files=[("plan.txt", b"words")])
    async with running_channel(server, host):
        ann.forward(said)
        await host.got("")
        ann.send("what is it?", reply_to=ann.send("quoted"))
        ann.send("look", files=[("cat.png", b"PNG"), ("big.bin", b"x")])
        ann.send("", sticker_items=[{"id": "1", "name": "wave", "format_type": 1}])
        ann.send("", poll=poll)
        accepted = await host.got("", "quoted", "what is it?", "look", "[sticker: wave]", "[poll: tea?]")
    assert accepted[0].quoted == (Quoted("forward", "the plan", "#general"),)
    assert [item.name for item in accepted[0].attachments] == ["plan.txt"]
    assert accepted[2].quoted == (Quoted("reply", "quoted", "Ann"),)
    assert [(item.name, item.media_type) for item in accepted[3].attachments] == [
        ("cat.png", "image/png"),
        ("big.bin", "application/octet-stream"),
    ]


async def test_what_is_no_message_to_the_bot(server: DiscordServer, host: Host) -> None:
    ann, robot = server.user("ann"), server.user("robot", bot=True)
    async with running_channel(server, host):
        robot.send("I am a bot, too")
        ann.send("from a hook", webhook_id="1")
        ann.send("joined", type=7)
        server.publish("MESSAGE_CREATE", server.new_message(ann.dm, server.bot, "my own"))
        first = ann.send("a person")
        ann.edit(first, "a person, edited")
        ann.delete(first)
        ann.send("")
        ann.send("the last")
        await host.got("a person", "the last")


async def test_a_file_that_is_too_large_says_so(server: DiscordServer, host: Host) -> None:
    ann = server.user("ann")
    async with running_channel(server, host):
        message = server.new_message(ann.dm, ann, "film", files=[("film.mp4", b"x")])
        message["attachments"][0]["size"] = 21 << 20
        server.publish("MESSAGE_CREATE", message)
        (inbound,) = await host.got("film")
    assert inbound.attachments[0].error == "it is larger than 20 MB"


async def test_slash_commands(server: DiscordServer, host: Host) -> None:
    ann, eve, general = server.user("ann"), server.user("eve"), server.guild().channel()
    host.allow_from = [str(ann.id)]
    async with running_channel(server, host):
        number = ann.command("help")
        ann.command("model", general, text="large")
        stranger = eve.command("help")
        private, public = await host.got("/help", "/model large")
        await server.wait_for(lambda: len(server.answered) == 2)
    assert [command["name"] for command in server.commands] == ["help"]
    assert (private.is_group, public.is_group) == (False, True)
    assert server.answered[number]["data"]["content"] == "/help"
    assert stranger not in server.answered
