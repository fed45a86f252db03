"""Sending to Discord, connecting, catching up after an absence: the real library, a loopback platform."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nanobot.channels.discord import DiscordChannel
from nanobot.channels.discord_config import DiscordConfig
from nanobot.errors import ChannelError, StorageError
from nanobot.messages import Attachment, InboundMessage
from tests.channels.discord_setup import Host, outbound, running_channel, section
from tests.peers.discord_api import TOKEN, DiscordServer
from tests.peers.discord_gateway import RECONNECT
from tests.peers.discord_world import DIRECT_MESSAGES, EPOCH, Event

CODE = "```python\n" + "print(1)\n" * 400 + "```"


@pytest.fixture
async def server() -> AsyncIterator[DiscordServer]:
    async with DiscordServer() as running:
        yield running


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
async def channel(server: DiscordServer, host: Host) -> AsyncIterator[DiscordChannel]:
    async with running_channel(server, host) as running:
        yield running


# Sending


async def test_markdown_arrives_and_pings_nobody(server: DiscordServer, channel: DiscordChannel) -> None:
    ann, general = server.user("ann"), server.guild().channel()
    receipt = await channel.send(outbound(f"**Hi** @everyone, ask <@{ann.id}>", general))
    (sent,) = server.sent
    assert receipt == sent.message["id"]
    assert sent.text.startswith("**Hi** ")
    assert (sent.message["mentions"], sent.message["mention_everyone"]) == ([], False)
    assert sent.message["flags"] & 1 << 2  # no preview


async def test_long_texts_are_split_at_2000_and_fences_kept(
    server: DiscordServer, channel: DiscordChannel
) -> None:
    ann = server.user("ann")
    await channel.send(outbound(f"before\n\n{CODE}\n\nafter", ann.dm))
    texts = server.texts(ann.dm)
    assert len(texts) > 1
    assert "".join(texts).count("print(1)") == 400
    assert all(text.count("```") % 2 == 0 for text in texts)


async def test_answers_go_to_their_thread_and_refer_to_the_message(server: DiscordServer, host: Host) -> None:
    ann, guild = server.user("ann"), server.guild()
    general = guild.channel()
    thread = guild.thread(general)
    async with running_channel(
        server, host, groupPolicy="open", replyToMessage=True, reactEmoji="👀"
    ) as channel:
        asked = ann.send("question", thread)
        (inbound,) = await host.got("question")
        await channel.send(outbound("answer", general, metadata=inbound.metadata))
        await channel.send(outbound("to all", general, id="m-1", kind="message"))
        await channel.show_typing(inbound)
        await channel.react(inbound)
        ann.delete(asked)
        await channel.send(outbound("late", general, id="turn-2", metadata=inbound.metadata))
    assert (server.texts(thread), server.texts(general)) == (["answer", "late"], ["to all"])
    assert server.sent[0].reply_to == asked["id"]
    assert server.sent[0].message["mentions"][0]["id"] == str(ann.id)
    assert server.typing == [thread.id]
    assert server.reactions == {int(asked["id"]): ["👀"]}


async def test_a_growing_answer_is_edited_until_it_is_whole(
    server: DiscordServer, channel: DiscordChannel
) -> None:
    ann = server.user("ann")
    await channel.show_partial(outbound("It", ann.dm))
    await channel.show_partial(outbound("It grows", ann.dm))
    await channel.send(outbound("It grows.", ann.dm))
    assert server.texts() == ["It grows."]
    assert [before for before, _ in server.sent[0].edits] == ["It", "It grows"]


async def test_a_growing_answer_that_somebody_deleted_is_sent_again(
    server: DiscordServer, channel: DiscordChannel
) -> None:
    ann = server.user("ann")
    await channel.show_partial(outbound("It", ann.dm))
    server.delete(server.sent[0].message)
    await channel.send(outbound("It is whole", ann.dm))
    assert server.texts() == ["It is whole"]


async def test_what_was_sent_before_a_crash_is_not_sent_twice(server: DiscordServer, host: Host) -> None:
    ann = server.user("ann")
    async with running_channel(server, host) as channel:
        await channel.show_partial(outbound("It gr", ann.dm))
    async with running_channel(server, host) as channel:  # knows nothing of it
        await channel.send(outbound("It grows", ann.dm))
    async with running_channel(server, host) as channel:
        await channel.send(outbound("It grows", ann.dm))
    assert server.texts() == ["It grows"]


async def test_a_lost_answer_does_not_double_a_message(
    server: DiscordServer, channel: DiscordChannel
) -> None:
    message = outbound(CODE, server.user("ann").dm)
    server.drop("create_message", after=True)
    with pytest.raises(ChannelError, match="cannot be reached"):
        await channel.send(message)
    await channel.send(message)
    assert "".join(server.texts()).count("print(1)") == 400


async def test_files_go_out_with_a_caption(
    server: DiscordServer, channel: DiscordChannel, tmp_path: Path
) -> None:
    general = server.guild().channel()
    names = ("a.txt", "b.txt")
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    files = tuple(Attachment(str(tmp_path / name), name) for name in names)
    await channel.send(outbound("one", general, attachments=files[:1]))
    await channel.send(outbound("", general, id="m-1", attachments=files, kind="message"))
    assert [(sent.text, sent.files) for sent in server.sent] == [
        ("one", [("a.txt", b"a.txt")]),
        ("", [("a.txt", b"a.txt")]),
        ("", [("b.txt", b"b.txt")]),
    ]


async def test_how_large_a_file_may_be_depends_on_the_server(
    server: DiscordServer, host: Host, tmp_path: Path
) -> None:
    ann, boosted = server.user("ann"), server.guild()
    boosted.premium_tier = 3
    room = boosted.channel()
    with (tmp_path / "film.mp4").open("wb") as file:
        file.truncate(12 << 20)
    files = (Attachment(str(tmp_path / "film.mp4"), "film.mp4"),)
    server.rest.upload_limit = 100 << 20
    async with running_channel(server, host, groupPolicy="open") as channel:
        ann.send("the server is known now", room)
        await host.got("the server is known now")
        with pytest.raises(ChannelError, match="larger than 10 MB"):
            await channel.send(outbound("", ann.dm, attachments=files))
        await channel.send(outbound("", room, attachments=files))
    assert len(server.sent[0].files[0][1]) == 12 << 20


async def test_fetching_files(
    server: DiscordServer, channel: DiscordChannel, host: Host, tmp_path: Path
) -> None:
    server.user("ann").send("look", files=[("cat.png", b"PNG")])
    (inbound,) = await host.got("look")
    await channel.fetch(inbound.attachments[0], tmp_path / "cat.png")
    assert (tmp_path / "cat.png").read_bytes() == b"PNG"
    server.files.clear()
    with pytest.raises(ChannelError) as gone:
        await channel.fetch(inbound.attachments[0], tmp_path / "again.png")
    assert gone.value.permanent


# Errors


@pytest.mark.parametrize(
    ("status", "code", "permanent", "words"),
    [
        (403, 50007, True, "takes no direct messages"),
        (403, 50001, True, "View Channel"),
        (403, 50013, True, "Send Messages"),
        (404, 10003, True, "no such channel"),
        (400, 50035, True, "Discord refused it"),
        (503, 0, False, "cannot be reached"),
    ],
)
async def test_refusals_say_what_to_do(
    server: DiscordServer, channel: DiscordChannel, status: int, code: int, permanent: bool, words: str
) -> None:
    ann = server.user("ann")
    server.fail("create_message", status, code=code)
    with pytest.raises(ChannelError, match=words) as refused:
        await channel.send(outbound("hi", ann.dm))
    assert refused.value.permanent == permanent
    assert server.texts() == []


async def test_rate_limits_are_waited_for(server: DiscordServer, channel: DiscordChannel) -> None:
    ann = server.user("ann")
    server.fail("create_message", 429, retry_after=0.01)
    await channel.send(outbound("hi", ann.dm))
    server.fail("create_message", 429, retry_after=500)
    with pytest.raises(ChannelError) as limited:
        await channel.send(outbound("more", ann.dm, id="turn-2"))
    assert limited.value.retry_after == 500
    assert not limited.value.permanent


@pytest.mark.parametrize("chat", ["general", "-5", "1e3"])
async def test_a_chat_that_is_no_id(channel: DiscordChannel, host: Host, chat: str) -> None:
    from nanobot.messages import OutboundMessage

    with pytest.raises(ChannelError, match="no id of Discord"):
        await channel.send(OutboundMessage("m-1", "discord", chat, "hi"))


# Connecting


@pytest.mark.parametrize("token", ["", "two words", "wrong.but.possible"])
async def test_a_bad_token_is_named(server: DiscordServer, host: Host, token: str) -> None:
    channel = DiscordChannel(
        "discord", DiscordConfig.model_validate(section(server, token=token)), host.channel
    )
    with pytest.raises(ChannelError, match="bot token") as refused:
        await channel.run()
    assert refused.value.permanent
    assert "portal" in str(refused.value) or "discord.com/developers" in str(refused.value)
    assert token == "" or token not in str(refused.value)


async def test_missing_intents_are_named_with_the_place_to_click(server: DiscordServer, host: Host) -> None:
    server.gateway.privileged = 0
    channel = DiscordChannel("discord", DiscordConfig.model_validate(section(server)), host.channel)
    with pytest.raises(ChannelError, match="MESSAGE CONTENT INTENT") as refused:
        await channel.run()
    assert refused.value.permanent
    async with running_channel(server, host, intents=4609):  # without that intent it connects
        server.user("ann").send("still private")
        await host.got("still private")


async def test_nothing_secret_is_logged(
    server: DiscordServer, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running_channel(server, host):
        server.user("ann").send("a private word")
        await host.got("a private word")
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("discord")]
    assert not [line for line in logged if TOKEN in line or "a private word" in line]


async def test_cut_sockets_and_reconnects_lose_nothing(
    server: DiscordServer, channel: DiscordChannel, host: Host
) -> None:
    ann = server.user("ann")
    ann.send("one")
    await host.got("one")
    server.gateway.repeat_on_resume = 5
    server.gateway.cut()
    ann.send("two")
    await host.got("one", "two")
    server.gateway.tell(RECONNECT)
    ann.send("three")
    await host.got("one", "two", "three")
    assert server.gateway.resumes == 2


async def test_what_cannot_be_read_is_stepped_over(
    server: DiscordServer, channel: DiscordChannel, host: Host
) -> None:
    ann = server.user("ann")
    ann.send("one")
    server.emit(Event("MESSAGE_CREATE", {"id": "1", "channel_id": "1"}, DIRECT_MESSAGES))
    server.emit(Event("MESSAGE_CREATE", {"id": "1", "author": None, "content": 5}, DIRECT_MESSAGES))
    ann.send("two")
    await host.got("one", "two")
    assert host.channel.status.unreadable == 2


# After an absence


async def test_what_was_said_meanwhile_is_picked_up_in_order(server: DiscordServer, host: Host) -> None:
    ann, guild = server.user("ann"), server.guild()
    general, other = guild.channel(), guild.channel("other")
    thread = guild.thread(general)
    name = f"<@{server.bot.id}>"
    async with running_channel(server, host):
        ann.send("known")
        ann.send(f"{name} known, too", general)
        await host.got("known", "known, too")
    ann.send(f"{name} where nobody asked before", other)
    ann.send("missed")
    ann.send(f"{name} in the channel", general)
    ann.send(f"{name} in the thread", thread)
    ann.send("not for the bot", general)
    ann.send(f"{name} again", general)
    async with running_channel(server, host):
        ann.send("new")
        ann.send(f"{name} new, too", general)
        await host.until(lambda: len(host.accepted) == 9)
    of = {chat: [i.text for i in host.accepted if i.session_key == chat] for chat in host.sessions()}
    assert of == {
        f"discord:{ann.dm.id}": ["known", "missed", "new"],
        f"discord:{general.id}": ["known, too", "in the channel", "again", "new, too"],
        f"discord:{general.id}:{thread.id}": ["in the thread"],
        f"discord:{other.id}": ["where nobody asked before"],
    }
    assert [inbound.is_group for inbound in host.accepted if inbound.text == "in the channel"] == [True]


async def test_what_was_heard_and_not_meant_before_a_stop_is_not_taken_up(
    server: DiscordServer, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanobot.channels.platform._CLOCKS_DIFFER", 0.0)
    ann, general = server.user("ann"), server.guild().channel()
    async with running_channel(server, host):
        ann.send("known")
        ann.send("not for the bot", general)
        last = ann.send("the last one", general)
        ann.send("the end")
        await host.got("known", "the end")
    sent_at = ((int(last["id"]) >> 22) + EPOCH) / 1000
    host.channel.seen[""] = sent_at + 0.5  # as the manager notes when the gateway stops
    server.pass_time(1)
    ann.send("while it was down", general)
    async with running_channel(server, host, groupPolicy="open"):
        await host.got("known", "the end", "while it was down")


async def test_a_forgotten_session_is_caught_up(server: DiscordServer, host: Host) -> None:
    ann = server.user("ann")
    async with running_channel(server, host) as channel:
        ann.send("one")
        await host.got("one")
        client = channel.client

        async def at_once(shard: int | None, *, initial: bool = False) -> None: ...

        client.before_identify_hook = at_once  # type: ignore[method-assign]
        server.gateway.cut(forget=True)
        ann.send("two")
        await host.got("one", "two")


async def test_what_could_not_be_stored_is_not_lost(server: DiscordServer, host: Host) -> None:
    ann = server.user("ann")
    async with running_channel(server, host):
        ann.send("one")
        await host.got("one")
    host.fails = StorageError("the disk is full")
    channel = DiscordChannel("discord", DiscordConfig.model_validate(section(server)), host.channel)
    running = asyncio.create_task(channel.run())
    await host.connected.wait()
    ann.send("two")
    with pytest.raises(ChannelError, match="wait at Discord"):
        await running
    host.fails = None
    async with running_channel(server, host):
        await host.got("one", "two")


async def test_a_history_that_may_not_be_read_stops_nothing(server: DiscordServer, host: Host) -> None:
    ann, general = server.user("ann"), server.guild().channel()
    ann.send("before", general)
    server.fail("history", 403, code=50001)
    inbound: InboundMessage
    async with running_channel(server, host):
        ann.send("hello")
        (inbound,) = await host.got("hello")
    assert inbound.text == "hello"
