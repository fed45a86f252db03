"""A gateway whose database is newer, damaged or closed to it ends and says why; it tried for ever."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from nanobot.cli.gateway import OncePerMinute
from tests.gateway.processes import Home


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    made = Home(tmp_path)
    code, _, err = await made.run("agent", "-m", "ping")
    assert code == 0, err
    yield made
    await made.close()


def newer(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA user_version = 9999")
    connection.close()


def no_database(database: Path) -> None:
    database.write_bytes(b"something else entirely\n" * 1000)


def damaged(database: Path) -> None:
    data = bytearray(database.read_bytes())
    data[100:] = os.urandom(len(data) - 100)
    database.write_bytes(data)


def a_folder(database: Path) -> None:
    database.unlink()
    database.mkdir()


@pytest.mark.parametrize("spoil", [newer, no_database, damaged, a_folder])
async def test_it_ends_with_the_reason(home: Home, spoil: Callable[[Path], None]) -> None:
    for left in home.home.glob("nanobot.db-*"):
        left.unlink()
    spoil(home.home / "nanobot.db")
    gateway = await home.gateway()
    assert await gateway.ended(20) == 1
    said = "\n".join(gateway.log)
    assert "Check" in said or "nanobot.db" in said
    assert "Traceback" not in said
    assert len(gateway.log) < 12


def test_an_error_that_stays_is_logged_once_a_minute() -> None:
    once = OncePerMinute()

    def logged(second: float, text: str, level: int = logging.ERROR, name: str = "nanobot.x") -> bool:
        record = logging.makeLogRecord({"name": name, "levelno": level, "msg": text, "created": 1e9 + second})
        return bool(once.filter(record))

    assert [logged(second, "full") for second in range(0, 120, 5)].count(True) == 2
    assert logged(121, "another")
    assert logged(122, "full", name="nanobot.y")
    assert [logged(123, "a message came", logging.INFO) for _ in range(3)] == [True] * 3
    assert logged(-3600, "full")  # the clock was set back
    assert [logged(7200, str(number)) for number in range(3)] == [True] * 3
