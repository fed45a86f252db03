"""Sessions, messages and turns: the SQL of a conversation. Each function runs inside a transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from nanobot.errors import TurnTakenOver
from nanobot.messages import (
    INTERRUPTED,
    ContextUse,
    Message,
    ToolResult,
    message_from_json,
    message_to_json,
    unanswered_calls,
)
from nanobot.session.store import (
    Claim,
    InterruptedTurn,
    LoggedMessage,
    Origin,
    SessionInfo,
    SessionKind,
    StoredMessage,
    Window,
)

_TITLE = 60


def ensure_session(connection: sqlite3.Connection, key: str, now: float, kind: SessionKind = "chat") -> None:
    """Begin a session; one that exists stays what it is."""
    connection.execute(
        "INSERT OR IGNORE INTO sessions (key, kind, created_at, updated_at) VALUES (?, ?, ?, ?)",
        (key, kind, now, now),
    )


def list_sessions(connection: sqlite3.Connection, limit: int) -> list[SessionInfo]:
    rows = connection.execute("SELECT * FROM sessions ORDER BY updated_at DESC LIMIT ?", (limit,))
    return [_session(row) for row in rows]


def get_session(connection: sqlite3.Connection, key: str) -> SessionInfo | None:
    row = connection.execute("SELECT * FROM sessions WHERE key = ?", (key,)).fetchone()
    return _session(row) if row else None


def _session(row: sqlite3.Row) -> SessionInfo:
    return SessionInfo(
        row["key"],
        row["title"],
        row["last_seq"],
        row["created_at"],
        row["updated_at"],
        bool(row["is_group"]),
        row["kind"],
    )


def read_history(
    connection: sqlite3.Connection, key: str, after: int, limit: int | None
) -> list[StoredMessage]:
    rows = connection.execute(
        "SELECT * FROM messages WHERE session = ? AND seq > ? ORDER BY seq LIMIT ?",
        (key, after, -1 if limit is None else limit),
    )
    return [_stored(row) for row in rows]


def read_context(connection: sqlite3.Connection, key: str, limit: int) -> list[StoredMessage]:
    """The newest `limit` messages after the session's start, oldest first; see store.py."""
    rows = connection.execute(
        "SELECT messages.* FROM messages JOIN sessions ON sessions.key = messages.session"
        " WHERE session = ? AND seq > start_seq ORDER BY seq DESC LIMIT ?",
        (key, limit),
    )
    stored = [_stored(row) for row in rows][::-1]
    running = running_turn(connection, key)
    cut = bool(stored) and stored[0].message.role != "user"
    if cut and running is not None and stored[0].seq > running["first_seq"]:
        stored = read_history(connection, key, running["first_seq"] - 1, 1) + stored
    return stored


def read_log(connection: sqlite3.Connection, first: int, limit: int) -> list[LoggedMessage]:
    rows = connection.execute(
        "SELECT messages.*, is_group FROM messages JOIN sessions ON sessions.key = messages.session"
        " WHERE messages.id >= ? ORDER BY messages.id LIMIT ?",
        (first, limit),
    )
    return [LoggedMessage(row["id"], row["session"], bool(row["is_group"]), _stored(row)) for row in rows]


def _stored(row: sqlite3.Row) -> StoredMessage:
    return StoredMessage(
        row["seq"], row["turn"], row["created_at"], message_from_json(json.loads(row["body"]))
    )


def read_window(connection: sqlite3.Connection, key: str) -> Window:
    row = connection.execute("SELECT * FROM sessions WHERE key = ?", (key,)).fetchone()
    if row is None:
        return Window()
    used = ContextUse(row["context_tokens"], row["context_estimate"])
    return Window(row["start_seq"], row["shortened_seq"], row["summary"], used)


def move_window(connection: sqlite3.Connection, key: str, before: Window, after: Window) -> bool:
    changed = connection.execute(
        "UPDATE sessions SET start_seq = ?, shortened_seq = ?, summary = ?"
        " WHERE key = ? AND start_seq = ? AND shortened_seq = ? AND summary = ?",
        (
            *(after.start, after.shortened, _storable(after.summary)),
            *(key, before.start, before.shortened, before.summary),
        ),
    )
    return changed.rowcount == 1


def start_over(connection: sqlite3.Connection, key: str) -> None:
    connection.execute("UPDATE sessions SET start_seq = last_seq, summary = '' WHERE key = ?", (key,))


def rename(connection: sqlite3.Connection, key: str, title: str) -> bool:
    return connection.execute("UPDATE sessions SET title = ? WHERE key = ?", (title, key)).rowcount == 1


def read_settings(connection: sqlite3.Connection, key: str) -> dict[str, str]:
    row = connection.execute("SELECT settings FROM sessions WHERE key = ?", (key,)).fetchone()
    settings: dict[str, str] = json.loads(row["settings"]) if row else {}
    return settings


def set_setting(connection: sqlite3.Connection, key: str, name: str, value: str, now: float) -> None:
    ensure_session(connection, key, now)
    settings = read_settings(connection, key) | {name: value}
    connection.execute("UPDATE sessions SET settings = ? WHERE key = ?", (json.dumps(settings), key))


# -- turns


def running_turn(connection: sqlite3.Connection, key: str) -> Any:
    return connection.execute(
        "SELECT * FROM turns WHERE session = ? AND state = 'running'", (key,)
    ).fetchone()


def open_turn(
    connection: sqlite3.Connection, key: str, origin: Origin, worker: int, now: float, family: int | None
) -> Claim:
    """Begin a turn in a lane that is free, of a session that exists; `family` as in `Store.begin_turn`."""
    row = connection.execute(
        "INSERT INTO turns (session, origin, state, worker, first_seq, started_at, family)"
        " SELECT key, ?, 'running', ?, last_seq + 1, ?, ? FROM sessions WHERE key = ? RETURNING id",
        (origin, worker, now, family, key),
    ).fetchone()
    return Claim(row["id"], key, 1)


def check_claim(connection: sqlite3.Connection, claim: Claim) -> None:
    row = connection.execute(
        "SELECT 1 FROM turns WHERE id = ? AND epoch = ? AND state = 'running'", (claim.turn_id, claim.epoch)
    ).fetchone()
    if row is None:
        raise TurnTakenOver("Another nanobot has taken over this turn; this one stops here.")


def append(connection: sqlite3.Connection, claim: Claim, message: Message, now: float) -> StoredMessage:
    check_claim(connection, claim)
    title = " ".join(message.text.split())[:_TITLE] if message.role == "user" else ""
    row = connection.execute(
        "UPDATE sessions SET last_seq = last_seq + 1, updated_at = ?,"
        " title = CASE WHEN title = '' THEN ? ELSE title END WHERE key = ? RETURNING last_seq",
        (now, title, claim.session_key),
    ).fetchone()
    stored = StoredMessage(row["last_seq"], claim.turn_id, now, message)
    insert_message(connection, claim.session_key, stored)
    if message.role == "assistant":
        connection.execute("UPDATE turns SET calls = calls + 1, calling = 0 WHERE id = ?", (claim.turn_id,))
    return stored


def append_all(
    connection: sqlite3.Connection, claim: Claim, messages: Sequence[Message], now: float
) -> list[StoredMessage]:
    return [append(connection, claim, message, now) for message in messages]


def insert_message(connection: sqlite3.Connection, key: str, stored: StoredMessage) -> None:
    body = json.dumps(message_to_json(stored.message), ensure_ascii=False)
    connection.execute(
        "INSERT INTO messages (session, seq, turn, created_at, body) VALUES (?, ?, ?, ?, ?)",
        (key, stored.seq, stored.turn_id, stored.created_at, _storable(body)),
    )


def _storable(text: str) -> str:
    """SQLite stores UTF-8: a lone surrogate from a broken model answer must not fail the turn."""
    return text.encode("utf-8", "replace").decode()


def record_intent(connection: sqlite3.Connection, claim: Claim, call_id: str) -> None:
    check_claim(connection, claim)
    connection.execute("INSERT OR IGNORE INTO intents VALUES (?, ?)", (claim.turn_id, call_id))


def read_intents(connection: sqlite3.Connection, claim: Claim) -> frozenset[str]:
    rows = connection.execute("SELECT call_id FROM intents WHERE turn = ?", (claim.turn_id,))
    return frozenset(row["call_id"] for row in rows)


def close_turn(connection: sqlite3.Connection, claim: Claim, state: str, error: str, now: float) -> None:
    """End a turn, leaving a valid history: a call that has no result gets one."""
    check_claim(connection, claim)
    first = connection.execute("SELECT first_seq FROM turns WHERE id = ?", (claim.turn_id,)).fetchone()[0]
    stored = read_history(connection, claim.session_key, first - 1, None)
    for call in unanswered_calls([entry.message for entry in stored]):
        result = ToolResult(call.id, call.name, INTERRUPTED, "interrupted")
        append(connection, claim, Message("tool", (result,)), now)
    connection.execute(
        "UPDATE turns SET state = ?, finished_at = ?, error = ?, calling = 0 WHERE id = ?",
        (state, now, error, claim.turn_id),
    )
    connection.execute("DELETE FROM intents WHERE turn = ?", (claim.turn_id,))


def note_use(connection: sqlite3.Connection, key: str, used: ContextUse) -> None:
    """Remember how large the last request was."""
    connection.execute(
        "UPDATE sessions SET context_tokens = ?, context_estimate = ? WHERE key = ?",
        (used.tokens, used.estimated, key),
    )


def interrupt_turn(connection: sqlite3.Connection, turn: sqlite3.Row, now: float) -> None:
    """Close a turn whose terminal is gone."""
    close_turn(connection, Claim(turn["id"], turn["session"], turn["epoch"]), "interrupted", "", now)


def last_interrupted(connection: sqlite3.Connection, key: str) -> InterruptedTurn | None:
    """The newest turn, when it was cut off."""
    row = connection.execute(
        "SELECT * FROM turns WHERE session = ? ORDER BY id DESC LIMIT 1", (key,)
    ).fetchone()
    if row is None or row["state"] != "interrupted":
        return None
    messages = read_history(connection, key, row["first_seq"] - 1, 1)
    text = messages[0].message.text if messages else "(that was lost)"
    return InterruptedTurn(row["id"], text if row["family"] is None else "")
