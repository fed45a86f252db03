"""Inbox and outbox: messages that must not be lost, in the order of their sessions and chats."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from nanobot.messages import InboundMessage, OutboundMessage, Source
from nanobot.store.mail_json import IN_COLUMNS, UNREADABLE, inbound_of, outbound_of, to_json
from nanobot.store.records import Backlog, Delivery, OutboxEntry, SessionKind
from nanobot.store.sessions import ensure_session, running_turn
from nanobot.store.sqlite import Connection, Database, Row

log = logging.getLogger(__name__)

_STEERED = 20  # messages that join a turn at once
_PENDING = "SELECT * FROM inbox WHERE session = ? AND owner = ? AND state = 'pending'"
# The kind of session that a message begins; people talk in all others.
_KINDS: dict[Source, SessionKind] = {"schedule": "job", "heartbeat": "heartbeat", "order": "subagent"}


class Inbox:
    """All methods raise StorageError when the disk or the database fails."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def accept(self, inbound: InboundMessage) -> bool:
        """Store an inbound message; False when (channel, external_id) was accepted before.

        One with an owner is this process's: nobody else begins its turn, or goes on with it.
        """
        return await self._db.write(accept, inbound, self._db.clock())

    async def waiting(self, session_key: str, owner: str) -> list[tuple[int, InboundMessage]]:
        """The first messages of a session that were not begun yet, with their ids."""
        return await self._db.read(_waiting, session_key, owner)

    async def withdraw(self, session_key: str, owner: str) -> None:
        """Take back what the owner has submitted and nobody has begun."""
        await self._db.write(_withdraw, session_key, owner)

    async def knows_chat(self, channel: str, chat_id: str) -> bool:
        """Whether this chat has ever written."""
        query = "SELECT 1 FROM chats WHERE channel = ? AND chat_id = ?"
        return bool(await self._db.rows(query, channel, chat_id))

    async def heard_all(self, channel: str, until: float) -> None:
        """Note that a channel has missed nothing until then (Unix seconds)."""
        await self._db.write(_note_chat, channel, "", until)

    async def chats(self, channel: str) -> dict[str, float]:
        """When the newest message of each chat was sent (Unix seconds), by chat id; under "", what
        `heard_all` has noted.
        """
        rows = await self._db.rows("SELECT chat_id, seen_at FROM chats WHERE channel = ?", channel)
        return {row["chat_id"]: row["seen_at"] for row in rows}

    async def latest_chat(self, channels: Sequence[str]) -> tuple[str, str] | None:
        """The (channel, chat id) that wrote last, among these channels."""
        marks = ", ".join("?" * len(channels)) or "NULL"
        rows = await self._db.rows(
            f"SELECT channel, chat_id FROM chats WHERE channel IN ({marks}) AND chat_id <> ''"
            " ORDER BY seen_at DESC LIMIT 1",
            *channels,
        )
        return (rows[0]["channel"], rows[0]["chat_id"]) if rows else None


class Outbox:
    """All methods raise StorageError when the disk or the database fails."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def enqueue(self, message: OutboundMessage, turn_id: int | None = None) -> bool:
        """Queue a delivery that a tool call of the turn wants; False when its id was queued before."""
        return await self._db.write(enqueue, message, turn_id, self._db.clock())

    async def sent_in_turn(self, turn_id: int, channel: str, chat_id: str) -> bool:
        """Whether a tool call of the turn queued a message for this chat."""
        query = "SELECT 1 FROM outbox WHERE turn = ? AND channel = ? AND chat_id = ?"
        return bool(await self._db.rows(query, turn_id, channel, chat_id))

    async def owes(self, channel: str, chat_id: str, besides: str) -> bool:
        """Whether a message to this chat is still to be delivered, `besides` the one of this id."""
        query = (
            "SELECT 1 FROM outbox WHERE channel = ? AND chat_id = ? AND state = 'pending'"
            " AND key <> ? LIMIT 1"
        )
        return bool(await self._db.rows(query, channel, chat_id, besides))

    async def due(self, limit: int = 32) -> list[Delivery]:
        """At most one delivery a chat, so that messages never overtake each other."""
        rows = await self._db.rows(
            "SELECT outbox.* FROM (SELECT MIN(id) AS first FROM outbox WHERE state = 'pending'"
            " GROUP BY channel, chat_id) AS heads JOIN outbox ON id = first WHERE next_at <= ?"
            " ORDER BY id LIMIT ?",
            *(self._db.clock(), limit),
        )
        due = []
        for row in rows:
            if message := outbound_of(row):
                due.append(Delivery(row["id"], message, row["attempts"], row["created_at"]))
            else:
                await self.failed(row["id"], "This message cannot be read by this nanobot.", None)
        return due

    async def delivered(self, outbox_id: int, receipt: str) -> None:
        await self._db.change(
            "UPDATE outbox SET state = 'sent', receipt = ?, error = '' WHERE id = ? AND state = 'pending'",
            *(receipt, outbox_id),
        )

    async def failed(self, outbox_id: int, error: str, next_at: float | None) -> None:
        """Try again at `next_at` (Unix seconds), or park the delivery when that is None."""
        await self._db.change(
            "UPDATE outbox SET attempts = attempts + 1, error = ?, next_at = COALESCE(?, next_at), state = ?"
            " WHERE id = ? AND state = 'pending'",
            *(error, next_at, "parked" if next_at is None else "pending", outbox_id),
        )

    async def entries(self, limit: int = 100) -> list[OutboxEntry]:
        """Deliveries that wait or were parked, oldest first."""
        rows = await self._db.rows(
            "SELECT * FROM outbox WHERE id IN (SELECT id FROM outbox WHERE state = 'pending' UNION ALL"
            " SELECT id FROM outbox WHERE state = 'parked') ORDER BY id LIMIT ?",
            limit,
        )
        return [
            OutboxEntry(
                *(row["id"], row["channel"], row["chat_id"], row["state"], row["attempts"], row["error"]),
                text=message.text if (message := outbound_of(row)) else "(cannot be read)",
            )
            for row in rows
        ]

    async def backlog(self) -> Backlog:
        """How many deliveries wait and how many were parked."""
        (row,) = await self._db.rows(
            "SELECT (SELECT COUNT(*) FROM outbox WHERE state = 'pending') AS pending,"
            " (SELECT COUNT(*) FROM outbox WHERE state = 'parked') AS parked,"
            " (SELECT error FROM outbox WHERE state = 'parked' ORDER BY id DESC LIMIT 1) AS error"
        )
        return Backlog(row["pending"], row["parked"], row["error"] or "")

    async def retry_parked(self) -> int:
        """Make parked deliveries due again; returns how many."""
        return await self._db.change(
            "UPDATE outbox SET state = 'pending', attempts = 0, next_at = ?, created_at = ?"
            " WHERE state = 'parked'",
            *(now := self._db.clock(), now),
        )


# -- inside a transaction: the inbox


def _note_chat(connection: Connection, channel: str, chat_id: str, seen_at: float) -> None:
    connection.execute(
        "INSERT INTO chats (channel, chat_id, seen_at) VALUES (?, ?, ?)"
        " ON CONFLICT (channel, chat_id) DO UPDATE SET seen_at = excluded.seen_at"
        " WHERE excluded.seen_at > chats.seen_at",
        (channel, chat_id, seen_at),
    )


def accept(connection: Connection, inbound: InboundMessage, now: float) -> bool:
    """Store an inbound message once; False when (channel, external_id) was accepted before."""
    connection.hold(inbound.session_key)
    ensure_session(connection, inbound.session_key, now, _KINDS.get(inbound.source, "chat"))
    columns = {
        "received_at": now,
        "session": inbound.session_key,
        **{name: getattr(inbound, name) for name in IN_COLUMNS},
        "body": to_json(inbound, leave_out=IN_COLUMNS),
    }
    row = connection.execute(
        f"INSERT INTO inbox ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        " ON CONFLICT (channel, external_id) DO NOTHING RETURNING id",
        tuple(columns.values()),
    ).fetchone()
    if row is None:
        return False
    if inbound.source == "person" and not inbound.owner:
        _note_chat(connection, inbound.channel, inbound.chat_id, min(inbound.sent_at or now, now))
    if inbound.is_group:
        connection.execute("UPDATE sessions SET is_group = 1 WHERE key = ?", (inbound.session_key,))
    if not inbound.owner and running_turn(connection, inbound.session_key) is None:
        _wait(connection, inbound.session_key)
    return True


def release_lane(connection: Connection, session: str) -> None:
    """Let the next message of the session be claimed."""
    if pending(connection, session, "", 1):
        _wait(connection, session)


def _wait(connection: Connection, session: str) -> None:
    connection.execute(
        "INSERT INTO waiting (session, served, since) SELECT ?, COALESCE(MAX(id), 0),"
        " (SELECT COALESCE(MIN(id), 0) FROM inbox WHERE session = ? AND owner = '' AND state = 'pending')"
        " FROM turns WHERE session = ? ON CONFLICT (session) DO NOTHING",
        (session, session, session),
    )


def pending(connection: Connection, session: str, owner: str, limit: int) -> list[tuple[int, InboundMessage]]:
    """The first messages of a session that were not begun yet, with their ids."""
    while True:
        rows = connection.execute(f"{_PENDING} ORDER BY id LIMIT ?", (session, owner, limit)).fetchall()
        found = [(row["id"], inbound) for row in rows if (inbound := readable(connection, row)) is not None]
        if found or not rows:
            return found


def _waiting(connection: Connection, session: str, owner: str) -> list[tuple[int, InboundMessage]]:
    found = []
    rows = connection.execute(f"{_PENDING} ORDER BY id LIMIT ?", (session, owner, _STEERED))
    for row in rows:
        try:
            found.append((row["id"], inbound_of(row)))
        except UNREADABLE:  # it is put aside when it is its turn
            break
    return found


def readable(connection: Connection, row: Row) -> InboundMessage | None:
    """The message in a row of the inbox. One that cannot be read is put aside, and stops no other."""
    try:
        return inbound_of(row)
    except UNREADABLE as error:
        log.error("A message in the inbox of %s cannot be read and is put aside: %r", row["session"], error)
        connection.execute("UPDATE inbox SET state = 'unreadable' WHERE id = ?", (row["id"],))
        return None


def claimed(connection: Connection, turn: int) -> InboundMessage | None:
    """The message that a running turn answers."""
    row = connection.execute(
        "SELECT * FROM inbox WHERE turn = ? AND state = 'claimed' ORDER BY id LIMIT 1", (turn,)
    ).fetchone()
    return readable(connection, row) if row is not None else None


def _withdraw(connection: Connection, session: str, owner: str) -> None:
    connection.hold(session)
    connection.execute(
        "UPDATE inbox SET state = 'done' WHERE session = ? AND owner = ? AND state = 'pending'",
        (session, owner),
    )


def order_of(connection: Connection, subagent_id: str) -> InboundMessage | None:
    """What a subagent was asked."""
    row = connection.execute(
        "SELECT * FROM inbox WHERE channel = 'subagent' AND external_id = ?", (subagent_id,)
    ).fetchone()
    return readable(connection, row) if row is not None else None


def discard_waiting(connection: Connection, session: str) -> None:
    """Acknowledge the session's waiting messages without a turn."""
    connection.execute("UPDATE inbox SET state = 'done' WHERE session = ? AND state = 'pending'", (session,))
    connection.execute("DELETE FROM waiting WHERE session = ?", (session,))


# -- inside a transaction: the outbox


def enqueue(connection: Connection, message: OutboundMessage, turn_id: int | None, now: float) -> bool:
    """Queue a delivery once: the message's `id` is its key. False when it was queued before."""
    row = connection.execute(
        "INSERT INTO outbox (key, turn, channel, chat_id, created_at, body) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (key) DO NOTHING RETURNING id",
        (message.id, turn_id, message.channel, message.chat_id, now, to_json(message)),
    ).fetchone()
    return row is not None
