"""Everything nanobot must not forget, opened in one place."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nanobot.store.mail import Inbox, Outbox
from nanobot.store.sessions import Sessions
from nanobot.store.sqlite import Database
from nanobot.store.turns import Turns
from nanobot.store.workers import Workers, older_is_running

if TYPE_CHECKING:
    from nanobot.store.conversations import Conversations
    from nanobot.store.subagents import SubagentTable


@dataclass(frozen=True)
class Store:
    """The tables of the spine. Rooms with tables of their own put them on `database`."""

    database: Database
    workers: Workers
    sessions: Sessions
    turns: Turns
    inbox: Inbox
    outbox: Outbox

    @functools.cached_property
    def subagents(self) -> SubagentTable:
        from nanobot.store.subagents import SubagentTable

        return SubagentTable(self.database, self.workers)

    @functools.cached_property
    def conversations(self) -> Conversations:
        from nanobot.store.conversations import Conversations  # for whoever changes between them

        return Conversations(self.database)

    async def aclose(self) -> None:
        """Finish what is queued, close the database and give up all running turns."""
        await self.database.aclose()
        self.workers.release()


def open_store(
    path: Path, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
) -> Store:
    """The store in the database file `path`, made by the first call. `clock` gives Unix seconds."""
    folder = path.parent / "run"
    database = Database(path, clock, functools.partial(older_is_running, folder))
    workers = Workers(database, folder, monotonic)
    sessions, turns = Sessions(database), Turns(database, workers)
    return Store(database, workers, sessions, turns, Inbox(database), Outbox(database))
