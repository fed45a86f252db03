"""How far sessions are consolidated, and what that changes: SQL that runs inside a transaction."""

from __future__ import annotations

import sqlite3

from nanobot.session.memory_log import MemoryChange, Unconsolidated

_SESSIONS = (
    "SELECT key, is_group, consolidated_seq, start_seq, failures, retry_at, error,"
    " COALESCE((SELECT first_seq - 1 FROM turns WHERE session = key AND state = 'running'), last_seq)"
    " AS settled, (SELECT COALESCE(MAX(id), 0) FROM forgets) AS forgets"
    " FROM sessions LEFT JOIN setbacks ON setbacks.session = key WHERE "
)
# In the sessions that are left out nobody speaks.
_OWING = (
    "key IN (SELECT key FROM sessions WHERE last_seq - consolidated_seq >= ?"
    " UNION SELECT key FROM sessions WHERE start_seq > consolidated_seq)"
    " AND kind = 'chat' ORDER BY updated_at"
)


def read_unconsolidated(connection: sqlite3.Connection, window: int, key: str) -> list[Unconsolidated]:
    rows = connection.execute(_SESSIONS + ("key = ?" if key else _OWING), (key or window,))
    return [
        Unconsolidated(
            row["key"],
            bool(row["is_group"]),
            row["consolidated_seq"],
            row["start_seq"],
            row["settled"],
            row["forgets"],
            row["failures"] or 0,
            row["retry_at"] or 0.0,
            row["error"] or "",
        )
        for row in rows
    ]


def read_unattended(connection: sqlite3.Connection, key: str, after: int, until: int) -> frozenset[int]:
    # In a terminal the reports of subagents are in no inbox; their turns have a family.
    rows = connection.execute(
        "WITH asked AS (SELECT DISTINCT turn FROM messages WHERE session = ? AND seq > ? AND seq <= ?)"
        " SELECT turn FROM inbox WHERE source <> 'person' AND turn IN asked"
        " UNION SELECT id FROM turns WHERE family IS NOT NULL AND id IN asked",
        (key, after, until),
    )
    return frozenset(row["turn"] for row in rows)


def commit_change(
    connection: sqlite3.Connection, session: Unconsolidated, until: int, body: str, now: float
) -> bool:
    """Move the cursor and note the change, unless the session is not as it was read."""
    moved = connection.execute(
        "UPDATE sessions SET consolidated_seq = ? WHERE key = ? AND consolidated_seq = ?"
        " AND (SELECT COALESCE(MAX(id), 0) FROM forgets) = ?",
        (until, session.session, session.consolidated, session.forgets),
    ).rowcount
    if not moved:
        return False
    connection.execute(
        "INSERT INTO memory_changes (session, first_seq, last_seq, created_at, body) VALUES (?, ?, ?, ?, ?)",
        (session.session, session.consolidated + 1, until, now, body),
    )
    connection.execute("DELETE FROM setbacks WHERE session = ?", (session.session,))
    return True


def read_pending(connection: sqlite3.Connection) -> list[MemoryChange]:
    return [
        _change(row)
        for row in connection.execute("SELECT * FROM memory_changes WHERE state = 'pending' ORDER BY id")
    ]


def read_changes(connection: sqlite3.Connection, key: str, first: int, last: int) -> list[MemoryChange]:
    rows = connection.execute(
        "SELECT * FROM memory_changes WHERE session = ? AND last_seq >= ? AND first_seq <= ? ORDER BY id",
        (key, first, last),
    )
    return [_change(row) for row in rows]


def _change(row: sqlite3.Row) -> MemoryChange:
    return MemoryChange(row["id"], row["session"], row["first_seq"], row["last_seq"], row["body"])


def change_applied(connection: sqlite3.Connection, change_id: int) -> None:
    connection.execute("UPDATE memory_changes SET state = 'applied' WHERE id = ?", (change_id,))


def consolidation_failed(connection: sqlite3.Connection, key: str, error: str, retry_at: float) -> None:
    connection.execute(
        "INSERT INTO setbacks VALUES (?, 1, ?, ?) ON CONFLICT (session) DO UPDATE SET"
        " failures = failures + 1, retry_at = excluded.retry_at, error = excluded.error",
        (key, retry_at, error),
    )
