"""The table of jobs. Each slot is served once, whoever comes first: its message has an id of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from nanobot.messages import InboundMessage, Trust, known_fields
from nanobot.store import mail, sessions
from nanobot.store.imports import note_import
from nanobot.store.sqlite import Connection, Row, Table, writes

_IN_COLUMNS = {"id", "enabled", "next_at", "created_at", "fault", "last_status", "last_error", "missed"}
_STATUS = {"done": "ok", "running": "running"}  # of a turn's state; everything else is an error


@dataclass(frozen=True, slots=True)
class Job:
    """A message that is due at times. `schedule` is as in cron/schedule.py; times are Unix seconds.

    The channel `cli` has no chat to deliver to. `metadata` is what the channel needs to reply; `trust` is
    that of whoever set it up.
    The last four fields are derived and not stored with the job. One with a `fault`, which says why this
    nanobot cannot read it and what to do, is kept and does nothing.
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
    """Jobs, with how their latest slot and turn went."""

    async def all(self) -> list[Job]:
        """All jobs, oldest first."""
        rows = await self.database.rows(
            "SELECT jobs.*, turns.state, turns.error FROM jobs LEFT JOIN turns ON turns.id ="
            " (SELECT MAX(id) FROM turns WHERE session = 'cron:' || jobs.id) ORDER BY created_at, jobs.id"
        )
        return [_job(row) for row in rows]

    @writes
    def add(self, connection: Connection, jobs: Sequence[Job], imported: str = "") -> int:
        """Add jobs whose id is new, each once from the file `imported`; how many there were."""
        added = 0
        for job in jobs:
            if imported and not note_import(connection, f"{imported}:{job.id}"):
                continue
            body = {name: value for name, value in asdict(job).items() if name not in _IN_COLUMNS}
            added += connection.execute(
                "INSERT INTO jobs (id, enabled, next_at, created_at, body) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (id) DO NOTHING",
                (job.id, int(job.enabled), job.next_at, job.created_at, json.dumps(body)),
            ).rowcount
        return added

    async def remove(self, job_id: str) -> bool:
        """Forget a job; what it has fired already still runs. False when it is not there."""
        return await self.database.change("DELETE FROM jobs WHERE id = ?", job_id) > 0

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
        moved = connection.execute(
            "UPDATE jobs SET next_at = ?, enabled = ?, missed = missed + ?, skipped = ?"
            " WHERE id = ? AND enabled = ? AND COALESCE(next_at, -1) = ?",
            (
                *(next_at, int(next_at is not None), missed, int(missed > 0 and not fires)),
                *(job.id, int(job.enabled), -1.0 if job.next_at is None else job.next_at),
            ),
        )
        if due and fires and moved.rowcount:
            mail.accept(connection, due)
            if next_at is None:
                connection.execute("DELETE FROM jobs WHERE id = ?", (job.id,))
        return moved.rowcount > 0

    @writes
    def accept_tick(self, connection: Connection, inbound: InboundMessage, since: float) -> bool:
        """Accept a heartbeat in a fresh context, once `since` then and never beside another one."""
        session = inbound.session_key
        connection.hold(session)
        newest = connection.execute(
            "SELECT started_at FROM turns WHERE session = ? ORDER BY id DESC LIMIT 1", (session,)
        ).fetchone()
        if (
            sessions.running_turn(connection, session)
            or mail.has_pending(connection, session)
            or (newest and since <= newest["started_at"] <= connection.now)
        ):
            return False
        sessions.start_over(connection, session)
        return mail.accept(connection, inbound)


def _job(row: Row) -> Job:
    columns = {name: row[name] for name in ("id", "created_at", "missed")}
    try:
        job = Job(**known_fields(Job, json.loads(row["body"])), **columns)
    except (ValueError, TypeError, AttributeError):
        fault = "This nanobot cannot read it. A newer one may; else remove it."
        return Job(name="", message="", schedule={}, enabled=False, fault=fault, **columns)
    status, error = "", ""
    if row["skipped"]:
        status = "skipped"
    elif row["state"]:
        status = _STATUS.get(row["state"], "error")
        error = (row["error"] or f"The turn ended: {row['state']}.") if status == "error" else ""
    enabled = bool(row["enabled"])
    return replace(job, enabled=enabled, next_at=row["next_at"], last_status=status, last_error=error)
