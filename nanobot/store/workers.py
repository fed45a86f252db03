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
from pathlib import Path

from nanobot.paths import make_private_dir
from nanobot.store.sqlite import Clock, Database, Table, explain

RENEW = 5.0  # seconds between two signs of life of a worker that has turns
LEASE = 15.0  # seconds without a sign of life after which a worker's turns may be taken over
_GATEWAY = "gateway"  # the one role there is


class Workers(Table):
    """This process as a worker, from when it first claims something, and the others; one of them leads.
    `monotonic` gives seconds that all processes of the machine count alike."""

    def __init__(self, database: Database, folder: Path, monotonic: Clock = time.monotonic) -> None:
        super().__init__(database)
        self._folder = folder
        self._monotonic = monotonic
        self._id = 0  # none yet
        self._lock = -1

    def enlist(self) -> int:
        """This worker's id, never used before. Gives a sign of life: due every RENEW seconds while turns run.
        Raises StorageError."""
        try:
            if not self._id:
                self._id, self._lock = self._new()
            os.pwrite(self._lock, f"{os.getpid():<12}{self._monotonic():<20.3f}\n".encode(), 0)
        except OSError as error:
            raise explain(error) from error
        return self._id

    def _new(self) -> tuple[int, int]:
        worker = secrets.randbits(53)
        unlocked = self._folder / f"new-{worker}"  # nobody may take it for one that is dead
        make_private_dir(self._folder)
        for path in self._folder.glob("worker-*.lock"):
            if _sign_of_life(path) is None:  # without a file it stays gone
                path.unlink(missing_ok=True)
        lock = os.open(unlocked, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unlocked.rename(self._path(worker))
        return worker, lock

    @property
    def owner(self) -> str:
        """This process as the owner of what it submits for itself alone."""
        return str(self.enlist())

    def release(self) -> None:
        """Give up the identity; its lead and its turns may be taken over at once."""
        if self._id:
            self._path(self._id).unlink(missing_ok=True)
            os.close(self._lock)
            self._id = 0

    def exists(self, worker: int) -> bool:
        """Whether the process of a worker is there, be it stopped: nobody else may do what is its own."""
        return worker == self._id or _sign_of_life(self._path(worker)) is not None

    def is_alive(self, worker: int) -> bool:
        """Whether a worker still holds its turns."""
        return worker == self._id or self._pid(worker) is not None

    def _pid(self, worker: int) -> int | None:
        """The process id of a worker that is alive."""
        sign = _sign_of_life(self._path(worker))
        if not sign:
            return None
        pid, seen_at = sign.split()
        return int(pid) if self._monotonic() - float(seen_at) < LEASE else None

    def _path(self, worker: int) -> Path:
        return self._folder / f"worker-{worker}.lock"

    # -- the lead: of the living workers one has it

    async def lead(self) -> bool:
        """Take or keep the lead; False while another living worker has it."""
        me, holder = self.enlist(), await self._leader()
        if self.is_alive(holder):
            return holder == me
        taken = await self.database.change(  # by nobody else meanwhile
            "INSERT INTO leaders (role, worker) VALUES (?, ?)"
            " ON CONFLICT (role) DO UPDATE SET worker = excluded.worker WHERE leaders.worker = ?",
            *(_GATEWAY, me, holder),
        )
        return taken > 0

    async def leader(self) -> int | None:
        """The process id of the living worker that leads."""
        return self._pid(await self._leader())

    async def _leader(self) -> int:
        rows = await self.database.rows("SELECT worker FROM leaders WHERE role = ?", _GATEWAY)
        return int(rows[0]["worker"]) if rows else 0


def older_is_running(folder: Path) -> bool:
    """Whether a worker of 0.2.0 is there, which gives its signs of life elsewhere."""
    return b"" in map(_sign_of_life, folder.glob("worker-*.lock"))


def _sign_of_life(path: Path) -> bytes | None:
    """What a worker has written last, if it still holds its lock file."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # those that only look do not see each other
        except BlockingIOError:
            return file.read(40)
    return None
