"""What the store promises of subagents: lanes of their own, shared calls, and none that is lost silently."""

from __future__ import annotations

from pathlib import Path

from nanobot.messages import Address, InboundMessage, Message
from nanobot.store.forgetting import Forgetting
from nanobot.store.records import Claim
from nanobot.store.store import Store
from tests.store.conftest import Opener


async def begin(store: Store, key: str) -> Claim:
    claim = await store.turns.begin(key)
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


async def add(store: Store, inbound: InboundMessage, *, in_terminal: bool) -> bool:
    label = f"task {inbound.chat_id.removeprefix('id')}"
    return await store.subagents.add(inbound, label, "", in_terminal=in_terminal)


def told(inbound: InboundMessage, label: str) -> InboundMessage:
    return InboundMessage("tg", "1", "subagent", f"stopped {inbound.chat_id}", inbound.session_key, "tg:1")


async def states(store: Store, parent: str = "tg:1") -> list[str]:
    return [info.state for info in await store.subagents.of(parent)]


async def test_subagents_have_lanes_of_their_own_and_run_in_order(store: Store) -> None:
    claim = await begin(store, "tg:1")
    for number in (3, 1, 2):
        assert await add(store, order(number), in_terminal=False)
        assert not await add(store, order(number), in_terminal=False)
    await store.inbox.accept(InboundMessage("tg", "9", "9", "hi", "a", "tg:9"))
    assert await states(store) == ["waiting"] * 3
    for number in (3, 1, 2):
        turn = await store.turns.claim_next(chats=False)
        assert turn is not None
        assert turn.inbound.chat_id == f"id{number}"
    assert await store.turns.claim_next(chats=False) is None
    turn = await store.turns.claim_next(subagents=False)
    assert turn is not None
    assert turn.claim.session_key == "tg:9"
    assert await states(store) == ["running"] * 3
    await store.turns.finish(claim, "done")


async def test_cancelling_closes_the_waiting_and_reports_in_the_same_transaction(store: Store) -> None:
    await store.turns.finish(await begin(store, "tg:1"), "done")
    for number in (1, 2, 3):
        await add(store, order(number), in_terminal=False)
    running = await store.turns.claim_next(chats=False)
    assert running is not None
    assert await store.subagents.cancel("tg:2", None) == []
    assert await store.subagents.cancel("tg:1", ["id1", "id2"], told) == ["id1", "id2"]
    assert await store.subagents.cancel("tg:1", ["id1", "id2"], told) == []
    assert await states(store) == ["cancelled", "cancelled", "waiting"]
    report = told(order(1), "task 1")
    await store.turns.finish(running.claim, "done", inbound=report)  # too late: it counts as cancelled
    texts = []
    while (turn := await store.turns.claim_next(subagents=False)) is not None:
        texts.append(turn.inbound.text)
        await store.turns.finish(turn.claim, "done")
    assert texts == ["stopped id1", "stopped id2"]
    last = await store.turns.claim_next(chats=False)
    assert last is not None
    assert last.inbound.chat_id == "id3"
    assert await store.turns.claim_next() is None


async def test_a_family_shares_its_calls_one_at_a_time(store: Store) -> None:
    parent = await begin(store, "tg:1")
    await store.turns.append(parent, Message.assistant("spawning"))
    child = await store.turns.begin("subagent:a", parent.turn_id)
    other = await store.turns.begin("subagent:b", parent.turn_id)
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
        await add(first, order(number, "cli:direct"), in_terminal=True)
    ended = await first.turns.begin("subagent:id1", None)
    assert ended is not None
    await first.turns.finish(ended, "done", tokens=7)
    await first.turns.begin("subagent:id2", None)
    assert await second.subagents.close_lost("cli:direct") == []
    assert await second.turns.claim_next() is None  # no gateway takes them
    await first.workers.resign("gateway")
    lost = await second.subagents.close_lost("cli:direct")
    assert [info.state for info in lost] == ["done", "interrupted", "interrupted"]
    assert lost[0].tokens == 7
    assert await second.subagents.close_lost("cli:direct") == []
    assert await states(second, "cli:direct") == ["done", "interrupted", "interrupted"]
    assert await second.turns.begin("subagent:id2") is not None


async def test_what_is_forgotten_goes_from_labels_and_orders(store: Store, tmp_path: Path) -> None:
    for number in (1, 2):
        assert await add(store, order(number), in_terminal=False)
    await Forgetting(store.database).redact(lambda text: "task 1" in text)
    await Forgetting(store.database).scrub()
    assert sorted(info.label for info in await store.subagents.of("tg:1")) == ["[forgotten]", "task 2"]
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert b"task 2" in stored
    assert b"task 1" not in stored
