"""Delivers what is in the outbox."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from nanobot.bus.hub import Hub, wait_for
from nanobot.channels.base import backoff, contained
from nanobot.errors import ChannelError, StorageError
from nanobot.messages import OutboundMessage
from nanobot.paths import outgoing_dir
from nanobot.store.records import Delivery
from nanobot.store.store import Store

log = logging.getLogger(__name__)

T = TypeVar("T")

PARK_AFTER = 6 * 3600.0  # seconds after which a delivery that keeps failing is parked
_SEND_TIMEOUT = 120.0
_AT_ONCE = 32  # deliveries begun at one look
_LOOK_EVERY = 5.0  # seconds between two looks when nothing was stored
_STORAGE_PAUSE = 5.0  # seconds before a failed write is tried again


class DeliveryService:
    """Delivers queued messages: in order within a chat, side by side across chats, until it works.

    `send` gives the platform's receipt; whatever it raises is a failed attempt. A crash between a successful
    send and its record makes the delivery happen again: channels prevent the double with the message's `id`
    where their platform has an idempotency key.
    """

    def __init__(
        self,
        store: Store,
        hub: Hub,
        send: Callable[[OutboundMessage], Awaitable[str]],
    ) -> None:
        self._store = store
        self._hub = hub
        self._send = send
        self._clock = store.database.clock
        self._sending: dict[int, asyncio.Task[None]] = {}
        self._more_are_due = False  # than were seen at the last look
        self._retry_at = math.inf  # when one of those that failed is due again

    async def run(self) -> None:
        """Deliver until cancelled; what is being sent then is finished or tried again later."""
        with self._hub.changes() as changed:
            try:
                while True:
                    await self._start_due(changed)
                    await wait_for(changed, min(_LOOK_EVERY, max(0.0, self._retry_at - self._clock())))
            finally:
                for task in self._sending.values():
                    task.cancel()
                await asyncio.gather(*self._sending.values(), return_exceptions=True)

    async def _start_due(self, changed: asyncio.Event) -> None:
        if self._retry_at <= self._clock():
            self._retry_at = math.inf
        begun = set(self._sending)  # one that ends while the outbox is read still looks due in what was read
        try:
            most = _AT_ONCE + len(begun)  # those that hang must not keep the others from sight
            due = await self._store.outbox.due(most)
            self._more_are_due = len(due) == most
        except StorageError as error:
            log.error("Cannot read the outbox: %s", error)
            return
        for delivery in due:
            if delivery.outbox_id not in begun:
                task = asyncio.create_task(self._serve(delivery, changed))
                self._sending[delivery.outbox_id] = task

    async def _serve(self, delivery: Delivery, changed: asyncio.Event) -> None:
        look_again = True
        try:
            look_again = await self._deliver(delivery)
        finally:
            del self._sending[delivery.outbox_id]
            if look_again or self._more_are_due:
                changed.set()

    async def _deliver(self, delivery: Delivery) -> bool:
        """Whether it is worth looking at the outbox again."""
        message = delivery.message
        try:
            with contained(message.channel):
                try:
                    async with asyncio.timeout(_SEND_TIMEOUT):
                        receipt = await self._send(message)
                except TimeoutError as error:
                    raise ChannelError(f"Sending took over {_SEND_TIMEOUT:.0f} seconds.") from error
        except ChannelError as error:
            await self._failed(delivery, error)
            return True
        another = await _record(lambda: self._store.outbox.delivered(delivery.outbox_id, receipt))
        for file in message.attachments:
            if Path(file.path).parent == outgoing_dir():
                Path(file.path).unlink(missing_ok=True)
        return another

    async def _failed(self, delivery: Delivery, error: ChannelError) -> None:
        now, message = self._clock(), delivery.message
        next_at: float | None = None
        if not error.permanent and now - delivery.created_at <= PARK_AFTER:
            next_at = now + (error.retry_after or backoff(delivery.attempts))
            self._retry_at = min(self._retry_at, next_at)
        then = "" if next_at else "; parked, see `nanobot status` and `nanobot outbox retry`"
        log.warning("Delivery to %s:%s failed (%s)%s", message.channel, message.chat_id, error, then)
        await _record(lambda: self._store.outbox.failed(delivery.outbox_id, str(error), next_at))


async def _record(write: Callable[[], Awaitable[T]]) -> T:
    """Store how it went, however long the disk needs: sending again would show the message twice."""
    while True:
        try:
            return await write()
        except StorageError as error:
            log.error("The outcome of a delivery cannot be recorded: %s", error)
            await asyncio.sleep(_STORAGE_PAUSE)
