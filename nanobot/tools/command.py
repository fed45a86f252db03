"""One shell command: it is run, watched, and stopped after its time; and what becomes of its output."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from nanobot.agent.tools import report_output
from nanobot.errors import ToolError
from nanobot.security.process import UNATTENDED, child_environment, start
from nanobot.security.screen import TextScreen
from nanobot.tools.background import OUTPUT_CHARS, BackgroundProgram, OutputFile

if TYPE_CHECKING:
    from nanobot.security.sandbox import Sandbox

STDERR_CHARS = 3_000
LIVE_CHARS = 4_000
LIVE_SECONDS = 0.1
STOP_SECONDS = 1.0
DRAIN_SECONDS = 0.5


async def run_in_shell(
    command: str,
    folder: Path,
    env_names: Collection[str],
    seconds: float,
    output: CommandOutput,
    files: Path,
    sandbox: Sandbox | None = None,
) -> int | None:
    """The exit code, None when the command had to be stopped. What it has left running is `output.program`.

    It sees the variables named in `env_names` as they are, beyond the usual harmless ones. `files` is the
    folder for the output of what goes on.
    """
    shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
    variables = {name: value for name, value in UNATTENDED.items() if name not in env_names}
    try:
        if sandbox is not None:
            variables = {**child_environment(env_names), **variables}
            process = await sandbox.start([shell, "-c", command], folder, variables)
        else:
            process = await start(
                [shell, "-c", command], folder=folder, inherited=env_names, variables=variables
            )
    except (OSError, ValueError) as error:
        raise ToolError(f"The command could not be started: {error}") from error
    streams = ((1, process.stdout), (2, process.stderr))
    reading = [asyncio.create_task(output.read(number, stream)) for number, stream in streams]
    in_time = False
    try:
        in_time = await process.exits(seconds)
        if in_time and await process.is_over(DRAIN_SECONDS):
            await asyncio.wait(reading)
        elif in_time:
            file = OutputFile(files / f"{process.number}.log")
            file.write(f"{output.text()}\n".encode())
            output.program = BackgroundProgram(command, process, file, reading)
    finally:
        try:
            if not in_time:
                await process.stop(STOP_SECONDS)
                await asyncio.wait(reading, timeout=DRAIN_SECONDS)
        finally:
            output.flush()
            if output.program is None:
                process.close()
                for task in reading:
                    task.cancel()
    return process.code if in_time else None


class CommandOutput:
    """Collects both pipes in bounded memory and passes them on to whoever watches."""

    def __init__(self) -> None:
        self.program: BackgroundProgram | None = None  # what has gone on after the command itself
        self._pipes = {1: _Pipe(), 2: _Pipe()}
        self._unseen = ""
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, number: int, stream: asyncio.StreamReader) -> None:
        while data := await stream.read(65536):
            if self.program is not None:
                self.program.output.write(data)
            else:
                self._take(self._pipes[number].add(data))
        if self.program is None:
            self._take(self._pipes[number].add(b"", final=True))

    def _take(self, text: str) -> None:
        self._unseen = (self._unseen + text)[-LIVE_CHARS:]
        if text and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LIVE_SECONDS, self.flush)

    def flush(self) -> None:
        """Report what came in since the last time; a flood shows its newest part only."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._unseen:
            report_output(self._unseen)
            self._unseen = ""

    def text(self) -> str:
        """Both outputs within OUTPUT_CHARS; errors keep a share when there is much of both."""
        out, err = self._pipes[1], self._pipes[2]
        share = min(err.total, max(STDERR_CHARS, OUTPUT_CHARS - out.total))
        text, errors = out.text(OUTPUT_CHARS - share), err.text(share)
        parts = [text] if text else []
        return "\n".join([*parts, f"STDERR:\n{errors}"] if errors else parts) or "(no output)"


class _Pipe:
    """The first and the last OUTPUT_CHARS of a stream of bytes, as a screen would show them."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._screen = TextScreen()
        self._scrolled = ""
        self._gone = 0  # characters from the middle of `_scrolled`

    def add(self, data: bytes, *, final: bool = False) -> str:
        """Take the next bytes; their text as it came."""
        text = self._decoder.decode(data, final)
        self._scrolled += self._screen.feed(text)
        if (more := len(self._scrolled) - 2 * OUTPUT_CHARS) > 0:
            self._scrolled = self._scrolled[:OUTPUT_CHARS] + self._scrolled[-OUTPUT_CHARS:]
            self._gone += more
        return text

    @property
    def total(self) -> int:
        return len(self._scrolled) + self._gone + len(self._screen.rows())

    def text(self, limit: int) -> str:
        """At most `limit` characters and a note about the middle that is left out."""
        whole = self._scrolled + self._screen.rows()
        if self.total <= limit:
            return whole.rstrip("\n")
        half = limit // 2
        left_out = f"\n[… {self.total - 2 * half} characters left out …]\n"
        return f"{whole[:half]}{left_out}{whole[-half:] if half else ''}".rstrip("\n")
