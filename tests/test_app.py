"""The whole assistant against a loopback model server: real config, store, tools and wire."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from nanobot.app import App, open_app
from nanobot.bus.events import Event, Notice, TextDelta, TurnFinished
from nanobot.config.schema import Config
from nanobot.messages import Message, unanswered_calls
from nanobot.providers.scripted import Reply, ScriptedProvider
from tests.agent.harness import is_note
from tests.providers.loopback import Loopback, chat_stream, json_answer
from tests.talk import claim_own, own_message, talk

SESSION = "cli:direct"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def config_for(server: Loopback, **defaults: Any) -> Config:
    return Config.model_validate(
        {
            "providers": {"custom": {"apiKey": "k", "apiBase": f"{server.url}/v1"}},
            "agents": {"defaults": {"model": "test-model", **defaults}},
        }
    )


async def say(app: App, text: str, session: str = SESSION) -> tuple[TurnFinished, list[Event]]:
    events = await talk(app, text, session)
    last = events[-1]
    assert isinstance(last, TurnFinished)
    return last, events


async def test_hello_in_a_fresh_workspace_is_thrifty() -> None:
    """P4: at most 1,800 tokens (characters / 4), tools included."""
    async with Loopback(chat_stream("Hi.")) as server, open_app(config_for(server)) as app:
        finished, _ = await say(app, "hello")
        body = server.requests[0].json()
    assert finished.text == "Hi."
    prompt = "".join(str(message["content"]) for message in body["messages"])
    tools = json.dumps(body["tools"])
    assert len(prompt) + len(tools) <= 1800 * 4
    assert len(body["tools"]) >= 7


async def test_ten_turns_share_a_byte_identical_prefix() -> None:
    answers = []
    for number in range(10):
        answers.append(chat_stream(calls=[(f"c{number}", "list_dir", '{"path": "."}')]))
        answers.append(chat_stream(f"answer {number}"))
    async with Loopback(*answers) as server, open_app(config_for(server)) as app:
        for number in range(10):
            await say(app, f"question {number}")
        bodies = [request.json() for request in server.requests]
    assert len(bodies) == 20
    for earlier, later in itertools.pairwise(bodies):
        assert later["tools"] == earlier["tools"]
        assert later["messages"][: len(earlier["messages"])] == earlier["messages"]


async def test_the_prefix_moves_only_once_in_many_turns() -> None:
    """A session that outgrows its window is cut to half, not shifted at every turn."""
    answers = [chat_stream(f"answer {number}") for number in range(40)]
    async with Loopback(*answers) as server, open_app(config_for(server, memoryWindow=20)) as app:
        for number in range(40):
            await say(app, f"question {number}")
        bodies = [request.json()["messages"] for request in server.requests]
    moved = [
        index
        for index, (earlier, later) in enumerate(itertools.pairwise(bodies))
        if later[: len(earlier)] != earlier
    ]
    assert 1 <= len(moved) <= 6
    assert max(len(body) for body in bodies) <= 23


async def test_a_conversation_is_remembered_by_the_next_process() -> None:
    async with Loopback(chat_stream("Noted."), chat_stream("Blue.")) as server:
        async with open_app(config_for(server)) as app:
            await say(app, "my colour is blue")
        async with open_app(config_for(server)) as app:
            await say(app, "which colour?")
        roles = [message["role"] for message in server.requests[1].json()["messages"]]
    assert roles == ["system", "user", "assistant", "user"]


async def test_a_tool_really_acts(home: Path) -> None:
    write = ("c1", "write_file", json.dumps({"path": "out.txt", "content": "42\n"}))
    async with Loopback(chat_stream(calls=[write]), chat_stream("Written.")) as server:
        async with open_app(config_for(server)) as app:
            await say(app, "write it")
            assert (app.workspace / "out.txt").read_text() == "42\n"
            stored = [entry.message for entry in await app.store.sessions.history(SESSION)]
    assert [message.role for message in stored] == ["user", "assistant", "tool", "assistant"]


async def test_an_error_keeps_the_question_and_never_becomes_an_answer() -> None:
    refusal = json_answer({"error": {"message": "bad key", "code": "invalid_api_key"}}, 401)
    answers = (chat_stream("Hi."), refusal, chat_stream("Better."), chat_stream("Well."))
    async with Loopback(*answers) as server, open_app(config_for(server)) as app:
        await say(app, "good day")
        finished, _ = await say(app, "hello")
        assert (finished.stop_reason, finished.error_type) == ("error", "AuthError")
        said = [entry.message for entry in await app.store.sessions.history(SESSION)]
        assert [(message.role, message.text) for message in said[2:]] == [("user", "hello"), ("user", "")]
        for question, answer in (("again", "Better."), ("once more", "Well.")):
            finished, _ = await say(app, question)
            assert finished.text == answer
        _, failed, again, last = (request.json()["messages"] for request in server.requests)
    assert again[: len(failed) - 1] == failed[:-1]
    newest = json.dumps(again[len(failed) - 1 :])
    order = [newest.index(words) for words in ("hello", "this turn failed before it was finished", "again")]
    assert order == sorted(order)
    assert last[: len(again)] == again


async def test_half_an_answer_is_not_shown_as_whole_nor_its_question_as_open() -> None:
    """Design 3.1: the model sees that a turn was stopped, and later requests still begin with the earlier."""
    half = Reply(chunks=["Once upon"], wait=asyncio.Event())
    provider = ScriptedProvider([half, "Noon.", "Bye."])
    async with open_app(Config(), model="scripted/x") as app:
        app.models.use("scripted/x", provider)
        with app.hub.subscribe(SESSION) as events:
            await app.hub.submit(own_message(app.store, SESSION, "tell me a story"))
            async with app.working_for_itself():
                async for _, event in events:
                    if isinstance(event, TextDelta):
                        assert await app.dispatcher.stop(SESSION)
                    elif isinstance(event, TurnFinished):
                        break
        await say(app, "what time is it?")
        await say(app, "thanks")
    first, second, third = (request.messages for request in provider.requests)
    question, answer, note, newest = second
    assert (question,) == first
    assert answer == Message.assistant("Once upon")
    assert is_note(note, "this turn was stopped before it was finished")
    assert newest.text == "what time is it?"
    assert third[: len(second)] == second


async def test_a_model_nobody_serves_is_an_error_that_keeps_the_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = Config.model_validate({"agents": {"defaults": {"model": "deepseek/deepseek-chat"}}})
    async with open_app(config) as app:
        finished, _ = await say(app, "hello")
        assert finished.error_type == "NoProviderError"
        assert "onboard" in finished.error
        assert [entry.message.text for entry in await app.store.sessions.history(SESSION)] == ["hello", ""]


async def test_a_model_without_tools_is_offered_none_and_no_notes(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"replies": [{"text": "hi"}], "traits": {"supports_tools": False}}))
    async with open_app(Config(), model=f"scripted/{script}") as app:
        await say(app, "hello")
        _, provider = await app.models.get(f"scripted/{script}")
        request = provider.requests[0]  # type: ignore[attr-defined]
    assert request.tools == ()
    assert request.messages == (Message.user("hello"),)
    assert len(request.system) < 200


async def test_the_session_s_own_model_wins(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"replies": [{"text": "from the script"}]}))
    async with Loopback() as server, open_app(config_for(server)) as app:
        await app.store.sessions.set_setting(SESSION, "model", f"scripted/{script}")
        finished, _ = await say(app, "hello")
        assert finished.text == "from the script"


async def test_a_second_turn_of_a_session_waits_for_the_first(tmp_path: Path) -> None:
    async with Loopback(chat_stream("Mine.")) as server:
        async with open_app(config_for(server)) as app, open_app(config_for(server)) as other:
            claim = await claim_own(other.store, SESSION)
            assert claim is not None
            seen: list[Event] = []
            with app.hub.subscribe(SESSION) as events:
                await app.hub.submit(own_message(app.store, SESSION, "hello"))
                async with app.working_for_itself():
                    while not (seen and isinstance(seen[-1], TurnFinished)):
                        seen.append((await anext(events))[1])
                        if isinstance(seen[-1], Notice) and "Waiting" in seen[-1].text:
                            await other.store.turns.finish(claim, "done")
            assert isinstance(seen[0], Notice)
            assert seen[-1].text == "Mine."


async def test_leaving_in_the_middle_of_a_turn_leaves_a_valid_history() -> None:
    hang = ("c1", "exec", json.dumps({"command": "sleep 60"}))
    async with Loopback(chat_stream(calls=[hang])) as server, open_app(config_for(server)) as app:
        with app.hub.subscribe(SESSION) as events:
            await app.hub.submit(own_message(app.store, SESSION, "wait"))
            async with app.working_for_itself():
                while (await anext(events))[1].type != "tool_started":
                    pass
        messages = [entry.message for entry in await app.store.sessions.history(SESSION)]
        assert unanswered_calls(messages) == []
        assert await claim_own(app.store, SESSION) is not None


async def test_no_exec_tool_when_it_is_disabled() -> None:
    async with open_app(Config.model_validate({"tools": {"exec": {"enabled": False}}})) as app:
        assert "exec" not in app.tools.by_name
    async with open_app(Config()) as app:
        assert "exec" in app.tools.by_name
