"""The real discord.py as a client of the loopback Discord, for the tests of that server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator

import discord
import pytest
import yarl
from discord.gateway import DiscordWebSocket
from discord.http import Route

from tests.peers.discord_api import TOKEN, DiscordServer
from tests.peers.discord_world import DIRECT_MESSAGES, GUILD_MESSAGES, GUILDS, MESSAGE_CONTENT

INTENTS = GUILDS | GUILD_MESSAGES | DIRECT_MESSAGES | MESSAGE_CONTENT


@contextlib.contextmanager
def pointed_at(server: DiscordServer) -> Iterator[None]:
    """Makes the library talk to a loopback server instead of Discord."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Route, "BASE", server.api_base)
        patch.setattr(DiscordWebSocket, "DEFAULT_GATEWAY", yarl.URL(server.gateway_url))
        yield


class Client(discord.Client):
    """Keeps what it is told."""

    def __init__(self, intents: int = INTENTS) -> None:
        wanted = discord.Intents.none()
        wanted.value = intents
        super().__init__(intents=wanted, max_messages=None, guild_ready_timeout=0.05)
        self.seen: list[discord.Message] = []
        self.used: list[discord.Interaction] = []
        self.deleted: list[int] = []
        self.work: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """The library would wait for five seconds."""

    async def on_message(self, message: discord.Message) -> None:
        if message.author.id != self.application_id:
            self.seen.append(message)
            self._news.set()

    async def on_raw_message_edit(self, event: discord.RawMessageUpdateEvent) -> None:
        if event.message.author.id != self.application_id:
            self.seen.append(event.message)
            self._news.set()

    async def on_raw_message_delete(self, event: discord.RawMessageDeleteEvent) -> None:
        self.deleted.append(event.message_id)
        self._news.set()

    async def on_interaction(self, interaction: discord.Interaction) -> None:
        self.used.append(interaction)
        self._news.set()

    async def told(self, *words: str) -> list[discord.Message]:
        """Wait until exactly these words came, in order."""
        async with asyncio.timeout(10):
            while [message.content for message in self.seen] != list(words):
                self._news.clear()
                await self._news.wait()
        return self.seen

    async def after(self, happened: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not happened():
                self._news.clear()
                await self._news.wait()


@contextlib.asynccontextmanager
async def connected(intents: int = INTENTS, token: str = TOKEN) -> AsyncIterator[Client]:
    client = Client(intents)
    try:
        await client.login(token)
        client.work = work = asyncio.create_task(client.connect(reconnect=False))
        ready = asyncio.create_task(client.wait_until_ready())
        await asyncio.wait({work, ready}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            ready.cancel()
            work.result()
        yield client
    finally:
        await client.close()
    await work
