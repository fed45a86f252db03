"""The search index, `$NANOBOT_HOME/search.db`, is derived from the database and the memory files: one that is
missing, damaged or of another version is made anew. One full-text table holds messages, under their ids,
and lines of files, under ids from FILES on, so that their scores can be compared. A term is a word as
memory/words.py makes them, with a `*` at its end for a beginning of words."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from sqlite3 import Connection, Row
from typing import Any, Literal, NamedTuple, TypeVar

from nanobot.errors import StorageError
from nanobot.memory.facts import Fact, HistoryEntry, split_message_id
from nanobot.memory.words import words
from nanobot.paths import make_private_dir
from nanobot.store.sqlite import use_wal

T = TypeVar("T")

FILES = 1 << 40
SCHEMA = """
CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE turns (
  id INTEGER PRIMARY KEY,
  session TEXT NOT NULL,
  seq INTEGER NOT NULL,
  at REAL NOT NULL,
  episode INTEGER NOT NULL,              -- the first id since the chat was silent for long
  is_group INTEGER NOT NULL,
  speaker TEXT NOT NULL,
  text TEXT NOT NULL,
  name TEXT AS (session || '#' || seq),
  UNIQUE (session, seq)
);
CREATE TABLE lines (
  id INTEGER PRIMARY KEY,
  file TEXT NOT NULL,
  text TEXT NOT NULL,                    -- as in the file
  session TEXT NOT NULL,                 -- the group it is for, or ''
  UNIQUE (file, text)
);
CREATE VIRTUAL TABLE words USING fts5 (
  said, before, after, dates, tokenize = 'porter unicode61 remove_diacritics 2'
)
"""
_WEIGHTS = "1.0, 0.5, 0.3, 0.6"  # of the columns said, before, after, dates
_SILENCE = 3600.0  # seconds after which a chat is taken to speak of something else
_NEIGHBOUR = 600  # characters of a neighbouring message that are searched with a message
_VERSION = 3  # of the schema and of how words are made (memory/words.py); another one is made anew
_BUSY = 5.0  # seconds to wait for another process that writes
# What is wrong with the disk or with another process, and not with the file.
_NO_DAMAGE = ("BUSY", "LOCKED", "FULL", "READONLY", "CANTOPEN", "PERM", "AUTH", "INTERRUPT", "NOMEM")


class SearchIndex:
    """Runs functions on one thread, each in a transaction; the first one makes the file. `notices` says why
    it had to be made. When `losses` has risen it is empty, and what the caller does has to begin again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notices: list[str] = []
        self.losses = 0
        self._thread = ThreadPoolExecutor(1, "nanobot-search")
        self._connection: Connection | None = None
        self._inode = 0

    async def read(self, function: Callable[..., T], *args: Any) -> T:
        """Run a function of a connection, and more, that only reads. Raises StorageError."""
        return await self._on_thread(lambda: self._run("BEGIN", function, args))

    async def write(self, function: Callable[..., T], *args: Any) -> T:
        """Run one that writes, alone among all processes. Raises StorageError."""
        return await self._on_thread(lambda: self._run("BEGIN IMMEDIATE", function, args))

    async def start_over(self) -> None:
        """Take its files away, with every byte of what they hold. Raises StorageError."""
        await self._on_thread(self._discard)

    async def aclose(self) -> None:
        await self._on_thread(self._close)
        self._thread.shutdown()

    async def _on_thread(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except (sqlite3.Error, OSError) as error:
            raise StorageError(
                f"The search index failed: {error}. Check the disk and the rights of {self.path}."
            ) from error

    def _run(self, begin: str, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        """Call `function`; once more with a new file when the old one is damaged."""
        try:
            return self._attempt(begin, function, args)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorname", "").removeprefix("SQLITE_").startswith(_NO_DAMAGE):
                raise
            self._notice(f"was damaged ({error})")
            self._discard()
            return self._attempt(begin, function, args)

    def _attempt(self, begin: str, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        connection = self._connected()
        connection.execute(begin)
        with connection:  # commits, or rolls back
            return function(connection, *args)

    def _discard(self) -> None:
        self._close()
        self.losses += 1
        for suffix in ("-wal", "-shm", ""):  # the file last: whoever has it open sees that it is gone
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def _connected(self) -> Connection:
        if self._connection is not None and self._inode != _inode(self.path):
            self._close()  # deleted, or made anew by another process
        if self._connection is None:
            make_private_dir(self.path.parent)
            self.path.touch(mode=0o600)
            self._connection = sqlite3.connect(self.path, isolation_level=None, timeout=_BUSY)
            self._connection.row_factory = Row
            self._inode = _inode(self.path)
            use_wal(self._connection, _BUSY)
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._create(self._connection)
        return self._connection

    def _create(self, connection: Connection) -> None:
        version = "SELECT user_version FROM pragma_user_version"
        if connection.execute(version).fetchone()[0] == _VERSION:
            return
        connection.execute("BEGIN IMMEDIATE")
        with connection:  # commits, or rolls back
            old = connection.execute(version).fetchone()[0]
            if old != _VERSION:  # else another process was faster
                self._notice("was made by another version of nanobot" if old else "was not there")
                make_tables(connection)
                connection.execute(f"PRAGMA user_version = {_VERSION}")

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _notice(self, what: str) -> None:
        if not self.notices:
            self.notices.append(f"The search index {what}. It is made anew; nothing else is affected.")


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


class Position(NamedTuple):
    """How far the database has been read: up to message `last`, without `missing`, which may still be
    committed. `mark` tells the message `last` from one of another database."""

    last: int = 0
    missing: tuple[int, ...] = ()
    mark: str = ""


class TurnRow(NamedTuple):
    """A message to be found; one without text is passed over. `at` is Unix seconds."""

    id: int
    session: str
    seq: int
    at: float
    is_group: bool
    speaker: str
    text: str


@dataclass(frozen=True, slots=True)
class SearchScope:
    """Who is searching. A group sees itself only; `reach` widens the view of everybody else:
    messages of this chat, of all private ones, or (the owner at the shell) everything."""

    session: str = ""
    is_group: bool = False
    reach: Literal["chat", "all", "everything"] = "chat"

    @property
    def is_own(self) -> bool:
        """Whether it sees messages of its own chat only."""
        return self.is_group or self.reach == "chat"

    def of(self, table: Literal["turns", "lines"]) -> tuple[str, tuple[str | int, ...]]:
        """A condition on the columns `session` and `is_group` of messages or lines, and its parameters."""
        if self.reach == "everything":
            return "1", ()
        if table == "lines":
            return "session = ?", (self.session if self.is_group else "",)
        if not self.is_own:
            return "is_group = 0", ()
        return "session = ? AND is_group = ?", (self.session, int(self.is_group))


EVERYTHING = SearchScope(reach="everything")


def state(db: Connection, name: str) -> str:
    """A value kept with the index, or ""."""
    row = db.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
    return str(row[0]) if row else ""


def position(db: Connection) -> Position:
    last, missing, mark = json.loads(state(db, "position") or '[0, [], ""]')
    return Position(last, tuple(missing), mark)


def make_tables(db: Connection) -> None:
    """Make the tables, empty, whatever there was."""
    for name in ("state", "turns", "lines", "words"):
        db.execute(f"DROP TABLE IF EXISTS {name}")
    for statement in SCHEMA.split(";\n"):
        db.execute(statement)


def add_turns(db: Connection, rows: Iterable[TurnRow], before: Position, reached: Position) -> bool:
    """Add messages, those of a session in their order; False when another process has changed the index."""
    if position(db) != before:
        return False
    for row in rows:
        if row.text:
            _add_turn(db, row)
    db.execute("INSERT OR REPLACE INTO state VALUES ('position', ?)", (json.dumps(reached),))
    return True


def _add_turn(db: Connection, row: TurnRow) -> None:
    earlier = db.execute(
        "SELECT id, at, episode, (SELECT said FROM words WHERE rowid = id) AS said FROM turns"
        " WHERE session = ? AND seq < ? ORDER BY seq DESC LIMIT 1",
        (row.session, row.seq),
    ).fetchone()
    goes_on = earlier is not None and row.at - earlier["at"] < _SILENCE
    episode = earlier["episode"] if goes_on else row.id
    added = db.execute(
        "INSERT INTO turns VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (row.id, row.session, row.seq, row.at, episode, row.is_group, row.speaker, row.text),
    ).rowcount
    if added:
        before = earlier["said"][:_NEIGHBOUR] if goes_on else ""
        said = _add_words(db, row.id, row.text, f"{date.fromtimestamp(row.at)}", before)
        if goes_on:
            db.execute("UPDATE words SET after = ? WHERE rowid = ?", (said[:_NEIGHBOUR], earlier["id"]))


def _add_words(db: Connection, row: int, text: str, day: str, before: str = "") -> str:
    from nanobot.memory.dates import date_words  # asking seldom needs it

    said, dates = " ".join(words(text)), date_words(date.fromisoformat(day)) if day else ""
    sql = "INSERT INTO words (rowid, said, before, after, dates) VALUES (?, ?, ?, '', ?)"
    db.execute(sql, (row, said, before, dates))
    return said


def put_lines(db: Connection, file: str, signature: str, rows: Mapping[str, Fact | HistoryEntry]) -> None:
    """Make the lines of `file` these; `signature` tells this state of the file from others."""
    known: dict[str, int] = dict(db.execute("SELECT text, id FROM lines WHERE file = ?", (file,)).fetchall())
    for line in known.keys() - rows.keys():
        db.execute("DELETE FROM words WHERE rowid = ?", (known[line],))
        db.execute("DELETE FROM lines WHERE id = ?", (known[line],))
    newest = db.execute("SELECT MAX(id) FROM lines").fetchone()[0] or FILES
    fresh = [(line, item) for line, item in rows.items() if line not in known]
    for number, (line, item) in enumerate(fresh, newest + 1):
        db.execute("INSERT INTO lines VALUES (?, ?, ?, ?)", (number, file, line, item.origin.group))
        _add_words(db, number, item.text, item.origin.day)
    db.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (f"file {file}", signature))


def frequency(db: Connection, term: str, most: int) -> int:
    """In how many rows a term is, counted up to `most`."""
    counted = "SELECT COUNT(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)"
    return int(db.execute(counted, (_quoted(term), most)).fetchone()[0])


def holders(db: Connection, term: str, most: int) -> tuple[int, list[int]]:
    """How many rows hold a term themselves, counted up to `most`, and their ids when they are fewer."""
    sql = "SELECT COUNT(*), GROUP_CONCAT(id) FROM (SELECT rowid AS id FROM words WHERE words MATCH ? LIMIT ?)"
    count, ids = db.execute(sql, (f"said : {_quoted(term)}", most)).fetchone()
    return count, [*map(int, ids.split(","))] if 0 < count < most else []


def reaches(db: Connection, session: str, seq: int) -> bool:
    """Whether what was said in a session up to message `seq` is here: each is read in its order."""
    later = "SELECT 1 FROM turns WHERE session = ? AND seq >= ? LIMIT 1"
    return not seq or db.execute(later, (session, seq)).fetchone() is not None


def best(
    db: Connection, table: Literal["turns", "lines"], terms: Sequence[str], scope: SearchScope, limit: int
) -> list[Row]:
    """The messages, or lines of memory files, that match any of the terms best."""
    condition, parameters = scope.of(table)
    first = FILES if table == "lines" else 0
    joined = "" if condition == "1" else f"CROSS JOIN {table} ON {table}.id = words.rowid"
    return db.execute(
        f"SELECT score, {table}.* FROM (SELECT words.rowid AS found, -bm25(words, {_WEIGHTS}) AS score"
        f" FROM words {joined} WHERE words MATCH ? AND words.rowid > ? AND words.rowid < ? AND {condition}"
        f" ORDER BY score DESC LIMIT ?) JOIN {table} ON id = found ORDER BY score DESC",
        (" OR ".join(map(_quoted, terms)), first, first + FILES, *parameters, limit),
    ).fetchall()


def these(
    db: Connection, table: Literal["turns", "lines"], ids: Sequence[int], scope: SearchScope
) -> list[Row]:
    """Those messages, or lines of memory files, that are in view."""
    condition, parameters = scope.of(table)
    sql = f"SELECT * FROM {table} WHERE id IN ({', '.join('?' * len(ids))}) AND {condition}"
    return db.execute(sql, (*ids, *parameters)).fetchall()


def turns_named(db: Connection, names: Iterable[str], scope: SearchScope) -> list[Row]:
    """The messages with these ids that are in view."""
    condition, parameters = scope.of("turns")
    sql = f"SELECT * FROM turns WHERE session = ? AND seq = ? AND {condition}"
    found = (db.execute(sql, (*split_message_id(name), *parameters)).fetchone() for name in names)
    return [row for row in found if row is not None]


def _quoted(term: str) -> str:
    """A term as an FTS5 string: nothing in it can be syntax."""
    word = term.removesuffix("*").replace('"', " ").replace("\0", " ")
    return f'"{word}"' + "*" * term.endswith("*")
