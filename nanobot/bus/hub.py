"""The one way into a turn and the one way out: submit a message, subscribe to what its session does.

In front of it is whoever talks with people (terminal, channels), behind it the dispatcher.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import Iterator

from nanobot.bus.events import Event, ReasoningDelta, SubagentChanged, TextDelta, ToolOutputDelta
from nanobot.messages import InboundMessage
from nanobot.store.store import Store

_Words = TextDelta | ReasoningDelta
_BEHIND = 100  # events a slow subscriber may have waiting before pieces of text are put together


class Subscription:
    """Events in the order of their turns, each with the message whose turn emits it.

    A slow subscriber holds nobody up: pieces of text that wait are put together, output of tools is left out.
    """

    def __init__(self) -> None:
        self._waiting: collections.deque[tuple[InboundMessage, Event]] = collections.deque()
        self._changed = asyncio.Event()
        self._ended = False

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> tuple[InboundMessage, Event]:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._waiting.popleft()

    def end(self) -> None:
        """The iteration stops when what waits has been taken."""
        self._ended = True
        self._changed.set()

    def put(self, inbound: InboundMessage, event: Event) -> None:
        if len(self._waiting) >= _BEHIND:
            if isinstance(event, ToolOutputDelta):
                return
            about, last = self._waiting[-1]
            if isinstance(event, _Words) and isinstance(last, type(event)) and about is inbound:
                event = event._replace(text=last.text + event.text)
                del self._waiting[-1]
        self._waiting.append((inbound, event))
        self._changed.set()


class Hub:
    """Messages in, events out. Everything here is of this process; what must not be lost is in the store."""

    def __init__(self, store: Store) -> None:
        self.inbox = store.inbox
        self.changes = store.database.changes.subscribe
        self.notify = store.database.changes.notify
        self.watch = store.database.changes.watch
        self._subscriptions: dict[str, list[Subscription]] = collections.defaultdict(list)
        self._urgent: list[InboundMessage] = []

    async def submit(self, inbound: InboundMessage) -> bool:
        """Accept a message for a turn; False when (channel, external_id) was accepted before.

        `/stop`, `/approve` and `/deny` act at once, and are answered in order. Raises StorageError.
        """
        accepted = await self.inbox.accept(inbound)
        if accepted and (inbound.is_stop or inbound.approval):
            self._urgent.append(inbound)
        self.notify()
        return accepted

    def take_urgent(self) -> list[InboundMessage]:
        """What was submitted and acts at once, each once."""
        taken, self._urgent = self._urgent, []
        return taken

    @contextlib.contextmanager
    def subscribe(self, session_key: str = "") -> Iterator[Subscription]:
        """The events of a session from now on; of all sessions without a key."""
        subscription = Subscription()
        self._subscriptions[session_key].append(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions[session_key].remove(subscription)
            subscription.end()

    def publish(self, inbound: InboundMessage, event: Event) -> None:
        """Show an event of the turn that answers `inbound`; of a subagent, to the session that asked."""
        about = inbound.reply_to if isinstance(event, SubagentChanged) else None
        session = about.session_key if about else inbound.session_key
        for key in ("", session):
            for subscription in self._subscriptions.get(key, ()):
                subscription.put(inbound, event)


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Wait until `event` is set, at most `seconds`, and clear it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    event.clear()
