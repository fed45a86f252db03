"""Noticing new work in the store, whoever put it there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from nanobot.store.store import Store


class ChangeSignal:
    """Wakes its subscribers when something was stored, here or in another process on this home."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._events: set[asyncio.Event] = set()

    @contextlib.contextmanager
    def subscribe(self) -> Iterator[asyncio.Event]:
        """An event that is set at every change; the subscriber clears it."""
        event = asyncio.Event()
        event.set()
        self._events.add(event)
        try:
            yield event
        finally:
            self._events.discard(event)

    def notify(self) -> None:
        """Wake everybody now: this process has stored something they may be waiting for."""
        for event in self._events:
            event.set()

    async def watch(self) -> None:
        """Listen for changes until cancelled."""
        with self._store.database.changes.listen(self.notify):
            await asyncio.Event().wait()


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Wait until `event` is set, at most `seconds`, and clear it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    event.clear()
