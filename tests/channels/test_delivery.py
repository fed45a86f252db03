"""The outbox: what was sent is not sent again, however reads and writes interleave."""

from __future__ import annotations

import asyncio
from pathlib import Path

from nanobot.bus.queue import ChangeSignal
from nanobot.channels.delivery import Outbox
from nanobot.messages import OutboundMessage
from nanobot.session.store import Delivery
from nanobot.storage.sqlite import SqliteStore


class SlowToRead(SqliteStore):
    """Hands out what it has read only after the delivery under way has been recorded."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.recorded = asyncio.Event()
        self.read_again = asyncio.Event()
        self.reads = 0

    async def due_deliveries(self, limit: int = 32) -> list[Delivery]:
        due = await super().due_deliveries(limit)
        self.reads += 1
        if self.reads == 2:
            self.read_again.set()
            await self.recorded.wait()
            await asyncio.sleep(0)  # the ended delivery is forgotten
        return due

    async def delivered(self, outbox_id: int, receipt: str) -> None:
        await super().delivered(outbox_id, receipt)
        self.recorded.set()


async def test_a_delivery_that_ends_while_the_outbox_is_read_is_not_sent_again(tmp_path: Path) -> None:
    store = SlowToRead(tmp_path / "nanobot.db")
    signal = ChangeSignal(store)
    sent: list[str] = []
    done = asyncio.Event()

    async def send(message: OutboundMessage) -> str:
        sent.append(message.id)
        if message.id == "last":
            done.set()
        else:
            signal.notify()
            await store.read_again.wait()
        return "receipt"

    await store.enqueue(OutboundMessage("first", "tg", "1", "hello"))
    running = asyncio.create_task(Outbox(store, signal, send).run())
    await asyncio.wait_for(store.recorded.wait(), 10)
    await store.enqueue(OutboundMessage("last", "tg", "2", "bye"))
    signal.notify()
    await asyncio.wait_for(done.wait(), 10)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.aclose()
    assert sent == ["first", "last"]
