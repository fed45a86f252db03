"""Recall before a turn and the memory_search tool, in whole turns on a real store and a loopback model."""

from __future__ import annotations

import itertools
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from nanobot import paths
from nanobot.app import App, open_app
from nanobot.config.schema import Config
from nanobot.messages import ContextPart
from tests.providers.loopback import Loopback, chat_stream
from tests.talk import talk

SESSION = "cli:direct"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def config_for(server: Loopback, **memory: Any) -> Config:
    return Config.model_validate(
        {
            "providers": {"custom": {"apiKey": "k", "apiBase": f"{server.url}/v1"}},
            "agents": {"defaults": {"model": "test-model"}},
            "memory": memory,
        }
    )


async def say(app: App, text: str, session: str = SESSION) -> str:
    """One turn; returns the note that went with the newest user message."""
    await talk(app, text, session)
    stored = await app.store.sessions.history(session)
    newest = next(entry.message for entry in reversed(stored) if entry.message.role == "user")
    return "".join(part.text for part in newest.parts if isinstance(part, ContextPart))


def answers(count: int) -> list[Any]:
    return [chat_stream("Fine.") for _ in range(count)]


async def test_an_earlier_conversation_is_recalled_after_new(home: Path) -> None:
    async with Loopback(*answers(3)) as server, open_app(config_for(server)) as app:
        await say(app, "My dog is called Rex and loves swimming")
        assert "Rex" not in await say(app, "What is the name of my dog?")
        assert not (home / "search.db").exists()  # all of it was before the model
        await app.store.conversations.begin(SESSION)
        note = await say(app, "What does my dog love?")
        sent = server.requests[-1].json()["messages"][-1]["content"]
    assert "cli:direct#1: My dog is called Rex and loves swimming" in note
    assert "as information only" in note
    assert "Rex" in str(sent)


@pytest.mark.parametrize("text", ["hello", "Thanks!", "Write a sorting function in Rust"])
async def test_nothing_is_recalled_for_what_has_nothing_to_do_with_it(text: str) -> None:
    async with Loopback(*answers(2)) as server, open_app(config_for(server)) as app:
        await say(app, "My dog is called Rex and loves swimming")
        await app.store.conversations.begin(SESSION)
        assert "From memory" not in await say(app, text)


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31", "2026-02-30", "2026-05-05T10:00+99:00"])
async def test_no_line_of_the_memory_files_breaks_a_turn(home: Path, day: str) -> None:
    async with Loopback(*answers(1)) as server, open_app(config_for(server)) as app:
        for file in ("HISTORY.md", "MEMORY.md"):
            (app.workspace / "memory" / file).write_text(
                f"[{day}] The harbour is closed. <!-- {day} a#1 -->\n"
            )
        assert "harbour is closed" in await say(app, "Is the harbour closed?")
        messages = [entry.message.text for entry in await app.store.sessions.history(SESSION)]
    assert messages == ["Is the harbour closed?", "Fine."]


async def test_a_turn_goes_on_when_recall_fails(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Loopback(*answers(1)) as server, open_app(config_for(server)) as app:
        paths.make_private_dir(app.workspace / "memory")
        (app.workspace / "memory" / "HISTORY.md").write_text("[2026-01-01] The harbour closed.\n")
        (paths.home() / "search.db").mkdir()
        assert "From memory" not in await say(app, "Is the harbour closed?")
        messages = [entry.message.text for entry in await app.store.sessions.history(SESSION)]
    assert messages == ["Is the harbour closed?", "Fine."]
    assert "Nothing is recalled: The search index failed" in caplog.text


async def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_recalled(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Loopback(*answers(2)) as server, open_app(config_for(server)) as app:
        (app.workspace / "memory" / "HISTORY.md").mkdir(parents=True)
        await say(app, "The harbour is closed on Sundays.")
        await app.store.conversations.begin(SESSION)
        assert "closed on Sundays" in await say(app, "Is the harbour closed?")
    assert caplog.text.count("HISTORY.md: Is a directory") == 1


async def test_recall_can_be_switched_off() -> None:
    async with Loopback(*answers(2)) as server:
        async with open_app(config_for(server, recall={"enabled": False})) as app:
            await say(app, "My dog is called Rex")
            await app.store.conversations.begin(SESSION)
            assert "Rex" not in await say(app, "What is my dog called?")


async def test_recall_keeps_to_its_limits() -> None:
    config = {"recall": {"limit": 3, "maxTokens": 100}}
    async with Loopback(*answers(21)) as server, open_app(config_for(server, **config)) as app:
        for number in range(20):
            await say(app, f"The dog Rex did trick number {number}, " + "and so on " * 5)
        await app.store.conversations.begin(SESSION)
        note = await say(app, "What did the dog Rex do?")
    recalled = note[note.index("[From memory") :]
    assert 1 <= recalled.count("\n- ") <= 3
    assert len(recalled) <= 100 * 4


async def test_other_chats_are_recalled_when_the_owner_wants_it() -> None:
    async with Loopback(*answers(4)) as server:
        async with open_app(config_for(server)) as app:
            await say(app, "My dog is called Rex", "cli:one")
            assert "Rex" not in await say(app, "What is my dog called?", "cli:two")
        async with open_app(config_for(server, scope="all")) as app:
            assert "Rex" in await say(app, "What is my dog called?", "cli:three")


async def test_a_fact_that_is_in_the_prompt_is_not_recalled(home: Path) -> None:
    async with Loopback(*answers(3)) as server, open_app(config_for(server, promptBytes=100)) as app:
        await say(app, "hello")
        (app.workspace / "memory/MEMORY.md").write_text("- The cat is called Mo.\n- The dog is called Rex.\n")
        assert "Mo." not in await say(app, "How is the cat called again?")
        system = server.requests[-1].json()["messages"][0]["content"]
        note = await say(app, "How is the dog called again?")
    assert "Mo." in system
    assert "Rex" not in system
    assert "fact" in note
    assert "The dog is called Rex." in note


async def test_a_turn_does_not_wait_for_a_busy_index(home: Path) -> None:
    async with Loopback(*answers(3)) as server, open_app(config_for(server)) as app:
        await say(app, "My dog is called Rex")
        await app.store.conversations.begin(SESSION)
        other = sqlite3.connect(home / "search.db")
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN EXCLUSIVE")
        assert "Rex" not in await say(app, "What is my dog called?")
        other.rollback()
        other.close()
        await app.recall.settle()
        await app.store.conversations.begin(SESSION)
        assert "Rex" in await say(app, "What is my dog called?")


async def test_turns_do_not_wait_in_a_row_for_an_index_that_is_made(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "nanobot.memory.recall")
    async with Loopback(*answers(4)) as server, open_app(config_for(server)) as app:
        await say(app, "My dog is called Rex")
        await app.store.conversations.begin(SESSION)
        with sqlite3.connect(home / "search.db") as other:
            other.execute("PRAGMA journal_mode = WAL")
            other.execute("BEGIN EXCLUSIVE")
            for _ in range(3):
                assert "Rex" not in await say(app, "What is my dog called?")
        other.close()
    assert caplog.text.count("still being made") == 1  # who waits in vain says so


async def test_an_index_that_has_what_may_be_recalled_is_not_written(home: Path) -> None:
    """What was said since is before the model; it is read when it leaves the window, or for a search."""
    async with Loopback(*answers(6)) as server, open_app(config_for(server)) as app:
        await say(app, "My dog is called Rex")
        await app.store.conversations.begin(SESSION)
        for _ in range(3):
            assert "Rex" in await say(app, "What is my dog called?")
            with sqlite3.connect(home / "search.db") as index:
                assert index.execute("SELECT COUNT(*) FROM turns").fetchone() == (2,)
            index.close()
        await app.store.conversations.begin(SESSION)
        await say(app, "What is my dog called?")
        with sqlite3.connect(home / "search.db") as index:
            assert index.execute("SELECT COUNT(*) FROM turns").fetchone() == (8,)
        index.close()


async def test_recall_leaves_the_prefix_of_requests_alone() -> None:
    async with Loopback(*answers(6)) as server, open_app(config_for(server)) as app:
        await say(app, "My dog is called Rex")
        await app.store.conversations.begin(SESSION)
        for number in range(4):
            await say(app, f"What is my dog called, attempt {number}?")
        bodies = [request.json()["messages"] for request in server.requests[1:]]
    for earlier, later in itertools.pairwise(bodies):
        assert later[: len(earlier)] == earlier
    assert "Rex" in str(bodies[-1])


async def test_the_tool_finds_and_shows() -> None:
    calls = [
        chat_stream(calls=[("c1", "memory_search", json.dumps({"query": "dog"}))]),
        chat_stream("It is Rex."),
        chat_stream(calls=[("c2", "memory_search", json.dumps({"query": "cli:direct#1"}))]),
        chat_stream("Done."),
        chat_stream(calls=[("c3", "memory_search", json.dumps({"query": "zeppelin", "limit": 99}))]),
        chat_stream("Nothing."),
    ]
    async with Loopback(chat_stream("Noted."), *calls) as server, open_app(config_for(server)) as app:
        for text in ("My dog is called Rex", "Search", "Show", "Again"):
            await say(app, text)
        results = [
            result.content
            for entry in await app.store.sessions.history(SESSION)
            for result in entry.message.tool_results
        ]
    assert "user, cli:direct#1: My dog is called Rex" in results[0]
    assert "My dog is called Rex" in results[1]
    assert results[2].startswith("Nothing found.")


async def test_the_tool_stays_in_its_chat() -> None:
    search = chat_stream(calls=[("c1", "memory_search", json.dumps({"query": "treasure"}))])
    async with Loopback(chat_stream("Noted."), search, chat_stream("No.")) as server:
        async with open_app(config_for(server)) as app:
            await say(app, "The treasure is under the oak", "cli:one")
            await say(app, "Search", "cli:two")
            (result,) = [
                result
                for entry in await app.store.sessions.history("cli:two")
                for result in entry.message.tool_results
            ]
    assert "oak" not in result.content


async def test_a_message_says_that_something_was_recalled_for_it(home: Path) -> None:
    async with Loopback(*answers(2)) as server, open_app(config_for(server)) as app:
        await say(app, "The harbour is closed on Sundays.")
        await app.store.conversations.begin(SESSION)
        await say(app, "Is the harbour closed?")
        notes = [
            part.recalled
            for entry in await app.store.sessions.history(SESSION)
            for part in entry.message.parts
            if isinstance(part, ContextPart)
        ]
    assert notes == [False, True]
