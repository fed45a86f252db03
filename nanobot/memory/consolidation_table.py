"""How far sessions are consolidated, and what that changes in the memory files."""

from __future__ import annotations

from dataclasses import dataclass

from nanobot.store.sqlite import Connection, Row, Table, writes


@dataclass(frozen=True, slots=True)
class Unconsolidated:
    """A session whose messages after `consolidated`, up to `until`, are to get into the memory files now.
    `forgets` rises whenever something is forgotten; `failures` so far, the next try at `retry_at`."""

    session: str
    is_group: bool
    consolidated: int
    until: int
    forgets: int
    failures: int
    retry_at: float
    error: str


class ConsolidationTable(Table):
    """The cursors of sessions and the changes of the memory files."""

    async def unconsolidated(self, window: int) -> list[Unconsolidated]:
        """Sessions in which people speak: what left the model's context, and of a full one the older half."""
        found = []
        for row in await self.database.rows(_OWING, window):
            about = {**dict(row), "is_group": bool(row["is_group"])}
            start, settled, consolidated = about.pop("start"), about.pop("settled"), row["consolidated"]
            full = settled - consolidated >= window
            until = min(settled, max(start, settled - window // 2) if full else start)
            if until > consolidated:
                found.append(Unconsolidated(**about, until=until))
        return found

    async def unattended_turns(self, key: str, after: int, until: int) -> frozenset[int]:
        """The turns of these messages that nobody wrote: schedules, results of subagents."""
        # In a terminal the reports of subagents are in no inbox; their turns have a family.
        rows = await self.database.rows(
            "WITH asked AS (SELECT DISTINCT turn FROM messages WHERE session = ? AND seq > ? AND seq <= ?)"
            " SELECT turn FROM inbox WHERE source <> 'person' AND turn IN asked"
            " UNION SELECT id FROM turns WHERE family IS NOT NULL AND id IN asked",
            *(key, after, until),
        )
        return frozenset(row["turn"] for row in rows)

    @writes
    def commit_change(self, connection: Connection, session: Unconsolidated, until: int, body: str) -> bool:
        """Move the session's cursor to `until` and note what that changes in the files, in one transaction.
        False, and nothing is done, when the cursor was moved, or something is or was forgotten meanwhile."""
        moved = connection.execute(
            "UPDATE sessions SET consolidated_seq = ? WHERE key = ? AND consolidated_seq = ?"
            " AND (SELECT COALESCE(MAX(id), 0) FROM forgets) = ?"
            " AND NOT EXISTS (SELECT 1 FROM forgets WHERE request <> '')",
            (until, session.session, session.consolidated, session.forgets),
        ).rowcount
        if not moved:
            return False
        connection.execute(
            "INSERT INTO memory_changes (session, first_seq, last_seq, created_at, body)"
            " VALUES (?, ?, ?, ?, ?)",
            (session.session, session.consolidated + 1, until, connection.now, body),
        )
        connection.execute("DELETE FROM setbacks WHERE session = ?", (session.session,))
        return True

    async def is_due(self, window: int) -> bool:
        """Whether there is anything to do now: consolidating, finishing a change or a forgetting."""
        waiting = await self.unconsolidated(window)
        begun = "memory_changes WHERE state = 'pending' UNION SELECT 1 FROM forgets WHERE request <> ''"
        due = any(session.retry_at <= self.database.clock() for session in waiting)
        return due or bool(await self.database.rows(f"SELECT 1 FROM {begun}"))

    async def pending_changes(self) -> list[Row]:
        """Changes that are not in the files yet, oldest first."""
        return await self.database.rows("SELECT * FROM memory_changes WHERE state = 'pending' ORDER BY id")

    async def change_applied(self, change_id: int) -> None:
        await self.database.change("UPDATE memory_changes SET state = 'applied' WHERE id = ?", change_id)

    async def changes_of(self, key: str, first: int, last: int) -> list[Row]:
        """The changes that stand for some of these messages, oldest first."""
        where = "session = ? AND last_seq >= ? AND first_seq <= ? ORDER BY id"
        return await self.database.rows(f"SELECT * FROM memory_changes WHERE {where}", key, first, last)

    async def consolidation_failed(self, key: str, error: str, retry_at: float) -> None:
        await self.database.change(
            "INSERT INTO setbacks (session, failures, retry_at, error) VALUES (?, 1, ?, ?)"
            " ON CONFLICT (session) DO UPDATE SET failures = setbacks.failures + 1,"
            " retry_at = excluded.retry_at, error = excluded.error",
            *(key, retry_at, error),
        )


# In the sessions that are left out nobody speaks. The model's context begins after message `start`; up to
# `settled` no turn is running.
_OWING = (
    "SELECT key AS session, is_group, consolidated_seq AS consolidated, start_seq AS start,"
    " COALESCE(failures, 0) AS failures, COALESCE(retry_at, 0.0) AS retry_at, COALESCE(error, '') AS error,"
    " COALESCE((SELECT first_seq - 1 FROM turns WHERE session = key AND state = 'running'), last_seq)"
    " AS settled, (SELECT COALESCE(MAX(id), 0) FROM forgets) AS forgets"
    " FROM sessions LEFT JOIN setbacks ON setbacks.session = key"
    " WHERE key IN (SELECT key FROM sessions WHERE last_seq - consolidated_seq >= ?"
    " UNION SELECT key FROM sessions WHERE start_seq > consolidated_seq)"
    " AND kind = 'chat' ORDER BY updated_at"
)
