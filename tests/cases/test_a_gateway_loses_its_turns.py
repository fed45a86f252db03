"""A gateway that ends while its turns are being taken over says so in a line each; it left tracebacks."""

from __future__ import annotations

import asyncio
import gc
import logging
from pathlib import Path
from typing import Any

import pytest

from nanobot.app import open_app
from nanobot.bus.events import TurnFinished, TurnStarted
from nanobot.config.schema import Config
from nanobot.messages import InboundMessage
from nanobot.providers.scripted import Reply, ScriptedProvider
from nanobot.store.store import Store


async def test_nothing_is_left_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path))
    unread: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unread.append(context))
    go = asyncio.Event()
    other = Store(tmp_path / "nanobot.db")
    async with open_app(Config(), model="scripted/x") as app:
        app.models.use("scripted/x", ScriptedProvider([Reply("late", wait=go)]))
        await app.hub.submit(InboundMessage("tg", "1", "anna", "hi", "1", "tg:1"))
        with app.hub.subscribe("tg:1") as events:
            serving = asyncio.create_task(app.dispatcher.run())
            assert isinstance((await anext(events))[1], TurnStarted)
            app.store.workers.release()  # as one that was stopped for longer than a lease
            assert len(await other.turns.claim()) == 1
            app.assistant.handed_over.set()  # it has just found out
            go.set()
            async for _, event in events:
                if isinstance(event, TurnFinished):
                    break
        serving.cancel()
        await asyncio.wait([serving])
    await other.aclose()
    gc.collect()
    assert unread == []
    (line,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert line.getMessage() == "The turn of tg:1 was taken over by another gateway"
    assert line.exc_info is None
