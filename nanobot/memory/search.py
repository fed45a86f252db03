"""Memory search: one function for the tool, for recall before a turn, and for `nanobot memory search`.
Before each search the index reads what is new in the database and the files: that is what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection as IndexConnection

from nanobot import paths
from nanobot.errors import StorageError
from nanobot.memory import search_index
from nanobot.memory.facts import FACTS_FILE, HISTORY_FILE, read_lines, split_message_id
from nanobot.memory.ranking import Hit, moment, rank, recall
from nanobot.memory.search_index import EVERYTHING, Position, SearchIndex, SearchScope, TurnRow
from nanobot.store.export import as_markdown
from nanobot.store.records import StoredMessage
from nanobot.store.sessions import stored_message
from nanobot.store.sqlite import Connection, Row
from nanobot.store.store import Store

_BATCH = 200  # messages that are indexed in one transaction
_LATE = 1000  # ids: a message that is not there when one so much newer is will never be
_MESSAGES = "SELECT messages.*, is_group FROM messages JOIN sessions ON sessions.key = messages.session"


class MemorySearch:
    """Searches facts, history and messages. `folder` holds MEMORY.md and HISTORY.md.
    `progress` is told how many messages were read, now and then while there are many."""

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

    async def search(self, text: str, scope: SearchScope, limit: int) -> list[Hit]:
        """The best hits for any text, best first; for a message's id that message. Raises StorageError."""
        if found := await message_named(self._store, text.strip(), scope):
            _, stored = found
            shown = "\n".join(as_markdown(stored)).strip()
            return [Hit("message", text.strip(), shown, *moment(stored.created_at), stored.message.role)]
        return await self._ask(rank, text, scope, self._clock(), limit)

    async def recall(self, text: str, scope: SearchScope, start: int, limit: int) -> list[Hit]:
        """As ranking.recall. Raises StorageError."""
        found = await self._index.read(_recall_known, self._folder, text, scope, start, limit)
        return await self._ask(recall, text, scope, start, limit) if found is None else found

    async def _ask(self, ask: Callable[..., list[Hit]], *args: object) -> list[Hit]:
        """Ask the index when it holds everything; once more when it was lost meanwhile."""
        losses = -1
        while losses != self._index.losses:
            losses = self._index.losses
            await self.refresh()
            found = await self._index.read(ask, *args)
        return found

    def take_notices(self) -> list[str]:
        """What the owner should know about the index, once."""
        notices, self._index.notices = self._index.notices, []
        return notices

    async def refresh(self) -> None:
        """Read what is new in the files and in the database. Raises StorageError."""
        async with self._refreshing:
            read, more = 0, True
            while more:
                count = await self._refresh_some()
                read, more = read + count, count >= _BATCH
                if more:
                    self._progress(read)

    async def rebuild(self) -> None:
        """Read everything again, leaving no trace of what was read before. Raises StorageError."""
        await self._index.start_over()
        await self.refresh()

    async def aclose(self) -> None:
        await self._index.aclose()

    async def _refresh_some(self) -> int:
        """Read the files that have changed, and the next messages; returns how many."""
        position, changed = await self._index.read(_look, self._folder)
        for file, signature in changed.items():
            try:
                lines = await asyncio.to_thread(read_lines, self._folder / file)
            except StorageError as error:  # the messages are found all the same
                lines = {}
                self._index.notices.append(str(error))
            await self._index.write(search_index.put_lines, file, signature, lines)
        mark, unread = await self._store.database.read(_unread, position, _BATCH)
        if mark != position.mark:  # another database than the one indexed
            await self._index.write(search_index.make_tables)
            return _BATCH
        if unread and not await self._index.write(_add, unread, position):
            return _BATCH
        return len(unread)


async def message_named(
    store: Store, name: str, scope: SearchScope = EVERYTHING
) -> tuple[str, StoredMessage] | None:
    """The session and the message with an id such as `cli:direct#12`, if in view. Raises StorageError."""
    try:
        session, seq = split_message_id(name)
    except ValueError:
        return None
    condition, parameters = scope.of("turns")
    sql = f"{_MESSAGES} WHERE session = ? AND seq = ? AND {condition}"
    found = await store.database.rows(sql, session, seq, *parameters)
    return (session, stored_message(found[0])) if found else None


def _look(index: IndexConnection, folder: Path) -> tuple[Position, dict[str, str]]:
    signatures = {file: _signature(folder / file) for file in (FACTS_FILE, HISTORY_FILE)}
    known = {name: search_index.state(index, f"file {name}") for name in signatures}
    changed = {name: found for name, found in signatures.items() if known[name] != found}
    return search_index.position(index), changed


def _recall_known(
    index: IndexConnection, folder: Path, text: str, scope: SearchScope, start: int, limit: int
) -> list[Hit] | None:
    """As ranking.recall; None when there is something to be read before."""
    _, changed = _look(index, folder)
    if changed or not scope.is_own or not search_index.reaches(index, scope.session, start):
        return None
    return recall(index, text, scope, start, limit)


def _unread(connection: Connection, position: Position, limit: int) -> tuple[str, list[TurnRow]]:
    """The mark of the last message read, and the next ones that were not, in whatever order they came."""
    last = connection.execute(f"{_MESSAGES} WHERE messages.id = ?", (position.last,)).fetchone()
    late = f" OR messages.id IN ({', '.join(map(str, position.missing))})" if position.missing else ""
    rows = connection.execute(
        f"{_MESSAGES} WHERE messages.id > ?{late} ORDER BY messages.id LIMIT ?", (position.last, limit)
    )
    return _mark(_turn_row(last)) if last else "", [_turn_row(row) for row in rows]


def _turn_row(row: Row) -> TurnRow:
    """Of results of tools no text is searched: they are long, and nobody said them."""
    message = stored_message(row).message
    place = (row["session"], row["seq"], row["created_at"], bool(row["is_group"]))
    return TurnRow(row["id"], *place, message.role, message.all_text.strip())


def _mark(row: TurnRow) -> str:
    return f"{row.session}#{row.seq} {row.at}"


def _add(index: IndexConnection, unread: Sequence[TurnRow], before: Position) -> bool:
    newest = unread[-1]
    last = max(newest.id, before.last)
    oldest = last - _LATE
    missing = {*before.missing, *range(max(before.last + 1, oldest), last)} - {row.id for row in unread}
    reached = tuple(sorted(number for number in missing if number > oldest))
    mark = _mark(newest) if newest.id == last else before.mark
    return search_index.add_turns(index, unread, before, Position(last, reached, mark))


def _signature(path: Path) -> str:
    """Changes with the file. What is wrong with it is said when it is read."""
    try:
        about = path.stat()
    except OSError:
        return "none"
    return f"{about.st_mtime_ns} {about.st_size} {about.st_ino}"
