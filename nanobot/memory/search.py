"""Memory search: one function for the tool, for recall before a turn, and for `nanobot memory search`.

The index follows the database and the memory files by itself, before each search: its cost is that of
what is new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TypeVar

from nanobot import paths
from nanobot.errors import StorageError
from nanobot.memory.dates import date_words
from nanobot.memory.facts import (
    Origin,
    format_entry,
    format_fact,
    parse_facts,
    parse_history,
    split_message_id,
)
from nanobot.memory.ranking import FACTS_FILE, HISTORY_FILE, Hit, coverage, moment, rank
from nanobot.memory.words import words
from nanobot.store.export import as_markdown
from nanobot.store.records import LoggedMessage
from nanobot.store.search_index import SearchIndex
from nanobot.store.search_rows import LineRow, Position, Scope, SearchRows, TurnRow
from nanobot.store.store import Store

T = TypeVar("T")

_BATCH = 500  # messages that are read and indexed at once


class MemorySearch:
    """Searches facts, history and messages. `folder` holds MEMORY.md and HISTORY.md.

    `progress` is told how many messages were read, now and then while there are many.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        *,
        clock: Callable[[], datetime] = datetime.now,
        index: SearchIndex | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._folder = folder
        self._clock = clock
        self._index = index or SearchIndex(paths.home() / "search.db")
        self._progress = progress
        self._refreshing = asyncio.Lock()

    async def search(self, text: str, scope: Scope, limit: int) -> list[Hit]:
        """The best hits for any text, best first; for a message's id that message. Raises StorageError."""
        if message := await self._message(text.strip(), scope):
            return [message]
        return await self._ask(rank, text, scope, limit)

    async def relevant(self, text: str, scope: Scope, limit: int) -> list[tuple[Hit, float]]:
        """The best hits, each with the share of the words of `text` that it holds. Raises StorageError."""
        return await self._ask(_rank_and_weigh, text, scope, limit)

    async def _ask(
        self,
        ask: Callable[[SearchRows, str, Scope, datetime, int], list[T]],
        text: str,
        scope: Scope,
        limit: int,
    ) -> list[T]:
        """Ask the index when it holds everything; once more when it was lost meanwhile."""
        answer: list[T] = []
        for _ in range(2):
            losses = self._index.losses
            await self.refresh()
            answer = await self._index.read(ask, text, scope, self._clock(), limit)
            if losses == self._index.losses:
                break
        return answer

    async def _message(self, name: str, scope: Scope) -> Hit | None:
        """The message with this id, when there is one and the scope may see it."""
        try:
            session_key, seq = split_message_id(name)
        except ValueError:
            return None
        info = await self._store.sessions.get(session_key)
        if info is None or not scope.sees(session_key, is_group=info.is_group):
            return None
        for stored in await self._store.sessions.history(session_key, after=seq - 1, limit=1):
            if stored.seq == seq:
                text = "\n".join(as_markdown(stored)).strip()
                return Hit("message", name, text, *moment(stored.created_at), stored.message.role)
        return None

    def take_notices(self) -> list[str]:
        """What the owner should know about the index, once."""
        notices, self._index.notices = self._index.notices, []
        return notices

    async def refresh(self) -> None:
        """Read what is new in the files and in the database. Raises StorageError."""
        async with self._refreshing:
            for file in (FACTS_FILE, HISTORY_FILE):
                await self._refresh_file(file)
            read = 0
            while count := await self._read_batch():
                read += count
                if read >= _BATCH:
                    self._progress(read)

    async def reindex(self, names: Sequence[str]) -> None:
        """Read messages again that were changed in the database, leaving no trace of what they were."""
        await self.refresh()
        for name in names:
            session_key, seq = split_message_id(name)
            found = await self._store.sessions.history(session_key, after=seq - 1, limit=1)
            text = found[0].message.text if found and found[0].seq == seq else ""
            await self._index.write(SearchRows.replace_turn, session_key, seq, text, _searchable(text))
        await self._index.purge()

    async def aclose(self) -> None:
        await self._index.aclose()

    # -- following the database and the files

    async def _read_batch(self) -> int:
        """Index the next messages of the database; returns how many were read."""
        position = await self._index.read(SearchRows.position)
        logged = await self._store.sessions.log(max(position.message, 1), _BATCH + 1)
        if position.message:
            if not logged or _position(logged[0]) != position:  # another database than the one indexed
                await self._index.write(SearchRows.forget_turns)
                return 1
            del logged[0]
        if logged:
            rows = await asyncio.to_thread(_logged_rows, logged)
            await self._index.write(SearchRows.add_turns, rows, position, _position(logged[-1]))
        return len(logged)

    async def _refresh_file(self, file: str) -> None:
        path = self._folder / file
        signature = await asyncio.to_thread(_signature, path)
        if await self._index.read(SearchRows.state, f"file {file}") != signature:
            rows = await asyncio.to_thread(_line_rows, path)
            await self._index.write(SearchRows.put_lines, file, signature, rows)


def _rank_and_weigh(
    rows: SearchRows, text: str, scope: Scope, now: datetime, limit: int
) -> list[tuple[Hit, float]]:
    hits = rank(rows, text, scope, now, limit)
    return list(zip(hits, coverage(rows, text, hits), strict=True))


def _position(logged: LoggedMessage) -> Position:
    return Position(logged.id, f"{logged.session_key}#{logged.stored.seq} {logged.stored.created_at}")


def _logged_rows(logged: Sequence[LoggedMessage]) -> list[TurnRow]:
    """Results of tools have no row: they are long, and nobody said them."""
    rows = []
    for entry in logged:
        message, at = entry.stored.message, entry.stored.created_at
        place = (entry.session_key, entry.stored.seq)
        rows.append(turn_row(entry.id, place, at, entry.is_group, message.role, message.text))
    return [row for row in rows if row.text]


def turn_row(
    row_id: int, place: tuple[str, int], at: float, is_group: bool, speaker: str, text: str
) -> TurnRow:
    """A message as the index holds it. `place`: session key and seq; `at`: Unix seconds."""
    dates = date_words(date.fromtimestamp(at))
    return TurnRow(row_id, *place, at, is_group, speaker, text.strip(), _searchable(text), dates)


def _searchable(text: str) -> str:
    return " ".join(words(text))


def _signature(path: Path) -> str:
    """Changes with the file."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return "none"
    except OSError as error:
        raise StorageError(f"Cannot read {path}: {error.strerror}. Check its rights.") from error
    return f"{about.st_mtime_ns} {about.st_size} {about.st_ino}"


def _line_rows(path: Path) -> list[LineRow]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"Cannot read {path}: {error.strerror}. Check its rights.") from error
    if path.name == FACTS_FILE:
        return [_line_row(format_fact(fact), fact.text, fact.origin) for fact in parse_facts(text)]
    return [_line_row(format_entry(entry), entry.text, entry.origin) for entry in parse_history(text)]


def _line_row(line: str, text: str, origin: Origin) -> LineRow:
    return LineRow(
        line,
        origin.group,
        _searchable(text),
        date_words(date.fromisoformat(origin.day)) if origin.day else "",
    )
