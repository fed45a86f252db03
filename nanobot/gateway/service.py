"""The gateway: everything that runs day and night, on top of the App.

One gateway leads on a home; others stand by and take over when it dies or hangs. A leader that finds
it has lost the lead (it was paused) stops what it runs and stands by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Callable

from nanobot import __version__, paths
from nanobot.app import App
from nanobot.channels.delivery import DeliveryService
from nanobot.channels.manager import ChannelManager
from nanobot.channels.progress import ChannelProgress
from nanobot.commands.command_context import CommandContext
from nanobot.commands.table import COMMANDS, run_command
from nanobot.cron.heartbeat import Heartbeat
from nanobot.cron.service import CronService, owners_chat
from nanobot.errors import ConfigError, HomeUnusable, StorageError
from nanobot.gateway.http import HttpSurface, listening_address
from nanobot.legacy.jobs_file import import_jobs
from nanobot.messages import InboundMessage, OutboundMessage
from nanobot.store.workers import RENEW

log = logging.getLogger(__name__)

_LEAD_EVERY = 1.0  # seconds between two tries to get the lead
_PORT_PAUSE = 5.0  # seconds between two tries of a port that a hung gateway keeps
_DRAIN = 6.0  # seconds running turns may take to finish after SIGTERM
_LAST_DELIVERIES = 2.0


class Gateway:
    """Channels, dispatcher, deliveries and schedules of one home; with `http`, also `/health` and `/status`.
    `standing_by` is told when another gateway leads."""

    def __init__(
        self, app: App, *, http: bool = False, standing_by: Callable[[], None] = lambda: None
    ) -> None:
        self._app = app
        usable = http and not app.config.gateway.fault
        self._http = HttpSurface(app.config.gateway, self.report) if usable else None
        self._standing_by = standing_by
        self._stands_by = False  # another gateway leads
        self._stood_by = False  # once, since this one was started
        self._started = time.monotonic()
        config, self.hub = app.config, app.hub
        commands = tuple((command.name, command.description) for command in COMMANDS)
        media = paths.home() / "media"
        self.channels = ChannelManager(config.channels, self.hub, media, commands=commands)
        self._progress = ChannelProgress(config.channels, self.channels, app.store.outbox)
        self.dispatcher = app.dispatcher
        self.dispatcher.run_command = self._run_command
        self.dispatcher.fetch_attachments = self.channels.fetch_attachments
        self.outbox = DeliveryService(app.store, self.hub, self._send)
        older_jobs = functools.partial(import_jobs, app.store, paths.home())
        names, wanted = tuple(self.channels.status), config.agents.defaults.deliver_to
        chat = functools.partial(owners_chat, app.store, names, wanted)
        self.cron = CronService(app.store, self.hub, older_jobs, chat, catch_up=config.cron.catch_up_window)
        tasks, seconds = app.workspace / "HEARTBEAT.md", config.heartbeat.interval_minutes * 60
        self.heartbeat = Heartbeat(app.store, tasks, names, seconds, wanted)
        self.leading = False

    async def run(self, stop: asyncio.Event, leading: Callable[[], None]) -> None:
        """Stand by until this gateway leads, which `leading` is told, then serve, until `stop` is set.

        Raises ConfigError for an HTTP address that it cannot or must not use, StorageError for a database
        that it cannot use; it waits for a disk that fails later.
        """
        if self._http:
            await listening_address(self._app.config.gateway)
        await self._app.store.workers.lead()
        while not stop.is_set():
            if await self._take_lead():
                await self._serve(stop, leading)
            else:
                await _sleep_unless(stop, _LEAD_EVERY)

    async def report(self) -> dict[str, object]:
        """What `/status` and `nanobot channels status` show. Raises StorageError."""
        return {
            "version": __version__,
            "uptime": round(time.monotonic() - self._started, 1),
            "leading": self.leading,
            "running_turns": self.dispatcher.running,
            "channels": [vars(status) for status in self.channels.status.values()],
            "outbox": await self._app.store.outbox.backlog(),
        }

    async def _take_lead(self) -> bool:
        try:
            lead = await self._app.store.workers.lead()
        except HomeUnusable:
            raise
        except StorageError as error:
            log.error("Cannot claim the lead: %s", error)
            return self.leading  # a failing disk is no other gateway
        if not lead and not self._stands_by:
            log.warning("Another gateway serves this home; this one stands by and takes over if it dies.")
            self._stood_by = True
            self._standing_by()
        self._stands_by = not lead
        return lead

    async def _serve(self, stop: asyncio.Event, leading: Callable[[], None]) -> None:
        """Run everything until `stop`, or until the lead is lost."""
        self.leading = True
        services = [
            self._keep_lead(stop),
            self.hub.watch(),
            self._progress.run(self.hub),
            self.dispatcher.run(),
            self.outbox.run(),
            self.cron.run(),
            self._run_channels(),
            self._app.memory.serve(self.hub),
        ]
        if self._app.config.heartbeat.enabled:
            services.append(self.heartbeat.run())
        if self._http:
            services.append(self._serve_http(self._http, leading))
        else:
            leading()
        if self._app.mcp:
            self._app.mcp.start()
        running = [asyncio.create_task(service) for service in services]
        checking = asyncio.create_task(self._warn_of_odd_files())
        try:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                await self._wind_down()
        finally:
            self.leading = False
            for task in (checking, *running):
                task.cancel()
            await asyncio.gather(checking, *running, return_exceptions=True)
            self._app.store.workers.release()
        for task in running:
            if not task.cancelled():
                task.result()  # raises what ended it

    async def _warn_of_odd_files(self) -> None:
        """Name what of an older home or of the profiles cannot be used."""
        for notice in [*self._app.notices, *await self._app.profile_faults()]:
            log.warning("%s", notice)

    async def _keep_lead(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await _sleep_unless(stop, RENEW)
            if not stop.is_set() and not await self._take_lead():
                return

    async def _serve_http(self, http: HttpSurface, leading: Callable[[], None]) -> None:
        """One that stood by serves chats without HTTP as long as a hung leader keeps the port."""

        def listening() -> None:
            with contextlib.suppress(StorageError):  # then `channels status` asks at gateway.port
                paths.write_atomic(paths.port_file(), str(http.port))
            leading()

        while True:
            try:
                await http.run(listening)
            except ConfigError as error:
                if not self._stood_by:
                    raise
                log.warning("No /health and /status yet. %s", error)
            await asyncio.sleep(_PORT_PAUSE)

    async def _run_channels(self) -> None:
        """Schedules go on when there is no channel, or none that can work."""
        await self.channels.run()
        await asyncio.Event().wait()

    async def _wind_down(self) -> None:
        """Take nothing new, finish what runs or leave it to the next worker, send what is ready."""
        log.info("Stopping: %d turns are running", self.dispatcher.running)
        await self.dispatcher.drain(_DRAIN)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_DELIVERIES):
                while await self._app.store.outbox.due(1):
                    self.hub.notify()
                    await asyncio.sleep(0.05)

    async def _run_command(self, inbound: InboundMessage) -> str | None:
        context = CommandContext(self._app, only=inbound.session_key)
        return await run_command(inbound.command, inbound.session_key, context)

    async def _send(self, message: OutboundMessage) -> str:
        await self._progress.finish(message)
        return await self.channels.send(message)


async def _sleep_unless(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
