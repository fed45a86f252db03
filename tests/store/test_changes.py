"""Changes are told to who listens, in this process and in others, and never looked for."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from nanobot.store import changes
from nanobot.store.store import Store
from tests.talk import claim_next

_WRITER = """
import asyncio, sys
from pathlib import Path
from nanobot.store.store import Store

async def main():
    store = Store(Path(sys.argv[1]))
    await store.sessions.set_setting("cli:direct", "model", "x")
    await store.aclose()

asyncio.run(main())
"""
_LISTENER = """
import asyncio, sys
from pathlib import Path
from nanobot.store.store import Store

async def main():
    watching = asyncio.create_task(Store(Path(sys.argv[1])).database.changes.watch())
    await asyncio.sleep(0)
    print("ready", flush=True)
    await watching

asyncio.run(main())
"""


@asynccontextmanager
async def watched(store: Store) -> AsyncIterator[asyncio.Event]:
    """Set whenever a change is told."""
    watching = asyncio.create_task(store.database.changes.watch())
    try:
        with store.database.changes.subscribe() as told:
            told.clear()
            await asyncio.sleep(0)  # it watches
            yield told
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def heard(told: asyncio.Event) -> None:
    await asyncio.wait_for(told.wait(), 10)
    told.clear()


async def change(store: Store, value: str) -> None:
    await store.sessions.set_setting("cli:direct", "model", value)


async def test_a_change_is_told_here_and_elsewhere(tmp_path: Path) -> None:
    database = tmp_path / "nanobot.db"
    async with aclosing(Store(database)) as store, aclosing(Store(database)) as other:
        await change(store, "a")
        async with watched(store) as told, watched(other) as told_too:
            await change(store, "b")
            await heard(told)
            await heard(told_too)
            command = [sys.executable, "-c", _WRITER, str(database)]
            await asyncio.to_thread(subprocess.run, command, check=True)
            await heard(told)
            await heard(told_too)
        assert list((tmp_path / "run").iterdir()) == []


async def test_a_storm_of_changes_is_told_once_in_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with aclosing(Store(tmp_path / "nanobot.db")) as store:
        await change(store, "a")
        monkeypatch.setattr(changes, "PAUSE", 3600.0)
        async with watched(store) as told:
            await change(store, "told")
            await heard(told)
            for number in range(20):
                await change(store, str(number))
            assert not told.is_set()


async def test_the_last_change_of_a_storm_is_told(tmp_path: Path) -> None:
    async with aclosing(Store(tmp_path / "nanobot.db")) as store:
        async with watched(store) as told:
            await change(store, "told at once")
            await heard(told)
            await change(store, "told after the pause")
            await heard(told)


async def test_what_changes_nothing_is_not_told(tmp_path: Path) -> None:
    async with aclosing(Store(tmp_path / "nanobot.db")) as store:
        await change(store, "a")
        async with watched(store) as told:
            assert await claim_next(store) is None
            await store.conversations.rename(99, "title")
            await store.conversations.newest()
            assert not told.is_set()


async def test_one_that_was_killed_or_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _LISTENER, str(tmp_path / "nanobot.db")]
    async with aclosing(Store(tmp_path / "nanobot.db")) as store:
        with subprocess.Popen(command, stdout=subprocess.PIPE) as listener:  # noqa: ASYNC220
            assert listener.stdout is not None
            await asyncio.to_thread(listener.stdout.readline)
            listener.send_signal(signal.SIGSTOP)
            (pipe,) = (tmp_path / "run").glob("changes-*")
            full = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            while True:
                try:
                    os.write(full, bytes(4096))
                except BlockingIOError:
                    break
            os.close(full)
            await asyncio.wait_for(change(store, "a"), 10)
            listener.kill()
        await change(store, "b")
        assert not pipe.exists()


async def test_without_pipes_a_process_still_hears_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Some file systems have none."""

    def no_pipes(path: Path, mode: int) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(os, "mkfifo", no_pipes)
    async with aclosing(Store(tmp_path / "nanobot.db")) as store:
        async with watched(store) as told:
            await change(store, "a")
            await heard(told)
    assert "no pipe, Operation not permitted" in caplog.text
