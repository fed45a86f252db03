"""Everything nanobot must not forget, opened in one place."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING

from nanobot.store.mail import Inbox, Outbox
from nanobot.store.sessions import Sessions
from nanobot.store.sqlite import Clock, Database
from nanobot.store.turns import Turns
from nanobot.store.workers import Workers, older_is_running

if TYPE_CHECKING:
    from nanobot.store.conversations import Conversations
    from nanobot.store.subagents import SubagentTable


class Store:
    """The tables of the spine. Rooms with tables of their own put them on `database`.

    The file `path` is made by the first call. `clock` gives Unix seconds.
    """

    def __init__(self, path: Path, clock: Clock = time.time, monotonic: Clock = time.monotonic) -> None:
        folder = path.parent / "run"
        self.database = Database(path, clock, functools.partial(older_is_running, folder))
        self.workers = Workers(self.database, folder, monotonic)
        self.sessions = Sessions(self.database)
        self.turns = Turns(self.database, self.workers)
        self.inbox = Inbox(self.database)
        self.outbox = Outbox(self.database)

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
