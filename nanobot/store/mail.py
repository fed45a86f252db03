"""Inbox and outbox: messages that must not be lost, in the order of their sessions and chats."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import TypeVar

from nanobot.messages import (
    Address,
    Attachment,
    InboundMessage,
    OutboundMessage,
    Quoted,
    Source,
    known_fields,
)
from nanobot.store.records import Delivery, OutboxEntry, SessionKind
from nanobot.store.sessions import ensure_session, storable
from nanobot.store.sqlite import Connection, Row, Table, writes

log = logging.getLogger(__name__)

M = TypeVar("M", InboundMessage, OutboundMessage)

_STEERED = 20  # messages that join a turn at once
_LONGEST_PAUSE = 86_400.0  # seconds between two tries of a delivery; if longer, the clock was set back since
_NOTE_CHAT = (
    "INSERT INTO chats (channel, chat_id, seen_at) VALUES (?, ?, ?)"
    " ON CONFLICT (channel, chat_id) DO UPDATE SET seen_at = excluded.seen_at"
    " WHERE excluded.seen_at > chats.seen_at"
)
# The kind of session that a message begins; people talk in all others.
_KINDS: dict[Source, SessionKind] = {"schedule": "job", "heartbeat": "heartbeat", "order": "subagent"}
# The fields of messages that have columns: what SQL decides by. All others are in the body.
_INBOUND = ("channel", "external_id", "source", "trust", "family", "owner")
_COLUMNS: dict[type, Sequence[str]] = {InboundMessage: _INBOUND, OutboundMessage: ()}


class Inbox(Table):
    """What was accepted for a turn, and who has written."""

    async def accept(self, inbound: InboundMessage) -> bool:
        """Store an inbound message; False when it, or one that is joined in it, was accepted before.

        One with an owner is this process's: nobody else begins its turn, or goes on with it.
        """
        return await self.database.write(accept, inbound)

    async def waiting(self, session_key: str, owner: str) -> list[tuple[int, InboundMessage]]:
        """The first messages of a session that were not begun yet, with their ids."""
        rows = await self.database.rows(
            "SELECT * FROM inbox WHERE session = ? AND owner = ? AND state = 'pending' ORDER BY id LIMIT ?",
            *(session_key, owner, _STEERED),
        )
        found = []
        for row in rows:
            if (inbound := message_of(InboundMessage, row)) is None:  # it is put aside when it is its turn
                break
            found.append((row["id"], inbound))
        return found

    @writes
    def withdraw(self, connection: Connection, session_key: str, owner: str) -> None:
        """Take back what the owner has submitted and nobody has begun."""
        connection.hold(session_key)
        update = "UPDATE inbox SET state = 'done' WHERE session = ? AND owner = ? AND state = 'pending'"
        connection.change(update, session_key, owner)

    async def heard_all(self, channel: str, until: float) -> None:
        """Note that a channel has missed nothing until then (Unix seconds)."""
        await self.database.change(_NOTE_CHAT, channel, "", until)

    async def chats(self, channel: str) -> dict[str, float]:
        """When each chat's newest message was sent (Unix seconds); under "", what `heard_all` has noted."""
        rows = await self.database.rows("SELECT chat_id, seen_at FROM chats WHERE channel = ?", channel)
        return {row["chat_id"]: row["seen_at"] for row in rows}


class Outbox(Table):
    """What is to be delivered to a chat."""

    async def enqueue(self, message: OutboundMessage, turn_id: int | None = None) -> bool:
        """Queue a delivery that a tool call of the turn wants; False when its id was queued before."""
        return await self.database.write(enqueue, message, turn_id)

    async def owes(self, channel: str, chat_id: str, besides: str) -> bool:
        """Whether a message to this chat is still to be delivered, `besides` the one of this id."""
        query = "SELECT 1 FROM outbox WHERE channel = ? AND chat_id = ? AND state = 'pending' AND key <> ?"
        return bool(await self.database.rows(query, channel, chat_id, besides))

    async def due(self, limit: int = 32) -> list[Delivery]:
        """At most one delivery a chat, so that messages never overtake each other; none of terminals."""
        now = self.database.clock()
        rows = await self.database.rows(
            "SELECT outbox.* FROM (SELECT MIN(id) AS first FROM outbox WHERE state = 'pending'"
            " AND channel <> 'cli' GROUP BY channel, chat_id) AS heads JOIN outbox ON id = first"
            " WHERE next_at <= ? OR next_at > ? ORDER BY id LIMIT ?",
            *(now, now + _LONGEST_PAUSE, limit),
        )
        due = []
        for row in rows:
            if message := message_of(OutboundMessage, row):
                due.append(Delivery(row["id"], message, row["attempts"], row["created_at"]))
            else:
                await self.failed(row["id"], "This message cannot be read by this nanobot.", None)
        return due

    async def for_terminal(self) -> list[tuple[int, str]]:
        """What waits for the owner at a terminal, oldest first, with its ids; who has shown it says so."""
        query = "SELECT * FROM outbox WHERE state = 'pending' AND channel = 'cli' ORDER BY id"
        found = [(row["id"], message_of(OutboundMessage, row)) for row in await self.database.rows(query)]
        return [(number, message.text) for number, message in found if message]

    @writes
    def delivered(self, connection: Connection, outbox_id: int, receipt: str) -> bool:
        """Whether another one waits for the same chat."""
        sent = connection.rows(
            "UPDATE outbox SET state = 'sent', receipt = ?, error = '' WHERE id = ? AND state = 'pending'"
            " RETURNING channel, chat_id",
            *(receipt, outbox_id),
        )
        query = "SELECT 1 FROM outbox WHERE channel = ? AND chat_id = ? AND state = 'pending' LIMIT 1"
        return any(connection.row(query, *chat) for chat in sent)

    async def failed(self, outbox_id: int, error: str, next_at: float | None) -> None:
        """Try again at `next_at` (Unix seconds), or park the delivery when that is None."""
        await self.database.change(
            "UPDATE outbox SET attempts = attempts + 1, error = ?, next_at = COALESCE(?, next_at), state = ?"
            " WHERE id = ? AND state = 'pending'",
            *(error, next_at, "parked" if next_at is None else "pending", outbox_id),
        )

    async def entries(self, limit: int = 100) -> list[OutboxEntry]:
        """Deliveries that wait or were parked, oldest first."""
        rows = await self.database.rows(
            "SELECT id, channel, chat_id, state, attempts, error, body FROM outbox WHERE id IN"
            " (SELECT id FROM outbox WHERE state = 'pending' UNION ALL"
            " SELECT id FROM outbox WHERE state = 'parked') ORDER BY id LIMIT ?",
            limit,
        )
        read = [message_of(OutboundMessage, row) for row in rows]
        texts = [message.text if message else "(cannot be read)" for message in read]
        return [OutboxEntry._make((*row[:6], text)) for row, text in zip(rows, texts, strict=True)]

    async def backlog(self) -> dict[str, int | str]:
        """How many deliveries are `pending` and `parked`, and the newest `error` that led to parking."""
        (row,) = await self.database.rows(
            "SELECT (SELECT COUNT(*) FROM outbox WHERE state = 'pending') AS pending,"
            " (SELECT COUNT(*) FROM outbox WHERE state = 'parked') AS parked, COALESCE("
            "(SELECT error FROM outbox WHERE state = 'parked' ORDER BY id DESC LIMIT 1), '') AS error"
        )
        return dict(row)

    async def retry_parked(self) -> int:
        """Make parked deliveries due again; returns how many."""
        return await self.database.change(
            "UPDATE outbox SET state = 'pending', attempts = 0, next_at = ?, created_at = ?"
            " WHERE state = 'parked'",
            *(now := self.database.clock(), now),
        )


# -- inside a transaction


def accept(connection: Connection, inbound: InboundMessage) -> bool:
    """As `Inbox.accept`."""
    connection.hold(inbound.session_key)
    ids = (inbound.external_id, *inbound.joined_ids)
    known = f"SELECT 1 FROM inbox WHERE channel = ? AND external_id IN ({', '.join('?' * len(ids))})"
    if connection.row(known, inbound.channel, *ids):
        return False
    ensure_session(connection, inbound.session_key, _KINDS.get(inbound.source, "chat"))
    columns = {name: getattr(inbound, name) for name in _INBOUND} | {"state": "pending"}
    columns |= {"session": inbound.session_key, "received_at": connection.now, "body": _to_json(inbound)}
    insert = f"INSERT INTO inbox ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
    for external_id in ids:
        connection.change(insert, *(columns | {"external_id": external_id}).values())
        columns |= {"state": "done", "body": "{}"}  # what was joined is only known from now on
    if inbound.source == "person" and not inbound.owner:
        sent_at = min(inbound.sent_at or connection.now, connection.now)
        connection.change(_NOTE_CHAT, inbound.channel, inbound.chat_id, sent_at)
    if inbound.is_group:
        connection.change("UPDATE sessions SET is_group = 1 WHERE key = ?", inbound.session_key)
    return True


def has_pending(connection: Connection, session: str) -> bool:
    """Whether a message of the session was not begun yet."""
    query = "SELECT 1 FROM inbox WHERE session = ? AND owner = '' AND state = 'pending' LIMIT 1"
    return connection.row(query, session) is not None


def first(connection: Connection, where: str, *values: object) -> tuple[int, InboundMessage] | None:
    """The first message for which `where` is true, and its id; what cannot be read is put aside."""
    query = f"SELECT * FROM inbox WHERE {where} ORDER BY id LIMIT 1"
    while (row := connection.row(query, *values)) is not None:
        if (inbound := message_of(InboundMessage, row)) is not None:
            return row["id"], inbound
        log.error("A message in the inbox of %s cannot be read and is put aside", row["session"])
        connection.hold(row["session"])
        connection.change("UPDATE inbox SET state = 'unreadable' WHERE id = ?", row["id"])
    return None


def enqueue(connection: Connection, message: OutboundMessage, turn_id: int | None) -> bool:
    """As `Outbox.enqueue`: the message's `id` is its key."""
    queued = connection.change(
        "INSERT INTO outbox (key, turn, channel, chat_id, created_at, body) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (key) DO NOTHING",
        *(message.id, turn_id, message.channel, message.chat_id, connection.now, _to_json(message)),
    )
    return queued > 0


def was_sent(connection: Connection, turn_id: int, reply: OutboundMessage) -> bool:
    """Whether a tool call of the turn queued a message for the chat of its reply."""
    query = "SELECT 1 FROM outbox WHERE turn = ? AND channel = ? AND chat_id = ?"
    return connection.row(query, turn_id, reply.channel, reply.chat_id) is not None


# -- messages as rows; what a newer nanobot has added to them is left out, what makes no sense is None


def _to_json(message: InboundMessage | OutboundMessage) -> str:
    left_out = {*_COLUMNS[type(message)], "joined_ids"}  # what was joined has rows of its own
    names = (field.name for field in fields(message) if field.name not in left_out)
    body = {name: getattr(message, name) for name in names}
    return storable(json.dumps(body, ensure_ascii=False, default=asdict))


def message_of(cls: type[M], row: Row) -> M | None:
    """The message in a row of the inbox or the outbox."""
    try:
        known = known_fields(cls, json.loads(row["body"])) | {name: row[name] for name in _COLUMNS[cls]}
        for name, part in (("attachments", Attachment), ("quoted", Quoted)):
            if name in known:
                known[name] = tuple(part(**known_fields(part, item)) for item in known[name])
        if known.get("reply_to"):
            known["reply_to"] = Address(**known_fields(Address, known["reply_to"]))
        return cls(**known)
    except (ValueError, TypeError, AttributeError):
        return None
