"""A program that a command has left running: watched, with its output in a file, until it ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from nanobot.paths import make_private_dir
from nanobot.security.process import Process
from nanobot.security.screen import rendered

FILE_BYTES = 10_000_000
OUTPUT_CHARS = 10_000  # of a command, or of the newest output of a program, that a model is shown
KEPT_FILES = 50
LOOK_SECONDS = 2.0
STOP_SECONDS = 3.0


class OutputFile:
    """The newest output of a program: when the file is full, its older half is dropped."""

    def __init__(self, path: Path) -> None:
        make_private_dir(path.parent)
        by_age = sorted(path.parent.glob("*.log"), key=lambda other: other.stat().st_mtime)
        for other in by_age[: -KEPT_FILES + 1]:
            other.unlink(missing_ok=True)
        self.path = path
        self._file = path.open("w+b", buffering=0)

    def write(self, data: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):  # a full disk must not stop the program
            if self._file.tell() + len(data) > FILE_BYTES:
                newest = self._newest(FILE_BYTES // 2)
                self._file.seek(0)
                self._file.truncate()
                self._file.write(b"[older output is gone]\n" + newest)
            self._file.write(data)

    def close(self) -> None:
        self._file.close()

    def newest(self) -> str:
        """As much of its end as a model is shown of a command."""
        return rendered(self._newest(4 * OUTPUT_CHARS).decode("utf-8", "replace")).strip()[-OUTPUT_CHARS:]

    def _newest(self, size: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - size))
            return file.read()


class BackgroundProgram:
    """What is left of a command. `reading` writes to `output` what it says. `str` of it names it."""

    def __init__(
        self, command: str, process: Process, output: OutputFile, reading: Sequence[asyncio.Task[None]]
    ) -> None:
        self.number = process.number
        self.output = output
        self.ended = False
        self._started = time.monotonic()
        self._command = " ".join(command.split())
        self._process = process
        self._reading = reading
        self._watching = asyncio.create_task(self._watch())

    def __str__(self) -> str:
        command = self._command if len(self._command) <= 60 else f"{self._command[:59]}…"
        return f"{command} (process {self.number})"

    def shown(self) -> str:
        """Its newest output, and whether it still runs."""
        seconds = time.monotonic() - self._started
        state = "has ended" if self.ended else f"still runs after {seconds:.0f} seconds"
        return f"{self.output.newest()}\n[{self} {state}; output in {self.output.path}]"

    async def stop(self) -> None:
        """End it and all it has started."""
        if not self.ended:
            self._watching.cancel()
            await self._process.stop(STOP_SECONDS)
            self._close()

    async def _watch(self) -> None:
        # Looked at now and then: a number that has become free may soon belong to somebody else's program.
        while self._process.lives() or not all(task.done() for task in self._reading):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)
        self._close()

    def _close(self) -> None:
        self.ended = True
        for task in self._reading:
            task.cancel()
        self._process.close()
        self.output.close()
