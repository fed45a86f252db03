"""Subagents: who asked for which, and how each goes."""

from __future__ import annotations

from collections.abc import Mapping

from nanobot.messages import InboundMessage
from nanobot.store import mail
from nanobot.store.records import SubagentInfo
from nanobot.store.sqlite import Connection, Database, Row, Table, writes
from nanobot.store.turns import close_dead
from nanobot.store.workers import Workers

_UNFINISHED = ("waiting", "running")
# A subagent has one turn; what the owner says later in its session makes more.
_ROWS = (
    "SELECT subagents.*, turns.id AS turn, turns.state, turns.started_at, turns.finished_at,"
    " turns.calls, turns.tokens FROM subagents LEFT JOIN turns ON turns.id ="
    " (SELECT MIN(id) FROM turns WHERE session = 'subagent:' || subagents.id)"
)
_OPEN = f"{_ROWS} WHERE parent = ? AND ended = '' ORDER BY number"
_ORDER = "SELECT * FROM inbox WHERE channel = 'subagent' AND external_id = ?"
_END = "UPDATE subagents SET ended = ? WHERE id = ?"


class SubagentTable(Table):
    """Subagents, from their order to the moment their session was told how they ended."""

    def __init__(self, database: Database, workers: Workers) -> None:
        super().__init__(database)
        self._workers = workers

    @writes
    def add(self, connection: Connection, order: InboundMessage, label: str, profile: str) -> bool:
        """Accept an order, once: the subagent's id is its `chat_id`, its parent the session in `reply_to`."""
        parent = order.reply_to.session_key if order.reply_to else order.sender_id
        worker = int(order.owner) if order.owner else None
        added = connection.change(
            "INSERT INTO subagents (id, parent, label, profile, worker, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
            *(order.chat_id, parent, label, profile, worker, connection.now),
        )
        return added > 0 and mail.accept(connection, order)

    async def get(self, subagent_id: str) -> SubagentInfo | None:
        rows = await self.database.rows(f"{_ROWS} WHERE subagents.id = ?", subagent_id)
        return self._info(rows[0]) if rows else None

    async def of(self, parent: str, limit: int = 20) -> list[SubagentInfo]:
        """The newest subagents of a session, oldest first."""
        query = f"{_ROWS} WHERE parent = ? ORDER BY number DESC LIMIT ?"
        return [self._info(row) for row in reversed(await self.database.rows(query, parent, limit))]

    async def unfinished(self, parent: str) -> list[tuple[SubagentInfo, InboundMessage]]:
        """Those of a session that wait or run, with their orders."""
        found = []
        for row in await self.database.rows(_OPEN, parent):
            info = self._info(row)
            asked = await self.database.rows(_ORDER, info.id)
            order = mail.message_of(InboundMessage, asked[0]) if asked else None
            if order and info.state in _UNFINISHED:
                found.append((info, order))
        return found

    @writes
    def cancel(
        self, connection: Connection, parent: str, reports: Mapping[str, InboundMessage | None]
    ) -> list[str]:
        """Cancel those of a session with these ids that have not ended, and accept a report about each.

        Returns their ids. Those that wait never begin, also after a crash; who runs the others stops them.
        """
        connection.hold(parent, *(f"subagent:{subagent}" for subagent in reports))
        rows = [row for row in connection.rows(_OPEN, parent) if self._state(row) in _UNFINISHED]
        cancelled = [row["id"] for row in rows if row["id"] in reports]
        for subagent in cancelled:
            connection.change(_END, "cancelled", subagent)
            if (report := reports[subagent]) is not None:
                mail.accept(connection, report)
            withdraw = "UPDATE inbox SET state = 'done' WHERE session = ? AND state = 'pending'"
            connection.change(withdraw, f"subagent:{subagent}")
        return cancelled

    @writes
    def close_lost(self, connection: Connection, parent: str) -> list[SubagentInfo]:
        """Those whose terminal is gone before their session was told how they ended; each is given once."""
        lost = []
        for row in connection.rows(_OPEN, parent):
            if row["worker"] is not None and not self._workers.exists(row["worker"]):
                lost.append(self._info(row))
                close_dead(connection, self._workers, f"subagent:{row['id']}")
                connection.change(_END, lost[-1].state, row["id"])
        return lost

    def _info(self, row: Row) -> SubagentInfo:
        since, state = row["started_at"] or row["created_at"], self._state(row)
        until = self.database.clock() if state in _UNFINISHED else row["finished_at"] or since
        return SubagentInfo(
            *(row["id"], row["label"], row["profile"], state, until - since),
            calls=row["calls"] or 0,
            tokens=row["tokens"] or 0,
            begun=row["turn"] is not None,
        )

    def _state(self, row: Row) -> str:
        state = str(row["ended"] or row["state"] or "waiting")
        is_lost = row["worker"] is not None and not self._workers.exists(row["worker"])
        return "interrupted" if is_lost and state in _UNFINISHED else state
