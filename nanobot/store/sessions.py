"""Sessions: what was said in them, what the model sees of them, and their settings."""

from __future__ import annotations

import json

from nanobot.messages import ContextUse, message_from_json, message_to_json
from nanobot.store.records import OpenSession, SessionInfo, SessionKind, StoredMessage, Window
from nanobot.store.sqlite import Connection, Row, Table, writes

_EVERYTHING = 1 << 62


class Sessions(Table):
    """Conversations and everything ever said in them."""

    async def newest(self, limit: int = 50) -> list[SessionInfo]:
        """Those that changed last, newest first."""
        query = "SELECT * FROM sessions ORDER BY updated_at DESC LIMIT ?"
        return [_info(row) for row in await self.database.rows(query, limit)]

    async def get(self, key: str) -> SessionInfo | None:
        rows = await self.database.rows("SELECT * FROM sessions WHERE key = ?", key)
        return _info(rows[0]) if rows else None

    async def history(self, key: str, *, after: int = 0, limit: int | None = None) -> list[StoredMessage]:
        """Everything said after message `after`, oldest first."""
        return await self.database.read(read_history, key, after, limit)

    async def open(self, key: str, limit: int = 0) -> OpenSession:
        """What a turn begins with, the newest `limit` messages of the window; of an unknown session, nothing.

        When they begin in the middle of the running turn, its first message is added in front.
        """
        return await self.database.read(_open, key, limit)

    @writes
    def set_setting(self, connection: Connection, key: str, name: str, value: str) -> None:
        connection.hold(key)
        ensure_session(connection, key, connection.now)
        (row,) = connection.rows("SELECT settings FROM sessions WHERE key = ?", key)
        settings = json.dumps(json.loads(row["settings"]) | {name: value})
        connection.change("UPDATE sessions SET settings = ? WHERE key = ?", settings, key)

    @writes
    def start_over(self, connection: Connection, key: str) -> None:
        """Begin the model's context after the newest message; nothing is deleted."""
        start_over(connection, key)

    async def move_window(self, key: str, before: Window, after: Window) -> bool:
        """Show the model less; False when somebody has changed the window since `before` was read."""
        changed = await self.database.change(
            "UPDATE sessions SET start_seq = ?, shortened_seq = ?, summary = ?"
            " WHERE key = ? AND start_seq = ? AND shortened_seq = ? AND summary = ?",
            *(after.start, after.shortened, storable(after.summary)),
            *(key, before.start, before.shortened, before.summary),
        )
        return changed > 0

    async def rename(self, key: str, title: str) -> bool:
        """Set the title; False when there is no such session."""
        return await self.database.change("UPDATE sessions SET title = ? WHERE key = ?", title, key) > 0


def ensure_session(connection: Connection, key: str, now: float, kind: SessionKind = "chat") -> None:
    """Begin a session; one that exists stays what it is."""
    connection.change(
        "INSERT INTO sessions (key, kind, created_at, updated_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (key) DO NOTHING",
        *(key, kind, now, now),
    )


def start_over(connection: Connection, key: str) -> None:
    connection.change("UPDATE sessions SET start_seq = last_seq, summary = '' WHERE key = ?", key)


def read_history(connection: Connection, key: str, after: int, limit: int | None) -> list[StoredMessage]:
    query = "SELECT * FROM messages WHERE session = ? AND seq > ? ORDER BY seq LIMIT ?"
    rows = connection.rows(query, key, after, _EVERYTHING if limit is None else limit)
    return [stored_message(row) for row in rows]


def stored_message(row: Row) -> StoredMessage:
    message = message_from_json(json.loads(row["body"]))
    return StoredMessage(row["seq"], row["turn"], row["created_at"], message)


def insert_message(connection: Connection, key: str, stored: StoredMessage) -> None:
    body = json.dumps(message_to_json(stored.message), ensure_ascii=False)
    connection.change(
        "INSERT INTO messages (session, seq, turn, created_at, body) VALUES (?, ?, ?, ?, ?)",
        *(key, stored.seq, stored.turn_id, stored.created_at, storable(body)),
    )


def storable(text: str) -> str:
    """The text in UTF-8's range: a lone surrogate from a broken model answer must not fail the turn."""
    return text.encode("utf-8", "replace").decode()


def running_turn(connection: Connection, key: str) -> Row | None:
    return connection.row("SELECT * FROM turns WHERE session = ? AND state = 'running'", key)


def _info(row: Row) -> SessionInfo:
    return SessionInfo(
        *(row["key"], row["title"], row["last_seq"], row["created_at"], row["updated_at"]),
        is_group=bool(row["is_group"]),
        kind=row["kind"],
    )


def _open(connection: Connection, key: str, limit: int) -> OpenSession:
    session = connection.row("SELECT * FROM sessions WHERE key = ?", key)
    if session is None:
        return OpenSession(Window(), [], {})
    used = ContextUse(session["context_tokens"], session["context_estimate"])
    window = Window(session["start_seq"], session["shortened_seq"], session["summary"], used)
    query = "SELECT * FROM messages WHERE session = ? AND seq > ? ORDER BY seq DESC LIMIT ?"
    stored = [stored_message(row) for row in reversed(connection.rows(query, key, window.start, limit))]
    if stored and stored[0].message.role != "user":
        running = running_turn(connection, key)
        if running is not None and stored[0].seq > running["first_seq"]:
            stored = read_history(connection, key, running["first_seq"] - 1, 1) + stored
    return OpenSession(window, stored, json.loads(session["settings"]))
