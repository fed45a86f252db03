"""What a channel needs to know to read what it missed: the newest message of each chat that is safe."""

from __future__ import annotations

from nanobot.messages import InboundMessage, OutboundMessage
from nanobot.store.store import Store
from tests.store.conftest import Clock


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
