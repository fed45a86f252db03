"""The table of jobs and of the slots that are over: each slot is over once, whoever comes first."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from nanobot.messages import InboundMessage, Trust, known_fields
from nanobot.store import mail, sessions
from nanobot.store.imports import note_import
from nanobot.store.sqlite import Connection, Database, Row

log = logging.getLogger(__name__)

_KEPT = 100  # slots of a job that are remembered
_IN_COLUMNS = {"id", "enabled", "next_at", "created_at", "last_status", "last_error", "missed"}
_STATUS = {"done": "ok", "running": "running"}  # of a turn's state; everything else is an error


@dataclass(frozen=True, slots=True)
class Job:
    """A message that is due at times. `schedule` is as in cron/schedule.py; times are Unix seconds.

    The channel `cli` has no chat to deliver to. `metadata` is what the channel needs to reply; `trust` is
    that of whoever set it up.
    The last three fields tell how it went so far; they are derived and not stored with the job.
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
    last_status: str = ""  # ok, error, running, skipped, or empty when it never ran
    last_error: str = ""
    missed: int = 0  # slots among the latest that nobody was there for


class JobTable:
    """All methods raise StorageError when the disk or the database fails."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def all(self) -> list[Job]:
        """All jobs with how their latest slot and turn went, oldest first."""
        return await self._db.read(_all)

    async def add(self, jobs: Sequence[Job], imported: str = "") -> bool:
        """Add jobs whose id is new; False when the file `imported` was taken over before."""
        return await self._db.write(_add, jobs, imported)

    async def remove(self, job_id: str) -> bool:
        """Forget a job; what it has fired already still runs."""
        return await self._db.write(_remove, job_id)

    async def advance(
        self, job: Job, next_at: float | None, missed: Sequence[float] = (), due: InboundMessage | None = None
    ) -> bool:
        """Move a job on to `next_at` (None: switch it off), and accept `due` for its newest slot, at once.

        `missed` are older slots; the newest is missed too while an earlier `due` still waits. A job that
        fires for the last time is removed. False when somebody else has moved the job since it was read.
        """
        return await self._db.write(_advance, job, next_at, missed, due)

    async def accept_tick(self, inbound: InboundMessage, slot: float) -> bool:
        """Accept a heartbeat in a fresh context, once a slot and never beside another one."""
        return await self._db.write(_accept_tick, inbound, slot)


def _all(connection: Connection) -> list[Job]:
    rows = connection.execute(
        "SELECT jobs.*, turns.state, turns.error,"
        " (SELECT COUNT(*) FROM fired WHERE job = jobs.id AND status = 'missed') AS missed,"
        " (SELECT status FROM fired WHERE job = jobs.id ORDER BY slot DESC LIMIT 1) AS newest"
        " FROM jobs LEFT JOIN turns ON turns.id ="
        " (SELECT MAX(id) FROM turns WHERE session = 'cron:' || jobs.id) ORDER BY created_at, jobs.id"
    )
    return [job for row in rows if (job := _job(row)) is not None]


def _job(row: Row) -> Job | None:
    try:
        body = known_fields(Job, json.loads(row["body"]))
    except (ValueError, TypeError):
        log.error("The job %s cannot be read by this nanobot", row["id"])
        return None
    status, error = "", ""
    if row["newest"] == "missed":
        status = "skipped"
    elif row["state"]:
        status = _STATUS.get(row["state"], "error")
        error = (row["error"] or f"The turn ended: {row['state']}.") if status == "error" else ""
    columns = {name: row[name] for name in ("id", "next_at", "created_at", "missed")}
    return Job(
        **body,
        **columns,
        enabled=bool(row["enabled"]),
        last_status=status,
        last_error=error,
    )


def _add(connection: Connection, jobs: Sequence[Job], imported: str) -> bool:
    if imported and not note_import(connection, imported):
        return False
    for job in jobs:
        body = {name: value for name, value in asdict(job).items() if name not in _IN_COLUMNS}
        connection.execute(
            "INSERT INTO jobs (id, enabled, next_at, created_at, body) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO NOTHING",
            (job.id, int(job.enabled), job.next_at, job.created_at, json.dumps(body)),
        )
    return True


def _remove(connection: Connection, job_id: str) -> bool:
    """Forget a job; what it has fired already still runs."""
    connection.execute("DELETE FROM fired WHERE job = ?", (job_id,))
    return connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,)).rowcount > 0


def _advance(
    connection: Connection,
    job: Job,
    next_at: float | None,
    missed: Sequence[float],
    due: InboundMessage | None,
) -> bool:
    """What the job looked like when it was read is the fence between two gateways."""
    connection.hold(f"job:{job.id}", *([due.session_key] if due else []))
    moved = connection.execute(
        "UPDATE jobs SET next_at = ?, enabled = ? WHERE id = ? AND enabled = ? AND COALESCE(next_at, -1) = ?",
        (
            *(next_at, int(next_at is not None)),
            *(job.id, int(job.enabled), -1.0 if job.next_at is None else job.next_at),
        ),
    )
    if not moved.rowcount:
        return False
    for slot in missed:
        _close_slot(connection, job.id, slot, "missed")
    if due is None:
        return True
    if mail.has_pending(connection, due.session_key):
        _close_slot(connection, job.id, due.sent_at, "missed")
        return True
    if _close_slot(connection, job.id, due.sent_at, "fired"):
        mail.accept(connection, due)
    if next_at is None:
        _remove(connection, job.id)
    return True


def _accept_tick(connection: Connection, inbound: InboundMessage, slot: float) -> bool:
    session = inbound.session_key
    connection.hold(session)
    busy = sessions.running_turn(connection, session) or mail.has_pending(connection, session)
    if busy or not _close_slot(connection, session, slot, "fired"):
        return False
    sessions.start_over(connection, session)
    return mail.accept(connection, inbound)


def _close_slot(connection: Connection, job: str, slot: float, status: str) -> bool:
    """Record how a slot ended; False when that is known already."""
    insert = "INSERT INTO fired (job, slot, status) VALUES (?, ?, ?) ON CONFLICT (job, slot) DO NOTHING"
    added = connection.execute(insert, (job, slot, status)).rowcount
    connection.execute(
        "DELETE FROM fired WHERE job = ? AND slot <="
        " (SELECT slot FROM fired WHERE job = ? ORDER BY slot DESC LIMIT 1 OFFSET ?)",
        (job, job, _KEPT),
    )
    return added > 0
