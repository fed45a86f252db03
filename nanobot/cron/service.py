"""Fires jobs when they are due. Runs in the leading gateway; two at once do no harm."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
from collections.abc import Awaitable, Callable, Sequence

from nanobot.bus.hub import Hub, wait_for
from nanobot.cron.jobs import Job, JobTable, due_message
from nanobot.cron.schedule import At, Every, counted_from, newest_slots, next_run, schedule_from_json
from nanobot.errors import ScheduleError, StorageError
from nanobot.store.store import Store

log = logging.getLogger(__name__)

ON_TIME = 60.0  # seconds a slot may be late without counting as missed: a takeover takes some
_LONGEST_WAIT = 30.0  # seconds; the clock on the wall may be set meanwhile
_PAUSE = 0.2  # seconds between two looks, however much is stored
_MOST_SLOTS = 30  # the newest slots of a job that are looked at after a pause


async def owners_chat(store: Store, channels: Sequence[str], wanted: str) -> tuple[str, str] | None:
    """Channel and id of the chat `wanted` ("telegram:12345"), else of the one that wrote last."""
    name, _, chat = wanted.partition(":")
    if chat and name in channels:
        return name, chat
    seen = {name: await store.inbox.chats(name) for name in channels}
    chats = [(at, name, chat) for name in seen for chat, at in seen[name].items() if chat]
    return max(chats)[1:] if chats else None


class CronService:
    """`catch_up` is how many seconds late the newest missed slot of a job may still fire.

    `take_over(now)` adds the jobs of an older nanobot, each once, and returns those that it cannot. What was
    set up in a terminal to be delivered goes to `chat()`; without one it waits for the next terminal.
    """

    def __init__(
        self,
        store: Store,
        hub: Hub,
        take_over: Callable[[float], Awaitable[Sequence[Job]]],
        chat: Callable[[], Awaitable[tuple[str, str] | None]],
        *,
        catch_up: float,
    ) -> None:
        self._jobs = JobTable(store)
        self._clock = store.database.clock
        self._hub = hub
        self._take_over = take_over
        self._chat = chat
        self._catch_up = max(catch_up, ON_TIME)
        self._seen = math.inf  # the clock at the last look

    async def run(self) -> None:
        """Fire what is due until cancelled; a change of the jobs is noticed at once."""
        try:
            for job in await self._take_over(self._clock()):
                log.warning("Job %s (%s) was left out. %s", job.id, job.name, job.fault)
        except StorageError as error:
            log.error("The jobs of the older nanobot are not taken over: %s", error)
        with self._hub.changes() as changed:
            while True:
                await wait_for(changed, await self.fire_due())
                await asyncio.sleep(_PAUSE)  # most changes are of turns, many at once

    async def fire_due(self) -> float:
        """Fire every job whose time has come. Returns the seconds until the next one, 30 at most."""
        now = self._clock()
        set_back, self._seen = now < self._seen, now  # also true at the first look
        wait = _LONGEST_WAIT
        try:
            for job in await self._jobs.all():
                next_at = job.next_at if job.enabled else None
                was_missed = not job.enabled and job.last_status == "skipped"  # perhaps by a wrong clock
                if (next_at is not None and next_at <= now) or (set_back and (job.enabled or was_missed)):
                    next_at = await self._advance(job, next_at, now)
                if next_at is not None:
                    wait = min(wait, next_at - now)
        except StorageError as error:
            log.error("Cannot look after the jobs: %s", error)
        return max(0.0, wait)

    async def _advance(self, job: Job, due: float | None, now: float) -> float | None:
        """Fire the newest slot of a job if it is due, and say when the next one is."""
        slots: list[float] = []
        try:
            schedule = counted_from(schedule_from_json(job.schedule), due or now)
            if due is None and not isinstance(schedule, At):
                return None  # the owner has switched it off
            next_at = next_run(schedule, now)
            if due is not None and due <= now:
                slots = newest_slots(schedule, due, now, _MOST_SLOTS)
            elif due is not None and isinstance(schedule, Every):
                # Only a clock that was set back leaves more than an interval to wait: it begins anew, a
                # millisecond beside the times that are over.
                next_at = due if due <= now + schedule.seconds else now - 0.001 + schedule.seconds
        except ScheduleError as error:
            log.error("Job %s (%s) is switched off: %s", job.id, job.name, error)
            next_at = None
        message = due_message(job, slots.pop()) if slots and now - slots[-1] <= self._catch_up else None
        if message and message.deliver and message.channel == "cli" and (chat := await self._chat()):
            message = dataclasses.replace(message, channel=chat[0], chat_id=chat[1])
        if slots:
            log.warning("Job %s (%s) missed %d of its times or more", job.id, job.name, len(slots))
        if next_at != due and await self._jobs.advance(job, next_at, len(slots), message) and message:
            log.info("Job %s (%s) is due", job.id, job.name)
            self._hub.notify()
        return next_at
