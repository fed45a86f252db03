"""Every bundled channel, through its real library, against its platform on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from typing import Any

import pytest

from nanobot.channels.base import Channel, ChannelHost
from nanobot.channels.registry import load_channel
from nanobot.config.schema import Config
from nanobot.gateway.service import Gateway
from nanobot.messages import InboundMessage, OutboundMessage
from nanobot.providers.scripted import ScriptedProvider
from tests.channels.conformance.discord import DiscordDriver
from tests.channels.conformance.driver import Driver
from tests.channels.conformance.telegram import TelegramDriver
from tests.channels.conftest import eventually
from tests.gateway.conftest import running_gateway

DRIVERS: tuple[type[Driver], ...] = (TelegramDriver, DiscordDriver)


@pytest.fixture(params=DRIVERS, ids=lambda driver: driver.channel)
async def driver(request: pytest.FixtureRequest, home: object) -> AsyncIterator[Driver]:
    async with request.param() as running:
        yield running


def config_for(driver: Driver, **more: Any) -> Config:
    return Config.model_validate({"channels": {driver.channel: driver.section(**more)}})


@contextlib.asynccontextmanager
async def gateway_on(driver: Driver, provider: ScriptedProvider, **more: Any) -> AsyncIterator[Gateway]:
    """A whole gateway, whose channel is connected."""
    async with running_gateway(config_for(driver, **more), provider) as (_, gateway):
        await eventually(lambda: gateway.channels.status[driver.channel].state == "connected")
        yield gateway


@dataclass
class Host:
    """Takes what the channel accepts."""

    accepted: list[InboundMessage] = field(default_factory=list)
    connected: asyncio.Event = field(default_factory=asyncio.Event)

    async def accept(self, inbound: InboundMessage, names: Collection[str]) -> bool:
        self.accepted.append(inbound)
        return True


@contextlib.asynccontextmanager
async def running_channel(driver: Driver, host: Host | None = None) -> AsyncIterator[Channel]:
    """The channel alone, connected, without the gateway's retries."""
    host = host or Host()
    config = config_for(driver).channels.enabled()[driver.channel]
    kind = load_channel(driver.channel)
    channel = kind(driver.channel, config, ChannelHost(host.accept, host.connected.set))
    task = asyncio.create_task(channel.run())
    try:
        await asyncio.wait_for(host.connected.wait(), 15)
        yield channel
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def outbound(driver: Driver, text: str, **fields: Any) -> OutboundMessage:
    """The reply of a turn to the owner."""
    return OutboundMessage(fields.pop("id", "turn-1"), driver.channel, driver.chat(), text, **fields)
