"""The rows of the search index and their SQL. Everything runs inside a transaction of search_index.py.

Rows of messages have the id of the message, rows of memory files have ids from FILES on: one full-text
table holds both, so that their scores can be compared. What is stored as words was prepared by
memory/words.py; a term to look for is one of those words, with a `*` at its end for a beginning of words.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from nanobot.errors import StorageError

FILES = 1 << 40
TABLES = ("state", "turns", "lines", "words")
SCHEMA = """
CREATE TABLE state (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
);
CREATE TABLE turns (
  id INTEGER PRIMARY KEY,
  session TEXT NOT NULL,
  seq INTEGER NOT NULL,
  at REAL NOT NULL,
  episode INTEGER NOT NULL,              -- the first id since the chat was silent for long
  is_group INTEGER NOT NULL,
  speaker TEXT NOT NULL,
  text TEXT NOT NULL,
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
_TURN = "id, session, seq, at, episode, speaker, text"
_WEIGHTS = "1.0, 0.5, 0.3, 0.6"  # of the columns said, before, after, dates
_SILENCE = 3600.0  # seconds after which a chat is taken to speak of something else
_NEIGHBOUR = 600  # characters of a neighbouring message that are searched with a message


class Position(NamedTuple):
    """How far the database has been read: its last message, and a mark that tells it from another one."""

    message: int = 0
    mark: str = ""


class TurnRow(NamedTuple):
    """A message to be found. `at` is Unix seconds; `words` and `dates` are what is searched."""

    id: int
    session: str
    seq: int
    at: float
    is_group: bool
    speaker: str
    text: str
    words: str
    dates: str


class LineRow(NamedTuple):
    """A line of a memory file to be found. `session`: the group it is for, or ""."""

    text: str
    session: str
    words: str
    dates: str


class FoundTurn(NamedTuple):
    """A message that matches; the higher `score`, the better."""

    score: float
    id: int
    session: str
    seq: int
    at: float
    episode: int
    speaker: str
    text: str


class FoundLine(NamedTuple):
    """A line of a memory file that matches."""

    score: float
    id: int
    file: str
    text: str


@dataclass(frozen=True, slots=True)
class Scope:
    """Who is searching. A group sees itself only; `reach` widens the view of everybody else.

    chat: messages of this session. all: of every private session. everything: the owner at the shell.
    """

    session: str = ""
    is_group: bool = False
    reach: Literal["chat", "all", "everything"] = "chat"

    def sees(self, session: str, *, is_group: bool) -> bool:
        """Whether messages of a session are in view."""
        if self.reach == "everything":
            return True
        if self.reach == "all" and not self.is_group:
            return not is_group
        return (session, is_group) == (self.session, self.is_group)

    def turns(self) -> tuple[str, tuple[str | float, ...]]:
        """A condition on `turns` and its parameters."""
        if self.reach == "everything":
            return "1", ()
        if self.reach == "all" and not self.is_group:
            return "is_group = 0", ()
        return "session = ? AND is_group = ?", (self.session, str(int(self.is_group)))

    def lines(self) -> tuple[str, tuple[str | float, ...]]:
        """A condition on `lines` and its parameters."""
        if self.reach == "everything":
            return "1", ()
        return "session = ?", (self.session if self.is_group else "",)


class SearchRows:
    """The index inside a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    # -- filling it

    def state(self, name: str) -> str:
        """A value kept with the index, or ""."""
        row = self._db.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""

    def set_state(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, value))

    def position(self) -> Position:
        return Position(int(self.state("message") or 0), self.state("mark"))

    def forget_turns(self) -> None:
        """Begin again with the first message: the database is another one."""
        self._db.execute("DELETE FROM words WHERE rowid < ?", (FILES,))
        self._db.execute("DELETE FROM turns")
        self._move_to(Position())

    def add_turns(self, rows: Iterable[TurnRow], expected: Position, reached: Position) -> bool:
        """Add messages in the order of their ids; False when another process read on from `expected`."""
        if self.position() != expected:
            return False
        for row in rows:
            self._add_turn(row)
        self._move_to(reached)
        return True

    def _move_to(self, position: Position) -> None:
        self.set_state("message", str(position.message))
        self.set_state("mark", position.mark)

    def _add_turn(self, row: TurnRow) -> None:
        earlier = self._db.execute(
            "SELECT id, at, episode, (SELECT said FROM words WHERE rowid = id) AS said FROM turns"
            " WHERE session = ? AND seq < ? ORDER BY seq DESC LIMIT 1",
            (row.session, row.seq),
        ).fetchone()
        goes_on = earlier is not None and row.at - earlier["at"] < _SILENCE
        episode = earlier["episode"] if goes_on else row.id
        self._db.execute(
            "INSERT INTO turns VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (row.id, row.session, row.seq, row.at, episode, row.is_group, row.speaker, row.text),
        )
        before = earlier["said"][:_NEIGHBOUR] if goes_on else ""
        self._db.execute(
            "INSERT INTO words (rowid, said, before, after, dates) VALUES (?, ?, ?, '', ?)",
            (row.id, row.words, before, row.dates),
        )
        if goes_on:
            self._db.execute(
                "UPDATE words SET after = ? WHERE rowid = ?", (row.words[:_NEIGHBOUR], earlier["id"])
            )

    def replace_turn(self, session: str, seq: int, text: str, words: str) -> None:
        """Give a message another text, or take it out with an empty one, also where neighbours hold it."""
        row = self._db.execute(
            "SELECT id FROM turns WHERE session = ? AND seq = ?", (session, seq)
        ).fetchone()
        if row is None:
            return
        for column, order in (("after", "seq < ? ORDER BY seq DESC"), ("before", "seq > ? ORDER BY seq")):
            self._db.execute(
                f"UPDATE words SET {column} = ? WHERE {column} <> '' AND rowid ="
                f" (SELECT id FROM turns WHERE session = ? AND {order} LIMIT 1)",
                (words[:_NEIGHBOUR], session, seq),
            )
        if text:
            self._db.execute("UPDATE turns SET text = ? WHERE id = ?", (text, row["id"]))
            self._db.execute("UPDATE words SET said = ? WHERE rowid = ?", (words, row["id"]))
        else:
            self._db.execute("DELETE FROM turns WHERE id = ?", (row["id"],))
            self._db.execute("DELETE FROM words WHERE rowid = ?", (row["id"],))

    def put_lines(self, file: str, signature: str, rows: Sequence[LineRow]) -> None:
        """Make the lines of `file` these; `signature` tells this state of the file from others."""
        known = {
            str(row["text"]): int(row["id"])
            for row in self._db.execute("SELECT id, text FROM lines WHERE file = ?", (file,))
        }
        wanted = {row.text: row for row in rows}
        for text in known.keys() - wanted.keys():
            self._db.execute("DELETE FROM words WHERE rowid = ?", (known[text],))
            self._db.execute("DELETE FROM lines WHERE id = ?", (known[text],))
        newest = self._db.execute("SELECT MAX(id) FROM lines").fetchone()[0] or FILES
        fresh = (row for text, row in wanted.items() if text not in known)
        for number, row in enumerate(fresh, newest + 1):
            self._db.execute("INSERT INTO lines VALUES (?, ?, ?, ?)", (number, file, row.text, row.session))
            self._db.execute(
                "INSERT INTO words (rowid, said, before, after, dates) VALUES (?, ?, '', '', ?)",
                (number, row.words, row.dates),
            )
        self.set_state(f"file {file}", signature)

    def merge(self) -> None:
        """Bring the full-text index into one part, without what was deleted."""
        self._db.execute("INSERT INTO words (words) VALUES ('optimize')")

    def empty_log(self) -> None:
        """Move everything from the write-ahead log into the file; outside of a transaction only.

        Raises StorageError when another process reads for so long that it cannot be done.
        """
        if self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise StorageError("Another nanobot keeps the search index busy. Try again in a moment.")

    # -- asking it

    def count(self) -> int:
        """How many messages and lines there are, about: the cost does not depend on it."""
        turns = self._db.execute("SELECT MAX(id) FROM turns").fetchone()[0] or 0
        return int(turns) + int(self._db.execute("SELECT COUNT(*) FROM lines").fetchone()[0])

    def frequency(self, term: str, most: int) -> int:
        """In how many rows a term is, counted up to `most`."""
        return int(
            self._db.execute(
                "SELECT COUNT(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)",
                (_quoted(term), most),
            ).fetchone()[0]
        )

    def turns(self, terms: Sequence[str], scope: Scope, limit: int) -> list[FoundTurn]:
        """The messages that match any of the terms best."""
        condition, parameters = scope.turns()
        rows = self._db.execute(
            f"SELECT score, {_TURN} FROM ({_best('turns', condition)}) JOIN turns ON id = found"
            " ORDER BY score DESC",
            (_any(terms), 0, FILES, *parameters, limit),
        )
        return [FoundTurn(*row) for row in rows]

    def lines(self, terms: Sequence[str], scope: Scope, limit: int) -> list[FoundLine]:
        """The lines of memory files that match any of the terms best."""
        condition, parameters = scope.lines()
        rows = self._db.execute(
            f"SELECT score, id, file, text FROM ({_best('lines', condition)}) JOIN lines ON id = found"
            " ORDER BY score DESC",
            (_any(terms), FILES, 2 * FILES, *parameters, limit),
        )
        return [FoundLine(*row) for row in rows]

    def turn(self, session: str, seq: int, scope: Scope) -> FoundTurn | None:
        condition, parameters = scope.turns()
        row = self._db.execute(
            f"SELECT 0.0, {_TURN} FROM turns WHERE session = ? AND seq = ? AND {condition}",
            (session, seq, *parameters),
        ).fetchone()
        return FoundTurn(*row) if row else None

    def said_in(self, term: str, ids: Iterable[int]) -> set[int]:
        """Those of the rows that hold a term themselves."""
        query = f"said : {_quoted(term)}"
        return {
            row_id
            for row_id in ids
            if self._db.execute(
                "SELECT 1 FROM words WHERE words MATCH ? AND rowid = ?", (query, row_id)
            ).fetchone()
        }


def _best(table: str, condition: str) -> str:
    """The ids and scores of the best rows of `table`, read only as far as that needs.

    Parameters: what to match, between which ids, those of `condition`, how many.
    """
    joined = "" if condition == "1" else f"CROSS JOIN {table} ON {table}.id = words.rowid"
    return (
        f"SELECT words.rowid AS found, -bm25(words, {_WEIGHTS}) AS score FROM words {joined}"
        f" WHERE words MATCH ? AND words.rowid > ? AND words.rowid < ? AND {condition}"
        " ORDER BY score DESC LIMIT ?"
    )


def _any(terms: Sequence[str]) -> str:
    return " OR ".join(_quoted(term) for term in terms)


def _quoted(term: str) -> str:
    """A term as an FTS5 string: nothing in it can be syntax."""
    word = term.removesuffix("*").replace('"', " ").replace("\0", " ")
    return f'"{word}"' + "*" * term.endswith("*")
