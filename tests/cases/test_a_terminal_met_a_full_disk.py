"""A terminal that met a full disk at the end of a turn goes on when there is room; it waited for ever."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nanobot.app import App, open_app
from nanobot.bus.events import Notice, TurnFinished
from nanobot.config.schema import Config
from nanobot.errors import StorageError
from nanobot.providers.scripted import Reply, ScriptedProvider
from tests.talk import own_message


async def limit_pages(app: App, pages: int) -> None:
    """The database can hold so many pages; 0: no limit. What is more meets a full disk."""
    database = app.store.database
    assert database._write_connection is not None
    sql = f"PRAGMA max_page_count = {pages or 1_000_000}"
    await asyncio.wrap_future(database._write_thread.submit(database._write_connection.execute, sql))


async def test_the_next_message_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path))
    provider = ScriptedProvider([Reply("one"), Reply("long " * 100_000), Reply("three")])
    finished: list[TurnFinished] = []
    async with open_app(Config(), model="scripted/x") as app:
        app.models.use("scripted/x", provider)
        with app.hub.subscribe("cli:direct") as events:
            async with app.working_for_itself() as working:
                for text in ("first", "second", "third"):
                    await app.hub.submit(own_message(app.store, "cli:direct", text))
                    async for _, event in events:
                        assert not (isinstance(event, Notice) and event.text.startswith("Waiting"))
                        if isinstance(event, TurnFinished):
                            finished.append(event)
                            break
                    if text == "first":
                        (row,) = await app.store.database.rows("PRAGMA page_count")
                        await limit_pages(app, row[0] + 20)
                    elif text == "second":
                        await app.dispatcher.idle.wait()  # a terminal with one reply ends
                        assert not working.done()
                        with pytest.raises(StorageError):
                            await app.hub.submit(own_message(app.store, "cli:direct", "x" * 200_000))
                        await limit_pages(app, 0)
        history = [entry.message.text for entry in await app.store.sessions.history("cli:direct")]
    assert [end.text for end in finished[::2]] == ["one", "three"]
    assert "disk is full" in finished[1].error
    assert history == ["first", "one", "second", "long " * 100_000, "third", "three"]
