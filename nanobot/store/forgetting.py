"""Taking words out of everything that is stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from typing import Any

from nanobot.messages import (
    ContextPart,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
    message_from_json,
    message_to_json,
)
from nanobot.store.records import StoredMessage
from nanobot.store.sqlite import Connection, Database, Row

FORGOTTEN = "[forgotten]"

Matches = Callable[[str], bool]


class Forgetting:
    """All methods raise StorageError when the disk or the database fails."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def messages_like(self, matches: Matches, only: str = "") -> list[tuple[str, StoredMessage]]:
        """The messages, with their session, that have a text `matches` is true of; of one session or all."""
        return await self._db.read(_messages_like, matches, only)

    async def redact(
        self, matches: Matches, messages: Collection[tuple[str, int]] = (), only: str = ""
    ) -> list[tuple[str, int]]:
        """Take the words out of these messages and of whatever has a text `matches` is true of.

        Roles, calls and their results stay paired. Returns the redacted messages. `only`: in one session.
        """
        return await self._db.write(_redact, matches, messages, only, self._db.clock())

    async def scrub(self) -> None:
        """Leave no byte of what was redacted in the database's files."""
        await self._db.scrub()


def _messages_like(connection: Connection, matches: Matches, only: str) -> list[tuple[str, StoredMessage]]:
    return [
        (
            row["session"],
            StoredMessage(row["seq"], row["turn"], row["created_at"], message_from_json(body)),
        )
        for row, body in _rows(connection, "messages", only)
        if _is_said(body, matches)
    ]


def _redact(
    connection: Connection,
    matches: Matches,
    messages: Collection[tuple[str, int]],
    only: str,
    now: float,
) -> list[tuple[str, int]]:
    """Redact messages, and everything made of them or alike."""
    redacted, turns, titles = [], set(), set()
    for row, body in _rows(connection, "messages", only):
        place = (row["session"], row["seq"])
        if place not in messages and not _is_said(body, matches):
            if _has(body, matches):  # only in a note: what was recalled
                kept = [part for part in body["parts"] if part["type"] != "context"]
                _write(connection, "messages", row["id"], body | {"parts": kept})
        else:
            message = message_from_json(body)
            redacted.append(place)
            turns.add(row["turn"])
            titles.add((row["session"], " ".join(message.text.split())))
            _write(connection, "messages", row["id"], message_to_json(_without_words(message)))
    _redact_mail(connection, matches, turns, only)
    for row in connection.execute("SELECT * FROM sessions WHERE ? IN ('', key)", (only,)).fetchall():
        of_message = any(key == row["key"] and text.startswith(row["title"]) for key, text in titles)
        title = "" if of_message or matches(row["title"]) else row["title"]
        summary = "" if matches(row["summary"]) else row["summary"]
        settings = json.dumps(_replaced(json.loads(row["settings"]), matches))
        connection.execute(
            "UPDATE sessions SET title = ?, summary = ?, settings = ? WHERE key = ?",
            (title, summary, settings, row["key"]),
        )
    for table in ("turns", "setbacks"):
        for row in connection.execute(f"SELECT session, error FROM {table} WHERE error <> ''").fetchall():
            if only in ("", row["session"]) and matches(row["error"]):
                connection.execute(f"UPDATE {table} SET error = '' WHERE error = ?", (row["error"],))
    for row in connection.execute("SELECT * FROM subagents WHERE ? IN ('', parent)", (only,)).fetchall():
        if matches(row["label"]):
            connection.execute("UPDATE subagents SET label = ? WHERE id = ?", (FORGOTTEN, row["id"]))
    for row, body in _rows(connection, "memory_changes", only):
        if _has(body, matches):
            _write(connection, "memory_changes", row["id"], _replaced(body, matches))
    if not only:
        for row, body in _rows(connection, "jobs"):
            if _has(body, matches):
                connection.execute("DELETE FROM jobs WHERE id = ?", (row["id"],))
    connection.execute("INSERT INTO forgets (at) VALUES (?)", (now,))
    return redacted


def _redact_mail(connection: Connection, matches: Matches, turns: set[int], only: str) -> None:
    """Inbox and outbox. What says it and was still to be delivered is not."""
    for row, body in _rows(connection, "inbox", only):
        if row["turn"] in turns or _has(body, matches):
            kept = _replaced(body, matches) | {"text": FORGOTTEN, "attachments": []}
            _write(connection, "inbox", row["id"], kept)
    for row, body in _rows(connection, "outbox"):
        chat = f"{row['channel']}:{row['chat_id']}"
        in_scope = not only or f"{only}:".startswith(f"{chat}:")
        said = in_scope and (_has(body, matches) or matches(row["error"]))
        if said or (row["state"] == "sent" and row["turn"] in turns):
            kept = _replaced(body, matches) | {"text": FORGOTTEN, "attachments": []}
            _write(connection, "outbox", row["id"], kept)
            connection.execute("UPDATE outbox SET state = 'sent', error = '' WHERE id = ?", (row["id"],))


def _rows(connection: Connection, table: str, only: str = "") -> Iterator[tuple[Row, Any]]:
    """The rows of a table that has a JSON body, of one session or all."""
    where = "WHERE session = ?" if only else ""
    rows = connection.execute(f"SELECT * FROM {table} {where}", (only,) if only else ())
    for row in rows.fetchall() if table != "messages" else rows:
        yield row, json.loads(row["body"])


def _write(connection: Connection, table: str, row_id: object, body: object) -> None:
    text = json.dumps(body, ensure_ascii=False)
    connection.execute(f"UPDATE {table} SET body = ? WHERE id = ?", (text, row_id))


def _has(value: object, matches: Matches) -> bool:
    """Whether some text in a JSON value matches, keys included."""
    if isinstance(value, dict):
        return any(_has(item, matches) for pair in value.items() for item in pair)
    if isinstance(value, list):
        return any(_has(item, matches) for item in value)
    return isinstance(value, str) and matches(value)


def _is_said(message: Any, matches: Matches) -> bool:
    """Whether it matches otherwise than in a note."""
    return any(_has(part, matches) for part in message["parts"] if part["type"] != "context")


def _replaced(value: Any, matches: Matches) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(item, matches) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, matches) for item in value]
    return "" if isinstance(value, str) and matches(value) else value


def _without_words(message: Message) -> Message:
    """The message with its role and its calls, so that the conversation stays valid."""
    parts = tuple(part for old in message.parts for part in _part_without_words(old))
    return Message(message.role, tuple(dict.fromkeys(parts)) if message.role == "user" else parts)


def _part_without_words(part: Part) -> tuple[Part, ...]:
    match part:
        case ToolCall(id=call_id, name=name, extra=extra):
            return (ToolCall(call_id, name, {}, extra=extra),)
        case ToolResult(call_id=call_id, name=name, outcome=outcome):
            return (ToolResult(call_id, name, FORGOTTEN, outcome),)
        case TextPart() | ImagePart():
            return (TextPart(FORGOTTEN),)
        case ContextPart() | ReasoningPart():
            return ()
