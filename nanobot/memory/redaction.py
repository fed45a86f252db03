"""Taking words out of everything that is stored, step by step.

Rows are read and judged outside of transactions; a transaction changes at most `STEP` rows, so that no chat
waits for it. A request is noted before its first step, and done again as a whole when it was broken off: what
is made of messages is cleaned before the messages themselves, by which it is found.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
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
from nanobot.store.sessions import storable, stored_message
from nanobot.store.sqlite import Connection, Row, Table, writes

FORGOTTEN = "[forgotten]"
CLEANING = "{}"  # the request when only the database's files are left to be cleaned
STEP = 100  # rows that a transaction changes

Matches = Callable[[str], bool]
Place = tuple[str, int]  # session key and number of a message

_PAGE = 200  # rows that are read at once
_TITLE = 200  # characters of a message, more than a title has
_OTHERS = {  # other tables than messages: by which column they are read, after what, and what holds words
    "inbox": ("id", 0, ("body",)),
    "outbox": ("id", 0, ("body", "error")),
    "sessions": ("key", "", ("title", "summary", "settings")),
    "turns": ("id", 0, ("error",)),
    "setbacks": ("session", "", ("error",)),
    "subagents": ("number", 0, ("label",)),
    "memory_changes": ("id", 0, ("body",)),
    "jobs": ("id", "", ("body",)),
}
_Update = tuple[str, tuple[object, ...]]  # a statement that changes one row, and its parameters


@dataclass(frozen=True)
class Target:
    """What is to lose its words: texts that `matches` is true of, and the messages at `places`.

    `only`: in this session, "" for all.
    """

    matches: Matches
    places: frozenset[Place] = frozenset()
    only: str = ""

    def holds(self, value: object) -> bool:
        """Whether some text in a JSON value matches, keys included."""
        if isinstance(value, dict):
            return any(self.holds(item) for pair in value.items() for item in pair)
        if isinstance(value, list):
            return any(map(self.holds, value))
        return isinstance(value, str) and self.matches(value)

    def replaced(self, value: Any) -> Any:
        """A JSON value without the texts that match."""
        if isinstance(value, dict):
            return {key: self.replaced(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.replaced(item) for item in value]
        return "" if isinstance(value, str) and self.matches(value) else value

    def has_message(self, row: Row) -> bool:
        """Whether a message is meant: by its place, or by its words. A note beside it does not count."""
        if (row["session"], row["seq"]) in self.places:
            return True
        return any(self.holds(part) for part in json.loads(row["body"])["parts"] if part["type"] != "context")


@dataclass
class _Meant:
    """The messages that are meant: what else is made of them is found by this."""

    turns: set[int] = field(default_factory=set)
    texts: set[tuple[str, str]] = field(default_factory=set)  # session, and how the message begins


class Redaction(Table):
    """Takes words out of all tables of the database."""

    @writes
    def begin(self, connection: Connection, request: str) -> int:
        """Note that something is being forgotten; nothing is consolidated until `end` is called."""
        sql = "INSERT INTO forgets (at, request) VALUES (?, ?) RETURNING id"
        return int(connection.execute(sql, (connection.now, storable(request))).fetchone()["id"])

    async def pending(self) -> list[tuple[int, str]]:
        """The numbers and requests of what was begun and broken off, oldest first."""
        rows = await self.database.rows("SELECT id, request FROM forgets WHERE request <> '' ORDER BY id")
        return [(row["id"], row["request"]) for row in rows]

    async def end(self, number: int) -> None:
        """Forget the request too, which says what was forgotten, and leave no byte of it in the files."""
        await self._reword(number, CLEANING)
        await self.database.scrub()
        await self._reword(number, "")

    @writes
    def _reword(self, connection: Connection, number: int, request: str) -> None:
        connection.execute("UPDATE forgets SET request = ? WHERE id = ?", (request, number))
        # What was read meanwhile is outdated.
        connection.execute("INSERT INTO forgets (at) VALUES (?)", (connection.now,))

    async def messages_like(self, target: Target) -> list[tuple[str, StoredMessage]]:
        """The messages that are meant, with their session."""
        found: list[tuple[str, StoredMessage]] = []
        async for rows in self._messages(target.only):
            meant = await asyncio.to_thread(list, filter(target.has_message, rows))
            found += [(row["session"], stored_message(row)) for row in meant]
        return found

    async def turn_with(self, session: str, seq: int) -> list[StoredMessage]:
        """All messages of the turn in which message `seq` was said."""
        said_in = "SELECT turn FROM messages WHERE session = ? AND seq = ?"
        sql = f"SELECT * FROM messages WHERE session = ? AND turn IN ({said_in}) ORDER BY seq"
        return [stored_message(row) for row in await self.database.rows(sql, session, session, seq)]

    async def redact(self, target: Target) -> int:
        """Take the words out; how many messages lost theirs. Calls and their results stay paired."""
        meant = _Meant()
        for session, stored in await self.messages_like(target):
            meant.turns.add(stored.turn_id)
            meant.texts.add((session, " ".join(stored.message.text.split())[:_TITLE]))
        await self._clean_others(target, meant)
        redacted: list[Place] = []
        async for rows in self._messages(target.only):
            await self._apply(rows, lambda row: _of_message(row, target, redacted))
        await self._clean_others(target, _Meant())  # what was made of a message meanwhile
        return len(redacted)

    async def _clean_others(self, target: Target, meant: _Meant) -> None:
        for table, (key, after, columns) in _OTHERS.items():
            where = "TRUE" if table != "turns" else "error <> ''"  # of the many turns few failed
            async for rows in self._pages(table, key, after, where):
                await self._apply(rows, functools.partial(_of_other, table, key, columns, target, meant))

    def _messages(self, only: str) -> AsyncIterator[list[Row]]:
        return (
            self._pages("messages", "seq", 0, "session = ?", only)
            if only
            else self._pages("messages", "id", 0)
        )

    async def _apply(self, rows: list[Row], change: Callable[[Row], Iterable[_Update]]) -> None:
        updates = await asyncio.to_thread(list, chain.from_iterable(map(change, rows)))
        for first in range(0, len(updates), STEP):
            await self._run(updates[first : first + STEP])

    @writes
    def _run(self, connection: Connection, updates: Sequence[_Update]) -> None:
        for sql, parameters in updates:
            connection.execute(sql, parameters)

    async def _pages(
        self, table: str, key: str, after: object, where: str = "TRUE", *values: str
    ) -> AsyncIterator[list[Row]]:
        """The rows of a table in the order of a column."""
        sql = f"SELECT * FROM {table} WHERE {key} > ? AND {where} ORDER BY {key} LIMIT {_PAGE}"
        while rows := await self.database.rows(sql, after, *values):
            yield rows
            after = rows[-1][key]


# -- what becomes of a row: statements that change it


def _of_message(row: Row, target: Target, redacted: list[Place]) -> list[_Update]:
    body = json.loads(row["body"])
    if target.has_message(row):
        redacted.append((row["session"], row["seq"]))
        return [_body(row, message_to_json(_without_words(message_from_json(body))))]
    if target.holds(body):  # only in a note: what was recalled
        kept = [part for part in body["parts"] if part["type"] != "context"]
        return [_body(row, body | {"parts": kept})]
    return []


def _body(row: Row, body: object) -> _Update:
    return "UPDATE messages SET body = ? WHERE id = ?", (json.dumps(body, ensure_ascii=False), row["id"])


def _of_other(
    table: str, key: str, columns: Sequence[str], target: Target, meant: _Meant, row: Row
) -> Iterator[_Update]:
    """Texts that say it are emptied, and what is made of a message that is meant.

    A mail has no text any more and is not delivered; a job is gone.
    """
    if target.only and not _belongs(table, row, target.only):
        return
    values = {column: _json(row[column]) for column in columns}
    made_of_message = _is_made_of(table, row, meant)
    if not made_of_message and not any(map(target.holds, values.values())):
        return
    if table == "jobs":
        yield "DELETE FROM jobs WHERE id = ?", (row["id"],)
        return
    if table == "outbox":
        yield "UPDATE outbox SET state = 'sent' WHERE id = ?", (row["id"],)
    for column, value in values.items():
        text = "" if column == "title" and made_of_message else _kept(table, column, target.replaced(value))
        if text != row[column]:
            sql = f"UPDATE {table} SET {column} = ? WHERE {key} = ? AND {column} = ?"
            yield sql, (text, row[key], row[column])


def _kept(table: str, column: str, value: Any) -> str:
    """What is written in place of a value, from which the words are gone already."""
    if column == "label":
        return FORGOTTEN
    if column == "body" and table in ("inbox", "outbox"):
        value = (value if isinstance(value, dict) else {}) | {"text": FORGOTTEN, "attachments": []}
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_made_of(table: str, row: Row, meant: _Meant) -> bool:
    """Whether it is the mail of a turn, or the title of a session, that is meant."""
    if table == "sessions":
        return any(key == row["key"] and text.startswith(row["title"]) for key, text in meant.texts)
    if table == "outbox":
        return row["turn"] in meant.turns and row["state"] == "sent"
    return table == "inbox" and row["turn"] in meant.turns


def _belongs(table: str, row: Row, session: str) -> bool:
    """Whether a row is about this session."""
    if table == "outbox":
        return f"{session}:".startswith(f"{row['channel']}:{row['chat_id']}:")
    column = {"sessions": "key", "subagents": "parent"}.get(table, "session")
    return table != "jobs" and bool(row[column] == session)


def _json(text: str) -> Any:
    """What a column holds: JSON, or plain text."""
    try:
        return json.loads(text) if text.startswith(("{", "[")) else text
    except ValueError:
        return text


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
