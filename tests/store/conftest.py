"""The store under test, once for every database there is an adapter for."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from nanobot.store import sqlite
from nanobot.store.store import Store


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


Opener = Callable[[], Store]
_OF_LANES = re.compile(r"(INSERT INTO|UPDATE|DELETE FROM) (messages|turns|waiting|inbox|intents)\b")


class _Strict(sqlite.Connection):
    """Refuses to change what belongs to a session before anything is held: SQLite alone would not mind."""

    held = False

    def hold(self, *keys: str) -> None:
        self.held = True
        super().hold(*keys)

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        if statement.startswith("BEGIN"):
            self.held = False
        elif statement == "PRAGMA user_version":  # a migration is alone
            self.held = True
        assert self.held or not _OF_LANES.match(statement), f"nothing is held: {statement}"
        return super().execute(statement, *parameters)


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "Connection", _Strict)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite"])
async def opener(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Opener]:
    """Opens the one database of the test, each time as a process of its own would; closes all at the end."""
    opened: list[Store] = []

    def open_one() -> Store:
        assert request.param == "sqlite"
        opened.append(Store(tmp_path / "nanobot.db", clock, clock))
        return opened[-1]

    yield open_one
    for store in opened:
        await store.aclose()


@pytest.fixture
def store(opener: Opener) -> Store:
    return opener()
