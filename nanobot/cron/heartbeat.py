"""The heartbeat: every now and then the assistant looks into HEARTBEAT.md by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nanobot.cron.open_tasks import has_open_task
from nanobot.errors import NanobotError, StorageError
from nanobot.messages import InboundMessage
from nanobot.security.files import PathPolicy
from nanobot.store import mail, sessions
from nanobot.store.sqlite import Connection
from nanobot.store.store import Store

log = logging.getLogger(__name__)

_LONGEST_WAIT = 30.0  # seconds; the clock on the wall may be set meanwhile
_MOST_BYTES = 1_000_000
_PROMPT = (
    "[Heartbeat: nobody has written.] Read HEARTBEAT.md in the workspace and work on its open tasks that are"
    " due. Your answer goes to the owner's chat. If there is nothing to tell, answer exactly HEARTBEAT_OK."
)


@dataclass(frozen=True)
class Heartbeat:
    """Ticks at every full `interval` (seconds) of the clock, into the chat of `channels` that wrote last."""

    store: Store
    file: Path
    channels: Sequence[str]
    interval: float

    async def run(self) -> None:
        """Tick until cancelled. The interval that is already running is not made up for."""
        last = self._slot()
        while True:
            await asyncio.sleep(
                min(_LONGEST_WAIT, self.interval - self.store.database.clock() % self.interval)
            )
            if self._slot() != last:
                last = self._slot()
                try:
                    await self.tick()
                except (StorageError, OSError) as error:
                    log.error("The heartbeat failed: %s", error)

    async def tick(self) -> bool:
        """Start a turn if HEARTBEAT.md asks for one; False when not, or when one runs or ran already."""
        if not await asyncio.to_thread(has_tasks, self.file):
            return False
        seen = {name: await self.store.inbox.chats(name) for name in self.channels}
        chats = [(at, name, chat) for name in seen for chat, at in seen[name].items() if chat]
        if not chats:
            log.warning("HEARTBEAT.md has tasks, but nobody has written yet: there is no chat for results.")
            return False
        (_, name, chat), now = max(chats), self.store.database.clock()
        ids = (f"heartbeat:{now}", "heartbeat")  # its own, its session's
        inbound = InboundMessage(name, chat, "heartbeat", _PROMPT, *ids, sent_at=now, source="heartbeat")
        return await self.store.database.write(_accept, inbound, self._slot() * self.interval)

    def _slot(self) -> int:
        return int(self.store.database.clock() // self.interval)


def _accept(connection: Connection, tick: InboundMessage, since: float) -> bool:
    """Accept a tick in a fresh context, once `since` then and never beside another one."""
    session = tick.session_key
    connection.hold(session)
    query = "SELECT started_at FROM turns WHERE session = ? ORDER BY id DESC LIMIT 1"
    newest = connection.row(query, session)
    waits = sessions.running_turn(connection, session) or mail.has_pending(connection, session)
    if waits or (newest and since <= newest["started_at"] <= connection.now):
        return False
    sessions.start_over(connection, session)
    return mail.accept(connection, tick)


def has_tasks(file: Path) -> bool:
    """Whether there is an open task in `file`. A link that leaves its folder is named and not followed."""
    try:
        with PathPolicy(file.parent, restrict=True).open_file(file) as opened:
            data = opened.read(_MOST_BYTES)
    except FileNotFoundError:
        return False
    except (NanobotError, OSError) as error:
        log.warning("%s is not looked at: %s", file, error)
        return False
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    return has_open_task(data.decode(encoding, errors="replace"))
