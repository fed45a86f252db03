"""Sessions: what was said in them, what the model sees of them, and their settings."""

from __future__ import annotations

import json
from collections.abc import Sequence

from nanobot.messages import ContextUse, message_from_json, message_to_json
from nanobot.store.records import OpenSession, SessionInfo, SessionKind, StoredMessage, Window
from nanobot.store.sqlite import Connection, Row, Table, writes

_EVERYTHING = 1 << 62


class Sessions(Table):
    """Everything ever said in each session, and the conversation that goes on there."""

    async def get(self, key: str) -> SessionInfo | None:
        """The conversation that is going on in it; None when there is no such session."""
        rows = await self.database.rows(f"{INFO} WHERE key = ? AND id = conversation", key)
        return session_info(rows[0]) if rows else None

    async def history(self, key: str, *, after: int = 0, limit: int | None = None) -> list[StoredMessage]:
        """Everything said after message `after`, in whatever conversation, oldest first."""
        return await self.database.read(read_history, key, after, limit)

    async def open(self, key: str, limit: int = 0) -> OpenSession:
        """What a turn begins with, the newest `limit` messages of the window; of an unknown session, nothing.

        When they begin in the middle of the running turn, its first message is added in front.
        """
        return await self.database.read(_open, key, limit)

    @writes
    def set_setting(self, connection: Connection, key: str, name: str, value: str) -> None:
        connection.hold(key)
        ensure_session(connection, key)
        (row,) = connection.rows("SELECT settings FROM sessions WHERE key = ?", key)
        settings = json.dumps(json.loads(row["settings"]) | {name: value})
        connection.change("UPDATE sessions SET settings = ? WHERE key = ?", settings, key)

    @writes
    def move_window(self, connection: Connection, before: Window, after: Window) -> bool:
        """Show the model less; False when somebody has changed the window since `before` was read."""
        moved = connection.row(
            "UPDATE conversations SET start_seq = ?, shortened_seq = ?, summary = ?"
            " WHERE id = ? AND start_seq = ? AND shortened_seq = ? AND summary = ? RETURNING session",
            *(after.start, after.shortened, storable(after.summary)),
            *(before.conversation, before.start, before.shortened, before.summary),
        )
        if moved is None:
            return False
        owed = "UPDATE sessions SET start_seq = ? WHERE key = ? AND start_seq < ?"
        connection.change(owed, after.start, moved["session"], after.start)
        return True


INFO = (
    "SELECT session, title, messages, conversations.created_at, conversations.updated_at, is_group, kind, id"
    " FROM conversations JOIN sessions ON key = session"
)


def session_info(row: Row) -> SessionInfo:
    """What a query that begins with INFO has found."""
    return SessionInfo(*row)._replace(is_group=bool(row["is_group"]))


def ensure_session(connection: Connection, key: str, kind: SessionKind = "chat") -> None:
    """Begin a session with an empty conversation; one that exists stays what it is."""
    insert = (
        "INSERT INTO sessions (key, kind, created_at, updated_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (key) DO NOTHING"
    )
    if connection.change(insert, key, kind, connection.now, connection.now):
        begin_conversation(connection, key)


def begin_conversation(connection: Connection, key: str) -> int:
    """Let a session go on with an empty conversation; its id. Memory is owed what was said before."""
    (row,) = connection.rows(
        "INSERT INTO conversations (session, created_at, updated_at, start_seq)"
        " SELECT key, ?, ?, last_seq FROM sessions WHERE key = ? RETURNING id",
        *(connection.now, connection.now, key),
    )
    go_on(connection, key, row["id"])
    return int(row["id"])


def go_on(connection: Connection, key: str, conversation: int) -> None:
    """Let a session go on with that conversation. What was said in the one before is owed to memory."""
    update = "UPDATE sessions SET conversation = ?, start_seq = last_seq WHERE key = ? AND conversation <> ?"
    connection.change(update, conversation, key, conversation)


def start_over(connection: Connection, key: str) -> None:
    """Begin the model's context after the newest message, in the same conversation."""
    connection.change("UPDATE sessions SET start_seq = last_seq WHERE key = ?", key)
    connection.change(
        "UPDATE conversations SET summary = '', start_seq = (SELECT start_seq FROM sessions WHERE key = ?)"
        " WHERE id = (SELECT conversation FROM sessions WHERE key = ?)",
        *(key, key),
    )


def branch(connection: Connection, conversation: int, until: int = _EVERYTHING) -> list[tuple[int, int]]:
    """The conversation and those it goes on from, newest first, each with its last message that counts."""
    parts = []
    while conversation:
        parts.append((conversation, until))
        (row,) = connection.rows("SELECT parent, fork_seq FROM conversations WHERE id = ?", conversation)
        conversation, until = row["parent"], min(until, row["fork_seq"])
    return parts


def read_messages(
    connection: Connection, conversation: int, limit: int, after: int = 0, *, newest: bool = True
) -> list[StoredMessage]:
    """The `newest` or the first messages of a conversation after message `after`, oldest first."""
    found: list[StoredMessage] = []
    parts, order = branch(connection, conversation), "DESC" if newest else "ASC"
    query = "SELECT * FROM messages WHERE conversation = ? AND seq <= ? AND seq > ? ORDER BY seq"
    for part in parts if newest else reversed(parts):
        rows = connection.rows(f"{query} {order} LIMIT ?", *part, after, limit - len(found))
        found += stored_messages(rows)
    return found[::-1] if newest else found


def read_history(connection: Connection, key: str, after: int, limit: int | None) -> list[StoredMessage]:
    query = "SELECT * FROM messages WHERE session = ? AND seq > ? ORDER BY seq LIMIT ?"
    return stored_messages(connection.rows(query, key, after, _EVERYTHING if limit is None else limit))


def stored_messages(rows: Sequence[Row]) -> list[StoredMessage]:
    """The messages in rows, all parsed at once: it takes half as long as one by one."""
    bodies = json.loads(f"[{','.join([row['body'] for row in rows])}]")
    return [
        StoredMessage(row["seq"], row["turn"], row["created_at"], message_from_json(body))
        for row, body in zip(rows, bodies, strict=True)
    ]


def stored_message(row: Row) -> StoredMessage:
    return stored_messages([row])[0]


def insert_message(connection: Connection, key: str, stored: StoredMessage) -> None:
    body = json.dumps(message_to_json(stored.message), ensure_ascii=False)
    connection.change(
        "INSERT INTO messages (session, seq, turn, created_at, body, conversation)"
        " SELECT ?, ?, id, ?, ?, conversation FROM turns WHERE id = ?",
        *(key, stored.seq, stored.created_at, storable(body), stored.turn_id),
    )


def storable(text: str) -> str:
    """The text in UTF-8's range: a lone surrogate from a broken model answer must not fail the turn."""
    return text.encode("utf-8", "replace").decode()


def running_turn(connection: Connection, key: str) -> Row | None:
    return connection.row("SELECT * FROM turns WHERE session = ? AND state = 'running'", key)


def _open(connection: Connection, key: str, limit: int) -> OpenSession:
    session = connection.row("SELECT * FROM sessions WHERE key = ?", key)
    if session is None:
        return OpenSession(Window(), [], {})
    running = running_turn(connection, key)
    current = session["conversation"] if running is None else running["conversation"]
    (row,) = connection.rows("SELECT * FROM conversations WHERE id = ?", current)
    used = ContextUse(row["context_tokens"], row["context_estimate"])
    window = Window(row["start_seq"], row["shortened_seq"], row["summary"], used, current)
    stored = read_messages(connection, current, limit, window.start)
    if running and stored and stored[0].message.role != "user" and stored[0].seq > running["first_seq"]:
        stored = read_history(connection, key, running["first_seq"] - 1, 1) + stored
    return OpenSession(window, stored, json.loads(session["settings"]))
