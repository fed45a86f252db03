"""The heartbeat: every now and then the assistant looks into HEARTBEAT.md by itself."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nanobot.cron.open_tasks import has_open_task
from nanobot.cron.table import JobTable
from nanobot.errors import NanobotError, StorageError
from nanobot.messages import InboundMessage
from nanobot.security.files import PathPolicy
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
    clock: Callable[[], float] = time.time

    async def run(self) -> None:
        """Tick until cancelled. The interval that is already running is not made up for."""
        last = self._slot()
        while True:
            await asyncio.sleep(min(_LONGEST_WAIT, self.interval - self.clock() % self.interval))
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
        chat = await self.store.inbox.latest_chat(self.channels)
        if chat is None:
            log.warning("HEARTBEAT.md has tasks, but nobody has written yet: there is no chat for results.")
            return False
        now = self.clock()
        inbound = InboundMessage(
            *chat,
            sender_id="heartbeat",
            text=_PROMPT,
            external_id=f"heartbeat:{now}",
            session_key="heartbeat",
            sent_at=now,
            source="heartbeat",
        )
        return await JobTable(self.store.database).accept_tick(inbound, self._slot() * self.interval)

    def _slot(self) -> int:
        return int(self.clock() // self.interval)


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
