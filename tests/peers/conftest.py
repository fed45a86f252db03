"""What the tests of the loopback Discord share; those of other platforms bring a `server` of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.peers.discord_api import DiscordServer
from tests.peers.discord_client import Client, connected, pointed_at


@pytest.fixture
async def server() -> AsyncIterator[DiscordServer]:
    async with DiscordServer() as running:
        with pointed_at(running):
            yield running


@pytest.fixture
async def client(server: DiscordServer) -> AsyncIterator[Client]:
    async with connected() as running:
        yield running
