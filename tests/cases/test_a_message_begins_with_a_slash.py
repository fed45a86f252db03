"""A path, a sentence or a command: only what is a command in its whole form is one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.app import App, open_app
from nanobot.commands.command_context import CommandContext
from nanobot.commands.table import COMMANDS, run_command
from nanobot.config.schema import Config
from nanobot.errors import UsageError
from nanobot.messages import Attachment, InboundMessage
from nanobot.providers.scripted import ScriptedProvider
from tests.talk import talk

KEY = "cli:direct"
NAMES = [command.name for command in COMMANDS]
MESSAGES = [
    "/tmp is full, what can I delete?",
    "/etc/hosts",
    "/etc - what is it?",
    "/usr - how big?",
    "/home/x/a.txt please",
    "/new idea: a garden shed",
    "/new\nidea",
    "/NEW idea",
    "/new@nano_bot idea",
    "/help me write a letter",
    "/status of my order?",
    "/stop words in German",
    "/models of cars are fun",
    "/model trains are fun",
    "/queue of people",
    "/agents are everywhere",
    "/agents stop all of them",
    "/compact cars",
    "/context matters",
    "/sessions with Ann",
    "/help?",
    "/new.",
    "/",
    "/ new",
    "//new",
    "/2024/11",
    "/exit the building",
    "/start over",
    "/state of the art",
    "/nwe idea for you",
    "/tmp full",
    "see /new",
]


@pytest.fixture
async def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path / "home"))
    async with open_app(Config(), model="scripted/x") as opened:
        opened.models.use("scripted/x", ScriptedProvider(["answered"], loop=True))
        yield opened


@pytest.mark.parametrize("text", MESSAGES)
async def test_these_are_messages(app: App, text: str) -> None:
    assert await run_command(text, KEY, CommandContext(app)) is None


@pytest.mark.parametrize(
    "text", ["/new", " /new ", "/New", "/new@nano_bot", "/help", "/model", "/agents", "/queue"]
)
async def test_these_are_commands(app: App, text: str) -> None:
    assert await run_command(text, KEY, CommandContext(app))


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("/mdoel", "There is no command /mdoel. Did you mean /model?"),
        ("/tmp", "There is no command /tmp. /help lists the commands. With more words it is a message."),
        ("/approve", "/approve CODE, please."),
        ("/mdoel x", "Did you mean /model?"),
        ("/tmp@nano_bot", "There is no command /tmp."),
        ("/queue later", "There is no 'later'. /queue queue or /queue steer, please."),
        ("/agents all", "/agents lists the subagents; /agents stop ID"),
    ],
)
async def test_a_word_alone_that_is_no_command_is_answered(app: App, text: str, advice: str) -> None:
    with pytest.raises(UsageError) as caught:
        await run_command(text, KEY, CommandContext(app))
    assert advice in str(caught.value)


def inbound(text: str, **more: Any) -> InboundMessage:
    return InboundMessage(
        "telegram", "7", sender_id="7", text=text, external_id="1", session_key="telegram:7", **more
    )


@pytest.mark.parametrize(
    ("text", "stops"),
    [("/stop", True), ("/stop@bot", True), ("/STOP now", True), ("/stop words", False), ("stop", False)],
)
def test_only_the_whole_command_stops(text: str, stops: bool) -> None:
    assert inbound(text).is_stop is stops


def test_a_file_with_a_command_below_it_is_a_message() -> None:
    assert inbound("/new").command == "/new"
    assert inbound("/new", attachments=(Attachment("/tmp/a.png", "a.png"),)).command == ""


async def test_a_sentence_after_a_command_is_answered_and_loses_nothing(app: App) -> None:
    app.dispatcher.run_command = lambda message: run_command(message.command, KEY, CommandContext(app))
    await talk(app, "/new idea: a garden shed", KEY)
    stored = await app.store.sessions.history(KEY, after=0, limit=10)
    assert [entry.message.text for entry in stored] == ["/new idea: a garden shed", "answered"]
    await talk(app, "/help", KEY)
    assert len(await app.store.sessions.history(KEY, after=0, limit=10)) == 2


SKILL = "weather"  # a command, too: its message goes to the model
WORD = st.from_regex(r"[A-Za-z][\w-]{0,8}", fullmatch=True)


@given(
    st.sampled_from([*NAMES, SKILL]) | WORD,
    st.sampled_from(["", "@nano_bot"]),
    st.sampled_from([" ", "\n", "\t "]),
    st.lists(WORD | st.sampled_from(["?", "-", "is", "/tmp", "é"]), max_size=4),
)
async def test_any_text_is_a_message_a_command_or_answered(
    name: str, bot: str, gap: str, words: list[str]
) -> None:
    arguments = " ".join(words)
    text = f"/{name}{bot}{gap}{arguments}"
    ran: list[str] = []

    async def run(request: Any) -> str:
        ran.append(request.arguments)
        return "done"

    table = [dataclasses.replace(command, run=run) for command in COMMANDS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nanobot.commands.table.COMMANDS", table)
        try:
            context: Any = SimpleNamespace(skills=SimpleNamespace(names=lambda: [SKILL]))
            reply = await run_command(text, KEY, context)
        except UsageError:  # a word alone, or a command mistyped
            assert len(words) < 2
            assert name.lower() not in NAMES or not words
            return
    takes = next((command.arguments for command in COMMANDS if command.name == name.lower()), None)
    if reply is None:
        assert ran == []
        assert words or name.lower() == SKILL
        assert not takes or len(words) > 1
    else:
        assert ran == [arguments]
        assert takes or not words or (name.lower(), arguments) == ("stop", "now")


async def test_the_configured_model_comes_back(app: App) -> None:
    app.models.use("other/model", ScriptedProvider(["from the other"], loop=True))
    context = CommandContext(app)
    assert "other/model" in str(await run_command("/model other/model", KEY, context))
    assert (await app.assistant.model_of(KEY)) == "other/model"
    assert "scripted/x" in str(await run_command("/model default", KEY, context))
    assert (await app.assistant.model_of(KEY)) == "scripted/x"
