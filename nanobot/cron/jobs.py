"""The jobs of a home: adding, finding and changing them, and the message a job becomes when it is due."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from nanobot.cron.schedule import counted_from, next_run, parse_one, schedule_from_json, schedule_to_json
from nanobot.cron.table import Job, JobTable
from nanobot.errors import ScheduleError, UsageError
from nanobot.messages import InboundMessage
from nanobot.store.store import Store


class JobBook:
    """Jobs for their owner; `left_out` are those of an older nanobot that stay in their file, as it is.

    Methods raise UsageError for an unknown id or what cannot be done, StorageError when the database fails.
    """

    def __init__(
        self, store: Store, clock: Callable[[], float] = time.time, left_out: Sequence[Job] = ()
    ) -> None:
        self.store = store
        self._table = JobTable(store.database)
        self._clock = clock
        self._left_out = left_out

    async def add(
        self, job: Job, *, every: float | None = None, cron: str = "", tz: str = "", at: str = ""
    ) -> Job:
        """Add `job`, once for each id, at one kind of time; no id: a new one. Raises ScheduleError."""
        now = self._clock()
        schedule = parse_one(every, cron, tz, at, now)
        due = next_run(schedule, now)
        if due is None:
            raise ScheduleError(f"The time {at} has passed. Give one in the future.")
        job_id = job.id or os.urandom(4).hex()
        job = replace(job, id=job_id, schedule=schedule_to_json(schedule), next_at=due, created_at=now)
        await self._table.add([job])
        return job

    async def all(self) -> list[Job]:
        return [*await self._table.all(), *self._left_out]

    async def get(self, job_id: str, *, to_run: bool = False) -> Job:
        """With `to_run` one that can run at all."""
        job = next((job for job in await self.all() if job.id == job_id), None)
        if job is None:
            raise UsageError(f"There is no job {job_id}. `nanobot cron list --all` shows them.")
        if to_run and job.fault:
            raise UsageError(f"The job {job_id} cannot run. {job.fault}")
        return job

    async def remove(self, job_id: str) -> Job:
        """Returns what was removed."""
        job = await self.get(job_id)
        if not await self._table.remove(job_id):
            raise UsageError(f"The job {job_id} is not stored here. {job.fault}")
        return job

    async def enable(self, job_id: str, on: bool) -> Job:
        """Switch a job on from now, or off."""
        while True:  # a gateway may move the job meanwhile
            job, now = await self.get(job_id, to_run=True), self._clock()
            next_at = next_run(counted_from(schedule_from_json(job.schedule), now), now) if on else None
            if on and next_at is None:
                raise UsageError(f"The time of job {job_id} has passed. Remove it and add it anew.")
            if await self._table.advance(job, next_at):
                return replace(job, enabled=on, next_at=next_at)

    async def run_now(self, job_id: str, *, force: bool) -> Job:
        """Make a job due beside its schedule; a disabled one needs `force`."""
        job = await self.get(job_id, to_run=True)
        if await self.store.workers.leader() is None:
            raise UsageError("No gateway is running that could run the job. Start one: nanobot gateway")
        if not job.enabled and not force:
            raise UsageError(f"The job {job_id} is disabled. Run it with --force, or enable it.")
        now = self._clock()
        await self.store.inbox.accept(replace(due_message(job, now), external_id=f"cron:{job_id}:run-{now}"))
        return job


def next_run_text(job: Job) -> str:
    """When a job runs next, with the offset of the machine's zone, or `disabled`."""
    if job.next_at is None or not job.enabled:
        return "disabled"
    return datetime.fromtimestamp(job.next_at).astimezone().isoformat(" ", "seconds")


def due_message(job: Job, slot: float) -> InboundMessage:
    """What reaches the model for one slot. It is a reminder, and must not read like a request to plan."""
    return InboundMessage(
        channel=job.channel,
        chat_id=job.chat_id,
        sender_id="cron",
        text=f"[Scheduled job {job.name!r} is due now. It was set up earlier: do it, or deliver the reminder,"
        f" in this chat. Do not schedule it again.]\n\n{job.message}",
        external_id=f"cron:{job.id}:{slot}",
        session_key=f"cron:{job.id}",
        sent_at=slot,
        metadata=job.metadata,
        is_group=job.is_group,
        source="schedule",
        trust=job.trust,
        deliver=job.deliver,
    )
