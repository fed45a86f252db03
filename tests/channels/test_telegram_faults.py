"""Telegram when things go wrong: nothing is lost, nothing is repeated that need not be, errors are clear."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import Collection
from pathlib import Path

import pytest

from nanobot.channels.base import ChannelHost
from nanobot.channels.telegram import TelegramChannel
from nanobot.channels.telegram_config import TelegramConfig
from nanobot.errors import ChannelError, StorageError
from nanobot.messages import Attachment, InboundMessage
from nanobot.providers.scripted import ScriptedProvider
from nanobot.store.records import OutboxEntry
from nanobot.store.store import Store
from tests.channels.conftest import config_for, echo, eventually, outbound, running_channel, section
from tests.gateway.conftest import running_gateway
from tests.peers.telegram_api import TelegramServer

_REFUSE = "CREATE TRIGGER refuse BEFORE INSERT ON inbox BEGIN SELECT RAISE(ABORT, 'disk trouble'); END"


async def parked_deliveries(store: Store) -> list[OutboxEntry]:
    async with asyncio.timeout(10):
        while True:
            if parked := [entry for entry in await store.outbox.entries() if entry.state == "parked"]:
                return parked
            await asyncio.sleep(0.01)


# Receiving


async def test_what_cannot_be_stored_stays_with_telegram(server: TelegramServer) -> None:
    ann, taken = server.user(7), list[str]()
    disk_full, waits_at_telegram = [True, True], list[int]()

    async def accept(inbound: InboundMessage, names: Collection[str]) -> bool:
        if inbound.text == "two" and disk_full:
            disk_full.pop()
            waits_at_telegram.append(len(server.updates))
            raise StorageError("The disk is full.")
        taken.append(inbound.text)
        return True

    for text in ("one", "two", "three"):
        ann.send(text)
    async with running_channel(server, accept):
        await server.wait_for(lambda: not server.updates)
    assert taken == ["one", "two", "three"]
    assert waits_at_telegram == [3, 2]  # nothing is confirmed before the poll that follows


async def test_a_disk_that_stays_full_is_reported_and_loses_nothing(server: TelegramServer) -> None:
    server.user(7).send("hi")

    async def accept(inbound: InboundMessage, names: Collection[str]) -> bool:
        raise StorageError("The disk is full.")

    config = TelegramConfig.model_validate(section(server))
    channel = TelegramChannel("telegram", config, ChannelHost(accept, server.notify), pause=0.02)
    with pytest.raises(ChannelError, match=r"Messages wait at Telegram: The disk is full\.") as caught:
        await asyncio.wait_for(channel.run(), 20)
    assert not caught.value.permanent
    assert len(server.updates) == 1


async def test_nothing_is_confirmed_while_the_database_refuses(server: TelegramServer, home: Path) -> None:
    ann = server.user(7)
    async with running_gateway(config_for(server), ScriptedProvider(echo)) as (_, gateway):
        with contextlib.closing(sqlite3.connect(home / "nanobot.db", isolation_level=None)) as database:
            database.execute(_REFUSE)
            ann.send("keep me")
            await server.wait_for(lambda: server.count("getUpdates") >= 3)
            assert len(server.updates) == 1
            database.execute("DROP TRIGGER refuse")
        await server.wait_for(lambda: server.texts(ann) == ["you said: keep me"])
        assert gateway.channels.status["telegram"].received == 1


async def test_cut_and_stalled_polls_are_given_up_and_renewed(server: TelegramServer) -> None:
    taken: list[str] = []

    async def accept(inbound: InboundMessage, names: Collection[str]) -> bool:
        taken.append(inbound.text)
        server.notify()
        return True

    server.drop("getUpdates")
    server.stall("getUpdates")
    server.fail("getUpdates", 502)
    async with running_channel(server, accept, poll_seconds=1, grace=0.2):
        server.user(7).send("hello?")
        await server.wait_for(lambda: taken == ["hello?"])
        server.release()
    assert server.count("getUpdates") >= 4


async def test_another_poller_is_reported_and_waited_for(server: TelegramServer) -> None:
    ann = server.user(7)
    server.fail("getUpdates", 409, times=4)
    async with running_gateway(config_for(server), ScriptedProvider(echo)) as (_, gateway):
        status = gateway.channels.status["telegram"]
        await server.wait_for(lambda: server.count("getUpdates") == 4)
        ann.send("still there?")
        await server.wait_for(lambda: server.texts(ann))
        assert "Another program receives the messages of this bot" in status.last_error
        assert status.state == "connected"


async def test_a_webhook_left_behind_is_removed_and_its_messages_kept(server: TelegramServer) -> None:
    server.webhook_url = "https://old.example/hook"
    ann = server.user(7)
    ann.send("hi")
    async with running_gateway(config_for(server), ScriptedProvider(echo)):
        await server.wait_for(lambda: server.texts(ann) == ["you said: hi"])


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"token": "123456:revoked-or-mistyped"}, "does not accept the bot token"),
        ({"token": "YOUR_BOT_TOKEN"}, "is no bot token"),
        ({"token": ""}, "is no bot token"),
        ({"proxy": "socks7://user:hush@nowhere"}, "is no proxy address"),
    ],
)
async def test_what_cannot_work_fails_for_good_and_says_why(
    server: TelegramServer, settings: dict[str, str], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_for(server, **settings)
    async with running_gateway(config, ScriptedProvider(echo)) as (_, gateway):
        status = gateway.channels.status["telegram"]
        assert await eventually(lambda: status.state == "failed")
        assert reason in status.last_error
    for secret in ("revoked", "hush"):
        assert secret not in status.last_error + caplog.text


_WITHOUT_SOCKS = """
import sys, asyncio
sys.modules["socksio"] = None  # as if it were not installed
from nanobot.channels.telegram_api import open_bot
from nanobot.channels.telegram_config import TelegramConfig
config = TelegramConfig(token="1:a", proxy="socks5://user:hush@localhost:1")
asyncio.run(open_bot(config).__aenter__())
"""


async def test_a_missing_socks_library_is_named() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WITHOUT_SOCKS, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert 'Run: pip install "python-telegram-bot[socks]"' in errors.decode()
    assert "hush@" not in errors.decode()


async def test_a_proxy_is_used(server: TelegramServer) -> None:
    ann = server.user(7)
    config = config_for(server, apiBase="http://telegram.invalid", proxy=server.url)
    async with running_gateway(config, ScriptedProvider(echo)):
        ann.send("hi")
        await server.wait_for(lambda: server.texts(ann) == ["you said: hi"])


async def test_a_download_is_tried_again(server: TelegramServer, home: Path) -> None:
    ann = server.user(7)
    server.drop("getFile")
    async with running_gateway(config_for(server), ScriptedProvider(["thanks"])):
        ann.send("a file", document=("a.txt", b"content"))
        await server.wait_for(lambda: server.texts(ann))
    (file,) = (home / "media" / "telegram").iterdir()
    assert file.read_bytes() == b"content"


# Sending


async def test_a_blocked_bot_parks_the_reply_and_others_go_on(server: TelegramServer) -> None:
    ann, ben = server.user(7), server.user(8)
    async with running_gateway(config_for(server), ScriptedProvider(echo)) as (app, _):
        ann.block()
        ann.send("bye")
        ben.send("hi")
        await server.wait_for(lambda: server.texts(ben))
        (parked,) = await parked_deliveries(app.store)
    assert parked.error == "The person has blocked the bot."


async def test_too_many_requests_are_waited_for(server: TelegramServer) -> None:
    server.fail("sendMessage", 429, retry_after=7)
    async with running_channel(server) as channel:
        server.user(7)
        with pytest.raises(ChannelError, match="wait 7 seconds") as caught:
            await channel.send(outbound("hi"))
        assert (caught.value.retry_after, caught.value.permanent) == (7.0, False)
        await channel.send(outbound("hi"))
    assert server.texts() == ["hi"]


async def test_a_retry_goes_on_where_it_stopped(server: TelegramServer, tmp_path: Path) -> None:
    server.user(7)
    notes = tmp_path / "notes.txt"
    notes.write_text("notes")
    text = "\n\n".join(letter * 4000 for letter in "abc")
    message = outbound(text, attachments=(Attachment(str(notes), "notes.txt"),))
    async with running_channel(server) as channel:
        sending = asyncio.create_task(channel.send(message))
        await server.wait_for(lambda: server.sent)
        server.fail("sendDocument", 500)
        server.drop("sendMessage")
        with pytest.raises(ChannelError, match="cannot be reached"):
            await sending
        with pytest.raises(ChannelError, match="cannot be reached"):
            await channel.send(message)
        receipt = await channel.send(message)
        assert await channel.send(message) == receipt
    assert [sent.text[:1] for sent in server.sent] == ["a", "b", "c", ""]
    assert receipt == ",".join(str(sent.message_id) for sent in server.sent)


async def test_an_answer_lost_on_the_way_back_means_twice_rather_than_never(server: TelegramServer) -> None:
    server.user(7)
    server.drop("sendMessage", after=True)
    async with running_channel(server) as channel:
        with pytest.raises(ChannelError):
            await channel.send(outbound("hi"))
        await channel.send(outbound("hi"))
    assert server.texts() == ["hi", "hi"]


@pytest.mark.parametrize(("content", "reason"), [(b"", "it is empty"), (None, "No such file")])
async def test_a_file_that_cannot_go_out_is_noticed_before_anything_does(
    server: TelegramServer, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    server.user(7)
    path = tmp_path / "file.txt"
    if content is not None:
        path.write_bytes(content)
    async with running_channel(server) as channel:
        with pytest.raises(ChannelError, match=reason) as caught:
            await channel.send(outbound("look", attachments=(Attachment(str(path), "file.txt"),)))
        assert caught.value.permanent
    assert server.sent == []
