"""The one place that starts programs: each in a process group of its own, with an allow-listed environment.

What a program starts itself belongs to its group, and the whole group is stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, SubprocessStreamProtocol
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

_ALLOWED = re.compile(
    r"PATH|HOME|LANG|LANGUAGE|LC_\w+|TERM|COLORTERM|NO_COLOR|TZ|USER|LOGNAME|SHELL|TMPDIR|TMP|TEMP"
    r"|VIRTUAL_ENV|SSL_CERT_(FILE|DIR)|NO_PROXY|no_proxy"
)
_PROXY = re.compile(r"(https?|all)_proxy", re.IGNORECASE)

# For programs that nobody sits in front of: editors, pagers and questions end at once. No colours either.
UNATTENDED: Mapping[str, str] = {
    "TERM": "dumb",
    "COLORTERM": "",
    "NO_COLOR": "1",
    **dict.fromkeys(("PAGER", "GIT_PAGER", "MANPAGER", "SYSTEMD_PAGER"), "cat"),
    **dict.fromkeys(("EDITOR", "VISUAL", "GIT_EDITOR", "GIT_SEQUENCE_EDITOR"), "true"),
    "GIT_TERMINAL_PROMPT": "0",
    "GCM_INTERACTIVE": "never",
    "SSH_ASKPASS_REQUIRE": "never",
    "DEBIAN_FRONTEND": "noninteractive",
    "PIP_NO_INPUT": "1",
    "VIMINIT": "set shortmess+=A | autocmd VimEnter * cquit",  # what -c asks for is done before
    "PYTHONUNBUFFERED": "1",  # what a program in the background says can be read at once
}
_NONE: Mapping[str, str] = {}


class Process:
    """A program that runs, and all it has started. `stdin` is None unless it was asked for."""

    def __init__(self, transport: asyncio.SubprocessTransport, streams: ProcessStreams) -> None:
        assert streams.stdout is not None
        assert streams.stderr is not None
        self.stdin = streams.stdin
        self.stdout = streams.stdout
        self.stderr = streams.stderr
        self._transport = transport
        self._streams = streams

    @property
    def number(self) -> int:
        """Its process id, which is that of its group."""
        return self._transport.get_pid()

    @property
    def code(self) -> int | None:
        """The exit code once it has ended, minus the number of the signal that ended it."""
        return self._transport.get_returncode()

    async def exits(self, seconds: float) -> bool:
        """Whether it ends in time; what it has started may go on."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._streams.exited.wait()
        return self._streams.exited.is_set()

    async def is_over(self, seconds: float) -> bool:
        """Whether it ends in time with all it has started."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._streams.closed.wait()
                while self.lives():  # noqa: ASYNC110 (nobody tells)
                    await asyncio.sleep(0.05)
                return True
        return False

    async def stop(self, seconds: float) -> None:
        """Ask the group to end and kill what is left of it after so long, also when this is cancelled."""
        try:
            self._signal(signal.SIGTERM)
            await self.is_over(seconds)
        finally:
            self.kill()
            reaping = asyncio.ensure_future(self.exits(seconds))
            try:
                await asyncio.shield(reaping)
            except asyncio.CancelledError:  # cancelled once more: it is over in a moment
                await reaping
                raise

    def lives(self) -> bool:
        """Whether anything of the group still runs."""
        try:
            os.killpg(self.number, 0)
        except OSError as error:
            return isinstance(error, PermissionError)
        # Who has ended but is not yet taken note of by its parent still counts for killpg.
        fields = [_stat(folder) for folder in Path("/proc").glob("[0-9]*")] or [["R", "", str(self.number)]]
        return any(state not in "ZX" and group == str(self.number) for state, _, group in fields)

    def kill(self) -> None:
        """Kill what is left of the group."""
        self._signal(signal.SIGKILL)

    def close(self) -> None:
        """Give up the pipes, which a process that left the group may still hold."""
        self._transport.close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.number, number)


def _stat(folder: Path) -> list[str]:
    """State, parent and group of a process (proc_pid_stat(5)); its name may hold anything."""
    try:
        return (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[:3]
    except OSError:
        return ["X", "", ""]


class ProcessStreams(SubprocessStreamProtocol):
    """Tells the end of the program from that of its pipes, which its children may hold longer."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit, asyncio.get_running_loop())
        self.exited = asyncio.Event()
        self.closed = asyncio.Event()

    def process_exited(self) -> None:
        super().process_exited()
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.closed.set()


def hide_from_others() -> None:
    """Close our environment and memory in /proc to other programs of the same user (Linux), debuggers too.

    The environment holds keys, and what we start could look there. Root still sees everything.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE, prctl(2)


async def start(
    command: Sequence[str],
    *,
    folder: Path | None = None,
    inherited: Iterable[str] = (),
    variables: Mapping[str, str] = _NONE,
    with_input: bool = False,
    limit: int = 65536,
    pass_fds: Sequence[int] = (),
) -> Process:
    """Start a program. It sees harmless variables of ours, those named in `inherited`, and `variables`.

    `pass_fds` are open files it gets too; `limit` is the most bytes of a line that is read from it. Raises
    OSError, and ValueError for a NUL character. When this is cancelled, nothing of the program is left.
    """
    hide_from_others()
    starting = asyncio.ensure_future(
        asyncio.get_running_loop().subprocess_exec(
            lambda: ProcessStreams(limit),
            *command,
            stdin=PIPE if with_input else DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            cwd=folder,
            env={**child_environment(inherited), **variables},
            start_new_session=True,
            pass_fds=pass_fds,
        )
    )
    try:
        return Process(*await asyncio.shield(starting))
    except asyncio.CancelledError:
        starting.add_done_callback(_end_started)
        raise


def _end_started(starting: asyncio.Task[tuple[asyncio.SubprocessTransport, ProcessStreams]]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        process = Process(*starting.result())
        process.kill()
        process.close()


def leave_running(command: Sequence[str]) -> None:
    """Start a program of nanobot's own, which sees all that we see, says nothing, and outlives us."""
    nothing = subprocess.DEVNULL
    subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)


def run_program(
    command: Sequence[str],
    *,
    folder: Path | None = None,
    inherited: Iterable[str] = (),
    variables: Mapping[str, str] = _NONE,
    seconds: float | None = None,
) -> int:
    """Run a program to its end while the owner watches its output on stderr; its exit code.

    Raises OSError, and TimeoutError after so long, when nothing of it is left.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**child_environment(inherited), **variables},
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        start_new_session=True,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"it was stopped after {seconds:g} seconds") from error
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def child_environment(extra: Iterable[str] = (), source: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables a child may see, taken from `source` (the process environment).

    `extra` are names the owner allowed by configuration. NANOBOT_* is never passed on, and a proxy
    address only when it carries no user name and password.
    """
    variables = os.environ if source is None else source
    names = frozenset(extra)
    chosen = {name: value for name, value in variables.items() if _may_pass(name, value, names)}
    chosen.setdefault("PATH", os.defpath)
    return chosen


def _may_pass(name: str, value: str, names: frozenset[str]) -> bool:
    if name.upper().startswith("NANOBOT_"):
        return False
    if name in names or _ALLOWED.fullmatch(name):
        return True
    return _PROXY.fullmatch(name) is not None and "@" not in value
