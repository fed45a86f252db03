"""The gateway: everything that runs day and night, on top of the App.

One gateway leads on a home; others stand by and take over when it dies or hangs. A leader that finds
it has lost the lead (it was paused) stops what it runs and stands by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from nanobot import paths
from nanobot.agent.commands import COMMANDS
from nanobot.agent.dispatch import Dispatcher
from nanobot.app import App, SessionDesk
from nanobot.bus.events import TurnEvent
from nanobot.bus.queue import ChangeSignal
from nanobot.channels.delivery import Outbox
from nanobot.channels.manager import ChannelManager
from nanobot.channels.progress import ChannelProgress
from nanobot.errors import StorageError
from nanobot.messages import InboundMessage

log = logging.getLogger(__name__)

ROLE = "gateway"
_LEAD_EVERY = 1.0  # seconds between two claims of the lead
_DRAIN = 6.0  # seconds running turns may take to finish after SIGTERM
_LAST_DELIVERIES = 2.0


class Gateway:
    """Channels, dispatcher, deliveries and schedules of one home."""

    def __init__(self, app: App) -> None:
        self._app = app
        config = app.config
        self.signal = ChangeSignal(app.store)
        self.channels = ChannelManager(
            config.channels,
            app.store,
            paths.home() / "media",
            self._arrived,
            commands=tuple((command.name, command.description) for command in COMMANDS),
        )
        self.dispatcher = Dispatcher(
            app.store,
            app.assistant,
            self.signal,
            _Chats(ChannelProgress(config.channels, self.channels), self.channels),
            self._desk,
            limit=config.agents.defaults.max_concurrent_turns,
            queue_mode=config.agents.defaults.queue_mode,
        )
        self.outbox = Outbox(app.store, self.signal, self.channels.send)
        self.leading = False

    async def run(self, stop: asyncio.Event, leading: Callable[[], None]) -> None:
        """Stand by until this gateway leads, then serve, until `stop` is set. `leading` is told."""
        while not stop.is_set():
            if await self._take_lead():
                leading()
                await self._serve(stop)
            else:
                await _sleep_unless(stop, _LEAD_EVERY)

    def status(self) -> dict[str, object]:
        """What `/status` and `nanobot channels status` show."""
        return {
            "leading": self.leading,
            "runningTurns": self.dispatcher.running,
            "channels": [vars(status) for status in self.channels.status.values()],
        }

    async def _take_lead(self) -> bool:
        try:
            lead = await self._app.store.lead(ROLE)
        except StorageError as error:
            log.error("Cannot claim the lead: %s", error)
            return False
        if not lead and not self._told_standing_by:
            log.warning("Another gateway serves this home; this one stands by and takes over if it dies.")
        self._told_standing_by = not lead
        return lead

    _told_standing_by = False

    async def _serve(self, stop: asyncio.Event) -> None:
        """Run everything until `stop`, or until the lead is lost."""
        self.leading = True
        services = [
            self.signal.watch,
            self.dispatcher.run,
            self.outbox.run,
            self.channels.run,
        ]
        running = [asyncio.create_task(service(), name=service.__qualname__) for service in services]
        keeping = asyncio.create_task(self._keep_lead(stop))
        try:
            await asyncio.wait([keeping, *running], return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                await self._wind_down(running[-1])
        finally:
            self.leading = False
            await _cancel_all([keeping, *running])
            with contextlib.suppress(StorageError):
                await self._app.store.resign(ROLE)
        for task in running:
            if not task.cancelled() and task.exception() is not None:
                raise task.exception() or RuntimeError

    async def _keep_lead(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await _sleep_unless(stop, _LEAD_EVERY)
            if not stop.is_set() and not await self._take_lead():
                return

    async def _wind_down(self, channels: asyncio.Task[None]) -> None:
        """Take nothing new, finish what runs or leave it to the next worker, send what is ready."""
        log.info("Stopping: %d turns are running", self.dispatcher.running)
        await self.dispatcher.drain(_DRAIN)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_DELIVERIES):
                while await self._app.store.due_deliveries(1):
                    self.signal.notify()
                    await asyncio.sleep(0.05)

    def _arrived(self, inbound: InboundMessage) -> None:
        self.dispatcher.arrived(inbound)

    def _desk(self, inbound: InboundMessage) -> SessionDesk:
        async def stop(session_key: str) -> bool:
            return self.dispatcher.take_stopped(session_key)

        return SessionDesk(self._app, stop, only=inbound.session_key)


class _Chats:
    """The dispatcher's view of the channels."""

    def __init__(self, progress: ChannelProgress, channels: ChannelManager) -> None:
        self._progress = progress
        self._channels = channels

    async def show(self, inbound: InboundMessage, event: TurnEvent) -> None:
        await self._progress.show(inbound, event)

    async def drop(self, session_key: str) -> None:
        await self._progress.drop(session_key)

    async def fetch_attachments(self, inbound: InboundMessage) -> InboundMessage:
        return await self._channels.fetch_attachments(inbound)


async def _sleep_unless(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


async def _cancel_all(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
