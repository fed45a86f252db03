"""The SQL of subagents: who asked for which, how each goes, and the model calls a family has left.

Runs inside a transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from typing import Any

from nanobot.messages import InboundMessage
from nanobot.session.store import Claim, SubagentInfo
from nanobot.storage import conversations, mailbox
from nanobot.storage.workers import WorkerIdentity

_UNFINISHED = ("waiting", "running")
# A subagent has one turn; what the owner says later in its session makes more.
_ROWS = (
    "SELECT subagents.*, turns.id AS turn, turns.state, turns.started_at, turns.finished_at,"
    " turns.calls, turns.tokens FROM subagents LEFT JOIN turns ON turns.id ="
    " (SELECT MIN(id) FROM turns WHERE session = 'subagent:' || subagents.id)"
)


def add(
    connection: sqlite3.Connection,
    order: InboundMessage,
    label: str,
    profile: str,
    worker: int | None,
    now: float,
) -> bool:
    """Store a subagent once; without a `worker` of its own, anybody may take its order from the inbox."""
    parent = order.reply_to.session_key if order.reply_to else order.sender_id
    row = connection.execute(
        "INSERT OR IGNORE INTO subagents (id, parent, label, profile, worker, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
        (order.chat_id, parent, label, profile, worker, now),
    ).fetchone()
    if row is not None and worker is None:
        mailbox.accept(connection, order, now)
    return row is not None


def listed(
    connection: sqlite3.Connection, workers: WorkerIdentity, parent: str, limit: int, now: float
) -> list[SubagentInfo]:
    rows = connection.execute(f"{_ROWS} WHERE parent = ? ORDER BY number DESC LIMIT ?", (parent, limit))
    return [_info(connection, workers, row, now) for row in rows.fetchall()][::-1]


def get(
    connection: sqlite3.Connection, workers: WorkerIdentity, subagent_id: str, now: float
) -> SubagentInfo | None:
    row = connection.execute(f"{_ROWS} WHERE subagents.id = ?", (subagent_id,)).fetchone()
    return _info(connection, workers, row, now) if row else None


def _info(connection: sqlite3.Connection, workers: WorkerIdentity, row: Any, now: float) -> SubagentInfo:
    since = row["started_at"] or row["created_at"]
    state = _state(connection, workers, row, now)
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
    )


def _state(connection: sqlite3.Connection, workers: WorkerIdentity, row: Any, now: float) -> str:
    state = str(row["ended"] or row["state"] or "waiting")
    if state not in _UNFINISHED or row["worker"] is None:
        return state
    return state if workers.is_alive(connection, row["worker"], now) else "interrupted"


def cancel(
    connection: sqlite3.Connection,
    workers: WorkerIdentity,
    parent: str,
    ids: Collection[str] | None,
    report: Callable[[InboundMessage, str], InboundMessage | None],
    now: float,
) -> list[str]:
    """See store.py."""
    cancelled = []
    rows = connection.execute(f"{_ROWS} WHERE parent = ? AND ended = '' ORDER BY number", (parent,))
    for row in rows.fetchall():
        wanted = ids is None or row["id"] in ids
        if wanted and _state(connection, workers, row, now) in _UNFINISHED:
            _end(connection, row["id"], "cancelled")
            session = f"subagent:{row['id']}"
            order = mailbox.unanswered(connection, session, row["turn"])
            told = report(order, row["label"]) if order is not None else None
            if told is not None:
                mailbox.accept(connection, told, now)
            mailbox.discard_waiting(connection, session)
            cancelled.append(row["id"])
    return cancelled


def close_lost(
    connection: sqlite3.Connection, workers: WorkerIdentity, parent: str, now: float
) -> list[SubagentInfo]:
    """See store.py."""
    lost = []
    rows = connection.execute(
        f"{_ROWS} WHERE parent = ? AND subagents.worker IS NOT NULL AND ended = '' ORDER BY number", (parent,)
    )
    for row in rows.fetchall():
        if not workers.is_alive(connection, row["worker"], now):
            info = _info(connection, workers, row, now)
            running = conversations.running_turn(connection, f"subagent:{row['id']}")
            if running is not None:
                conversations.interrupt_turn(connection, running, now)
            _end(connection, row["id"], info.state)
            lost.append(info)
    return lost


def settle(connection: sqlite3.Connection, ids: Collection[str]) -> None:
    for subagent_id in ids:
        row = connection.execute(f"{_ROWS} WHERE subagents.id = ?", (subagent_id,)).fetchone()
        if row is not None and not row["ended"]:
            _end(connection, subagent_id, row["state"])


def _end(connection: sqlite3.Connection, subagent_id: str, how: str) -> None:
    connection.execute("UPDATE subagents SET ended = ? WHERE id = ?", (how, subagent_id))


def reserve_call(
    connection: sqlite3.Connection,
    claim: Claim,
    family: int,
    own: int,
    together: int,
    *,
    first_is_free: bool,
) -> bool:
    """See store.py. The reservation ends when the answer is recorded, or the turn ends."""
    conversations.check_claim(connection, claim)
    connection.execute("UPDATE turns SET calling = 0 WHERE id = ?", (claim.turn_id,))
    calls = connection.execute("SELECT calls FROM turns WHERE id = ?", (claim.turn_id,)).fetchone()["calls"]
    is_free = first_is_free and not calls
    if not is_free and (calls >= own or family_spent(connection, family)[0] >= together):
        return False
    connection.execute("UPDATE turns SET calling = 1 WHERE id = ?", (claim.turn_id,))
    return True


def family_spent(connection: sqlite3.Connection, family: int) -> tuple[int, float]:
    """See store.py."""
    first = connection.execute(
        "SELECT calls + calling AS calls, started_at FROM turns WHERE id = ?", (family,)
    ).fetchone()
    others = connection.execute(
        "SELECT COALESCE(SUM(calls + calling), 0) AS calls FROM turns WHERE family = ?", (family,)
    ).fetchone()
    return first["calls"] + others["calls"], first["started_at"]
