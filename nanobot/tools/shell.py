"""exec: a shell command in its own process group, watched while it runs, never left behind."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import Iterable
from pathlib import Path

from nanobot.agent.tools.base import Tool, ToolContext, ToolOutput, report_output
from nanobot.errors import ToolError
from nanobot.security.files import PathPolicy

OUTPUT_CHARS = 10_000
STDERR_CHARS = 3_000
LIVE_CHARS = 4_000
LIVE_SECONDS = 0.1
STOP_SECONDS = 1.0
DRAIN_SECONDS = 0.5


class Exec(Tool):
    """Runs commands in `context.working_dir`, for at most `context.exec_timeout` seconds.

    `env_names` are variables the owner lets commands see beyond the usual harmless ones.
    """

    errors_are_text = False
    name = "exec"
    description = "Run a shell command, without a terminal or input. Long output is cut in the middle."
    parameters = {
        "type": "object",
        "properties": {
            "command": {"type": "string"},
            "working_dir": {"type": "string", "description": "Default: the workspace"},
        },
        "required": ["command"],
    }

    def __init__(self, context: ToolContext, paths: PathPolicy, env_names: Iterable[str] = ()) -> None:
        self._paths = paths
        self._default_dir = context.working_dir
        self._timeout = context.exec_timeout
        self._env_names = tuple(env_names)
        self._shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"

    async def execute(self, command: str, working_dir: str = "") -> ToolOutput:
        folder = await asyncio.to_thread(self._checked_folder, command, working_dir or self._default_dir)
        output = _Output()
        # A task of its own: however often this call is cancelled, the clean-up runs to its end.
        running = asyncio.create_task(self._run(command, folder, output))
        try:
            code = await asyncio.shield(running)
        except asyncio.CancelledError:
            running.cancel()
            await asyncio.wait([running])
            raise
        if code is None:
            raise ToolError(
                f"The command ran longer than {self._timeout} seconds and was stopped. Start long work in "
                f"the background with its output in a file. Output until then:\n{output.text()}"
            )
        lines = [output.text()]
        if output.held_open:
            lines.append("[a background process still runs; its output is not read]")
        if code:
            lines.append(f"Exit code: {code}")
        return ToolOutput("\n".join(lines), exit_code=code)

    async def _run(self, command: str, folder: Path, output: _Output) -> int | None:
        """The exit code; None when the command had to be stopped."""
        from nanobot.security.process import start

        try:
            process = await start([self._shell, "-c", command], folder=folder, inherited=self._env_names)
        except (OSError, ValueError) as error:
            raise ToolError(f"The command could not be started: {error}.") from error
        streams = ((1, process.stdout), (2, process.stderr))
        reading = [asyncio.create_task(output.read(number, stream)) for number, stream in streams]
        in_time = False
        try:
            in_time = await process.exits(self._timeout)
        finally:
            try:
                if not in_time:
                    await process.stop(STOP_SECONDS)
                _, unread = await asyncio.wait(reading, timeout=DRAIN_SECONDS)
                output.held_open = bool(unread)
            finally:
                process.close()
                for task in reading:
                    task.cancel()
                output.flush()
        return process.code if in_time else None

    def _checked_folder(self, command: str, working_dir: str) -> Path:
        if not command.strip() or "\0" in command:
            raise ToolError("The command is empty or contains a NUL character.")
        try:
            folder = self._paths.working_dir(working_dir)
        except OSError as error:
            raise ToolError(
                f"working_dir {working_dir}: {error.strerror}. Give an existing folder."
            ) from error
        from nanobot.security.shell_guard import check_command

        check_command(command, self._paths, folder)
        return folder


class _Output:
    """Collects both pipes in bounded memory and passes them on to whoever watches."""

    def __init__(self) -> None:
        self.held_open = False  # a process in the background kept the pipes
        self._pipes = {1: _Pipe(), 2: _Pipe()}
        self._unseen = ""
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, number: int, stream: asyncio.StreamReader) -> None:
        while data := await stream.read(65536):
            self._take(self._pipes[number].add(data))
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
    """The first and the last OUTPUT_CHARS of a stream of bytes, decoded as they come."""

    def __init__(self) -> None:
        self.total = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._head = ""
        self._tail = ""

    def add(self, data: bytes, *, final: bool = False) -> str:
        text = self._decoder.decode(data, final)
        self.total += len(text)
        room = OUTPUT_CHARS - len(self._head)
        self._head += text[:room]
        self._tail = (self._tail + text[room:])[-OUTPUT_CHARS:]
        return text

    def text(self, limit: int) -> str:
        """At most `limit` characters and a note about the middle that is left out."""
        if self.total <= limit:
            return (self._head + self._tail).rstrip("\n")
        first, last = self._head[: limit // 2], (self._head + self._tail)[-(limit // 2) :]
        return f"{first}\n[… {self.total - len(first) - len(last)} characters left out …]\n{last}".rstrip(
            "\n"
        )
