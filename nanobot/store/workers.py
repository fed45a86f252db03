"""Who is working: a worker is alive while it holds its lock file and keeps its row fresh.

The lock tells at once that a process was killed; the row tells that it is stuck or stopped.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from nanobot.paths import make_private_dir
from nanobot.store.sqlite import Connection, Database

RENEW = 5.0  # seconds between two signs of life of a worker that has turns
LEASE = 15.0  # seconds without a sign of life after which a worker's turns may be taken over


class Workers:
    """This process as a worker, registered when it first claims something, and the others.

    What takes a connection runs inside a transaction, on the database's write thread.
    """

    def __init__(self, database: Database, folder: Path) -> None:
        self._db = database
        self._folder = folder
        self._id = 0
        self._lock = -1
        self._seen_at = 0.0

    async def renew(self) -> None:
        """Give a sign of life; due every RENEW seconds while turns run. Raises StorageError."""
        await self._db.write(self._renew, self._db.clock())

    async def lead(self, role: str) -> bool:
        """Take or keep a role that one living worker has at a time; False while another has it."""
        return await self._db.write(self._lead, role, self._db.clock())

    async def resign(self, role: str) -> None:
        """Give up a role and all running turns, so that any worker can take them at once."""
        try:
            await self._db.write(self._resign, role)
        finally:
            self.release()

    async def leader(self, role: str) -> int | None:
        """The process id of the living worker that has the role."""
        return await self._db.read(self._leader, role, self._db.clock())

    def release(self) -> None:
        """Give up the identity; its turns may be taken over at once."""
        if self._lock >= 0:
            self._path(self._id).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock, self._id = -1, 0

    def register(self, connection: Connection, now: float) -> int:
        """This worker's id; the first call adds the row, takes the lock and removes dead workers."""
        if self._id:
            if abs(now - self._seen_at) >= RENEW:  # an idle gateway looks often and must not write as often
                self._renew(connection, now)
            return self._id
        make_private_dir(self._folder)
        row = connection.execute(
            "INSERT INTO workers (pid, seen_at) VALUES (?, ?) RETURNING id", (os.getpid(), now)
        ).fetchone()
        lock = os.open(self._path(row["id"]), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise
        self._id, self._lock, self._seen_at = int(row["id"]), lock, now
        self._forget_dead(connection)
        return self._id

    def _renew(self, connection: Connection, now: float) -> None:
        """Give a sign of life; this also adds the row again when a full disk undid its first commit."""
        if self._id:
            row = (self._id, os.getpid(), now)
            connection.execute(
                "INSERT INTO workers (id, pid, seen_at) VALUES (?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at",
                row,
            )
            self._seen_at = now

    def is_alive(self, connection: Connection, worker: int, now: float) -> bool:
        """Whether a worker still holds its turns."""
        if worker == self._id:
            return True
        row = connection.execute("SELECT seen_at FROM workers WHERE id = ?", (worker,)).fetchone()
        return row is not None and now - row["seen_at"] < LEASE and self._holds_lock(worker)

    def _lead(self, connection: Connection, role: str, now: float) -> bool:
        connection.hold(f"role:{role}")
        me = self.register(connection, now)
        row = connection.execute("SELECT worker FROM leaders WHERE role = ?", (role,)).fetchone()
        if row is not None and not self.is_alive(connection, row["worker"], now):
            row = None
        if row is None:
            connection.execute(
                "INSERT INTO leaders (role, worker) VALUES (?, ?)"
                " ON CONFLICT (role) DO UPDATE SET worker = excluded.worker",
                (role, me),
            )
        return row is None or row["worker"] == me

    def _resign(self, connection: Connection, role: str) -> None:
        connection.execute("DELETE FROM leaders WHERE role = ? AND worker = ?", (role, self._id))

    def _leader(self, connection: Connection, role: str, now: float) -> int | None:
        row = connection.execute(
            "SELECT id, pid FROM leaders JOIN workers ON id = worker WHERE role = ?", (role,)
        ).fetchone()
        return int(row["pid"]) if row is not None and self.is_alive(connection, row["id"], now) else None

    def _forget_dead(self, connection: Connection) -> None:
        for row in connection.execute("SELECT id FROM workers WHERE id <> ?", (self._id,)).fetchall():
            busy = connection.execute(
                "SELECT 1 FROM turns WHERE state = 'running' AND worker = ?", (row["id"],)
            ).fetchone()
            if not busy and not self._holds_lock(row["id"]):
                self._path(row["id"]).unlink(missing_ok=True)
                connection.execute("DELETE FROM workers WHERE id = ?", (row["id"],))

    def _holds_lock(self, worker: int) -> bool:
        try:
            descriptor = os.open(self._path(worker), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _path(self, worker: int) -> Path:
        return self._folder / f"worker-{worker}.lock"
