"""Runs the enabled channels and does what all of them share.

Of every inbound event access is checked first; then it is accepted into the store, and only then used.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import logging
import time
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

from nanobot.bus.hub import Hub
from nanobot.channels.base import Channel, ChannelHost, ChannelStatus, backoff, contained, trust_of
from nanobot.channels.registry import allow_from, load_channel
from nanobot.config.channels import ChannelsConfig
from nanobot.errors import ChannelError, ConfigError, StorageError
from nanobot.messages import Attachment, InboundMessage, OutboundMessage
from nanobot.paths import make_private_dir, safe_name

log = logging.getLogger(__name__)

_FETCH_PAUSES = (0.5, 2.0, 5.0)  # seconds before a download is tried again
_FETCH_TIMEOUT = 300.0
_STABLE = 60.0  # a connection that lasted this long starts the backoff anew


class ChannelManager:
    """The enabled channels of a config."""

    def __init__(
        self,
        config: ChannelsConfig,
        hub: Hub,
        media: Path,
        commands: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._hub = hub
        self._media = media
        self._sections = config.enabled()
        self._allowed: dict[str, list[str]] = {}
        self._channels: dict[str, Channel] = {}
        self.status = {name: ChannelStatus(name) for name in self._sections}
        self._hosts = {
            name: ChannelHost(partial(self._accept, name), partial(self._connected, name), commands, status)
            for name, status in self.status.items()
        }

    def channel(self, name: str) -> Channel | None:
        """The running channel of that name."""
        return self._channels.get(name)

    async def run(self) -> None:
        """Run all channels until cancelled; one that fails does not touch the others."""
        try:
            async with asyncio.TaskGroup() as group:
                for name, section in self._sections.items():
                    group.create_task(self._supervise(name, section), name=f"channel {name}")
        finally:
            for name in self._sections:
                if self.status[name].state == "connected":
                    with contextlib.suppress(StorageError):  # then more is looked through next time
                        await self._hub.inbox.heard_all(name, time.time())

    def _running(self, name: str) -> Channel:
        if name not in self._channels:
            raise ChannelError(f"The channel {name} is not running.")
        return self._channels[name]

    async def send(self, message: OutboundMessage) -> str:
        """Deliver through the message's channel. Raises ChannelError."""
        channel, status = self._running(message.channel), self.status[message.channel]
        try:
            with contained(message.channel):
                receipt = await channel.send(message)
        except ChannelError as error:
            status.last_error = str(error)
            raise
        status.sent += 1
        return receipt

    async def fetch_attachments(self, inbound: InboundMessage) -> InboundMessage:
        """The message with its files on disk. A file that cannot be had says why in its place."""
        files = [await self._fetch(inbound, number, item) for number, item in enumerate(inbound.attachments)]
        return dataclasses.replace(inbound, attachments=tuple(files))

    async def _fetch(self, inbound: InboundMessage, number: int, item: Attachment) -> Attachment:
        if item.error:
            return item
        folder = make_private_dir(self._media / safe_name(inbound.channel))
        # Ids that look alike as file names must not show one chat the file of another.
        origin = hashlib.sha256(f"{inbound.external_id}\0{number}".encode()).hexdigest()[:16]
        target = folder / safe_name(f"{origin}-{item.name}")
        unfinished = target.with_name(f".{target.name}")  # a crash leaves no half of a file under its name
        # With patience: after a restart a turn may go on before its channel is connected.
        for pause in () if target.exists() else (*_FETCH_PAUSES, None):
            try:
                with contained(inbound.channel):
                    async with asyncio.timeout(_FETCH_TIMEOUT):
                        await self._running(inbound.channel).fetch(item, unfinished)
                    unfinished.replace(target)
                break
            except ChannelError as error:
                if error.permanent or pause is None:
                    log.warning("Cannot fetch %s from %s: %s", item.name, inbound.channel, error)
                    return dataclasses.replace(item, error=f"could not be fetched: {error}")
                await asyncio.sleep(error.retry_after or pause)
        return dataclasses.replace(item, path=str(target))

    async def _supervise(self, name: str, section: Any) -> None:
        """Keep a channel running: restart it with growing pauses, give up on what cannot work."""
        status = self.status[name]
        failures = 0
        while True:
            started = time.monotonic()
            try:
                with contained(name):
                    self._hosts[name].seen.update(await self._hub.inbox.chats(name))
                    # The same object every time: it knows which parts of a message are sent already.
                    channel = self._channels.get(name) or await self._build(name, section)
                    self._channels[name] = channel
                    await channel.run()
                status.last_error = "The connection ended."
            except ChannelError as error:
                status.last_error = str(error)
                if error.permanent:
                    status.state = "failed"
                    log.error("Channel %s: %s", name, error)
                    return
            failures = 0 if time.monotonic() - started > _STABLE else failures
            pause = backoff(failures)
            failures += 1
            status.state = "waiting"
            log.warning("Channel %s starts again in %.0f s: %s", name, pause, status.last_error)
            await asyncio.sleep(pause)

    async def _build(self, name: str, section: Any) -> Channel:
        kind = await asyncio.to_thread(load_channel, name)  # libraries take long to load
        try:
            self._allowed[name] = allow_from(name, section)
            if kind.section is not None and isinstance(section, dict):  # a plugin's
                section = kind.section.model_validate(section)
        except ConfigError as error:
            raise ChannelError(f"channels.{name}: {error}", permanent=True) from error
        if not self._allowed[name]:
            log.warning("Channel %s answers everyone: channels.%s.allowFrom is empty.", name, name)
        return kind(name, section, self._hosts[name])

    def _connected(self, name: str) -> None:
        status = self.status[name]
        if status.state != "connected":
            status.state, status.connected_since = "connected", time.time()
            log.info("Channel %s is connected", name)

    async def _accept(self, name: str, inbound: InboundMessage, names: Collection[str] = ()) -> bool:
        status = self.status[name]
        trust = trust_of(self._allowed[name], inbound.sender_id, names)
        if trust is None:
            status.refused += 1
            log.warning("Channel %s: %s is not in allowFrom", name, inbound.sender_id)
            return False
        inbound = dataclasses.replace(inbound, channel=name, trust=trust)
        try:
            f"{inbound.chat_id}{inbound.sender_id}{inbound.external_id}{inbound.session_key}".encode()
        except UnicodeEncodeError:  # it could be neither stored nor answered
            status.refused += 1
            log.error("Channel %s: a message whose ids are no Unicode was dropped: %a", name, inbound.chat_id)
            return False
        accepted = await self._hub.submit(inbound)
        status.received += accepted
        seen = self._hosts[name].seen
        seen[inbound.chat_id] = max(seen.get(inbound.chat_id, 0.0), inbound.sent_at)
        return accepted
