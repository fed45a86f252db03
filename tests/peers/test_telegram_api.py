"""The loopback Bot API, tried with the real python-telegram-bot and with raw HTTP."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from telegram import Bot, BotCommand, InlineKeyboardButton, InlineKeyboardMarkup, ReplyParameters, Update
from telegram.constants import ParseMode
from telegram.error import BadRequest, Conflict, Forbidden, InvalidToken, NetworkError, RetryAfter
from telegram.ext import Application, ApplicationBuilder, MessageHandler, filters
from telegram.request import HTTPXRequest

from tests.peers.telegram_api import TelegramServer

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) + b"\r\n--boundary\r\n"
App = Application[Any, Any, Any, Any, Any, Any]


@pytest.fixture
async def server() -> AsyncIterator[TelegramServer]:
    async with TelegramServer() as running:
        yield running


def client_request() -> HTTPXRequest:
    return HTTPXRequest(httpx_kwargs={"trust_env": False})


def application(server: TelegramServer) -> App:
    builder = ApplicationBuilder().token(server.token).base_url(server.url + "/bot")
    builder = builder.request(client_request()).get_updates_request(client_request())
    return builder.base_file_url(server.url + "/file/bot").build()


@pytest.fixture
async def app(server: TelegramServer) -> AsyncIterator[App]:
    async with application(server) as running:
        yield running


class Raw:
    """Plain HTTP, for what the library would not send."""

    def __init__(self, server: TelegramServer, client: httpx2.AsyncClient) -> None:
        self._base = f"{server.url}/bot{server.token}"
        self._client = client

    async def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        response = await self._client.post(f"{self._base}/{method}", json=parameters)
        body: dict[str, Any] = response.json()
        assert body["ok"] == (response.status_code == 200)
        return body


@pytest.fixture
async def raw(server: TelegramServer) -> AsyncIterator[Raw]:
    async with httpx2.AsyncClient(trust_env=False) as client:
        yield Raw(server, client)


async def test_polling_delivers_and_answers(server: TelegramServer, app: App) -> None:
    ann = server.user(7, "ann", "Ann")
    seen: list[Update] = []

    async def answer(update: Update, context: Any) -> None:
        seen.append(update)
        assert update.effective_message is not None
        await update.effective_message.reply_text(
            "<b>hi</b> & <i>bye</i>".replace("&", "&amp;"), ParseMode.HTML
        )

    app.add_handler(MessageHandler(filters.ALL, answer))
    ann.send("👍 /start@nano_bot see https://x.y @nano_bot")
    assert app.updater is not None
    await app.updater.start_polling(timeout=5)
    await app.start()
    await server.wait_for(lambda: server.sent)
    await app.updater.stop()
    await app.stop()
    message = seen[0].effective_message
    assert message is not None
    assert [message.parse_entity(entity) for entity in message.entities] == [
        "/start@nano_bot",
        "https://x.y",
        "@nano_bot",
    ]
    sent = server.sent[0]
    assert (sent.chat_id, sent.text) == (7, "hi & bye")
    assert [(entity.type, entity.offset, entity.length) for entity in sent.entities] == [
        ("bold", 0, 2),
        ("italic", 5, 3),
    ]
    assert server.updates == []


async def test_an_update_comes_again_until_it_is_confirmed(server: TelegramServer, raw: Raw) -> None:
    ann = server.user(7)
    for text in ("one", "two", "three"):
        ann.send(text)
    first = (await raw("getUpdates", limit=2))["result"]
    assert [update["message"]["text"] for update in first] == ["one", "two"]
    assert (await raw("getUpdates", limit=2))["result"] == first
    rest = (await raw("getUpdates", offset=first[0]["update_id"] + 1))["result"]
    assert [update["message"]["text"] for update in rest] == ["two", "three"]
    newest = (await raw("getUpdates", offset=-1))["result"]
    assert [update["message"]["text"] for update in newest] == ["three"]
    assert len(server.updates) == 1


async def test_a_long_poll_waits_for_the_next_update(server: TelegramServer, raw: Raw) -> None:
    ann = server.user(7)
    poll = asyncio.create_task(raw("getUpdates", timeout=30))
    await server.wait_for(lambda: server.count("getUpdates"))
    ann.send("now")
    assert len((await poll)["result"]) == 1
    assert (await raw("getUpdates", timeout=0, offset=server.updates[0]["update_id"] + 1))["result"] == []


async def test_a_killed_client_loses_nothing(server: TelegramServer, raw: Raw) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET /bot{server.token}/getUpdates?timeout=50 HTTP/1.1\r\n\r\n".encode())
    await server.wait_for(lambda: server.count("getUpdates"))
    writer.transport.abort()
    server.user(7).send("written to a dead socket")
    assert len((await raw("getUpdates", timeout=10))["result"]) == 1


async def test_allowed_updates_leave_out_the_rest(server: TelegramServer, raw: Raw) -> None:
    ann = server.user(7)
    await raw("getUpdates", allowed_updates=["edited_message"])
    ann.edit(ann.send("not wanted"), "wanted")
    updates = (await raw("getUpdates"))["result"]
    assert [update["edited_message"]["text"] for update in updates] == ["wanted"]


async def test_two_pollers_conflict(server: TelegramServer, app: App, raw: Raw) -> None:
    first = asyncio.create_task(app.bot.get_updates(timeout=30))
    await server.wait_for(lambda: server.count("getUpdates") == 1)
    second = asyncio.create_task(raw("getUpdates", timeout=30))
    with pytest.raises(Conflict, match="terminated by other getUpdates"):
        await first
    server.user(7).send("for the second")
    assert len((await second)["result"]) == 1


async def test_a_webhook_blocks_polling(server: TelegramServer, app: App) -> None:
    server.webhook_url = "https://somewhere"
    with pytest.raises(Conflict, match="webhook is active"):
        await app.bot.get_updates()
    assert (await app.bot.get_webhook_info()).url == "https://somewhere"
    server.user(7).send("old")
    await app.bot.delete_webhook(drop_pending_updates=True)
    assert await app.bot.get_updates() == ()


async def test_a_wrong_token_is_refused(server: TelegramServer) -> None:
    calls, polls = client_request(), client_request()
    stranger = Bot("1:wrong", server.url + "/bot", request=calls, get_updates_request=polls)
    with pytest.raises(InvalidToken):
        await stranger.initialize()
    # A bot that failed to initialize does not close what it opened.
    await calls.shutdown()
    await polls.shutdown()


@pytest.mark.parametrize(
    ("parameters", "description"),
    [
        ({"text": "hi"}, "chat_id is empty"),
        ({"chat_id": 99, "text": "hi"}, "chat not found"),
        ({"chat_id": "@nobody", "text": "hi"}, "chat not found"),
        ({"chat_id": 7}, "message text is empty"),
        ({"chat_id": 7, "text": " \n"}, "message text is empty"),
        ({"chat_id": 7, "text": "<b></b>", "parse_mode": "HTML"}, "message text is empty"),
        ({"chat_id": 7, "text": "👍" * 2049}, "message is too long"),
        ({"chat_id": 7, "text": "x" * 4097}, "message is too long"),
        ({"chat_id": 7, "text": "&amp;" * 7000, "parse_mode": "HTML"}, "text is too long"),
        ({"chat_id": 7, "text": "<x>", "parse_mode": "HTML"}, "can't parse entities: Unsupported start tag"),
        ({"chat_id": 7, "text": "x", "parse_mode": "Wiki"}, "unsupported parse_mode"),
        ({"chat_id": 7, "text": "x", "message_thread_id": 5}, "message thread not found"),
        ({"chat_id": -9, "text": "x", "message_thread_id": 1}, "message thread not found"),
        ({"chat_id": 7, "text": "x", "reply_parameters": {"message_id": 5}}, "message to be replied"),
        ({"chat_id": 7, "text": "x", "reply_to_message_id": 5}, "message to be replied not found"),
    ],
)  # fmt: skip
async def test_send_message_refuses(
    server: TelegramServer, raw: Raw, parameters: dict[str, Any], description: str
) -> None:
    server.user(7)
    server.group(-9, "Team", topics={5: "Bugs"})
    answer = await raw("sendMessage", **parameters)
    assert answer["error_code"] == 400
    assert answer["description"].startswith(f"Bad Request: {description}")
    assert server.sent == []


@pytest.mark.parametrize("text", ["👍" * 2048, "<b>" + "&lt;" * 4096 + "</b>"])
async def test_the_limit_counts_visible_utf16_units(server: TelegramServer, app: App, text: str) -> None:
    server.user(7)
    await app.bot.send_message(7, text, parse_mode=ParseMode.HTML)
    assert len(server.sent) == 1


async def test_topics_replies_and_groups(server: TelegramServer, app: App) -> None:
    ann = server.user(7, "ann")
    forum = server.group(-9, "Team", topics={5: "Bugs"}, username="team")
    asked = ann.send("in a topic", chat=forum, thread=5)
    assert "forum_topic_created" in asked["reply_to_message"]
    reply = ReplyParameters(asked["message_id"])
    answer = await app.bot.send_message("@team", "there", message_thread_id=5, reply_parameters=reply)
    sent = server.sent[0]
    assert (sent.chat_id, sent.thread_id, sent.reply_to) == (-9, 5, asked["message_id"])
    assert answer.reply_to_message is not None
    assert answer.reply_to_message.text == "in a topic"
    await app.bot.send_message(-9, "anyway", reply_to_message_id=42, allow_sending_without_reply=True)
    assert server.texts(forum) == ["there", "anyway"]
    back = ann.send("a reply", chat=forum, reply_to=sent.message_id)
    assert back["reply_to_message"]["from"]["is_bot"] is True


async def test_edits(server: TelegramServer, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    ann = server.user(7)
    sent = await app.bot.send_message(7, "one")
    await sent.edit_text("<b>two</b>", parse_mode=ParseMode.HTML)
    with pytest.raises(BadRequest, match="is not modified"):
        await sent.edit_text("<b>two</b>", parse_mode=ParseMode.HTML)
    assert [before for before, _ in server.sent[0].edits] == ["one"]
    with pytest.raises(BadRequest, match="to edit not found"):
        await app.bot.edit_message_text("x", 7, 999)
    with pytest.raises(BadRequest, match="can't be edited"):
        await app.bot.edit_message_text("x", 7, ann.send("mine")["message_id"])
    server.edit_interval = 60
    monkeypatch.setenv("PTB_TIMEDELTA", "true")
    with pytest.raises(RetryAfter):
        await sent.edit_text("three")
    assert await sent.delete()
    assert server.texts() == []
    with pytest.raises(BadRequest, match="to delete not found"):
        await app.bot.delete_message(7, sent.message_id)


async def test_files_travel_both_ways(server: TelegramServer, app: App) -> None:
    ann = server.user(7)
    ann.send("look", photo=PNG)
    ann.send("read", document=("notes.txt", b"words"))
    ann.send(voice=b"OggS sound")
    photo, document, voice = [update.message for update in await app.bot.get_updates()]
    assert photo is not None
    assert document is not None
    assert voice is not None
    assert photo.caption == "look"
    assert document.document is not None
    assert document.document.file_name == "notes.txt"
    assert voice.voice is not None
    for source, data in ((photo.photo[-1], PNG), (document.document, b"words"), (voice.voice, b"OggS sound")):
        assert bytes(await (await source.get_file()).download_as_bytearray()) == data
    await app.bot.send_photo(7, PNG, caption="<i>a</i>", parse_mode=ParseMode.HTML)
    await app.bot.send_document(7, b"%PDF\r\n\x00", filename="a.pdf", message_thread_id=None)
    await app.bot.send_voice(7, b"OggS")
    await app.bot.send_document(7, document.document.file_id)
    assert [(sent.kind, sent.text, sent.file_data) for sent in server.sent] == [
        ("photo", "a", PNG),
        ("document", "", b"%PDF\r\n\x00"),
        ("voice", "", b"OggS"),
        ("document", "", b"words"),
    ]
    with pytest.raises(BadRequest, match="caption is too long"):
        await app.bot.send_photo(7, PNG, caption="x" * 1025)
    with pytest.raises(BadRequest, match=r"(?i)IMAGE_PROCESS_FAILED"):
        await app.bot.send_photo(7, b"no image")
    with pytest.raises(BadRequest, match="file_id"):
        await app.bot.get_file("nothing")


async def test_a_file_over_20_megabytes_cannot_be_fetched(server: TelegramServer, raw: Raw) -> None:
    message = server.user(7).send(document=("big.bin", b"0" * ((20 << 20) + 1)))
    answer = await raw("getFile", file_id=message["document"]["file_id"])
    assert answer["description"] == "Bad Request: file is too big"


async def test_commands_actions_reactions_and_buttons(server: TelegramServer, app: App) -> None:
    ann = server.user(7)
    await app.bot.set_my_commands([BotCommand("new", "Start over")])
    assert await app.bot.get_my_commands() == (BotCommand("new", "Start over"),)
    with pytest.raises(BadRequest, match=r"(?i)COMMAND_INVALID"):
        await app.bot.set_my_commands([BotCommand("Not-Good", "x")])
    await app.bot.send_chat_action(7, "typing")
    assert server.actions == [(7, None, "typing")]
    with pytest.raises(BadRequest, match="parameter action"):
        await app.bot.send_chat_action(7, "dancing")
    asked = ann.send("react to me")
    await app.bot.set_message_reaction(7, asked["message_id"], "👀")
    assert server.reactions[7, asked["message_id"]] == ["👀"]
    with pytest.raises(BadRequest, match=r"(?i)REACTION_INVALID"):
        await app.bot.set_message_reaction(7, asked["message_id"], "🧦")
    keyboard = InlineKeyboardMarkup([[InlineKeyboardButton("Yes", callback_data="yes")]])
    await app.bot.send_message(7, "sure?", reply_markup=keyboard)
    query_id = ann.press(server.sent[0], "yes")
    query = (await app.bot.get_updates())[-1].callback_query
    assert query is not None
    assert query.data == "yes"
    await query.answer("fine")
    assert server.answered_queries == {query_id: "fine"}
    with pytest.raises(BadRequest, match="is too old"):
        await query.answer("again")


async def test_who_the_bot_may_write_to(server: TelegramServer, app: App) -> None:
    ann = server.user(7, "ann", "Ann")
    assert (await app.bot.get_chat(7)).first_name == "Ann"
    ann.block()
    with pytest.raises(Forbidden, match="blocked by the user"):
        await app.bot.send_message(7, "hello?")


async def test_scripted_faults(server: TelegramServer, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTB_TIMEDELTA", "true")  # else the library warns that `retry_after` will change
    server.user(7)
    server.fail("sendMessage", 429, retry_after=3)
    with pytest.raises(RetryAfter) as too_fast:
        await app.bot.send_message(7, "a")
    assert too_fast.value.retry_after == timedelta(seconds=3)
    server.fail("sendMessage", 502, times=2)
    for _ in range(2):
        with pytest.raises(NetworkError):
            await app.bot.send_message(7, "b")
    server.drop("sendMessage")
    with pytest.raises(NetworkError):
        await app.bot.send_message(7, "c")
    assert server.sent == []
    server.drop("sendMessage", after=True)
    with pytest.raises(NetworkError):
        await app.bot.send_message(7, "d")
    await app.bot.send_message(7, "e")
    assert server.texts() == ["d", "e"]


async def test_a_stalled_poll_is_released(server: TelegramServer, raw: Raw) -> None:
    server.user(7).send("waiting")
    server.stall("getUpdates")
    poll = asyncio.create_task(raw("getUpdates"))
    await server.wait_for(lambda: server.count("getUpdates"))
    assert not poll.done()
    server.release()
    assert len((await poll)["result"]) == 1


async def test_undocumented_requests_fail_the_test() -> None:
    with pytest.raises(AssertionError, match="no parameter"):
        async with TelegramServer() as server, httpx2.AsyncClient(trust_env=False) as client:
            assert not (await Raw(server, client)("getMe", colour="blue"))["ok"]


async def test_requests_of_the_wrong_type() -> None:
    server = TelegramServer()
    await server.start()
    async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as client:
        base = f"/bot{server.token}"
        assert (await client.post(f"{base}/getMe", content=b"x")).status_code == 400
        assert (await client.post(f"{base}/getMe", json=[1])).status_code == 400
        assert (await client.post(f"{base}/conquerWorld")).status_code == 404
        assert (await client.post("/bot1:x/getMe")).status_code == 401
        assert (await client.get(f"{base}/getMe")).json()["result"]["username"] == "nano_bot"
        assert (await client.get(f"/file{base}/photos/none.jpg")).status_code == 404
    await server.stop()
    assert len(server.violations) == 3


async def test_the_stand_alone_server_survives_its_clients() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.peers.telegram_api", "--token", "9:x"), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    port = json.loads(await process.stdout.readline())["port"]
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:

        async def do(path: str, **arguments: Any) -> Any:
            return (await client.post(path, json=arguments)).json()

        await do("/control/user", id=7, first_name="Ann")
        await do("/control/group", id=-9, title="Team", topics={"5": "Bugs"})
        await do("/control/send", user=7, text="hello", chat=-9, thread=5)
        await do("/control/fail", method="sendMessage", status=500)
        update = (await do("/bot9:x/getUpdates"))["result"][0]
        assert update["message"]["message_thread_id"] == 5
        assert (await do("/bot9:x/sendMessage", chat_id=7, text="x"))["error_code"] == 500
        await do("/bot9:x/sendMessage", chat_id=7, text="hello back")
        state = await do("/control/wait", sent=1)
        assert [sent["text"] for sent in state["sent"]] == ["hello back"]
        assert (state["pending"], state["violations"]) == (1, [])
    process.terminate()
    assert await process.wait() == 0
