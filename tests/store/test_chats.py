"""What a channel needs to know to read what it missed: the newest message of each chat that is safe."""

from __future__ import annotations

from dataclasses import replace

from nanobot.messages import InboundMessage, OutboundMessage
from nanobot.store.store import Store
from tests.store.conftest import Clock
from tests.talk import claim_next


def said(chat: str, number: int, sent_at: float, channel: str = "tg") -> InboundMessage:
    return InboundMessage(channel, chat, "ann", "hi", f"{chat}:{number}", f"{channel}:{chat}", sent_at)


async def test_each_chat_knows_when_its_newest_message_was_sent(store: Store, clock: Clock) -> None:
    now = clock()
    await store.inbox.accept(said("1", 1, now - 50))
    await store.inbox.accept(said("1", 2, now - 40))
    await store.inbox.accept(said("1", 3, now - 60))  # came late
    await store.inbox.accept(said("2", 4, 0.0))  # its platform does not tell
    await store.inbox.accept(said("3", 5, now + 99))  # its clock is wrong
    await store.inbox.accept(said("4", 6, now, channel="other"))
    assert await store.inbox.chats("tg") == {"1": now - 40, "2": now, "3": now}
    await store.inbox.heard_all("other", now + 5)
    assert await store.inbox.chats("other") == {"4": now, "": now + 5}


async def test_a_chat_is_owed_what_waits_for_it(store: Store) -> None:
    await store.outbox.enqueue(OutboundMessage("m-1", "tg", "1", "hi"))
    assert await store.outbox.owes("tg", "1", besides="m-2")
    assert not await store.outbox.owes("tg", "1", besides="m-1")
    assert not await store.outbox.owes("tg", "2", besides="m-2")
    (delivery,) = await store.outbox.due()
    await store.outbox.delivered(delivery.outbox_id, "receipt")
    assert not await store.outbox.owes("tg", "1", besides="m-2")


async def test_a_joined_message_is_known_by_each_of_its_ids(store: Store) -> None:
    joined = InboundMessage("tg", "1", "anna", "comment", "1:a", "tg:1", joined_ids=("1:b",))
    parts = [replace(joined, external_id=external_id, joined_ids=()) for external_id in ("1:a", "1:b")]
    assert await store.inbox.accept(joined)
    assert [await store.inbox.accept(part) for part in (joined, *parts)] == [False, False, False]
    more = replace(joined, external_id="1:c", joined_ids=("1:b",))
    assert not await store.inbox.accept(more), "a part of it is known: the channel offers its parts alone"
    assert await store.inbox.accept(replace(more, joined_ids=()))
    served = []
    while (turn := await claim_next(store)) is not None:
        await store.turns.finish(turn.claim, "done")
        served.append(turn.inbound.external_id)
    assert served == ["1:a", "1:c"]


async def test_what_waits_for_a_terminal_waits_until_it_was_shown(store: Store) -> None:
    """Whoever is killed before that has shown nothing."""
    for number in range(2):
        await store.outbox.enqueue(OutboundMessage(f"m{number}", "cli", "direct", f"Tea {number}"))
    (first, text), other = await store.outbox.for_terminal()
    assert text == "Tea 0"
    assert await store.outbox.for_terminal() == [(first, text), other]
    await store.outbox.delivered(first, "")
    assert await store.outbox.for_terminal() == [other]
