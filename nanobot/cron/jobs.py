"""The jobs of a home, and the message a job becomes when it is due.

Each slot is served once, whoever comes first: its message has an id of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from nanobot.cron.schedule import counted_from, next_run, parse_one, schedule_from_json, schedule_to_json
from nanobot.errors import ScheduleError, UsageError
from nanobot.messages import InboundMessage, Trust, known_fields
from nanobot.store import mail
from nanobot.store.imports import note_import
from nanobot.store.sqlite import Connection, Row, Table, writes
from nanobot.store.store import Store

_IN_COLUMNS = {"id", "enabled", "next_at", "created_at", "fault", "last_status", "last_error", "missed"}
_STATUS = {None: "", "done": "ok", "running": "running"}  # of a turn's state; everything else is an error


@dataclass(frozen=True, slots=True)
class Job:
    """A message that is due at times. `schedule` is as in cron/schedule.py; times are Unix seconds.

    The channel `cli` has no chat to deliver to. `metadata` is what the channel needs to reply; `trust` is
    that of whoever set it up. The last four fields are derived. One with a `fault`, which says why it cannot
    be read and what to do, is kept and does nothing.
    """

    id: str
    name: str
    message: str
    schedule: Mapping[str, Any]
    channel: str = "cli"
    chat_id: str = "direct"
    deliver: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)
    is_group: bool = False
    trust: Trust = "owner"
    enabled: bool = True
    next_at: float | None = None
    created_at: float = 0.0
    fault: str = ""
    last_status: str = ""  # ok, error, running, skipped, or empty when it never ran
    last_error: str = ""
    missed: int = 0  # slots so far that nobody was there for


class JobTable(Table):
    """Jobs, with how their latest slot and turn went; `left_out` are those of an older nanobot that stay in
    their file. Methods raise UsageError for an unknown id or what cannot be done.
    """

    def __init__(self, store: Store, left_out: Sequence[Job] = ()) -> None:
        super().__init__(store.database)
        self.store = store
        self._left_out = left_out

    async def all(self) -> list[Job]:
        """All jobs, oldest first."""
        rows = await self.database.rows(
            "SELECT jobs.*, turns.state, turns.error FROM jobs LEFT JOIN turns ON turns.id ="
            " (SELECT MAX(id) FROM turns WHERE session = 'cron:' || jobs.id) ORDER BY created_at, jobs.id"
        )
        return [*map(_job, rows), *self._left_out]

    async def get(self, job_id: str, *, to_run: bool = False) -> Job:
        """With `to_run` one that can run at all."""
        job = next((job for job in await self.all() if job.id == job_id), None)
        if job is None:
            raise UsageError(f"There is no job {job_id}. `nanobot cron list --all` shows them.")
        if to_run and job.fault:
            raise UsageError(f"The job {job_id} cannot run. {job.fault}")
        return job

    async def add(
        self, job: Job, *, every: float | None = None, cron: str = "", tz: str = "", at: str = ""
    ) -> Job:
        """Add `job`, once for each id, at one kind of time; no id: a new one. Raises ScheduleError."""
        now = self.database.clock()
        schedule = parse_one(every, cron, tz, at, now)
        due = next_run(schedule, now)
        if due is None:
            raise ScheduleError(f"The time {at} has passed. Give one in the future.")
        job_id = job.id or os.urandom(4).hex()
        job = replace(job, id=job_id, schedule=schedule_to_json(schedule), next_at=due, created_at=now)
        await self.insert([job])
        return job

    @writes
    def insert(self, connection: Connection, jobs: Sequence[Job], imported: str = "") -> int:
        """Add jobs whose id is new, each once from the file `imported`; how many there were."""
        added = 0
        for job in jobs:
            if imported and not note_import(connection, f"{imported}:{job.id}"):
                continue
            body = {name: value for name, value in asdict(job).items() if name not in _IN_COLUMNS}
            added += connection.change(
                "INSERT INTO jobs (id, enabled, next_at, created_at, body) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (id) DO NOTHING",
                *(job.id, int(job.enabled), job.next_at, job.created_at, json.dumps(body)),
            )
        return added

    async def remove(self, job_id: str) -> Job:
        """Forget a job, and return it; what it has fired already still runs."""
        job = await self.get(job_id)
        if not await self.database.change("DELETE FROM jobs WHERE id = ?", job_id):
            raise UsageError(f"The job {job_id} is not stored here. {job.fault}")
        return job

    async def enable(self, job_id: str, on: bool) -> Job:
        """Switch a job on from now, or off."""
        while True:  # a gateway may move the job meanwhile
            job, now = await self.get(job_id, to_run=True), self.database.clock()
            next_at = next_run(counted_from(schedule_from_json(job.schedule), now), now) if on else None
            if on and next_at is None:
                raise UsageError(f"The time of job {job_id} has passed. Remove it and add it anew.")
            if await self.advance(job, next_at):
                return replace(job, enabled=on, next_at=next_at)

    async def run_now(self, job_id: str, *, force: bool) -> Job:
        """Make a job due beside its schedule; a disabled one needs `force`."""
        job = await self.get(job_id, to_run=True)
        if await self.store.workers.leader() is None:
            raise UsageError("No gateway is running that could run the job. Start one: nanobot gateway")
        if not job.enabled and not force:
            raise UsageError(f"The job {job_id} is disabled. Run it with --force, or enable it.")
        now = self.database.clock()
        await self.store.inbox.accept(replace(due_message(job, now), external_id=f"cron:{job_id}:run-{now}"))
        return job

    @writes
    def advance(
        self,
        connection: Connection,
        job: Job,
        next_at: float | None,
        missed: int = 0,
        due: InboundMessage | None = None,
    ) -> bool:
        """Move a job on to `next_at` (None: switch it off), and accept `due` for its newest slot, at once.

        `missed` counts older slots; the newest is missed too while an earlier `due` still waits. A job that
        fires for the last time is removed. False when somebody else has moved the job since it was read:
        what it looked like is the fence between two gateways.
        """
        connection.hold(f"job:{job.id}", *([due.session_key] if due else []))
        fires = due is not None and not mail.has_pending(connection, due.session_key)
        missed += due is not None and not fires
        moved = connection.change(
            "UPDATE jobs SET next_at = ?, enabled = ?, missed = missed + ?, skipped = ?"
            " WHERE id = ? AND enabled = ? AND COALESCE(next_at, -1) = ?",
            *(next_at, int(next_at is not None), missed, int(missed > 0 and not fires)),
            *(job.id, int(job.enabled), -1.0 if job.next_at is None else job.next_at),
        )
        if due and fires and moved:
            mail.accept(connection, due)
            if next_at is None:
                connection.change("DELETE FROM jobs WHERE id = ?", job.id)
        return moved > 0


def _job(row: Row) -> Job:
    columns = {name: row[name] for name in ("id", "created_at", "missed")}
    try:
        job = Job(**known_fields(Job, json.loads(row["body"])), **columns)
    except (ValueError, TypeError, AttributeError):
        fault = "This nanobot cannot read it. A newer one may; else remove it."
        return Job(name="", message="", schedule={}, enabled=False, fault=fault, **columns)
    status = "skipped" if row["skipped"] else _STATUS.get(row["state"], "error")
    error = (row["error"] or f"The turn ended: {row['state']}.") if status == "error" else ""
    enabled = bool(row["enabled"])
    return replace(job, enabled=enabled, next_at=row["next_at"], last_status=status, last_error=error)


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
