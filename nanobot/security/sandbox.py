"""A sandbox for the programs of a session: bubblewrap (bwrap(1)), or Landlock where that cannot be had.

What runs in it sees the system read-only, the folders of its `View`, and nothing of nanobot's own; the
network only if it is let. With bubblewrap it meets there (files in /tmp, servers on its loopback), sees
nothing else that runs, and ends with it.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import shutil
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from nanobot.errors import SandboxMissing
from nanobot.security.process import Process, ProcessStreams, start
from nanobot.security.sandbox_filter import system_call_filter
from nanobot.security.sandbox_view import LINKED, SYSTEM, View, may_be_seen

_TMP_BYTES = 1 << 30
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/shm")
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
_STOP_SECONDS = 1.0
_IDLE_SECONDS = 600.0
_FIX = 'Install bubblewrap (`apt install bubblewrap`), or set tools.exec.sandbox to "off" in config.json.'


def bubblewrap(view: View, *, network: bool) -> list[str]:
    """The command line up to the program itself."""
    real = str(view.home or Path.home().resolve())
    command = ["bwrap", "--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
    command += ["--die-with-parent", "--new-session", "--clearenv", "--hostname", "nanobot"]
    command += ["--share-net"] if network else []
    for link in LINKED:
        path = Path(link)
        command += ["--symlink", str(path.readlink())] if path.is_symlink() else ["--ro-bind-try", link]
        command.append(link)
    command += ["--proc", "/proc", "--dev", "/dev", "--size", str(_TMP_BYTES), "--tmpfs", "/tmp"]
    command += ["--tmpfs", "/run", "--dir", "/var/tmp"]
    command += ["--bind", real, real] if view.home else ["--size", str(_TMP_BYTES), "--tmpfs", real]
    command += ["--symlink", real, str(Path.home())] if real != str(Path.home()) else []
    for name in SYSTEM:
        command += ["--ro-bind-try", name, name]
    for path in view.closed:
        if path.is_dir():
            command += ["--tmpfs", str(path)]
        elif path.exists():
            command += ["--ro-bind", "/dev/null", str(path)]
    for kind, paths in (("--bind", view.writable), ("--ro-bind", view.fixed)):
        for path in filter(Path.exists, paths):
            command += [kind, str(path), str(path)]
    return [*command, "--remount-ro", "/"]


def _interpreter(name: str) -> list[str]:
    """A bare Python that runs a module of this folder, which may not be seen where it runs."""
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    return [python, "-I", "-S", "-c", Path(__file__).with_name(name).read_text("utf-8")]


class Landlock:
    """Each program confines itself before it begins. They meet in a private TMPDIR."""

    note = (  # what to know when something is denied
        "Commands run in a sandbox (Landlock): nothing new can be made at the top of the workspace and the "
        "home, only in folders there (write_file makes them), and in $TMPDIR instead of /tmp."
    )

    def __init__(self, view: View, *, network: bool) -> None:
        self._tmp = ""
        self._processes: list[Process] = []
        self._home = view.home
        self._write = [*_DEVICES, *map(str, view.writable), *([str(view.home)] if view.home else [])]
        self._asked = {
            "read": [*LINKED, *SYSTEM, "/proc", *map(str, view.fixed)],
            "closed": [*map(str, view.closed)],
            "fixed": [*map(str, view.fixed)],
            "network": network,
            "filter": system_call_filter(services=False, network=network).hex(),
        }

    async def start(self, command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> Process:
        """Start a program that sees these variables beside the harmless ones of ours. Raises OSError."""
        self._tmp = self._tmp or tempfile.mkdtemp(prefix="nanobot-")
        asked = json.dumps({**self._asked, "write": [*self._write, self._tmp]})
        own = {"TMPDIR": self._tmp, **({} if self._home else {"HOME": self._tmp})}
        helper = [*_interpreter("sandbox_landlock.py"), asked]
        process = await start([*helper, *command], folder=folder, variables={**variables, **own})
        self._processes = [one for one in self._processes if one.lives()] + [process]
        return process

    @property
    def running(self) -> bool:
        """Whether anything that was started in it has not ended."""
        return any(one.lives() for one in self._processes)

    async def aclose(self) -> None:
        """Delete its files. What still runs is its starter's to end."""
        if self._tmp:
            await asyncio.to_thread(shutil.rmtree, self._tmp, ignore_errors=True)
            self._tmp = ""


class Bubblewrap:
    """Started with its first program, and ended with `aclose` or with nanobot."""

    note = "Commands run in a sandbox (bubblewrap) that sees a part of the machine's files and writes to few."

    def __init__(self, view: View, *, network: bool) -> None:
        self._command = bubblewrap(view, network=network)
        self._socket: socket.socket | None = None
        self._bwrap: Process | None = None
        self._begun: dict[int, asyncio.Future[int]] = {}  # process id by request
        self._running: dict[int, _Transport] = {}
        self._count = 0
        self._opening = asyncio.Lock()

    async def start(self, command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> Process:
        """Start a program in it, with these variables only. Raises OSError."""
        async with self._opening:
            if self._socket is None:
                await self._open()
        assert self._socket
        self._count += 1
        number, loop = self._count, asyncio.get_running_loop()
        transport, files = await _Transport.open()
        self._begun[number], self._running[number] = loop.create_future(), transport
        own = {**variables, "TMPDIR": "/tmp"}
        request = {"id": number, "command": [*command], "folder": str(folder), "variables": own}
        try:
            socket.send_fds(self._socket, [json.dumps(request).encode()], files)
            transport.pid = await self._begun[number]
        except BaseException as error:
            transport.close()
            self._running.pop(number, None)
            if isinstance(error, ConnectionError) and self._bwrap:
                said = await self._bwrap.stderr.read(2000)
                raise ConnectionError(said.decode("utf-8", "replace").strip() or str(error)) from error
            raise
        finally:
            for file in files:
                os.close(file)
            del self._begun[number]
        return Process(transport, transport.streams)

    @property
    def running(self) -> bool:
        """Whether a program that was started in it has not ended."""
        return bool(self._running)

    async def aclose(self) -> None:
        """End all that runs in it."""
        if self._bwrap is not None:
            await self._bwrap.stop(_STOP_SECONDS)
            self._bwrap.close()
        if self._socket is not None:
            self._lost()

    async def _open(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            ours.setblocking(False)
            first = [*_interpreter("sandbox_init.py"), str(theirs.fileno())]
            refused = os.memfd_create("filter")
            try:
                size = os.pwrite(refused, system_call_filter(services=True, network=True), 0)
                command = [*self._command, *(["--seccomp", str(refused)] if size else []), "--", *first]
                self._bwrap = await start(command, pass_fds=[theirs.fileno(), refused])
            except OSError:
                ours.close()
                raise
            finally:
                os.close(refused)
        self._socket = ours
        asyncio.get_running_loop().add_reader(ours, self._hear)

    def _hear(self) -> None:
        """Take what the first program says."""
        assert self._socket
        try:
            data, about, _, _ = self._socket.recvmsg(65536, socket.CMSG_SPACE(_CREDENTIALS.size))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        said = json.loads(data)
        if "code" in said:
            self._running.pop(said["id"]).ended(said["code"])
        elif waiting := self._begun.get(said["id"]):
            waiting.set_result(_CREDENTIALS.unpack(about[0][2])[0])

    def _lost(self) -> None:
        """It has ended, and with it all that ran."""
        assert self._socket
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        for waiting in self._begun.values():
            if not waiting.done():
                waiting.set_exception(ConnectionError("the sandbox has ended"))
        for transport in self._running.values():
            transport.ended(-9)
        self._running.clear()


Sandbox = Bubblewrap | Landlock
_KINDS: tuple[type[Sandbox], ...] = (Bubblewrap, Landlock)  # the better first


async def fault_of(sandbox: Sandbox) -> str:
    """What is wrong with it, found by running a program in it; empty when nothing is."""
    try:
        process = await sandbox.start(["/bin/sh", "-c", "exit 0"], Path("/"), {})
    except OSError as error:
        return str(error)
    said = await process.stderr.read()
    in_time = await process.exits(_STOP_SECONDS)
    process.close()
    return "" if in_time and process.code == 0 else said.decode("utf-8", "replace").strip()


class Sandboxes:
    """The sandbox of each session: made when it is first used, ended when nothing was started for long.

    With `restrict` programs see the workspace alone, else the owner's home as well, without secrets.
    `readable` folders they see read-only, and nothing else of `private`, which holds nanobot's own files.
    """

    def __init__(
        self,
        way: Literal["auto", "bwrap", "landlock", "off"],
        workspace: Path,
        private: Path,
        readable: Sequence[Path],
        *,
        restrict: bool,
        network: bool,
    ) -> None:
        self._kinds = {"bwrap": _KINDS[:1], "landlock": _KINDS[1:]}.get(way, _KINDS)
        self._workspace = workspace.resolve()
        self._private = private.resolve()
        self._readable = readable
        self._restrict = restrict
        self._network = network
        self._open: dict[str, tuple[View, Sandbox, float]] = {}
        self._making = asyncio.Lock()

    async def of(self, session: str, folder: str) -> Sandbox:
        """The one of a session, whose owner stands in `folder`. Raises SandboxMissing."""
        now, view = time.monotonic(), self._view(folder)
        async with self._making:
            for key, (other, sandbox, used) in [*self._open.items()]:
                if (key == session and other != view) or (not sandbox.running and now - used > _IDLE_SECONDS):
                    del self._open[key]
                    await sandbox.aclose()
            sandbox = self._open[session][1] if session in self._open else await self._made(view)
            self._open[session] = view, sandbox, now
        return sandbox

    async def aclose(self) -> None:
        """End them all."""
        await asyncio.gather(*(sandbox.aclose() for _, sandbox, _ in self._open.values()))

    async def _made(self, view: View) -> Sandbox:
        faults = []
        for kind in self._kinds:
            sandbox = kind(view, network=self._network)
            if not (fault := await fault_of(sandbox)):
                return sandbox
            await sandbox.aclose()
            faults.append(f"{kind.__name__}: {fault}")
        raise SandboxMissing(f"No sandbox works here. {'. '.join(faults)}. {_FIX}")

    def _view(self, folder: str) -> View:
        own = [self._workspace / "tools", self._workspace / "skills"]  # what steers nanobot itself
        for path in (*own, *self._readable):  # what comes to be later would be another view
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        stands = Path(folder).resolve() if folder else self._workspace
        home = None if self._restrict else Path.home().resolve()
        seen = self._restrict or (home and stands.is_relative_to(home))
        theirs = [] if seen or not may_be_seen(stands, self._private) else [stands]
        return View([*theirs, self._workspace], [*own, *self._readable], [self._private], home)


class _Transport(asyncio.SubprocessTransport):
    """What asyncio has for a child of its own, for a program that another process has started."""

    def __init__(self) -> None:
        super().__init__()
        self.pid = 0
        self.streams = ProcessStreams(65536)
        self._code: int | None = None
        self._pipes: dict[int, asyncio.ReadTransport] = {}
        self._open = 0

    @classmethod
    async def open(cls) -> tuple[_Transport, list[int]]:
        """A transport and the two files into which its program is to write."""
        self, files, loop = cls(), [], asyncio.get_running_loop()
        for number in (1, 2):
            read, write = os.pipe()
            files.append(write)
            protocol = functools.partial(_Pipe, self, number)
            self._pipes[number], _ = await loop.connect_read_pipe(protocol, os.fdopen(read, "rb", 0))
            self._open += 1
        self.streams.connection_made(self)
        return self, files

    def get_pid(self) -> int:
        return self.pid

    def get_returncode(self) -> int | None:
        return self._code

    def get_pipe_transport(self, fd: int) -> asyncio.BaseTransport | None:
        return self._pipes.get(fd)

    def close(self) -> None:
        for pipe in self._pipes.values():
            pipe.close()

    def ended(self, code: int) -> None:
        self._code = code
        self.streams.process_exited()
        self._end_if_over()

    def pipe_closed(self, number: int, error: Exception | None) -> None:
        self._open -= 1
        self.streams.pipe_connection_lost(number, error)
        self._end_if_over()

    def _end_if_over(self) -> None:
        if self._code is not None and not self._open:
            self.streams.connection_lost(None)


class _Pipe(asyncio.Protocol):
    def __init__(self, transport: _Transport, number: int) -> None:
        self._transport, self._number = transport, number

    def data_received(self, data: bytes) -> None:
        self._transport.streams.pipe_data_received(self._number, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport.pipe_closed(self._number, exc)
