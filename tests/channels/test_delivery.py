"""The outbox: what was sent is not sent again, however reads and writes interleave."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nanobot.bus.hub import Hub
from nanobot.channels.delivery import PARK_AFTER, DeliveryService
from nanobot.errors import AccessDenied, StorageError
from nanobot.messages import OutboundMessage
from nanobot.store.mail import Outbox
from nanobot.store.records import Delivery
from nanobot.store.sqlite import Database
from nanobot.store.store import Store


class SlowToRead(Outbox):
    """Hands out what it has read only after the delivery under way has been recorded."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.recorded = asyncio.Event()
        self.read_again = asyncio.Event()
        self.reads = 0

    async def due(self, limit: int = 32) -> list[Delivery]:
        due = await super().due(limit)
        self.reads += 1
        if self.reads == 2:
            self.read_again.set()
            await self.recorded.wait()
            await asyncio.sleep(0)  # the ended delivery is forgotten
        return due

    async def delivered(self, outbox_id: int, receipt: str) -> bool:
        another = await super().delivered(outbox_id, receipt)
        self.recorded.set()
        return another


@pytest.mark.parametrize(
    "error", [StorageError("the disk is full"), AccessDenied("not there"), KeyError("id")]
)
async def test_a_send_that_raises_anything_is_tried_later_and_parked_in_the_end(
    tmp_path: Path, error: Exception
) -> None:
    """It was tried again at once: more than a thousand times a second, and never given up."""
    now, sends = [1000.0], 0

    async def send(message: OutboundMessage) -> str:
        nonlocal sends
        sends += 1
        raise error

    async def attempt(state: str, attempts: int) -> None:
        """Wake the outbox until it has recorded this."""
        async with asyncio.timeout(10):
            while [(e.state, e.attempts) for e in await store.outbox.entries()] != [(state, attempts)]:
                hub.notify()

    store = Store(tmp_path / "nanobot.db", clock=lambda: now[0])
    hub = Hub(store)
    await store.outbox.enqueue(OutboundMessage("first", "tg", "1", "hello"))
    running = asyncio.create_task(DeliveryService(store, hub, send).run())
    await attempt("pending", 1)
    for _ in range(20):
        hub.notify()
        await store.database.read(lambda _: None)
    assert sends == 1
    now[0] += 2.0
    await attempt("pending", 2)
    now[0] += PARK_AFTER
    await attempt("parked", 3)
    assert sends == 3
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.aclose()


async def test_a_delivery_that_ends_while_the_outbox_is_read_is_not_sent_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "nanobot.db")
    outbox = SlowToRead(store.database)
    store.outbox = outbox
    hub = Hub(store)
    sent: list[str] = []
    done = asyncio.Event()

    async def send(message: OutboundMessage) -> str:
        sent.append(message.id)
        if message.id == "last":
            done.set()
        else:
            hub.notify()
            await outbox.read_again.wait()
        return "receipt"

    await store.outbox.enqueue(OutboundMessage("first", "tg", "1", "hello"))
    running = asyncio.create_task(DeliveryService(store, hub, send).run())
    await asyncio.wait_for(outbox.recorded.wait(), 10)
    await store.outbox.enqueue(OutboundMessage("last", "tg", "2", "bye"))
    hub.notify()
    await asyncio.wait_for(done.wait(), 10)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.aclose()
    assert sent == ["first", "last"]
