"""Noticing that something was stored, by this process or by another one on this machine.

Whoever listens has a named pipe in the folder run/, and whoever has stored something writes a byte into each
of them: nobody has to look again and again, and nobody wakes up while nothing happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from nanobot.errors import StorageError
from nanobot.paths import make_private_dir

log = logging.getLogger(__name__)

PAUSE = 0.2  # seconds between two calls of the listener, however much is stored


class Changes:
    """The pipes of a home. `announce` is for the database's thread, the rest for the event loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own = folder / "changes-"
        self._listener: Callable[[], None] | None = None
        self._news = False
        self._pausing: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def listen(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call `listener` when something was stored. One at a time."""
        self._listener = listener
        loop, descriptor = asyncio.get_running_loop(), self._open_pipe()
        if descriptor is not None:
            loop.add_reader(descriptor, self._heard, descriptor)
        try:
            yield
        finally:
            self._listener = None
            if self._pausing is not None:
                self._pausing.cancel()
                self._pausing = None
            if descriptor is not None:
                loop.remove_reader(descriptor)
                self._own.unlink(missing_ok=True)
                os.close(descriptor)

    def _open_pipe(self) -> int | None:
        name = secrets.token_hex(8)
        making, self._own = self._folder / f"new-{name}", self._folder / f"changes-{name}"
        try:
            make_private_dir(self._folder)
            os.mkfifo(making, 0o600)
            descriptor = os.open(making, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            making.rename(self._own)  # only now: without a reader it would be taken for one left behind
        except (OSError, StorageError) as error:
            log.warning("What other processes store is noticed some seconds later: no pipe, %s", error)
            return None
        return descriptor

    def announce(self) -> None:
        """Tell the other processes that something is on the disk."""
        with contextlib.suppress(OSError):  # what is stored is stored
            for path in self._folder.iterdir():
                if path.name.startswith("changes-") and path != self._own:
                    _ring(path)

    def stored(self) -> None:
        """Tell this process."""
        self._news = True
        if self._pausing is None:
            self._tell()

    def _heard(self, descriptor: int) -> None:
        os.read(descriptor, 1 << 16)
        self.stored()

    def _tell(self) -> None:
        self._pausing = None
        if self._news and self._listener is not None:
            self._news = False
            self._listener()
            self._pausing = asyncio.get_running_loop().call_later(PAUSE, self._tell)


def _ring(pipe: Path) -> None:
    try:
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # nobody reads it: its process was killed
        pipe.unlink(missing_ok=True)
        return
    with contextlib.suppress(OSError):  # it has much to read already; or is gone
        os.write(descriptor, b"\n")
    os.close(descriptor)
