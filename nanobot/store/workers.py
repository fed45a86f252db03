"""Who is working: a worker is alive while it holds its lock file and writes signs of life into it.

The lock tells at once that a process is gone; the signs tell that it is stuck or stopped. They are in
monotonic seconds, which stand still while the machine sleeps: no worker dies of that.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from nanobot.errors import StorageError
from nanobot.paths import make_private_dir
from nanobot.store.sqlite import Database

RENEW = 5.0  # seconds between two signs of life of a worker that has turns
LEASE = 15.0  # seconds without a sign of life after which a worker's turns may be taken over


class Workers:
    """This process as a worker, from when it first claims something, and the others.

    `monotonic` gives seconds that all processes of the machine count alike.
    """

    def __init__(
        self, database: Database, folder: Path, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._db = database
        self._folder = folder
        self._monotonic = monotonic
        self._id = 0
        self._lock = -1

    def enlist(self) -> int:
        """This worker's id, never used before; gives a sign of life. Raises StorageError."""
        if not self._id:
            worker = secrets.randbits(53)
            try:
                make_private_dir(self._folder)
                self._remove_dead()
                unlocked = self._folder / f"new-{worker}"  # nobody may take it for one that is dead
                self._lock = os.open(unlocked, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                unlocked.rename(self._path(worker))
            except OSError as error:
                raise StorageError(f"No lock in {self._folder}: {error}. Check its rights.") from error
            self._id = worker
        self.renew()
        return self._id

    @property
    def owner(self) -> str:
        """This process as the owner of what it submits for itself alone."""
        return str(self.enlist())

    def renew(self) -> None:
        """Give a sign of life; due every RENEW seconds while turns run. Raises StorageError."""
        if self._id:
            try:
                os.pwrite(self._lock, f"{os.getpid():<12}{self._monotonic():<20.3f}\n".encode(), 0)
            except OSError as error:
                raise StorageError(f"{self._path(self._id)} cannot be written: {error}") from error

    def is_alive(self, worker: int) -> bool:
        """Whether a worker still holds its turns."""
        return worker == self._id or self._pid(worker) is not None

    async def lead(self, role: str) -> bool:
        """Take or keep a role that one living worker has at a time; False while another has it."""
        me = self.enlist()
        holder = await self._holder(role)
        if holder == me:
            return True
        if holder and self.is_alive(holder):
            return False
        taken = await self._db.change(  # by nobody else meanwhile
            "INSERT INTO leaders (role, worker) VALUES (?, ?)"
            " ON CONFLICT (role) DO UPDATE SET worker = excluded.worker WHERE leaders.worker = ?",
            *(role, me, holder),
        )
        return taken > 0

    async def resign(self, role: str) -> None:
        """Give up a role and all running turns, so that any worker can take them at once."""
        try:
            await self._db.change("DELETE FROM leaders WHERE role = ? AND worker = ?", role, self._id)
        finally:
            self.release()

    async def leader(self, role: str) -> int | None:
        """The process id of the living worker that has the role."""
        holder = await self._holder(role)
        return self._pid(holder) if holder else None

    def release(self) -> None:
        """Give up the identity; its turns may be taken over at once."""
        if self._lock >= 0:
            self._path(self._id).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock, self._id = -1, 0

    async def _holder(self, role: str) -> int:
        rows = await self._db.rows("SELECT worker FROM leaders WHERE role = ?", role)
        return int(rows[0]["worker"]) if rows else 0

    def _pid(self, worker: int) -> int | None:
        """The process id of a worker that is alive."""
        try:
            descriptor = os.open(self._path(worker), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            if not _is_held(descriptor):
                return None
            pid, seen_at = os.pread(descriptor, 40, 0).split()
            return int(pid) if self._monotonic() - float(seen_at) < LEASE else None
        except ValueError:  # it has just begun, or is of an older version that gave its signs elsewhere
            return 0
        finally:
            os.close(descriptor)

    def _remove_dead(self) -> None:
        """Remove the files of workers that are gone; without a file they stay gone."""
        for path in self._folder.glob("worker-*.lock"):
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    if not _is_held(descriptor):
                        path.unlink()
                finally:
                    os.close(descriptor)

    def _path(self, worker: int) -> Path:
        return self._folder / f"worker-{worker}.lock"


def _is_held(descriptor: int) -> bool:
    """Whether some process has the lock file; those that only look do not see each other."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
