"""Who is working: a worker is alive while it holds its lock file and keeps its row fresh.

The lock tells at once that a process was killed; the row tells that it is stuck or stopped.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path

from nanobot.paths import make_private_dir
from nanobot.session.store import RENEW

LEASE = 15.0  # seconds without a sign of life after which a worker's turns may be taken over


class WorkerIdentity:
    """This process as a worker, registered when it first claims something.

    All methods run on the database's write thread.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._id = 0
        self._lock = -1
        self._seen_at = 0.0

    def register(self, connection: sqlite3.Connection, now: float) -> int:
        """This worker's id; the first call adds the row, takes the lock and removes dead workers."""
        if self._id:
            if abs(now - self._seen_at) >= RENEW:  # an idle gateway looks often and must not write as often
                self.renew(connection, now)
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

    def renew(self, connection: sqlite3.Connection, now: float) -> None:
        """Give a sign of life; this also adds the row again when a full disk undid its first commit."""
        if self._id:
            row = (self._id, os.getpid(), now)
            connection.execute("INSERT OR REPLACE INTO workers (id, pid, seen_at) VALUES (?, ?, ?)", row)
            self._seen_at = now

    def is_alive(self, connection: sqlite3.Connection, worker: int, now: float) -> bool:
        """Whether a worker still holds its turns."""
        if worker == self._id:
            return True
        row = connection.execute("SELECT seen_at FROM workers WHERE id = ?", (worker,)).fetchone()
        return row is not None and now - row["seen_at"] < LEASE and self._holds_lock(worker)

    def lead(self, connection: sqlite3.Connection, role: str, now: float) -> bool:
        """Take or keep a role that one living worker has at a time; False while another has it."""
        me = self.register(connection, now)
        row = connection.execute("SELECT worker FROM leaders WHERE role = ?", (role,)).fetchone()
        if row is not None and not self.is_alive(connection, row["worker"], now):
            row = None
        if row is None:
            connection.execute("INSERT OR REPLACE INTO leaders VALUES (?, ?)", (role, me))
        return row is None or row["worker"] == me

    def resign(self, connection: sqlite3.Connection, role: str) -> None:
        connection.execute("DELETE FROM leaders WHERE role = ? AND worker = ?", (role, self._id))

    def release(self) -> None:
        """Give up the identity; its turns may be taken over at once."""
        if self._lock >= 0:
            self._path(self._id).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock, self._id = -1, 0

    def _forget_dead(self, connection: sqlite3.Connection) -> None:
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
