"""Taking words out of everything that is stored. Rows are read and judged outside of transactions, and `STEP`
at most are changed in one, so that no chat waits. A request is noted first, and done again as a whole when
it was broken off: what is made of messages is cleaned before those by which it is found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, groupby
from typing import Any

from nanobot.store.records import StoredMessage
from nanobot.store.sessions import storable, stored_message, stored_messages
from nanobot.store.sqlite import Connection, Row, Table, writes

FORGOTTEN = "[forgotten]"
CLEANING = "{}"  # the request when only the database's files are left to be cleaned
STEP = 100  # rows that a transaction changes

Matches = Callable[[str], bool]

_PAGE = 200  # rows that are read at once
_TITLE = 200  # characters of a message, more than a title has
_PAIRING = {"type", "id", "call_id", "name", "outcome", "extra"}  # of calls and results, for a valid history
# Other tables than messages: by which column they are read and after what, whose rows are a session's (no
# jobs are a chat's own), what holds words.
_OTHERS = {
    "inbox": ("id", 0, "session = ?", ("body",)),
    "outbox": (
        *("id", 0, "substr(? || ':', 1, length(channel || chat_id) + 2) = channel || ':' || chat_id || ':'"),
        ("body", "error"),
    ),
    "sessions": ("key", "", "key = ?", ("settings",)),
    "conversations": ("id", 0, "session = ?", ("title", "summary")),
    "turns": ("id", 0, "session = ?", ("error",)),
    "setbacks": ("session", "", "session = ?", ("error",)),
    "subagents": ("number", 0, "parent = ?", ("label",)),
    "memory_changes": ("id", 0, "session = ?", ("body",)),
    "jobs": ("id", "", "? = ''", ("body",)),
}
_Update = tuple[str, tuple[object, ...]]  # a statement that changes one row, and its parameters


@dataclass(frozen=True)
class Target:
    """What is to lose its words: texts that `matches` is true of, and `messages`, by session and number.
    `only`: in this session, "" for all."""

    matches: Matches
    messages: Mapping[tuple[str, int], StoredMessage] = field(default_factory=dict)
    only: str = ""

    def without(self, value: Any) -> Any:
        """A JSON value without the texts that match. The names of its fields are nobody's words."""
        if isinstance(value, dict):
            return {name: self._without(item) for name, item in value.items()}
        return self._without(value)

    def _without(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._without(item) for key, item in value.items() if not self.matches(key)}
        if isinstance(value, list):
            return [self._without(item) for item in value]
        return "" if isinstance(value, str) and self.matches(value) else value

    def holds(self, value: Any) -> bool:
        """Whether some text in a JSON value matches."""
        return bool(self.without(value) != value)

    def has_message(self, row: Row) -> bool:
        """Whether a message is meant, by its place or by its words. A note beside it does not count."""
        if (row["session"], row["seq"]) in self.messages:
            return True
        parts = [part for part in json.loads(row["body"])["parts"] if part["type"] != "context"]
        return any(self.holds({name: part[name] for name in part.keys() - _PAIRING}) for part in parts)

    def made(self, table: str, row: Row) -> bool:
        """Whether a row is the mail of a turn, or the title of a session, that is meant."""
        if table == "conversations":
            return any(
                key == row["session"] and text.startswith(row["title"]) for key, text in self._beginnings
            )
        sent = table == "inbox" or (table == "outbox" and row["state"] == "sent")
        return sent and row["turn"] in self._turns

    @cached_property
    def _turns(self) -> set[int]:
        return {stored.turn_id for stored in self.messages.values()}

    @cached_property
    def _beginnings(self) -> set[tuple[str, str]]:
        texts = ((key, stored.message.text) for (key, _), stored in self.messages.items())
        return {(key, " ".join(text.split())[:_TITLE]) for key, text in texts}


class Redaction(Table):
    """Takes words out of all tables of the database."""

    async def begin(self, request: str) -> None:
        """Note that something is being forgotten; nothing is consolidated until `end` is called."""
        sql = "INSERT INTO forgets (at, request) VALUES (?, ?)"
        await self.database.change(sql, self.database.clock(), storable(request))

    async def pending(self) -> list[tuple[int, str]]:
        """The numbers and requests of what was begun and has not ended, oldest first."""
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

    async def messages_like(self, matches: Matches, only: str) -> list[tuple[str, StoredMessage]]:
        """The messages that say it, with their session; of one session, "" for all."""
        target, found = Target(matches), list[tuple[str, StoredMessage]]()
        async for rows in self._messages(only):
            meant = await asyncio.to_thread(list, filter(target.has_message, rows))
            found += [(row["session"], stored_message(row)) for row in meant]
        return found

    async def turn_with(self, session: str, seq: int) -> list[StoredMessage]:
        """All messages of the turn in which message `seq` was said."""
        said_in = "SELECT turn FROM messages WHERE session = ? AND seq = ?"
        sql = f"SELECT * FROM messages WHERE session = ? AND turn IN ({said_in}) ORDER BY seq"
        return stored_messages(await self.database.rows(sql, session, session, seq))

    async def redact(self, target: Target) -> None:
        """Take the words out. Calls and their results stay paired."""
        await self._clean_others(target)
        async for rows in self._messages(target.only):
            await self._apply(_of_message(row, target) for row in rows)
        await self._clean_others(target)  # what was made of a message meanwhile

    async def _clean_others(self, target: Target) -> None:
        for table, (key, after, of_session, columns) in _OTHERS.items():
            where = (of_session, target.only) if target.only else ("TRUE",)
            async for rows in self._pages(table, key, after, *where):
                await self._apply(_of_other(table, key, columns, target, row) for row in rows)

    def _messages(self, only: str) -> AsyncIterator[list[Row]]:
        where = ("seq", 0, "session = ?", only) if only else ("id", 0, "TRUE")
        return self._pages("messages", *where)

    async def _apply(self, changes: Iterable[Iterable[_Update]]) -> None:
        updates = await asyncio.to_thread(list, chain.from_iterable(changes))
        for first in range(0, len(updates), STEP):
            await self._run(updates[first : first + STEP])

    @writes
    def _run(self, connection: Connection, updates: Sequence[_Update]) -> None:
        for sql, parameters in updates:
            connection.execute(sql, parameters)

    async def _pages(
        self, table: str, key: str, after: object, where: str, *values: str
    ) -> AsyncIterator[list[Row]]:
        sql = f"SELECT * FROM {table} WHERE {key} > ? AND {where} ORDER BY {key} LIMIT {_PAGE}"
        while rows := await self.database.rows(sql, after, *values):
            yield rows
            after = rows[-1][key]


def _of_message(row: Row, target: Target) -> Iterator[_Update]:
    body = json.loads(row["body"])
    if target.has_message(row):
        parts = [kept for part in body["parts"] for kept in _without_words(part)]
        parts = [part for part, _ in groupby(parts)]
    elif target.holds(body):  # only in a note: what was recalled
        parts = [part for part in body["parts"] if part["type"] != "context"]
    else:
        return
    changed = json.dumps(body | {"parts": parts}, ensure_ascii=False)
    yield "UPDATE messages SET body = ? WHERE id = ?", (changed, row["id"])


def _without_words(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    kept = {name: part[name] for name in part if name in _PAIRING}
    match part["type"]:
        case "tool_call":
            yield kept | {"arguments": {}}
        case "tool_result":
            yield kept | {"content": FORGOTTEN}
        case "text" | "image":
            yield {"type": "text", "text": FORGOTTEN}


def _of_other(table: str, key: str, columns: Sequence[str], target: Target, row: Row) -> Iterator[_Update]:
    """Texts that say it are emptied, and what is made of a message that is meant.
    A mail has no text any more and is not delivered; a job is gone."""
    old = {column: json_or_text(row[column]) for column in columns}
    new, made = {column: target.without(old[column]) for column in columns}, target.made(table, row)
    if new == old and not made:
        return
    if table == "jobs":
        yield "DELETE FROM jobs WHERE id = ?", (row["id"],)
        return
    if table == "outbox":
        yield "UPDATE outbox SET state = 'sent' WHERE id = ?", (row["id"],)
    if table in ("inbox", "outbox"):
        mail = new["body"] if isinstance(new["body"], dict) else {}
        new["body"] = mail | {"text": FORGOTTEN, "attachments": []}
    elif table == "subagents":
        new["label"] = FORGOTTEN
    elif table == "conversations" and made:
        new["title"] = ""
    for column in (column for column in columns if new[column] != old[column]):
        text = new[column] if isinstance(new[column], str) else json.dumps(new[column], ensure_ascii=False)
        sql = f"UPDATE {table} SET {column} = ? WHERE {key} = ? AND {column} = ?"
        yield sql, (text, row[key], row[column])


def json_or_text(text: str) -> Any:
    """JSON when it is that, or the text."""
    try:
        return json.loads(text) if text.startswith(("{", "[")) else text
    except ValueError:
        return text
