"""Sessions: what was said in them, what the model sees of them, and their settings."""

from __future__ import annotations

import json

from nanobot.messages import ContextUse, message_from_json, message_to_json
from nanobot.store.records import OpenSession, SessionInfo, SessionKind, StoredMessage, Window
from nanobot.store.sqlite import Connection, Database, Row

_EVERYTHING = 1 << 62


class Sessions:
    """All methods raise StorageError when the disk or the database fails."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def newest(self, limit: int = 50) -> list[SessionInfo]:
        """Those that changed last, newest first."""
        query = "SELECT * FROM sessions ORDER BY updated_at DESC LIMIT ?"
        return [_info(row) for row in await self._db.rows(query, limit)]

    async def get(self, key: str) -> SessionInfo | None:
        row = await self._db.read(_row, key)
        return _info(row) if row else None

    async def history(self, key: str, *, after: int = 0, limit: int | None = None) -> list[StoredMessage]:
        """Everything said after message `after`, oldest first."""
        return await self._db.read(read_history, key, after, limit)

    async def open(self, key: str, limit: int) -> OpenSession:
        """What a turn begins with, its messages as in `context`; of an unknown session, nothing."""
        return await self._db.read(_open, key, limit)

    async def context(self, key: str, limit: int) -> list[StoredMessage]:
        """The newest `limit` messages after the session's start, oldest first.

        When they begin in the middle of the running turn, its first message is added in front.
        """
        return await self._db.read(_context, key, limit)

    async def start_over(self, key: str) -> None:
        """Begin the model's context after the newest message; nothing is deleted."""
        await self._db.write(start_over, key)

    async def window(self, key: str) -> Window:
        row = await self._db.read(_row, key)
        return _window(row) if row else Window()

    async def move_window(self, key: str, before: Window, after: Window) -> bool:
        """Show the model less; False when somebody has changed the window since `before` was read."""
        changed = await self._db.change(
            "UPDATE sessions SET start_seq = ?, shortened_seq = ?, summary = ?"
            " WHERE key = ? AND start_seq = ? AND shortened_seq = ? AND summary = ?",
            *(after.start, after.shortened, storable(after.summary)),
            *(key, before.start, before.shortened, before.summary),
        )
        return changed > 0

    async def rename(self, key: str, title: str) -> bool:
        """Set the title; False when there is no such session."""
        return await self._db.change("UPDATE sessions SET title = ? WHERE key = ?", title, key) > 0

    async def settings(self, key: str) -> dict[str, str]:
        return await self._db.read(_settings, key)

    async def set_setting(self, key: str, name: str, value: str) -> None:
        await self._db.write(_set_setting, key, name, value, self._db.clock())


def ensure_session(connection: Connection, key: str, now: float, kind: SessionKind = "chat") -> None:
    """Begin a session; one that exists stays what it is."""
    connection.execute(
        "INSERT INTO sessions (key, kind, created_at, updated_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (key) DO NOTHING",
        (key, kind, now, now),
    )


def read_history(connection: Connection, key: str, after: int, limit: int | None) -> list[StoredMessage]:
    rows = connection.execute(
        "SELECT * FROM messages WHERE session = ? AND seq > ? ORDER BY seq LIMIT ?",
        (key, after, _EVERYTHING if limit is None else limit),
    )
    return [stored_message(row) for row in rows]


def stored_message(row: Row) -> StoredMessage:
    message = message_from_json(json.loads(row["body"]))
    return StoredMessage(row["seq"], row["turn"], row["created_at"], message)


def insert_message(connection: Connection, key: str, stored: StoredMessage) -> None:
    body = json.dumps(message_to_json(stored.message), ensure_ascii=False)
    connection.execute(
        "INSERT INTO messages (session, seq, turn, created_at, body) VALUES (?, ?, ?, ?, ?)",
        (key, stored.seq, stored.turn_id, stored.created_at, storable(body)),
    )


def storable(text: str) -> str:
    """The text in UTF-8's range: a lone surrogate from a broken model answer must not fail the turn."""
    return text.encode("utf-8", "replace").decode()


def running_turn(connection: Connection, key: str) -> Row | None:
    row: Row | None = connection.execute(
        "SELECT * FROM turns WHERE session = ? AND state = 'running'", (key,)
    ).fetchone()
    return row


def start_over(connection: Connection, key: str) -> None:
    connection.execute("UPDATE sessions SET start_seq = last_seq, summary = '' WHERE key = ?", (key,))


def _row(connection: Connection, key: str) -> Row | None:
    row: Row | None = connection.execute("SELECT * FROM sessions WHERE key = ?", (key,)).fetchone()
    return row


def _info(row: Row) -> SessionInfo:
    return SessionInfo(
        *(row["key"], row["title"], row["last_seq"], row["created_at"], row["updated_at"]),
        is_group=bool(row["is_group"]),
        kind=row["kind"],
    )


def _window(row: Row) -> Window:
    used = ContextUse(row["context_tokens"], row["context_estimate"])
    return Window(row["start_seq"], row["shortened_seq"], row["summary"], used)


def _open(connection: Connection, key: str, limit: int) -> OpenSession:
    row = _row(connection, key)
    if row is None:
        return OpenSession(Window(), [], {})
    return OpenSession(_window(row), _context(connection, key, limit), json.loads(row["settings"]))


def _context(connection: Connection, key: str, limit: int) -> list[StoredMessage]:
    rows = connection.execute(
        "SELECT messages.* FROM messages JOIN sessions ON sessions.key = messages.session"
        " WHERE session = ? AND seq > start_seq ORDER BY seq DESC LIMIT ?",
        (key, limit),
    )
    stored = [stored_message(row) for row in rows][::-1]
    running = running_turn(connection, key)
    cut = bool(stored) and stored[0].message.role != "user"
    if cut and running is not None and stored[0].seq > running["first_seq"]:
        stored = read_history(connection, key, running["first_seq"] - 1, 1) + stored
    return stored


def _settings(connection: Connection, key: str) -> dict[str, str]:
    row = _row(connection, key)
    settings: dict[str, str] = json.loads(row["settings"]) if row else {}
    return settings


def _set_setting(connection: Connection, key: str, name: str, value: str, now: float) -> None:
    connection.hold(key)
    ensure_session(connection, key, now)
    settings = _settings(connection, key) | {name: value}
    connection.execute("UPDATE sessions SET settings = ? WHERE key = ?", (json.dumps(settings), key))
