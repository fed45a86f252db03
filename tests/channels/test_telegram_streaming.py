"""Answers that grow in Telegram while the model writes: they end as one complete message."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from nanobot.errors import ChannelError
from nanobot.messages import OutboundMessage, ToolCall
from nanobot.providers.scripted import Reply, ScriptedProvider
from tests.channels.conftest import config_for, outbound, running_channel
from tests.config.keys import written
from tests.gateway.conftest import running_gateway
from tests.peers.telegram_api import TelegramServer


async def test_a_partial_cut_off_while_sent_is_still_completed(server: TelegramServer) -> None:
    server.user(7)
    server.stall("sendMessage")
    async with running_channel(server) as channel:
        showing = asyncio.create_task(channel.show_partial(outbound("Well", kind="progress")))
        await server.wait_for(lambda: server.count("sendMessage"))
        showing.cancel()
        sending = asyncio.create_task(channel.send(outbound("Well, yes.")))
        await asyncio.wait([showing])
        server.release()
        await sending
        await channel.show_partial(outbound("Well, y", kind="progress"))
    assert server.texts() == ["Well, yes."]


async def test_a_growing_answer_is_not_begun_twice(server: TelegramServer) -> None:
    server.user(7)
    server.drop("sendMessage", after=True)
    async with running_channel(server) as channel:
        await channel.show_partial(outbound("Well", kind="progress"))
        await channel.show_partial(outbound("Well, y", kind="progress"))
        assert server.texts() == ["Well"]
        await channel.send(outbound("Well, yes."))
    assert server.texts() == ["Well", "Well, yes."]


async def test_a_growing_answer_that_was_deleted_is_sent_anew(server: TelegramServer) -> None:
    server.user(7)
    async with running_channel(server) as channel:
        await channel.show_partial(outbound("Well", kind="progress"))
        server.sent[0].deleted = True
        await channel.send(outbound("Well, **yes**."))
    assert server.texts() == ["Well, yes."]


async def test_flood_limits_quieten_a_growing_answer_and_its_end_arrives(server: TelegramServer) -> None:
    server.user(7)
    async with running_channel(server) as channel:
        for text in ("One", "One `two", "One `two` three", "One `two` three **four"):
            server.fail("editMessageText", 429, retry_after=60)
            await channel.show_partial(outbound(text, kind="progress"))
        assert server.count("editMessageText") == 1
        with pytest.raises(ChannelError) as caught:
            await channel.send(outbound("One `two` three **four**" + "\n\nmore " * 800))
        assert caught.value.retry_after == 60
        server._faults.clear()
        await channel.send(outbound("One `two` three **four**" + "\n\nmore " * 800))
    first, *rest = server.texts()
    assert first.startswith("One two three four\n\nmore")
    assert " ".join([first, *rest]).count("more") == 800


async def test_a_lost_answer_to_the_last_edit_repeats_nothing(server: TelegramServer) -> None:
    server.user(7)
    server.drop("editMessageText", after=True)
    async with running_channel(server) as channel:
        await channel.show_partial(outbound("Well", kind="progress"))
        with pytest.raises(ChannelError):
            await channel.send(outbound("Well, yes."))
        await channel.send(outbound("Well, yes."))
    assert server.texts() == ["Well, yes."]


async def test_a_long_growing_answer_shows_its_first_message(server: TelegramServer) -> None:
    server.user(7)
    text = "```py\n" + "x = 1\n" * 900
    async with running_channel(server) as channel:
        await channel.show_partial(outbound(text, kind="progress"))
        await channel.show_partial(outbound(text + "x = 2\n", kind="progress"))
        assert (len(server.texts()), server.count("editMessageText")) == (1, 0)
        await channel.send(outbound(text + "```"))
    assert "".join(server.texts()).count("x = 1") == 900


async def test_groups_are_edited_less_often(server: TelegramServer) -> None:
    server.group(-100, "Friends")
    async with running_channel(server) as channel:
        for text in ("One", "One two", "One two three"):
            await channel.show_partial(OutboundMessage("turn-1", "telegram", "-100", text, kind="progress"))
        assert server.count("editMessageText") == 0
        await channel.send(OutboundMessage("turn-1", "telegram", "-100", "One two three four"))
    assert server.texts() == ["One two three four"]


_GATEWAY = """
import asyncio, json, sys
from nanobot.app import open_app
from nanobot.config.schema import Config
from nanobot.gateway import Gateway

async def main():
    async with open_app(Config.model_validate(json.loads(sys.argv[1]))) as app:
        await Gateway(app).run(asyncio.Event(), lambda: None)

asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def gateway_process(server: TelegramServer, script: Path, *replies: Any) -> AsyncIterator[None]:
    """A gateway that is killed at the end, without warning."""
    script.write_text(json.dumps({"replies": replies}))
    config = written(config_for(server))
    config["agents"]["defaults"]["model"] = f"scripted/{script}"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _GATEWAY, json.dumps(config))
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def test_a_gateway_killed_while_an_answer_grows(server: TelegramServer, tmp_path: Path) -> None:
    ann = server.user(7)
    ann.send("tell me")
    script = tmp_path / "script.json"
    async with gateway_process(server, script, {"chunks": ["Once upon"], "text": "Once upon", "hang": True}):
        await server.wait_for(lambda: server.texts(ann) == ["Once upon"], 20)
    async with gateway_process(server, script, {"text": "Once upon a time. The end."}):
        await server.wait_for(lambda: any("The end." in text for text in server.texts(ann)), 20)
        ann.send("tell me more")
        await server.wait_for(lambda: len(server.texts(ann)) == 3, 20)
    assert server.texts(ann)[:2] == ["Once upon", "Once upon a time. The end."]
    assert server.texts(ann)[2].startswith("⚠️")  # the script is at its end


async def test_interim_words_stay_whole_above_what_follows(server: TelegramServer) -> None:
    ann, rest = server.user(7), asyncio.Event()
    words = ["Let me ", "look at the ", "folder first."]
    calls = [ToolCall("c1", "list_dir", {"path": "."})]
    replies = [Reply("".join(words), chunks=words, tool_calls=calls, wait=rest), "Done."]
    config = config_for(server, channels={"sendToolHints": True})
    async with running_gateway(config, ScriptedProvider(replies)):
        ann.send("go")
        await server.wait_for(lambda: server.texts(ann))
        rest.set()
        await server.wait_for(lambda: "Done." in server.texts(ann))
    assert server.texts(ann) == ["".join(words), 'list_dir(".")', "Done."]


async def test_words_before_the_message_tool_are_not_cut_off(server: TelegramServer) -> None:
    """The final text is not sent then, so nothing else would complete them."""
    server.user(7)
    partial = outbound("I will se", kind="progress")
    async with running_channel(server) as channel:
        await channel.show_partial(partial)
        await channel.send(dataclasses.replace(partial, text="I will send it now."))
        assert server.texts() == ["I will send it now."]
        await channel.show_partial(dataclasses.replace(partial, text="Next"))
        await channel.send(outbound("Next words."))
    assert server.texts() == ["I will send it now.", "Next words."]


async def test_a_broken_connection_repeats_no_part_of_a_long_answer(server: TelegramServer) -> None:
    """The manager runs the same channel again, which knows what was sent."""
    server.user(7)
    message = outbound("\n\n".join(letter * 4000 for letter in "abc"))
    async with running_channel(server) as channel:
        sending = asyncio.create_task(channel.send(message))
        await server.wait_for(lambda: server.sent)
        server.drop("sendMessage")
        with pytest.raises(ChannelError):
            await sending
    again = asyncio.create_task(channel.run())
    await server.wait_for(lambda: server.count("getMe") == 2)
    async with asyncio.timeout(10):
        while True:
            try:
                await channel.send(message)
                break
            except ChannelError:
                await asyncio.sleep(0.01)
    again.cancel()
    await asyncio.gather(again, return_exceptions=True)
    assert [sent.text[:1] for sent in server.sent] == ["a", "b", "c"]
