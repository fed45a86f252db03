"""A memory with a real database, real files and a clock of its own."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from nanobot.memory.ranking import Hit
from nanobot.memory.search import MemorySearch
from nanobot.memory.search_index import SearchIndex, SearchScope
from nanobot.messages import InboundMessage, Message
from nanobot.store.store import Store
from tests.talk import claim_next, claim_own

EVERYTHING = SearchScope(reach="everything")
_ids = itertools.count()


class World:
    """`now` can be set; `folder` holds MEMORY.md and HISTORY.md."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = datetime(2026, 11, 26, 12, 0)
        self.store = Store(folder / "nanobot.db", clock=lambda: self.now.timestamp())
        self.memory = self.open_memory()

    @property
    def index_file(self) -> Path:
        return self.folder / "search.db"

    def open_memory(self) -> MemorySearch:
        index = SearchIndex(self.index_file)
        return MemorySearch(self.store, self.folder, index=index, clock=lambda: self.now)

    async def say(self, session: str, *texts: str, at: str = "", is_group: bool = False) -> None:
        """Texts of user and assistant in turns, as a channel or a terminal brings them."""
        if at:
            self.now = datetime.fromisoformat(at)
        if is_group:
            channel, _, chat = session.partition(":")
            await self.store.inbox.accept(
                InboundMessage(channel, chat, "1", texts[0], f"m{next(_ids)}", session, is_group=True)
            )
            turn = await claim_next(self.store)
            assert turn is not None
            claim = turn.claim
        else:
            opened = await claim_own(self.store, session)
            assert opened is not None
            claim = opened
        for number, text in enumerate(texts):
            message = Message.user(text) if number % 2 == 0 else Message.assistant(text)
            await self.store.turns.append(claim, message)
        await self.store.turns.finish(claim, "done")

    async def find(self, text: str, scope: SearchScope = EVERYTHING, limit: int = 10) -> list[Hit]:
        return await self.memory.search(text, scope, limit)

    async def texts(self, text: str, scope: SearchScope = EVERYTHING, limit: int = 10) -> list[str]:
        return [hit.text for hit in await self.find(text, scope, limit)]

    def remember(self, *lines: str, file: str = "MEMORY.md") -> None:
        (self.folder / file).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@asynccontextmanager
async def open_world(folder: Path) -> AsyncIterator[World]:
    world = World(folder)
    try:
        yield world
    finally:
        await world.memory.aclose()
        await world.store.aclose()
