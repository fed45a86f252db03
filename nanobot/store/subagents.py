"""Subagents: who asked for which, and how each goes."""

from __future__ import annotations

from collections.abc import Mapping

from nanobot.messages import InboundMessage
from nanobot.store import lanes, mail
from nanobot.store.records import SubagentInfo
from nanobot.store.sqlite import Connection, Database, Row
from nanobot.store.workers import Workers

_UNFINISHED = ("waiting", "running")
# A subagent has one turn; what the owner says later in its session makes more.
_ROWS = (
    "SELECT subagents.*, turns.id AS turn, turns.state, turns.started_at, turns.finished_at,"
    " turns.calls, turns.tokens FROM subagents LEFT JOIN turns ON turns.id ="
    " (SELECT MIN(id) FROM turns WHERE session = 'subagent:' || subagents.id)"
)


class SubagentTable:
    """All methods raise StorageError when the disk or the database fails."""

    def __init__(self, database: Database, workers: Workers) -> None:
        self._db = database
        self._workers = workers

    async def add(self, order: InboundMessage, label: str, profile: str) -> bool:
        """Accept an order, once: the subagent's id is its `chat_id`, its parent the session in `reply_to`."""
        return await self._db.write(_add, order, label, profile, self._db.clock())

    async def get(self, subagent_id: str) -> SubagentInfo | None:
        rows = await self._db.rows(f"{_ROWS} WHERE subagents.id = ?", subagent_id)
        return self._info(rows[0], self._db.clock()) if rows else None

    async def of(self, parent: str, limit: int = 20) -> list[SubagentInfo]:
        """The newest subagents of a session, oldest first."""
        rows = await self._db.rows(f"{_ROWS} WHERE parent = ? ORDER BY number DESC LIMIT ?", parent, limit)
        return [self._info(row, self._db.clock()) for row in reversed(rows)]

    async def unfinished(self, parent: str) -> list[tuple[SubagentInfo, InboundMessage]]:
        """Those of a session that wait or run, with their orders."""
        return await self._db.read(self._unfinished, parent, self._db.clock())

    async def cancel(self, parent: str, reports: Mapping[str, InboundMessage | None]) -> list[str]:
        """Cancel those of a session with these ids that have not ended, and accept a report about each.

        Returns their ids. Those that wait never begin, also after a crash; who runs the others stops them.
        """
        return await self._db.write(self._cancel, parent, reports, self._db.clock())

    async def close_lost(self, parent: str) -> list[SubagentInfo]:
        """Those whose terminal is gone before their session was told how they ended; each is given once."""
        return await self._db.write(self._close_lost, parent, self._db.clock())

    # -- inside a transaction

    def _info(self, row: Row, now: float) -> SubagentInfo:
        since = row["started_at"] or row["created_at"]
        state = self._state(row)
        until = now if state in _UNFINISHED else row["finished_at"] or since
        return SubagentInfo(
            row["id"],
            row["parent"],
            row["label"],
            row["profile"],
            state,
            until - since,
            row["calls"] or 0,
            row["tokens"] or 0,
            row["turn"] is not None,
        )

    def _state(self, row: Row) -> str:
        state = str(row["ended"] or row["state"] or "waiting")
        if state not in _UNFINISHED or row["worker"] is None:
            return state
        return state if self._workers.is_alive(row["worker"]) else "interrupted"

    def _unfinished(
        self, connection: Connection, parent: str, now: float
    ) -> list[tuple[SubagentInfo, InboundMessage]]:
        return [
            (self._info(row, now), order)
            for row in self._open_rows(connection, parent)
            if (order := mail.order_of(connection, row["id"])) is not None
        ]

    def _open_rows(self, connection: Connection, parent: str) -> list[Row]:
        rows = connection.execute(f"{_ROWS} WHERE parent = ? AND ended = '' ORDER BY number", (parent,))
        return [row for row in rows.fetchall() if self._state(row) in _UNFINISHED]

    def _cancel(
        self, connection: Connection, parent: str, reports: Mapping[str, InboundMessage | None], now: float
    ) -> list[str]:
        connection.hold(parent, *(f"subagent:{subagent}" for subagent in reports))
        cancelled = [row["id"] for row in self._open_rows(connection, parent) if row["id"] in reports]
        for subagent in cancelled:
            _end(connection, subagent, "cancelled")
            if (report := reports[subagent]) is not None:
                mail.accept(connection, report, now)
            mail.discard_waiting(connection, f"subagent:{subagent}")
        return cancelled

    def _close_lost(self, connection: Connection, parent: str, now: float) -> list[SubagentInfo]:
        lost = []
        rows = connection.execute(
            f"{_ROWS} WHERE parent = ? AND subagents.worker IS NOT NULL AND ended = '' ORDER BY number",
            (parent,),
        )
        for row in rows.fetchall():
            if not self._workers.is_alive(row["worker"]):
                info = self._info(row, now)
                lanes.close_dead(connection, self._workers, f"subagent:{row['id']}", now)
                _end(connection, row["id"], info.state)
                lost.append(info)
        return lost


def _add(connection: Connection, order: InboundMessage, label: str, profile: str, now: float) -> bool:
    parent = order.reply_to.session_key if order.reply_to else order.sender_id
    worker = int(order.owner) if order.owner else None
    row = connection.execute(
        "INSERT INTO subagents (id, parent, label, profile, worker, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING RETURNING id",
        (order.chat_id, parent, label, profile, worker, now),
    ).fetchone()
    if row is not None:
        mail.accept(connection, order, now)
    return row is not None


def _end(connection: Connection, subagent_id: str, how: str) -> None:
    connection.execute("UPDATE subagents SET ended = ? WHERE id = ?", (how, subagent_id))
