"""Replies, forwards, links, cards and polls of Discord, and what of its events is odd."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from nanobot.messages import Quoted
from tests.channels.discord_setup import Host, running_channel
from tests.peers.discord_api import DiscordServer
from tests.peers.discord_world import GUILDS, Event

CARD = {
    "type": "rich",
    "title": "Build 7",
    "url": "https://ci.example/7",
    "description": "failed",
    "fields": [{"name": "branch", "value": "main", "inline": True}],
}
CARD_IN_WORDS = "[Build 7](https://ci.example/7)\nfailed\nbranch: main"
POLL = {
    "question": {"text": "tea?"},
    "answers": [{"answer_id": n, "poll_media": {"text": text}} for n, text in enumerate(("yes", "no"), 1)],
    "expiry": "2040-01-01T00:00:00+00:00",
    "allow_multiselect": False,
    "layout_type": 1,
}


@pytest.fixture
async def server() -> AsyncIterator[DiscordServer]:
    async with DiscordServer() as running:
        yield running


@pytest.fixture
def host() -> Host:
    return Host()


async def test_a_reply_and_a_forward_bring_words_cards_and_files(server: DiscordServer, host: Host) -> None:
    ann, bob, robot = server.user("ann", "Ann"), server.user("bob", "Bob"), server.user("ci", bot=True)
    general = server.guild().channel()
    photo = server.new_message(ann.dm, bob, "", files=[("cat.png", b"PNG")])
    report = server.new_message(general, robot, "")
    report["embeds"] = [CARD]
    gone = server.new_message(ann.dm, bob, "hello")
    server.delete(gone)
    async with running_channel(server, host):
        ann.send("one", reply_to=photo)
        ann.send("two", reply_to=report)
        ann.send("three", reply_to=gone)
        ann.forward(report)
        photos = [item.origin for item in (await host.got("one", "two", "three", ""))[0].attachments]
    assert photos == ["quote"]
    assert [inbound.quoted for inbound in host.accepted] == [
        (Quoted("reply", "[cat.png]", "Bob"),),
        (Quoted("reply", CARD_IN_WORDS, "ci"),),
        (Quoted("reply", "[a message that cannot be read here]"),),
        (Quoted("forward", CARD_IN_WORDS, "#general"),),
    ]


async def test_a_reply_to_a_forward_brings_what_was_forwarded(server: DiscordServer, host: Host) -> None:
    ann, bob = server.user("ann", "Ann"), server.user("bob", "Bob")
    said = server.new_message(server.dm(bob), bob, "the plan")
    async with running_channel(server, host):
        forwarded = ann.forward(said)
        await host.got("")
        ann.send("is it true?", reply_to=forwarded)
        _, inbound = await host.got("", "is it true?")
    assert inbound.quoted == (Quoted("reply", "the plan"),)


async def test_links_previews_and_polls(server: DiscordServer, host: Host) -> None:
    ann = server.user("ann", "Ann")
    preview = {"type": "link", "url": "https://a.example", "title": "News", "provider": {"name": "A"}}
    async with running_channel(server, host):
        ann.send("see [this](https://a.example)", embeds=[preview])
        ann.send("", poll=POLL)
        linked, asked = await host.got("see [this](https://a.example)", "[poll: tea?, yes, no]")
    assert linked.quoted == (Quoted("preview", "[News](https://a.example)", "A"),)
    assert asked.quoted == ()


async def test_a_comment_and_what_is_forwarded_with_it_arrive_once(server: DiscordServer, host: Host) -> None:
    ann, bob = server.user("ann", "Ann"), server.user("bob", "Bob")
    said = server.new_message(server.dm(bob), bob, "the plan")
    async with running_channel(server, host):
        ann.send("one")
        await host.got("one")
    ann.forward(said)
    ann.send("is this true?")
    for _ in range(2):  # the second connection reads the same history
        async with running_channel(server, host):
            _, forwarded, _ = await host.got("one", "", "is this true?")
    assert forwarded.quoted == (Quoted("forward", "the plan"),)


@pytest.mark.parametrize("comment_first", [True, False])
async def test_a_comment_and_a_forward_behind_each_other_are_one_turn(
    server: DiscordServer, host: Host, comment_first: bool
) -> None:
    ann, bob = server.user("ann", "Ann"), server.user("bob", "Bob")
    said = server.new_message(server.dm(bob), bob, "the plan")
    async with running_channel(server, host):
        for comments in (comment_first, not comment_first):
            ann.send("is this true?") if comments else ann.forward(said)
        (inbound,) = await host.got("is this true?")
    assert inbound.quoted == (Quoted("forward", "the plan"),)
    ann.send("and now?")
    async with running_channel(server, host):  # reads the history, in which they are two
        await host.got("is this true?", "and now?")


async def test_what_is_odd_stops_nothing_else(server: DiscordServer, host: Host) -> None:
    ann, general = server.user("ann", "Ann"), server.guild().channel()
    async with running_channel(server, host):
        ann.send("one")
        await host.got("one")
    ann.send("two")
    odd = server.new_message(ann.dm, ann, "no id")
    odd["id"] = "what?"
    async with running_channel(server, host):
        await host.got("one", "two")
        rooms = [{"id": "what?", "type": 0}]
        server.emit(Event("GUILD_CREATE", {"id": str(general.id), "channels": rooms}, GUILDS))
        ann.send("three")
        await host.got("one", "two", "three")
