"""A model that thinks in its text, or writes its tool calls there: nobody is shown that as an answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nanobot.agent.replies import is_heartbeat_ok
from nanobot.app import App, open_app
from nanobot.bus.events import Notice, TextDelta, TextDiscarded, TurnFinished
from nanobot.config.schema import Config
from tests.providers.loopback import Answer, Loopback, chat_chunk, chat_stream, sse
from tests.talk import talk

CALL = '<tool_call>\n{"name": "write_file", "arguments": {"path": "a.txt", "content": "hi"}}\n</tool_call>'


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def config_for(server: Loopback) -> Config:
    return Config.model_validate(
        {
            "providers": {"custom": {"apiKey": "k", "apiBase": f"{server.url}/v1"}},
            "agents": {"defaults": {"model": "test-model"}},
        }
    )


def thinking(*pieces: str) -> Answer:
    return Answer(sse(*(chat_chunk({"content": piece}) for piece in pieces), chat_chunk(finish="stop")))


async def said(app: App) -> str:
    stored = await app.store.sessions.history("cli:direct", after=0, limit=100)
    return "\n".join(entry.message.text for entry in stored)


@pytest.mark.parametrize(
    "pieces",
    [
        ("<think>\nclandestine plan</th", "ink>\n\nHello!"),
        ("<Thinking>clandestine plan</Thinking>Hello!",),
        ("clandestine ", "plan\n</think>", "\n\nHello!"),
    ],
)
async def test_thinking_is_not_shown_stored_or_sent_back(pieces: tuple[str, ...]) -> None:
    async with (
        Loopback(thinking(*pieces), chat_stream("Bye.")) as server,
        open_app(config_for(server)) as app,
    ):
        shown = ""
        for event in await talk(app, "hi", "cli:direct"):
            if isinstance(event, TextDelta):
                shown += event.text
            elif isinstance(event, TextDiscarded):
                shown = ""
            elif isinstance(event, TurnFinished):
                assert event.text == shown == "Hello!"
        await talk(app, "and now?", "cli:direct")
        assert "clandestine" not in json.dumps(server.requests[1].json())
        assert "clandestine" not in await said(app)


async def test_a_heartbeat_with_thinking_has_nothing_to_say() -> None:
    answer = thinking("<think>No task is due.</think>\n", "HEARTBEAT_OK")
    async with Loopback(answer) as server, open_app(config_for(server)) as app:
        finished = (await talk(app, "hi", "cli:direct"))[-1]
    assert isinstance(finished, TurnFinished)
    assert is_heartbeat_ok(finished.text)


async def test_a_call_written_as_text_is_made(home: Path) -> None:
    async with Loopback(thinking(CALL), chat_stream("Done.")) as server, open_app(config_for(server)) as app:
        *events, finished = await talk(app, "hi", "cli:direct")
        assert isinstance(finished, TurnFinished)
        assert (
            "".join(event.text for event in events if isinstance(event, TextDelta))
            == finished.text
            == "Done."
        )
        messages = server.requests[1].json()["messages"]
    assert (home / "workspace" / "a.txt").read_text() == "hi"
    assert messages[-2]["tool_calls"][0]["id"] == messages[-1]["tool_call_id"]


async def test_a_call_that_cannot_be_made_is_told_to_the_owner() -> None:
    answer = thinking(CALL.replace("write_file", "save"))
    async with Loopback(answer) as server, open_app(config_for(server)) as app:
        *events, finished = await talk(app, "hi", "cli:direct")
    assert isinstance(finished, TurnFinished)
    assert finished.stop_reason == "limit"
    assert "save" in finished.text
    notices = [event.text for event in events if isinstance(event, Notice)]
    assert "test-model wrote a tool call as text, which was not run." in notices[-1]
