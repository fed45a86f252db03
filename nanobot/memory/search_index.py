"""The search index: `$NANOBOT_HOME/search.db`, derived from the database and from the memory files.

It is a file of its own because nothing is lost with it: one that is missing, damaged or of another version
is made anew. Several processes share it.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from nanobot.errors import StorageError
from nanobot.memory import search_rows
from nanobot.paths import make_private_dir
from nanobot.store.sqlite import use_wal

P = ParamSpec("P")
T = TypeVar("T")

_VERSION = 3  # of the schema and of how words are made (memory/words.py); another one is made anew
_BUSY = 5.0  # seconds to wait for another process that writes
# What is wrong with the disk or with another process, and not with the file.
_NO_DAMAGE = ("BUSY", "LOCKED", "FULL", "READONLY", "CANTOPEN", "PERM", "AUTH", "INTERRUPT", "NOMEM")


class SearchIndex:
    """Runs functions of the rows on one thread, each in a transaction; the first one makes the file.

    `notices` says in a sentence why the index had to be made, until somebody takes it; `losses` counts how
    often it was lost while in use: it is empty then, and what the caller does has to begin again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notices: list[str] = []
        self.losses = 0
        self._thread = ThreadPoolExecutor(1, "nanobot-search")
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    async def read(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function that only reads. Raises StorageError."""
        return await self._on_thread("BEGIN", lambda db: function(db, *args, **kwargs))

    async def write(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function that writes, alone among all processes. Raises StorageError."""
        return await self._on_thread("BEGIN IMMEDIATE", lambda db: function(db, *args, **kwargs))

    async def start_over(self) -> None:
        """Take its files away, with every byte of what they hold. Raises StorageError."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._discard)

    async def aclose(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    # -- the thread's side

    async def _on_thread(self, begin: str, function: Callable[[sqlite3.Connection], T]) -> T:
        call = functools.partial(self._run, begin, function)
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _run(self, begin: str, function: Callable[[sqlite3.Connection], T]) -> T:
        """Call `function`; once more with a new file when the old one is damaged."""
        try:
            try:
                return self._attempt(begin, function)
            except sqlite3.DatabaseError as error:
                if getattr(error, "sqlite_errorname", "").removeprefix("SQLITE_").startswith(_NO_DAMAGE):
                    raise
                self._notice(f"was damaged ({error})")
                self._discard()
                return self._attempt(begin, function)
        except (sqlite3.Error, OSError) as error:
            raise StorageError(
                f"The search index failed: {error}. Check the disk and the rights of {self.path}."
            ) from error

    def _attempt(self, begin: str, function: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connected()
        connection.execute(begin)
        with connection:  # commits, or rolls back
            return function(connection)

    def _discard(self) -> None:
        self._close()
        self.losses += 1
        for suffix in ("-wal", "-shm", ""):  # the file last: whoever has it open sees that it is gone
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and self._inode != _inode(self.path):
            self._close()  # deleted, or made anew by another process
        if self._connection is None:
            make_private_dir(self.path.parent)
            self.path.touch(mode=0o600)
            self._connection = sqlite3.connect(self.path, isolation_level=None, timeout=_BUSY)
            self._connection.row_factory = sqlite3.Row
            self._inode = _inode(self.path)
            use_wal(self._connection, _BUSY)
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._create(self._connection)
        return self._connection

    def _create(self, connection: sqlite3.Connection) -> None:
        version = "SELECT user_version FROM pragma_user_version"
        if connection.execute(version).fetchone()[0] == _VERSION:
            return
        connection.execute("BEGIN IMMEDIATE")
        with connection:  # commits, or rolls back
            old = connection.execute(version).fetchone()[0]
            if old != _VERSION:  # else another process was faster
                self._notice("was made by another version of nanobot" if old else "was not there")
                search_rows.make_tables(connection)
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
