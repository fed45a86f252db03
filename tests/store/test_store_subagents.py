"""What the store promises of subagents: lanes of their own, shared calls, and none that is lost silently."""

from __future__ import annotations

from pathlib import Path

from nanobot.memory.redaction import Redaction, Target
from nanobot.messages import Address, InboundMessage, Message
from nanobot.store.records import Claim
from nanobot.store.store import Store
from tests.store.conftest import Opener
from tests.talk import claim_next, claim_own


async def begin(store: Store, key: str) -> Claim:
    claim = await claim_own(store, key)
    assert claim is not None
    return claim


def order(number: int, parent: str = "tg:1", owner: str = "") -> InboundMessage:
    key = f"id{number}"
    return InboundMessage(
        *("subagent", key, parent, "do it", key, f"subagent:{key}"),
        source="order",
        reply_to=Address(parent, *parent.split(":")),
        family=1,
        owner=owner,
    )


async def add(store: Store, inbound: InboundMessage) -> bool:
    label = f"task {inbound.chat_id.removeprefix('id')}"
    return await store.subagents.add(inbound, label, "")


def told(number: int) -> InboundMessage:
    return InboundMessage("tg", "1", "subagent", f"stopped id{number}", f"subagent:id{number}", "tg:1")


async def states(store: Store, parent: str = "tg:1") -> list[str]:
    return [info.state for info in await store.subagents.of(parent)]


async def test_subagents_have_lanes_of_their_own_and_run_in_order(store: Store) -> None:
    claim = await begin(store, "tg:1")
    for number in (3, 1, 2):
        assert await add(store, order(number))
        assert not await add(store, order(number))
    await store.inbox.accept(InboundMessage("tg", "9", "9", "hi", "a", "tg:9"))
    assert await states(store) == ["waiting"] * 3
    for number in (3, 1, 2):
        turn = await claim_next(store, chats=False)
        assert turn is not None
        assert turn.inbound.chat_id == f"id{number}"
    assert await claim_next(store, chats=False) is None
    turn = await claim_next(store, subagents=False)
    assert turn is not None
    assert turn.claim.session_key == "tg:9"
    assert await states(store) == ["running"] * 3
    await store.turns.finish(claim, "done")


async def test_cancelling_closes_the_waiting_and_reports_in_the_same_transaction(store: Store) -> None:
    await store.turns.finish(await begin(store, "tg:1"), "done")
    for number in (1, 2, 3):
        await add(store, order(number))
    running = await claim_next(store, chats=False)
    assert running is not None
    unfinished = await store.subagents.unfinished("tg:1")
    assert [(info.id, asked.text) for info, asked in unfinished] == [(f"id{n}", "do it") for n in (1, 2, 3)]
    reports = {"id1": told(1), "id2": told(2)}
    assert await store.subagents.cancel("tg:2", reports) == []
    assert await store.subagents.cancel("tg:1", reports) == ["id1", "id2"]
    assert await store.subagents.cancel("tg:1", reports) == []
    assert await states(store) == ["cancelled", "cancelled", "waiting"]
    report = told(1)
    await store.turns.finish(running.claim, "done", inbound=report)  # too late: it counts as cancelled
    texts = []
    while (turn := await claim_next(store, subagents=False)) is not None:
        texts.append(turn.inbound.text)
        await store.turns.finish(turn.claim, "done")
    assert texts == ["stopped id1", "stopped id2"]
    last = await claim_next(store, chats=False)
    assert last is not None
    assert last.inbound.chat_id == "id3"
    assert await claim_next(store) is None


async def test_a_family_shares_its_calls_one_at_a_time(store: Store) -> None:
    parent = await begin(store, "tg:1")
    await store.turns.append(parent, Message.assistant("spawning"))
    child = await claim_own(store, "subagent:a", source="order", family=parent.turn_id)
    other = await claim_own(store, "subagent:b", source="order", family=parent.turn_id)
    assert child is not None
    assert other is not None
    assert await store.turns.reserve_call(child, parent.turn_id, 9, 3)
    assert await store.turns.reserve_call(other, parent.turn_id, 9, 3)
    assert not await store.turns.reserve_call(parent, parent.turn_id, 9, 3)
    await store.turns.finish(other, "error")  # its call has come to nothing
    assert await store.turns.reserve_call(parent, parent.turn_id, 9, 3)
    await store.turns.append(child, Message.assistant("done"))
    assert (await store.turns.family_spent(parent.turn_id))[0] == 3
    assert not await store.turns.reserve_call(child, parent.turn_id, 9, 3)
    assert not await store.turns.reserve_call(child, parent.turn_id, 1, 99)


async def test_subagents_of_a_terminal_that_is_gone_are_told_once(opener: Opener) -> None:
    first, second = opener(), opener()
    for number in (1, 2, 3):
        await add(first, order(number, "cli:direct", first.workers.owner))
    (ended,) = await first.turns.claim(first.workers.owner)
    assert ended.is_subagent
    await first.turns.finish(ended.claim, "done", tokens=7)
    assert len(await first.turns.claim(first.workers.owner)) == 1
    assert await second.subagents.close_lost("cli:direct") == []
    assert await claim_next(second) is None  # no gateway takes them
    first.workers.release()
    lost = await second.subagents.close_lost("cli:direct")
    assert [info.state for info in lost] == ["done", "interrupted", "interrupted"]
    assert lost[0].tokens == 7
    assert await second.subagents.close_lost("cli:direct") == []
    assert await states(second, "cli:direct") == ["done", "interrupted", "interrupted"]
    assert await claim_own(second, "subagent:id2") is not None


async def test_what_is_forgotten_goes_from_labels_and_orders(store: Store, tmp_path: Path) -> None:
    for number in (1, 2):
        assert await add(store, order(number))
    await Redaction(store.database).redact(Target(lambda text: "task 1" in text))
    await store.database.scrub()
    assert sorted(info.label for info in await store.subagents.of("tg:1")) == ["[forgotten]", "task 2"]
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert b"task 2" in stored
    assert b"task 1" not in stored
