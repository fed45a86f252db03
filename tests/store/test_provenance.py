"""Where words come from is stored in columns, also for a home of 0.2.0, and for rows of newer versions."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nanobot.cron.jobs import JobTable, due_message
from nanobot.memory.consolidation_table import ConsolidationTable
from nanobot.messages import Address, InboundMessage, OutboundMessage
from nanobot.store.store import Store
from tests.talk import claim_next

OLD_HOME = Path(__file__).with_name("home_0_2_0.sql")  # dumped from a home that 0.2.0 has written


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = Store(tmp_path / "nanobot.db", lambda: 1_800_000_100.0)
    yield opened
    await opened.aclose()


@pytest.fixture
async def old_home(tmp_path: Path, store: Store) -> Store:
    with sqlite3.connect(tmp_path / "nanobot.db") as connection:
        connection.executescript(OLD_HOME.read_text("utf-8"))
    connection.close()
    return store


async def waiting(store: Store) -> dict[str, InboundMessage]:
    """Everything that waits, by its session."""
    found = {}
    while turn := await claim_next(store):
        found[turn.claim.session_key] = turn.inbound
        assert turn.is_subagent == turn.claim.session_key.startswith("subagent:")
    return found


async def test_what_0_2_0_had_accepted_is_typed_now(old_home: Store) -> None:
    found = await waiting(old_home)
    person, report = found["telegram:7"], found["telegram:-5"]
    assert (person.source, person.trust, person.metadata) == ("person", "owner", {"message_id": "3"})
    assert (report.source, report.trust, report.family) == ("report", "foreign", 3)
    assert (report.metadata, report.is_group) == ({"message_id": "2", "thread": "9"}, True)
    assert found["heartbeat"].source == "heartbeat"
    order = found["subagent:d5eaadc7"]
    group = Address("telegram:-5", "telegram", "-5", {"message_id": "2", "thread": "9"}, is_group=True)
    assert (order.source, order.family, order.reply_to, order.deliver) == ("order", 3, group, True)
    assert order.metadata == {}
    quiet = found["subagent:440e8843"]  # of a job that delivers nothing
    assert (quiet.reply_to, quiet.deliver) == (
        Address("cron:1badcafe", "telegram", "7", {"message_id": "1"}),
        False,
    )


async def test_sessions_of_0_2_0_know_what_they_are_for(old_home: Store) -> None:
    kinds = {info.key: info.kind for info in await old_home.conversations.newest()}
    assert {key: kind for key, kind in kinds.items() if kind != "chat"} == {
        "cron:1badcafe": "job",
        "heartbeat": "heartbeat",
        "subagent:a0248bca": "subagent",
        "subagent:d5eaadc7": "subagent",
        "subagent:440e8843": "subagent",
    }
    assert kinds.keys() >= {"telegram:7", "telegram:-5", "cli:direct"}
    assert await ConsolidationTable(old_home.database).unattended_turns("subagent:a0248bca", 0, 9) == {4}
    assert await ConsolidationTable(old_home.database).unattended_turns("telegram:7", 0, 9) == frozenset()


async def test_jobs_of_0_2_0_go_on(old_home: Store) -> None:
    tea, quiet = sorted(await JobTable(old_home).all(), key=lambda job: job.id)
    due = due_message(tea, 1_800_003_600.0)
    assert (due.source, due.metadata, due.is_group, due.deliver) == ("schedule", {"thread": "9"}, True, True)
    assert not due_message(quiet, 1_800_007_200.0).deliver


MESSAGE = InboundMessage(
    *("tg", "1", "anna", "hi", "a", "tg:1"),
    source="report",
    trust="foreign",
    reply_to=Address("tg:2", "tg", "2", {"thread": "9"}, is_group=True),
    deliver=False,
    family=7,
)


async def test_a_message_is_given_back_as_it_was_accepted(store: Store) -> None:
    await store.inbox.accept(MESSAGE)
    turn = await claim_next(store)
    assert turn is not None
    assert turn.inbound == MESSAGE


def damage(path: Path, table: str, row: int, change: Callable[[dict[str, object]], object]) -> None:
    """Store another body, as a newer nanobot or a bad disk may have."""
    with sqlite3.connect(path) as connection:
        (body,) = connection.execute(f"SELECT body FROM {table} WHERE id = ?", (row,)).fetchone()
        changed = json.dumps(change(json.loads(body)))
        connection.execute(f"UPDATE {table} SET body = ? WHERE id = ?", (changed, row))
    connection.close()


async def test_fields_of_a_newer_nanobot_are_left_out(store: Store, tmp_path: Path) -> None:
    await store.inbox.accept(MESSAGE)
    await store.outbox.enqueue(OutboundMessage("o1", "tg", "1", "hello"))

    def newer(body: dict[str, object]) -> object:
        return body | {"mood": "good", "attachments": [{"path": "/x", "name": "x", "colour": "red"}]}

    damage(tmp_path / "nanobot.db", "inbox", 1, newer)
    damage(tmp_path / "nanobot.db", "outbox", 1, newer)
    turn = await claim_next(store)
    assert turn is not None
    assert replace(turn.inbound, attachments=()) == MESSAGE
    assert turn.inbound.attachments[0].name == "x"
    (delivery,) = await store.outbox.due()
    assert (delivery.message.text, delivery.message.attachments[0].name) == ("hello", "x")


@pytest.mark.parametrize("unreadable", [{}, [], {"text": "no chat"}, {"attachments": 3}])
async def test_a_row_that_cannot_be_read_stops_no_other(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture, unreadable: object
) -> None:
    for number in (1, 2):
        await store.inbox.accept(InboundMessage("tg", "1", "anna", f"text {number}", str(number), "tg:1"))
        await store.outbox.enqueue(OutboundMessage(f"o{number}", "tg", "1", f"reply {number}"))
    damage(tmp_path / "nanobot.db", "inbox", 1, lambda _: unreadable)
    damage(tmp_path / "nanobot.db", "outbox", 1, lambda _: unreadable)
    with caplog.at_level(logging.ERROR):
        turn = await claim_next(store)
    assert turn is not None
    assert turn.inbound.text == "text 2"
    assert "cannot be read and is put aside" in caplog.text
    assert await store.outbox.due() == []  # it is given up ...
    assert [due.message.text for due in await store.outbox.due()] == ["reply 2"]  # ... and the next is due
    given_up, *_ = await store.outbox.entries()
    assert (given_up.state, given_up.text) == ("parked", "(cannot be read)")


async def test_an_unreadable_message_of_a_terminal_stops_nobody(tmp_path: Path) -> None:
    """Whether its terminal lives, or is gone in the middle of a turn and others close what it left."""
    path = tmp_path / "nanobot.db"
    terminal, other = Store(path), Store(path)
    try:
        terminal.workers.enlist()
        owner = terminal.workers.owner
        for number in (1, 2, 3):
            text = f"text {number}"
            await terminal.inbox.accept(
                InboundMessage("cli", "x", "owner", text, str(number), "cli:x", owner=owner)
            )
        damage(path, "inbox", 1, lambda _: {})
        (turn,) = await terminal.turns.claim(owner)
        assert turn.inbound.text == "text 2"
        damage(path, "inbox", 3, lambda _: {})
        terminal.workers.release()  # it is gone
        await other.inbox.accept(InboundMessage("tg", "1", "anna", "hello", "1", "tg:1"))
        (turn,) = await other.turns.claim()
        assert turn.inbound.text == "hello"
        assert await other.turns.last_interrupted("cli:x") is not None
    finally:
        await terminal.aclose()
        await other.aclose()
