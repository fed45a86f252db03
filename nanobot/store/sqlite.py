"""The seam to the database: `read` and `write` of functions that get a connection.

One SQLite file behind two threads, a reader and a writer: the event loop never waits for the disk. Writes
that arrive while a commit is running share the next one, so fifty busy sessions cost about as many as one.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import sqlite3
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from nanobot.errors import HomeUnusable, StorageError
from nanobot.paths import make_private_dir
from nanobot.store.changes import Changes
from nanobot.store.migrations import MIGRATIONS

P = ParamSpec("P")
S = TypeVar("S", bound="Table")
T = TypeVar("T")
Clock = Callable[[], float]  # gives seconds

_CHECKPOINTS = 5  # tries, each waiting for readers as long as any write does
_GROUP = 128  # writes that may share one commit
_CLEAN = 0x6E616E6F  # the application id of a file in which nothing was ever deleted without overwriting it
_NOT_WRITABLE = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "EROFS", "EACCES", "EPERM", "ENOTDIR")
Row = sqlite3.Row


class Connection(sqlite3.Connection):
    """What a function runs its SQL on, inside a transaction. Its SQL is what Postgres understands too."""

    now = 0.0  # when the transaction began (Unix seconds)

    def hold(self, *keys: str) -> None:
        """Let no other transaction that holds one of `keys` run beside this one.

        Call it first, with all keys. Here nothing is to be done: SQLite has one writer at a time.
        """

    def rows(self, query: str, *values: object) -> list[Row]:
        """What a query finds."""
        return self.execute(query, values).fetchall()

    def row(self, query: str, *values: object) -> Row | None:
        """The first of what a query finds."""
        row: Row | None = self.execute(query, values).fetchone()
        return row

    def change(self, statement: str, *values: object) -> int:
        """Run a statement; how many rows it changed."""
        return self.execute(statement, values).rowcount


_Function = Callable[[Connection], Any]
_Job = tuple[_Function, "asyncio.Future[Any]"]


class Database:
    """Runs functions of a connection on its threads; the file is created by the first.

    `clock` gives Unix seconds; a file of 0.2.0 is not brought up to date while it is `in_use`.
    """

    def __init__(self, path: Path, clock: Clock, in_use: Callable[[], bool]) -> None:
        self.path = path
        self.clock = clock
        self.changes = Changes(path.parent / "run")
        self._in_use = in_use
        self._write_thread = ThreadPoolExecutor(1, "nanobot-db-write")
        self._read_thread = ThreadPoolExecutor(1, "nanobot-db-read")
        self._write_connection: Connection | None = None
        self._read_connection: Connection | None = None
        self._queued: list[_Job] = []
        self._committing = False
        self._begun = False  # when that fails, it is the fault of no function
        self._changed = False  # by the last commit
        self._group = _GROUP

    async def write(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `function` in a transaction; its writes are on disk on return. Raises StorageError.

        It may be run again when a write beside it has failed: it changes nothing but the database.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queued.append((lambda connection: function(connection, *args, **kwargs), future))
        if not self._committing:
            self._committing = True
            loop.call_soon(self._commit_next_group)  # with what is written at the same moment
        return await future

    async def read(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function that only reads; it sees every write that has returned. Raises StorageError."""
        if self._write_connection is None:
            await self.write(Connection.hold)  # nothing: that creates or migrates the file
        call = functools.partial(self._read, lambda connection: function(connection, *args, **kwargs))
        result: T = await asyncio.get_running_loop().run_in_executor(self._read_thread, call)
        return result

    async def rows(self, query: str, *values: object) -> list[Row]:
        """What a query finds. Raises StorageError."""
        return await self.read(Connection.rows, query, *values)

    async def change(self, statement: str, *values: object) -> int:
        """Run a single statement, which is a transaction; how many rows it changed. Raises StorageError."""
        return await self.write(Connection.change, statement, *values)

    async def scrub(self) -> None:
        """Leave no byte of what was deleted or replaced in the files. Raises StorageError.

        Deleted content is overwritten where it stands; a file once written without that is written anew.
        """
        await self.write(Connection.hold)  # what was queued before is in the file
        await asyncio.get_running_loop().run_in_executor(self._write_thread, self._scrub)

    def _scrub(self) -> None:
        try:
            connection = self._open_for_writing()
            if connection.execute("PRAGMA application_id").fetchone()[0] != _CLEAN:
                connection.execute("VACUUM")
                connection.execute(f"PRAGMA application_id = {_CLEAN}")
            for _ in range(_CHECKPOINTS):  # a process that reads keeps the log for a moment
                if not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                    return
        except sqlite3.Error as error:
            raise explain(error) from error
        raise StorageError("Another process is reading the database. Stop it, and forget again.")

    async def aclose(self) -> None:
        """Finish what is queued and close both connections."""
        await asyncio.get_running_loop().run_in_executor(None, self._close)

    def _close(self) -> None:
        for thread in (self._read_thread, self._write_thread):
            thread.shutdown()
        for connection in (self._read_connection, self._write_connection):
            if connection is not None:
                connection.close()

    # -- the event loop's side of group commit

    def _commit_next_group(self) -> None:
        jobs, self._queued = self._queued[: self._group], self._queued[self._group :]
        self._committing = bool(jobs)
        if jobs:
            functions = [function for function, _ in jobs]
            running = asyncio.get_running_loop().run_in_executor(self._write_thread, self._commit, functions)
            running.add_done_callback(functools.partial(self._settle, jobs))

    def _settle(self, jobs: list[_Job], running: asyncio.Future[list[Any]]) -> None:
        error = running.exception()
        if error and len(jobs) > 1 and self._begun:  # one failed: in smaller groups, until it is alone
            self._queued = jobs + self._queued
            self._group = len(jobs) // 2
        else:
            self._group = min(2 * self._group, _GROUP)
            for number, (_, future) in enumerate(jobs):
                if future.done():  # its caller was cancelled; the write stands
                    continue
                if error:
                    future.set_exception(error)
                else:
                    future.set_result(running.result()[number])
        if self._changed:
            self.changes.stored.set()
        # Whoever writes in a row joins the next group: first those run who have waited for this one.
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self._commit_next_group)

    # -- the threads' side

    def _commit(self, functions: list[_Function]) -> list[Any]:
        """Run all in one transaction, all or none."""
        self._begun = self._changed = False
        try:
            with self._open_for_writing() as connection:  # rolls back when one of them or the commit fails
                connection.execute("BEGIN IMMEDIATE")
                self._begun, connection.now = True, self.clock()
                before = connection.total_changes
                results = [function(connection) for function in functions]
                connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise explain(error) from error
        if connection.total_changes > before:
            self._changed = True
            self.changes.announce()
        return results

    def _read(self, function: _Function) -> Any:
        try:
            self._read_connection = self._read_connection or self._open()
            self._read_connection.now = self.clock()
            return function(self._read_connection)
        except (sqlite3.Error, OSError) as error:
            raise explain(error) from error

    def _open(self) -> Connection:
        connection = sqlite3.connect(
            *(self.path, 30), isolation_level=None, factory=Connection, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    def _open_for_writing(self) -> Connection:
        if self._write_connection is None:
            make_private_dir(self.path.parent)
            self.path.touch(mode=0o600)
            connection = self._open()
            try:
                use_wal(connection)
                connection.execute("PRAGMA secure_delete=ON")
                with connection:
                    self._migrate(connection)
            except (sqlite3.Error, StorageError):
                connection.close()
                raise
            self._write_connection = connection
        return self._write_connection

    def _migrate(self, connection: Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version not in (0, *MIGRATIONS):
            raise HomeUnusable(f"{self.path} was written by a newer nanobot. Upgrade this one.")
        if 0 < version < max(MIGRATIONS) and self._in_use():
            raise HomeUnusable(f"An older nanobot is running on {self.path}. Stop it, then start again.")
        for step, script in MIGRATIONS.items():
            if step > version:
                for statement in script.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {step}")
        if version == 0:
            connection.execute(f"PRAGMA application_id = {_CLEAN}")
        connection.execute("COMMIT")


class Table:
    """A class with SQL of its own. All its methods raise StorageError when the disk or the database fails."""

    def __init__(self, database: Database) -> None:
        self.database = database


def writes(
    method: Callable[Concatenate[S, Connection, P], T],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Make a method of a table a transaction (see `Database.write`): who calls it gives no connection."""

    @functools.wraps(method)
    def call(table: S, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        return table.database.write(functools.partial(method, table), *args, **kwargs)

    return call


def use_wal(connection: sqlite3.Connection, patience: float = 30.0) -> None:
    """Switch to a write-ahead log: processes that do so at once get an error instead of a turn."""
    deadline = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def explain(error: Exception) -> StorageError:
    """What went wrong, and what to do."""
    number = error.errno or 0 if isinstance(error, OSError) else 0
    name: str = getattr(error, "sqlite_errorname", None) or errno.errorcode.get(number, "")
    # On a disk without any room SQLite cannot even grow its shared memory, which it calls an I/O error.
    if name in ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE", "ENOSPC", "EDQUOT"):
        return StorageError("The disk is full: nothing more can be stored. Free some space and try again.")
    what = f"The nanobot database cannot be used: {error}."
    if name.startswith(_NOT_WRITABLE):
        advice = "Check the rights of its folder and whether its disk is mounted read-only"
        return HomeUnusable(f"{what} {advice}, or set NANOBOT_HOME to another folder.")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return HomeUnusable(f"{what} It is damaged: move nanobot.db away or restore a copy of it.")
    return StorageError(f"{what} Check its disk, and that no other program holds nanobot.db.")
