"""Discord under test: a loopback platform, and the channel or a whole gateway connected to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any

from nanobot.channels.base import ChannelHost, trust_of
from nanobot.channels.discord import DiscordChannel
from nanobot.channels.discord_config import DiscordConfig
from nanobot.config.schema import Config
from nanobot.messages import InboundMessage, OutboundMessage
from tests.peers.discord_api import TOKEN, DiscordServer
from tests.peers.discord_world import Channel


def section(server: DiscordServer, **discord: Any) -> dict[str, Any]:
    addresses = {"apiBase": server.api_base, "gatewayUrl": server.gateway_url}
    return {"enabled": True, "token": TOKEN, **addresses, **discord}


def config_for(server: DiscordServer, *, channels: dict[str, Any] | None = None, **discord: Any) -> Config:
    return Config.model_validate({"channels": {"discord": section(server, **discord), **(channels or {})}})


def outbound(text: str, chat: Channel, **fields: Any) -> OutboundMessage:
    """The reply of a turn to a chat."""
    return OutboundMessage(fields.pop("id", "turn-1"), "discord", str(chat.id), text, **fields)


class Host:
    """Accepts what it is given, unless told otherwise, and keeps it."""

    def __init__(self) -> None:
        self.accepted: list[InboundMessage] = []
        self.connected = asyncio.Event()
        self.news = asyncio.Event()
        self.fails: Exception | None = None
        self.allow_from: list[str] = []
        self.channel = ChannelHost(self.accept, self.connected.set, (("help", "What there is"),))

    async def accept(self, inbound: InboundMessage, names: Collection[str]) -> bool:
        if trust_of(self.allow_from, inbound.sender_id, names) is None:
            return False
        if self.fails is not None:
            raise self.fails
        known = {name for one in self.accepted for name in (one.external_id, *one.joined_ids)}
        new = known.isdisjoint((inbound.external_id, *inbound.joined_ids))
        if new:
            self.accepted.append(inbound)
            self.channel.seen[inbound.chat_id] = inbound.sent_at
        self.news.set()
        return new

    async def got(self, *texts: str) -> list[InboundMessage]:
        """Wait until exactly these texts were accepted, in order."""
        await self.until(lambda: [inbound.text for inbound in self.accepted] == list(texts))
        return self.accepted

    async def until(self, happened: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(10):
                while not happened():
                    self.news.clear()
                    await self.news.wait()
        except TimeoutError:
            raise AssertionError(f"accepted were {[inbound.text for inbound in self.accepted]}") from None

    def sessions(self) -> set[str]:
        return {inbound.session_key for inbound in self.accepted}


@contextlib.asynccontextmanager
async def running_channel(server: DiscordServer, host: Host, **discord: Any) -> AsyncIterator[DiscordChannel]:
    """The channel alone, connected, with a host that does what a test needs."""
    config = DiscordConfig.model_validate(section(server, **discord))
    channel = DiscordChannel("discord", config, host.channel)
    host.connected.clear()
    task = asyncio.create_task(channel.run())
    ready = asyncio.create_task(host.connected.wait())
    try:
        await asyncio.wait({task, ready}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield channel
    finally:
        for started in (task, ready):
            started.cancel()
        await asyncio.gather(task, ready, return_exceptions=True)
