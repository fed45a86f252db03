"""The SQL of jobs and heartbeats: each slot is over once, whoever comes first. Runs in a transaction."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict

from nanobot.messages import InboundMessage, known_fields
from nanobot.session.store import Job
from nanobot.storage import conversations, mailbox

log = logging.getLogger(__name__)

_KEPT = 100  # slots of a job that are remembered
_IN_COLUMNS = {"id", "enabled", "next_at", "created_at", "last_status", "last_error", "missed"}
_STATUS = {"done": "ok", "running": "running"}  # of a turn's state; everything else is an error


def list_jobs(connection: sqlite3.Connection) -> list[Job]:
    """All jobs with how their latest slot and turn went, oldest first."""
    rows = connection.execute(
        "SELECT jobs.*, turns.state, turns.error,"
        " (SELECT COUNT(*) FROM fired WHERE job = jobs.id AND status = 'missed') AS missed,"
        " (SELECT status FROM fired WHERE job = jobs.id ORDER BY slot DESC LIMIT 1) AS newest"
        " FROM jobs LEFT JOIN turns ON turns.id ="
        " (SELECT MAX(id) FROM turns WHERE session = 'cron:' || jobs.id) ORDER BY created_at, jobs.id"
    )
    return [job for row in rows if (job := _job(row)) is not None]


def _job(row: sqlite3.Row) -> Job | None:
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


def add_jobs(connection: sqlite3.Connection, jobs: Sequence[Job], imported: str, now: float) -> bool:
    """Add jobs whose id is new, once for every file they are `imported` from."""
    insert = "INSERT OR IGNORE INTO imports VALUES (?, ?)"
    if imported and not connection.execute(insert, (imported, now)).rowcount:
        return False
    for job in jobs:
        body = {name: value for name, value in asdict(job).items() if name not in _IN_COLUMNS}
        connection.execute(
            "INSERT OR IGNORE INTO jobs VALUES (?, ?, ?, ?, ?)",
            (job.id, job.enabled, job.next_at, job.created_at, json.dumps(body)),
        )
    return True


def remove_job(connection: sqlite3.Connection, job_id: str) -> bool:
    """Forget a job; what it has fired already still runs."""
    connection.execute("DELETE FROM fired WHERE job = ?", (job_id,))
    return connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,)).rowcount > 0


def advance_job(
    connection: sqlite3.Connection,
    job: Job,
    next_at: float | None,
    missed: Sequence[float],
    due: InboundMessage | None,
    now: float,
) -> bool:
    """See store.py. What the job looked like when it was read is the fence between two gateways."""
    moved = connection.execute(
        "UPDATE jobs SET next_at = ?, enabled = ? WHERE id = ? AND enabled = ? AND next_at IS ?",
        (next_at, next_at is not None, job.id, job.enabled, job.next_at),
    )
    if not moved.rowcount:
        return False
    for slot in missed:
        _close_slot(connection, job.id, slot, "missed")
    if due is None:
        return True
    if mailbox.is_waiting(connection, due.session_key):
        _close_slot(connection, job.id, due.sent_at, "missed")
        return True
    if _close_slot(connection, job.id, due.sent_at, "fired"):
        mailbox.accept(connection, due, now)
    if next_at is None:
        remove_job(connection, job.id)
    return True


def accept_tick(connection: sqlite3.Connection, inbound: InboundMessage, slot: float, now: float) -> bool:
    """See store.py."""
    session = inbound.session_key
    busy = conversations.running_turn(connection, session) or mailbox.is_waiting(connection, session)
    if busy or not _close_slot(connection, session, slot, "fired"):
        return False
    conversations.start_over(connection, session)
    return mailbox.accept(connection, inbound, now)


def _close_slot(connection: sqlite3.Connection, job: str, slot: float, status: str) -> bool:
    """Record how a slot ended; False when that is known already."""
    insert = "INSERT OR IGNORE INTO fired VALUES (?, ?, ?)"
    added = connection.execute(insert, (job, slot, status)).rowcount
    connection.execute(
        "DELETE FROM fired WHERE job = ? AND slot <="
        " (SELECT slot FROM fired WHERE job = ? ORDER BY slot DESC LIMIT 1 OFFSET ?)",
        (job, job, _KEPT),
    )
    return added > 0
