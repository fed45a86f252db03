"""exec: a shell command in its own process group, watched while it runs; what it leaves running is kept."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from nanobot.agent.tools import (
    TEXT,
    WHOLE_NUMBER,
    Tool,
    ToolContext,
    ToolOutput,
    current_turn,
    object_schema,
)
from nanobot.errors import SandboxMissing, ToolError
from nanobot.paths import home
from nanobot.security.files import PathPolicy

if TYPE_CHECKING:
    from nanobot.security.sandbox import Sandboxes
    from nanobot.tools.background import BackgroundProgram

MOST_PROGRAMS = 20

log = logging.getLogger(__name__)


class BackgroundPrograms:
    """What the commands of this process have left running. `folder` is where their output is written.

    `confine` makes the sandboxes where commands run; without it, they run beside nanobot.
    """

    def __init__(self, folder: Path, confine: Callable[[], Sandboxes] | None = None) -> None:
        self.folder = folder
        self._confine = confine
        self._sandboxes: Sandboxes | None = None
        self._programs: dict[int, tuple[str, BackgroundProgram]] = {}

    def sandboxes(self) -> Sandboxes | None:
        """Where commands run, made when the first one does."""
        if self._confine and self._sandboxes is None:
            self._sandboxes = self._confine()
        return self._sandboxes

    def running(self, session_key: str) -> list[BackgroundProgram]:
        """Those of a session that have not ended."""
        return [one for key, one in self._programs.values() if key == session_key and not one.ended]

    def find(self, session_key: str, number: int) -> BackgroundProgram | None:
        """The one of that number, also when it has ended."""
        key, found = self._programs.get(number, ("", None))
        return found if key == session_key else None

    def add(self, session_key: str, program: BackgroundProgram) -> None:
        """Keep a program of a session in mind; of those that have ended, the newest."""
        for number in [number for number, (_, one) in self._programs.items() if one.ended][:-MOST_PROGRAMS]:
            del self._programs[number]
        self._programs[program.number] = (session_key, program)

    async def aclose(self) -> None:
        """End them all."""
        running = [one for _, one in self._programs.values() if not one.ended]
        if running:
            log.warning("Ended with nanobot: %s", ", ".join(map(str, running)))
        await asyncio.gather(*(one.stop() for one in running))
        if self._sandboxes:
            await self._sandboxes.aclose()


class Exec(Tool):
    """Runs commands in `context.working_dir`, for at most `context.exec_timeout` seconds.

    `env_names` are variables the owner lets commands see beyond the usual harmless ones.
    """

    errors_are_text = False
    name = "exec"
    description = (
        "Run a shell command without terminal or input. What `&` leaves running goes on: give its process "
        "number to see its output, or stop it."
    )
    parameters = object_schema(
        command=TEXT,
        working_dir={**TEXT, "description": "Default: the workspace"},
        process=WHOLE_NUMBER,
        stop={"type": "boolean"},
    )

    def __init__(
        self,
        context: ToolContext,
        paths: PathPolicy,
        env_names: Iterable[str] = (),
        programs: BackgroundPrograms | None = None,
    ) -> None:
        self._paths = paths
        self._default_dir = context.working_dir
        self._timeout = context.exec_timeout
        self._env_names = tuple(env_names)
        self._programs = programs or BackgroundPrograms(home() / "run" / "exec")

    async def execute(
        self, command: str = "", working_dir: str = "", process: int = 0, stop: bool = False
    ) -> ToolOutput:
        from nanobot.tools.command import CommandOutput, run_in_shell

        session = _session()
        if process:
            return await self._look(session, process, stop)
        if len(self._programs.running(session)) >= MOST_PROGRAMS:
            raise ToolError(f"{MOST_PROGRAMS} programs run in the background. Stop one first.")
        folder = await asyncio.to_thread(self._checked_folder, command, working_dir or self._default_dir)
        sandboxes, output = self._programs.sandboxes(), CommandOutput()
        try:
            sandbox = await sandboxes.of(session, _owner_folder()) if sandboxes else None
        except SandboxMissing as error:
            raise ToolError(f"The command could not be started: {error}") from error
        # A task of its own: however often this call is cancelled, the clean-up runs to its end.
        running = asyncio.create_task(
            run_in_shell(
                command, folder, self._env_names, self._timeout, output, self._programs.folder, sandbox
            )
        )
        try:
            code = await asyncio.shield(running)
        except asyncio.CancelledError:
            running.cancel()
            await asyncio.wait([running])
            raise
        finally:
            if output.program is not None:
                self._programs.add(session, output.program)
        if code is None:
            raise ToolError(
                f"The command ran longer than {self._timeout} seconds and was stopped. Start long work in "
                f"the background (`command &`). Output until then:\n{output.text()}"
            )
        text = output.text()
        if sandbox and code and ("denied" in text or "Read-only file" in text):
            text += f"\n[{sandbox.note}]"
        if (left := output.program) is not None:
            text += f"\n[goes on in the background until nanobot ends: process {left.number}, "
            text += f"output in {left.output.path}]"
        return ToolOutput(f"{text}\nExit code: {_exit_code(code)}", exit_code=code)

    async def _look(self, session: str, number: int, stop: bool) -> ToolOutput:
        program = self._programs.find(session, number)
        if program is None:
            known = ", ".join(map(str, self._programs.running(session))) or "nothing"
            raise ToolError(f"There is no process {number} of yours. In the background: {known}.")
        if stop:
            await program.stop()
        return ToolOutput(await asyncio.to_thread(program.shown))

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


def _session() -> str:
    """The session that answers for the running command: for a subagent, the one that asked it."""
    try:
        inbound = current_turn().inbound
    except LookupError:
        return ""
    return inbound.reply_to.session_key if inbound.reply_to else inbound.session_key


def _owner_folder() -> str:
    try:
        return current_turn().inbound.folder
    except LookupError:
        return ""


def _exit_code(code: int) -> str:
    """`3`, `-9 (SIGKILL)`, and `137 (SIGKILL)` as a shell reports it."""
    try:
        return f"{code} ({signal.Signals(-code if code < 0 else code - 128).name})"
    except ValueError:
        return str(code)
