"""Conversations that outgrow the model: the whole assistant against a server that refuses long requests."""

from __future__ import annotations

import itertools
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from nanobot.app import App, open_app
from nanobot.bus.events import Notice, TurnEvent, TurnFinished
from nanobot.messages import ContextUse, Message
from nanobot.store.records import Window
from tests.agent.harness import is_note
from tests.providers.loopback import Answer, Loopback, Request, chat_stream, json_answer
from tests.talk import talk
from tests.test_app import config_for

SESSION = "cli:direct"
TOO_LONG = json_answer({"error": {"message": "too long", "code": "context_length_exceeded"}}, 400)


class SmallModel(Loopback):
    """Refuses more than `limit` characters of conversation. For each `read NAME` in a question it reads."""

    def __init__(self, limit: int = 1_000_000, usage: dict[str, int] | None = None) -> None:
        super().__init__()
        self.limit = limit
        self.refused = 0
        self.usage = usage
        self._read_for: dict[str, int] = {}

    def _next(self, request: Request) -> Answer:
        messages = request.json()["messages"]
        if conversation_size(messages) > self.limit:
            self.refused += 1
            return TOO_LONG
        question = next(as_text(m["content"]) for m in reversed(messages) if m["role"] == "user")
        question = question.splitlines()[-1]  # the notes stand above it
        names = question.split("read ")[1:]
        done = self._read_for.get(question, 0)
        self._read_for[question] = done + 1
        if done < len(names):
            arguments = json.dumps({"path": names[done].strip()})
            return chat_stream(calls=[(f"c{len(self.requests)}", "read_file", arguments)])
        return chat_stream(f"answer {len(self.requests)} " + "a" * 200, usage=self.usage)


def as_text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def conversation_size(messages: list[dict[str, Any]]) -> int:
    return sum(
        len(as_text(message.get("content") or "")) for message in messages if message["role"] != "system"
    )


def changes_of_prefix(bodies: list[list[dict[str, Any]]]) -> int:
    return sum(later[: len(earlier)] != earlier for earlier, later in itertools.pairwise(bodies))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


async def say(app: App, text: str) -> tuple[TurnFinished, list[TurnEvent]]:
    events = await talk(app, text, SESSION)
    last = events[-1]
    assert isinstance(last, TurnFinished)
    return last, events


async def test_requests_never_outgrow_the_configured_window_and_rarely_change_their_beginning() -> None:
    async with SmallModel() as server, open_app(config_for(server, contextWindow=6_000)) as app:
        app.config.memory.recall.enabled = (
            False  # it would find all these alike questions, and fill the window
        )
        for number in range(60):
            finished, _ = await say(app, f"question {number} " + "q" * 600)
            assert finished.stop_reason == "done"
            assert finished.context.window == 6_000
            assert finished.context.estimated < 6_000
        bodies = [request.json()["messages"] for request in server.requests]
        window = (await app.store.sessions.open(SESSION)).window
        assert len(await app.store.sessions.history(SESSION)) == 120
    assert len(bodies) == 60
    assert max(map(conversation_size, bodies)) < 6_000 * 4
    assert 2 <= changes_of_prefix(bodies) <= 12
    newest_gone = f"question {window.start // 2 - 1} q"
    assert newest_gone in window.summary
    assert newest_gone in as_text(bodies[-1][1]["content"])
    assert f"question {window.start // 2} " in as_text(bodies[-1][1]["content"])


async def test_old_tool_results_are_shortened_in_place_and_the_rest_stays_as_it_was() -> None:
    async with SmallModel() as server, open_app(config_for(server, contextWindow=12_000)) as app:
        (app.workspace / "long.txt").write_text("a line of it\n" * 400)
        for number in range(9):
            finished, _ = await say(app, f"question {number}: read long.txt")
            assert finished.stop_reason == "done"
        bodies = [request.json()["messages"] for request in server.requests]
    assert max(map(conversation_size, bodies)) < 12_000 * 4
    assert 1 <= changes_of_prefix(bodies) <= 5
    shortened = [m for m in bodies[-1] if m["role"] == "tool" and "record:" in m["content"]]
    assert shortened
    assert [m["role"] for m in bodies[-1]].count("user") == 9
    assert "a line of it\n" * 100 in bodies[-1][-1]["content"]


async def test_a_provider_that_says_too_long_is_asked_again_once_with_less() -> None:
    refused = 0
    async with SmallModel(limit=9_000) as server, open_app(config_for(server)) as app:
        for number in range(25):
            finished, events = await say(app, f"question {number} " + "q" * 600)
            assert finished.stop_reason == "done", finished.error
            asked_again = [e for e in events if isinstance(e, Notice) and "asking again with less" in e.text]
            assert len(asked_again) == server.refused - refused
            refused = server.refused
        assert len(server.requests) == 25 + server.refused
        assert 1 <= server.refused <= 5
        assert (await app.store.sessions.open(SESSION)).window.start > 0


async def test_a_result_that_is_too_long_by_itself_is_shown_in_part() -> None:
    async with SmallModel(limit=9_000) as server, open_app(config_for(server)) as app:
        (app.workspace / "long.txt").write_text("a line of it\n" * 2_000)
        finished, _ = await say(app, "read long.txt")
        assert finished.stop_reason == "done", finished.error
        assert server.refused == 1
        result = server.requests[-1].json()["messages"][-1]
        assert "read_file with the path record:3 shows the whole" in result["content"]


async def test_the_model_can_read_what_was_shortened(home: Path) -> None:
    async with SmallModel() as server, open_app(config_for(server)) as app:
        (app.workspace / "long.txt").write_text("a line of it\n" * 2_000)
        await say(app, "read long.txt")
        await say(app, "once more: read record:3")
        await say(app, "and read record:99")
        results = [m["content"] for m in server.requests[-1].json()["messages"] if m["role"] == "tool"]
    assert "a line of it\n" * 1_000 in results[1]
    assert "no message 99" in results[2]


async def test_what_never_fits_is_an_error_with_a_fix() -> None:
    async with SmallModel(limit=100) as server, open_app(config_for(server)) as app:
        finished, events = await say(app, "q" * 5_000)
        assert (finished.stop_reason, finished.error_type) == ("error", "ContextTooLongError")
        assert "/new" in finished.error
        assert len(server.requests) <= 2
        question, note = [entry.message for entry in await app.store.sessions.history(SESSION)]
        assert question.text == "q" * 5_000
        assert is_note(note, "this turn failed")
        assert all(event.text for event in events if isinstance(event, Notice))


async def test_a_turn_of_many_calls_that_outgrows_the_model_by_itself_goes_on() -> None:
    async with SmallModel(limit=20_000) as server, open_app(config_for(server)) as app:
        for number in range(20):
            (app.workspace / f"{number}.txt").write_text(f"file {number}\n" * 300)
        question = "look: " + " ".join(f"read {number}.txt" for number in range(20))
        finished, _ = await say(app, question)
        assert finished.stop_reason == "done", finished.error
        last = server.requests[-1].json()["messages"]
        assert question in as_text(next(m for m in last if m["role"] == "user")["content"])
        assert server.refused >= 1
        assert len(server.requests) == 21 + server.refused


async def test_the_next_process_sees_the_same(home: Path) -> None:
    async with SmallModel() as server:
        config = config_for(server, contextWindow=6_000)
        for number in range(40):
            async with open_app(config) as app:
                await say(app, f"question {number} " + "q" * 600)
        bodies = [request.json()["messages"] for request in server.requests]
    assert 1 <= changes_of_prefix(bodies) <= 10


async def test_what_the_provider_counts_is_kept(home: Path) -> None:
    usage = {"prompt_tokens": 4321, "completion_tokens": 5}
    async with SmallModel(usage=usage) as server, open_app(config_for(server)) as app:
        finished, _ = await say(app, "hello")
        window = (await app.store.sessions.open(SESSION)).window
        assert finished.context.tokens == window.used.tokens == 4321
        assert window == Window(used=ContextUse(4321, finished.context.estimated), conversation=1)
        assert (await app.store.sessions.history(SESSION))[0].message.text == Message.user("hello").text


async def test_no_statement_of_a_turn_reads_a_whole_table(home: Path) -> None:
    """P3: with EXPLAIN QUERY PLAN of everything a turn asks of the database."""
    async with SmallModel() as server, open_app(config_for(server, memoryWindow=4)) as app:
        statements: set[str] = set()
        for number in range(8):
            await say(app, f"question {number}")
            for call in (app.store.database.write, app.store.database.read):  # type: ignore[attr-defined]
                await call(lambda connection: connection.set_trace_callback(statements.add))
    plans = sqlite3.connect(home / "nanobot.db")
    queries = [text for text in statements if text.split()[0] in ("SELECT", "UPDATE", "INSERT", "DELETE")]
    assert len(queries) > 5
    for text in queries:
        for *_, step in plans.execute(f"EXPLAIN QUERY PLAN {text}"):
            # What runs, and what waits, by indexes that hold only those.
            bounded = step.startswith("SCAN turns USING INDEX running_turns") or step == "SCAN heads"
            assert bounded or not step.startswith("SCAN"), (text, step)
    plans.close()
