"""What the store promises of subagents: lanes of their own, shared calls, and none that is lost silently."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nanobot.messages import Address, InboundMessage, Message
from nanobot.session.store import Claim
from nanobot.storage.sqlite import SqliteStore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "nanobot.db")
    yield opened
    await opened.aclose()


async def begin(store: SqliteStore, key: str) -> Claim:
    claim = await store.begin_turn(key)
    assert claim is not None
    return claim


def order(number: int, parent: str = "tg:1") -> InboundMessage:
    key = f"id{number}"
    return InboundMessage(
        *("subagent", key, parent, "do it", key, f"subagent:{key}"),
        source="order",
        reply_to=Address(parent, *parent.split(":")),
        family=1,
    )


async def add(store: SqliteStore, inbound: InboundMessage, *, in_terminal: bool) -> bool:
    label = f"task {inbound.chat_id.removeprefix('id')}"
    return await store.add_subagent(inbound, label, "", in_terminal=in_terminal)


def told(inbound: InboundMessage, label: str) -> InboundMessage:
    return InboundMessage("tg", "1", "subagent", f"stopped {inbound.chat_id}", inbound.session_key, "tg:1")


async def states(store: SqliteStore, parent: str = "tg:1") -> list[str]:
    return [info.state for info in await store.subagents(parent)]


async def test_subagents_have_lanes_of_their_own_and_run_in_order(store: SqliteStore) -> None:
    claim = await begin(store, "tg:1")
    for number in (3, 1, 2):
        assert await add(store, order(number), in_terminal=False)
        assert not await add(store, order(number), in_terminal=False)
    await store.accept(InboundMessage("tg", "9", "9", "hi", "a", "tg:9"))
    assert await states(store) == ["waiting"] * 3
    for number in (3, 1, 2):
        turn = await store.claim_next(chats=False)
        assert turn is not None
        assert turn.inbound.chat_id == f"id{number}"
    assert await store.claim_next(chats=False) is None
    turn = await store.claim_next(subagents=False)
    assert turn is not None
    assert turn.claim.session_key == "tg:9"
    assert await states(store) == ["running"] * 3
    await store.finish_turn(claim, "done")


async def test_cancelling_closes_the_waiting_and_reports_in_the_same_transaction(store: SqliteStore) -> None:
    await store.finish_turn(await begin(store, "tg:1"), "done")
    for number in (1, 2, 3):
        await add(store, order(number), in_terminal=False)
    running = await store.claim_next(chats=False)
    assert running is not None
    assert await store.cancel_subagents("tg:2", None) == []
    assert await store.cancel_subagents("tg:1", ["id1", "id2"], told) == ["id1", "id2"]
    assert await store.cancel_subagents("tg:1", ["id1", "id2"], told) == []
    assert await states(store) == ["cancelled", "cancelled", "waiting"]
    report = told(order(1), "task 1")
    await store.finish_turn(running.claim, "done", inbound=report)  # too late: it counts as cancelled
    texts = []
    while (turn := await store.claim_next(subagents=False)) is not None:
        texts.append(turn.inbound.text)
        await store.finish_turn(turn.claim, "done")
    assert texts == ["stopped id1", "stopped id2"]
    last = await store.claim_next(chats=False)
    assert last is not None
    assert last.inbound.chat_id == "id3"
    assert await store.claim_next() is None


async def test_a_family_shares_its_calls_one_at_a_time(store: SqliteStore) -> None:
    parent = await begin(store, "tg:1")
    await store.append(parent, Message.assistant("spawning"))
    child = await store.begin_turn("subagent:a", parent.turn_id)
    other = await store.begin_turn("subagent:b", parent.turn_id)
    assert child is not None
    assert other is not None
    assert await store.reserve_call(child, parent.turn_id, 9, 3)
    assert await store.reserve_call(other, parent.turn_id, 9, 3)
    assert not await store.reserve_call(parent, parent.turn_id, 9, 3)
    await store.finish_turn(other, "error")  # its call has come to nothing
    assert await store.reserve_call(parent, parent.turn_id, 9, 3)
    await store.append(child, Message.assistant("done"))
    assert (await store.family_spent(parent.turn_id))[0] == 3
    assert not await store.reserve_call(child, parent.turn_id, 9, 3)
    assert not await store.reserve_call(child, parent.turn_id, 1, 99)


async def test_subagents_of_a_terminal_that_is_gone_are_told_once(tmp_path: Path) -> None:
    first, second = SqliteStore(tmp_path / "nanobot.db"), SqliteStore(tmp_path / "nanobot.db")
    for number in (1, 2, 3):
        await add(first, order(number, "cli:direct"), in_terminal=True)
    ended = await first.begin_turn("subagent:id1", None)
    assert ended is not None
    await first.finish_turn(ended, "done", tokens=7)
    await first.begin_turn("subagent:id2", None)
    assert await second.lost_subagents("cli:direct") == []
    assert await second.claim_next() is None  # no gateway takes them
    await first.aclose()
    lost = await second.lost_subagents("cli:direct")
    assert [info.state for info in lost] == ["done", "interrupted", "interrupted"]
    assert lost[0].tokens == 7
    assert await second.lost_subagents("cli:direct") == []
    assert await states(second, "cli:direct") == ["done", "interrupted", "interrupted"]
    assert await second.begin_turn("subagent:id2") is not None
    await second.aclose()


async def test_what_is_forgotten_goes_from_labels_and_orders(store: SqliteStore, tmp_path: Path) -> None:
    for number in (1, 2):
        assert await add(store, order(number), in_terminal=False)
    await store.redact(lambda text: "task 1" in text)
    await store.scrub()
    assert sorted(info.label for info in await store.subagents("tg:1")) == ["[forgotten]", "task 2"]
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert b"task 2" in stored
    assert b"task 1" not in stored
