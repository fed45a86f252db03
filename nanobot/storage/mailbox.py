"""Inbox, lanes and outbox: the SQL of messages that must not be lost. Runs inside a transaction."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence

from nanobot.messages import NOT_COUNTED, ContextUse, InboundMessage, Message, OutboundMessage, Source
from nanobot.session.store import (
    Backlog,
    Claim,
    Delivery,
    InboxTurn,
    OutboxEntry,
    SessionKind,
    StoredMessage,
)
from nanobot.storage import conversations
from nanobot.storage.mail_json import IN_COLUMNS, inbound_of, outbound_of, to_json
from nanobot.storage.workers import WorkerIdentity

log = logging.getLogger(__name__)

_UNREADABLE = "The message of this turn cannot be read by this nanobot."
# The kind of session that a message begins; people talk in all others.
_KINDS: dict[Source, SessionKind] = {"schedule": "job", "heartbeat": "heartbeat", "order": "subagent"}


def accept(connection: sqlite3.Connection, inbound: InboundMessage, now: float) -> bool:
    """Store an inbound message once; False when (channel, external_id) was accepted before."""
    conversations.ensure_session(connection, inbound.session_key, now, _KINDS.get(inbound.source, "chat"))
    columns = {
        "received_at": now,
        "session": inbound.session_key,
        **{name: getattr(inbound, name) for name in IN_COLUMNS},
        "body": to_json(inbound, leave_out=IN_COLUMNS),
    }
    row = connection.execute(
        f"INSERT OR IGNORE INTO inbox ({', '.join(columns)})"
        f" VALUES ({', '.join('?' * len(columns))}) RETURNING id",
        tuple(columns.values()),
    ).fetchone()
    if row is None:
        return False
    if inbound.source == "person":
        connection.execute(
            "INSERT OR REPLACE INTO chats VALUES (?, ?, ?)", (inbound.channel, inbound.chat_id, now)
        )
    if inbound.is_group:
        connection.execute("UPDATE sessions SET is_group = 1 WHERE key = ?", (inbound.session_key,))
    if conversations.running_turn(connection, inbound.session_key) is None:
        _wait(connection, inbound.session_key)
    return True


def _wait(connection: sqlite3.Connection, session: str) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO waiting SELECT ?, COALESCE(MAX(id), 0) FROM turns WHERE session = ?",
        (session, session),
    )


# The lanes a worker has room for: (chats, subagents).
_KIND = "(SELECT kind FROM sessions WHERE key = session)"
_LANES = {
    (True, True): "1",
    (True, False): f"{_KIND} <> 'subagent'",
    (False, True): f"{_KIND} = 'subagent'",
}


def claim_next(
    connection: sqlite3.Connection, workers: WorkerIdentity, now: float, chats: bool, subagents: bool
) -> InboxTurn | None:
    """A turn to work on: one whose worker is gone, else the next message of the longest unserved lane."""
    me = workers.register(connection, now)
    _interrupt_dead_terminals(connection, workers, now)
    lanes = _LANES[chats, subagents]
    return _take_over(connection, workers, me, now, lanes) or _claim_waiting(connection, me, now, lanes)


def _interrupt_dead_terminals(connection: sqlite3.Connection, workers: WorkerIdentity, now: float) -> None:
    rows = connection.execute("SELECT * FROM turns WHERE state = 'running' AND origin = 'terminal'")
    for turn in rows.fetchall():
        if not workers.is_alive(connection, turn["worker"], now):
            conversations.interrupt_turn(connection, turn, now)
            release_lane(connection, turn["session"])


def _take_over(
    connection: sqlite3.Connection, workers: WorkerIdentity, me: int, now: float, lanes: str
) -> InboxTurn | None:
    rows = connection.execute(
        "SELECT * FROM turns WHERE state = 'running' AND origin = 'inbox' AND worker <> ?"
        f" AND {lanes} ORDER BY id",
        (me,),
    )
    for turn in rows.fetchall():
        if not workers.is_alive(connection, turn["worker"], now):
            connection.execute(
                "UPDATE turns SET worker = ?, epoch = epoch + 1 WHERE id = ?", (me, turn["id"])
            )
            claim = Claim(turn["id"], turn["session"], turn["epoch"] + 1)
            if _is_cancelled(connection, turn["session"]):  # its worker died before it could stop
                finish_turn(connection, claim, "cancelled", "", (), NOT_COUNTED, None, 0, now)
                continue
            inbound = unanswered(connection, turn["session"], turn["id"])
            if inbound is not None:
                return InboxTurn(claim, inbound, True, _is_subagent(connection, turn["session"]))
            finish_turn(connection, claim, "error", _UNREADABLE, (), NOT_COUNTED, None, 0, now)
    return None


def _is_subagent(connection: sqlite3.Connection, session: str) -> bool:
    row = connection.execute("SELECT kind FROM sessions WHERE key = ?", (session,)).fetchone()
    return bool(row["kind"] == "subagent")


def _claim_waiting(connection: sqlite3.Connection, me: int, now: float, lanes: str) -> InboxTurn | None:
    row = connection.execute(
        f"SELECT session FROM waiting WHERE {lanes} AND NOT EXISTS"
        " (SELECT 1 FROM turns WHERE turns.session = waiting.session AND state = 'running')"
        " ORDER BY served, rowid LIMIT 1"
    ).fetchone()
    if row is None:
        return None
    session = row["session"]
    connection.execute("DELETE FROM waiting WHERE session = ?", (session,))
    head = _pending(connection, session, 1)
    if not head:
        return None
    inbox_id, inbound = head[0]
    claim = conversations.open_turn(connection, session, "inbox", me, now, inbound.family)
    _claim_message(connection, inbox_id, claim)
    return InboxTurn(claim, inbound, False, _is_subagent(connection, session))


def _pending(connection: sqlite3.Connection, session: str, limit: int) -> list[tuple[int, InboundMessage]]:
    """The first messages of a session that wait, with their ids."""
    while True:
        rows = connection.execute(
            "SELECT * FROM inbox WHERE session = ? AND state = 'pending' ORDER BY id LIMIT ?",
            (session, limit),
        ).fetchall()
        found = [(row["id"], inbound) for row in rows if (inbound := _readable(connection, row)) is not None]
        if found or not rows:
            return found


def _readable(connection: sqlite3.Connection, row: sqlite3.Row) -> InboundMessage | None:
    """The message in a row of the inbox. One that cannot be read is put aside, and stops no other."""
    try:
        return inbound_of(row)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        log.error("A message in the inbox of %s cannot be read and is put aside: %r", row["session"], error)
        connection.execute("UPDATE inbox SET state = 'unreadable' WHERE id = ?", (row["id"],))
        return None


def is_waiting(connection: sqlite3.Connection, session: str) -> bool:
    """Whether a message of the session was not begun yet."""
    return bool(_pending(connection, session, 1))


def unanswered(connection: sqlite3.Connection, session: str, turn: int | None) -> InboundMessage | None:
    """The message that the session's running turn answers, or when there is none the first that waits."""
    claimed = connection.execute(
        "SELECT * FROM inbox WHERE turn = ? AND state = 'claimed' ORDER BY id LIMIT 1", (turn,)
    ).fetchone()
    if claimed is not None:
        return _readable(connection, claimed)
    waiting = _pending(connection, session, 1)
    return waiting[0][1] if waiting else None


def discard_waiting(connection: sqlite3.Connection, session: str) -> None:
    """Acknowledge the session's waiting messages without a turn."""
    connection.execute("UPDATE inbox SET state = 'done' WHERE session = ? AND state = 'pending'", (session,))
    connection.execute("DELETE FROM waiting WHERE session = ?", (session,))


def _claim_message(connection: sqlite3.Connection, inbox_id: int, claim: Claim) -> None:
    connection.execute("UPDATE inbox SET state = 'claimed', turn = ? WHERE id = ?", (claim.turn_id, inbox_id))


def take_steering(
    connection: sqlite3.Connection,
    claim: Claim,
    to_message: Callable[[InboundMessage], Message | None],
    now: float,
) -> list[StoredMessage]:
    """Add the session's waiting messages to its running turn; one that `to_message` declines ends the run."""
    conversations.check_claim(connection, claim)
    taken = []
    for inbox_id, inbound in _pending(connection, claim.session_key, 20):
        message = to_message(inbound)
        if message is None:
            break
        _claim_message(connection, inbox_id, claim)
        taken.append(conversations.append(connection, claim, message, now))
    return taken


def finish_turn(
    connection: sqlite3.Connection,
    claim: Claim,
    state: str,
    error: str,
    outbound: Sequence[OutboundMessage],
    used: ContextUse,
    inbound: InboundMessage | None,
    tokens: int,
    now: float,
) -> None:
    """Close the turn, acknowledge its messages, queue its replies and free the lane: all or nothing."""
    conversations.close_turn(connection, claim, state, error, now)
    if used.tokens:
        conversations.note_use(connection, claim.session_key, used)
    connection.execute("UPDATE turns SET tokens = ? WHERE id = ?", (tokens, claim.turn_id))
    connection.execute(
        "UPDATE inbox SET state = 'done' WHERE turn = ? AND state = 'claimed'", (claim.turn_id,)
    )
    for message in outbound:
        enqueue(connection, message, now)
    open_until_now = _end_subagent(connection, claim.session_key, state)
    if inbound is not None and open_until_now:
        accept(connection, inbound, now)
    release_lane(connection, claim.session_key)


def _is_cancelled(connection: sqlite3.Connection, session: str) -> bool:
    """Whether this is the session of a subagent that was to be stopped."""
    row = connection.execute(
        "SELECT 1 FROM subagents WHERE id = ? AND ended = 'cancelled'", (session.removeprefix("subagent:"),)
    ).fetchone()
    return row is not None


def _end_subagent(connection: sqlite3.Connection, session: str, state: str) -> bool:
    """Note how the subagent of this session ended; False when it was cancelled before."""
    ended = connection.execute(
        "UPDATE subagents SET ended = ? WHERE id = ? AND worker IS NULL AND ended = ''",
        (state, session.removeprefix("subagent:")),
    )
    return ended.rowcount > 0


def release_lane(connection: sqlite3.Connection, session: str) -> None:
    """Let the next message of the session be claimed."""
    if _pending(connection, session, 1):
        _wait(connection, session)


# -- outbox


def enqueue(connection: sqlite3.Connection, message: OutboundMessage, now: float) -> bool:
    """Queue a delivery once: the message's `id` is its key. False when it was queued before."""
    row = connection.execute(
        "INSERT OR IGNORE INTO outbox (key, channel, chat_id, created_at, body) VALUES (?, ?, ?, ?, ?)"
        " RETURNING id",
        (message.id, message.channel, message.chat_id, now, to_json(message)),
    ).fetchone()
    return row is not None


def sent_in_turn(connection: sqlite3.Connection, turn_id: int, channel: str, chat_id: str) -> bool:
    """Whether a tool call of the turn queued a message for this chat (ids as in tools/message.py)."""
    prefix = f"turn-{turn_id}-call-"
    row = connection.execute(
        "SELECT 1 FROM outbox WHERE key >= ? AND key < ? AND channel = ? AND chat_id = ?",
        (prefix, prefix + "\U0010ffff", channel, chat_id),
    ).fetchone()
    return row is not None


def knows_chat(connection: sqlite3.Connection, channel: str, chat_id: str) -> bool:
    row = connection.execute(
        "SELECT 1 FROM chats WHERE channel = ? AND chat_id = ?", (channel, chat_id)
    ).fetchone()
    return row is not None


def latest_chat(connection: sqlite3.Connection, channels: Sequence[str]) -> tuple[str, str] | None:
    """The chat of these channels that wrote last."""
    marks = ", ".join("?" * len(channels))
    row = connection.execute(
        f"SELECT channel, chat_id FROM chats WHERE channel IN ({marks}) ORDER BY seen_at DESC LIMIT 1",
        tuple(channels),
    ).fetchone()
    return (row["channel"], row["chat_id"]) if row else None


def due_deliveries(
    connection: sqlite3.Connection, now: float, limit: int
) -> tuple[list[Delivery], list[int]]:
    """The first pending delivery of each chat, when it is due: a chat's messages never overtake.

    Also the ids of those that cannot be read.
    """
    rows = connection.execute(
        "SELECT outbox.* FROM (SELECT MIN(id) AS first FROM outbox WHERE state = 'pending'"
        " GROUP BY channel, chat_id) JOIN outbox ON id = first WHERE next_at <= ? ORDER BY id LIMIT ?",
        (now, limit),
    )
    due, unreadable = [], []
    for row in rows:
        message = outbound_of(row)
        if message is None:
            unreadable.append(row["id"])
        else:
            due.append(Delivery(row["id"], message, row["attempts"], row["created_at"]))
    return due, unreadable


def delivered(connection: sqlite3.Connection, outbox_id: int, receipt: str) -> None:
    connection.execute(
        "UPDATE outbox SET state = 'sent', receipt = ?, error = '' WHERE id = ? AND state = 'pending'",
        (receipt, outbox_id),
    )


def delivery_failed(
    connection: sqlite3.Connection, outbox_id: int, error: str, next_at: float | None
) -> None:
    """Try again at `next_at`, or park the delivery when that is None."""
    connection.execute(
        "UPDATE outbox SET attempts = attempts + 1, error = ?, next_at = COALESCE(?, next_at),"
        " state = CASE WHEN ? IS NULL THEN 'parked' ELSE state END WHERE id = ? AND state = 'pending'",
        (error, next_at, next_at, outbox_id),
    )


def outbox_entries(connection: sqlite3.Connection, limit: int) -> list[OutboxEntry]:
    """Deliveries that wait or were parked, oldest first."""
    rows = connection.execute(
        "SELECT * FROM outbox WHERE id IN (SELECT id FROM outbox WHERE state = 'pending' UNION ALL"
        " SELECT id FROM outbox WHERE state = 'parked') ORDER BY id LIMIT ?",
        (limit,),
    )
    return [
        OutboxEntry(
            row["id"],
            row["channel"],
            row["chat_id"],
            row["state"],
            row["attempts"],
            row["error"],
            message.text if (message := outbound_of(row)) else "(cannot be read)",
        )
        for row in rows
    ]


def read_backlog(connection: sqlite3.Connection) -> Backlog:
    row = connection.execute(
        "SELECT (SELECT COUNT(*) FROM outbox WHERE state = 'pending') AS pending,"
        " (SELECT COUNT(*) FROM outbox WHERE state = 'parked') AS parked,"
        " (SELECT error FROM outbox WHERE state = 'parked' ORDER BY id DESC LIMIT 1) AS error"
    ).fetchone()
    return Backlog(row["pending"], row["parked"], row["error"] or "")


def retry_parked(connection: sqlite3.Connection, now: float) -> int:
    """Make every parked delivery due again; returns how many there were."""
    return connection.execute(
        "UPDATE outbox SET state = 'pending', attempts = 0, next_at = ?, created_at = ?"
        " WHERE state = 'parked'",
        (now, now),
    ).rowcount
