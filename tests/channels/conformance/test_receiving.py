"""What every channel does with what people send: access first, safe when confirmed, once, in order."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from nanobot.providers.scripted import ScriptedProvider
from tests.channels.conformance.conftest import gateway_on
from tests.channels.conformance.driver import Driver
from tests.channels.conftest import echo

_REFUSE = "CREATE TRIGGER refuse BEFORE INSERT ON inbox BEGIN SELECT RAISE(ABORT, 'disk trouble'); END"


async def test_a_message_is_answered(driver: Driver) -> None:
    async with gateway_on(driver, ScriptedProvider(echo)) as gateway:
        driver.says("hello")
        await driver.wait_for(lambda: driver.texts() == ["you said: hello"])
        assert gateway.channels.status[driver.channel].state == "connected"


async def test_what_cannot_be_stored_is_not_confirmed_and_answered_later(driver: Driver, home: Path) -> None:
    async with gateway_on(driver, ScriptedProvider(echo)) as gateway:
        driver.says("first")
        await driver.wait_for(lambda: driver.texts() == ["you said: first"])
        with contextlib.closing(sqlite3.connect(home / "nanobot.db", isolation_level=None)) as database:
            database.execute(_REFUSE)
            driver.says("keep me")
            status = gateway.channels.status[driver.channel]
            await driver.wait_for(lambda: status.last_error or status.state == "waiting", 30)
            assert driver.waiting() == 1 or not driver.acknowledges
            database.execute("DROP TRIGGER refuse")
        await driver.wait_for(lambda: driver.texts()[1:] == ["you said: keep me"], 30)


async def test_a_stranger_is_dropped_before_anything_else(driver: Driver) -> None:
    provider = ScriptedProvider(echo)
    async with gateway_on(driver, provider) as gateway:
        for text in ("/help", "/start", "hi"):
            driver.says(text, stranger=True)
        driver.says("look", stranger=True, file=("evil.txt", b"evil"))
        driver.says("hi")
        await driver.wait_for(lambda: driver.texts() == ["you said: hi"])
        assert gateway.channels.status[driver.channel].refused == 4
        assert not driver.noticed(stranger=True)
        assert len(provider.requests) == 1


@pytest.mark.parametrize(("allowed", "trust"), [(None, "owner"), (["*"], "guest"), ([], "guest")])
async def test_who_is_listed_is_the_owner_and_everybody_else_a_guest(
    driver: Driver, home: Path, allowed: list[str] | None, trust: str
) -> None:
    allow_from = [driver.owner] if allowed is None else allowed
    async with gateway_on(driver, ScriptedProvider(echo), allowFrom=allow_from):
        driver.says("hi")
        await driver.wait_for(lambda: driver.texts() == ["you said: hi"])
    with contextlib.closing(sqlite3.connect(home / "nanobot.db")) as database:
        assert database.execute("SELECT trust FROM inbox").fetchall() == [(trust,)]


async def test_a_message_that_comes_again_is_answered_once(driver: Driver) -> None:
    async with gateway_on(driver, ScriptedProvider(echo)) as gateway:
        said = driver.says("once")
        await driver.wait_for(lambda: driver.texts())
        driver.repeat(said)
        driver.says("twice")
        await driver.wait_for(lambda: len(driver.texts()) == 2)
        assert driver.texts() == ["you said: once", "you said: twice"]
        assert gateway.channels.status[driver.channel].received == 2


async def test_what_cannot_be_read_is_counted_and_stepped_over(driver: Driver) -> None:
    async with gateway_on(driver, ScriptedProvider(echo)) as gateway:
        driver.says("before")
        driver.poison()
        driver.says("after")
        await driver.wait_for(lambda: driver.texts() == ["you said: before", "you said: after"])
        status = gateway.channels.status[driver.channel]
        assert (status.unreadable, status.state) == (1, "connected")
        await driver.wait_for(lambda: driver.waiting() == 0)


async def test_what_was_said_while_the_gateway_was_down_is_answered_in_order(driver: Driver) -> None:
    async with gateway_on(driver, ScriptedProvider(echo)):
        driver.says("hello")
        await driver.wait_for(lambda: driver.texts())
        await driver.wait_for(lambda: driver.waiting() == 0)
    for number in range(3):
        driver.says(f"m{number}")
    async with gateway_on(driver, ScriptedProvider(echo)):
        expected = [f"you said: {word}" for word in ("hello", "m0", "m1", "m2")]
        await driver.wait_for(lambda: driver.texts() == expected)


async def test_a_file_comes_in(driver: Driver, home: Path) -> None:
    provider = ScriptedProvider(["thanks"])
    async with gateway_on(driver, provider):
        driver.says("look", file=("../../etc/notes.txt", b"the notes"))
        await driver.wait_for(lambda: driver.texts() == ["thanks"])
    (file,) = (home / "media" / driver.channel).iterdir()
    assert file.read_bytes() == b"the notes"
    assert str(file) in str(provider.requests[0].messages[-1].parts)
