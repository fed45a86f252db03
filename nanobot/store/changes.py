"""Noticing that something was stored, by this process or by another one on this machine.

Whoever watches has a named pipe in the folder run/, and whoever has stored something writes a byte into each
of them: nobody looks again and again, and nobody wakes up while nothing happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from nanobot.errors import StorageError
from nanobot.paths import make_private_dir

log = logging.getLogger(__name__)

PAUSE = 0.2  # seconds between two notices of what was stored, however much that is


class Changes:
    """Who waits for changes, and the pipes of a home. `announce` is for any thread, the rest for the loop."""

    def __init__(self, folder: Path) -> None:
        self.stored = asyncio.Event()  # since the last notice
        self._folder = folder
        self._own = folder / "changes-"
        self._waiting: set[asyncio.Event] = set()

    @contextlib.contextmanager
    def subscribe(self) -> Iterator[asyncio.Event]:
        """An event that is set now and whenever something was stored; the subscriber clears it."""
        changed = asyncio.Event()
        changed.set()
        self._waiting.add(changed)
        try:
            yield changed
        finally:
            self._waiting.discard(changed)

    def notify(self) -> None:
        """Wake everybody now: this process has stored something they may be waiting for."""
        for changed in self._waiting:
            changed.set()

    async def watch(self) -> None:
        """Notice what any process on this home stores, until cancelled."""
        self.stored.clear()
        loop, pipe = asyncio.get_running_loop(), self._open_pipe()
        if pipe is not None:
            loop.add_reader(pipe, self._heard, pipe)
        try:
            while True:
                await self.stored.wait()
                self.stored.clear()
                self.notify()
                await asyncio.sleep(PAUSE)
        finally:
            if pipe is not None:
                loop.remove_reader(pipe)
                self._own.unlink(missing_ok=True)
                os.close(pipe)

    def _open_pipe(self) -> int | None:
        name = secrets.token_hex(8)
        making, self._own = self._folder / f"new-{name}", self._folder / f"changes-{name}"
        try:
            make_private_dir(self._folder)
            os.mkfifo(making, 0o600)
            pipe = os.open(making, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            making.rename(self._own)  # only now: without a reader it would be taken for one left behind
        except (OSError, StorageError) as error:
            log.warning("What other processes store is noticed some seconds later: no pipe, %s", error)
            return None
        return pipe

    def _heard(self, pipe: int) -> None:
        os.read(pipe, 1 << 16)
        self.stored.set()

    def announce(self) -> None:
        """Tell the other processes that something is on the disk."""
        with contextlib.suppress(OSError):  # what is stored is stored
            for path in self._folder.iterdir():
                if path.name.startswith("changes-") and path != self._own:
                    _ring(path)


def _ring(path: Path) -> None:
    try:
        pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # nobody reads it: its process was killed
        path.unlink(missing_ok=True)
        return
    with contextlib.suppress(OSError):  # it has much to read already; or is gone
        os.write(pipe, b"\n")
    os.close(pipe)
