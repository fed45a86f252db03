"""A sandbox for the programs of a session: bubblewrap with a small view of the machine (bwrap(1)).

What runs in it meets there (files in /tmp, servers on its loopback) and ends with it. It sees the system
read-only, the folders of its `View`, and nothing of nanobot's own; the network only if it is let.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from nanobot.errors import SandboxMissing
from nanobot.security.process import Process, ProcessStreams, start

_SYSTEM = ("/usr", "/opt", "/nix", "/snap")
_LINKED = ("/bin", "/sbin", "/lib", "/lib32", "/lib64")  # into /usr, on most systems
# Of /etc only this: it may hold keys, and for root the passwords.
_NO_PROJECT = ("/bin", "/boot", "/dev", "/etc", "/lib", "/proc", "/run", "/sbin", "/sys", "/usr", "/var")
_ETC = (
    *("alternatives", "ca-certificates", "ca-certificates.conf", "fonts", "group", "hosts", "inputrc"),
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "magic", "mime.types", "nsswitch.conf"),
    *("os-release", "passwd", "pki", "profile", "profile.d", "protocols", "resolv.conf", "services", "ssl"),
    *("terminfo", "timezone", "vim"),
)
# What other programs keep secret, below the owner's home.
_SECRETS = (
    *(".ssh", ".gnupg", ".password-store", ".pki", ".local/share/keyrings", ".config/op", ".vault-token"),
    *(".aws", ".azure", ".config/gcloud", ".kube", ".docker", ".oci", ".config/rclone", ".terraform.d"),
    *(
        ".config/gh",
        ".config/hub",
        ".config/git/credentials",
        ".git-credentials",
        ".netrc",
        ".npmrc",
        ".pypirc",
    ),
    *(".cargo/credentials", ".cargo/credentials.toml", ".gem/credentials", ".m2/settings.xml", ".pgpass"),
    *(
        ".my.cnf",
        ".mozilla",
        ".thunderbird",
        ".config/google-chrome",
        ".config/chromium",
        ".config/BraveSoftware",
    ),
    *(".config/microsoft-edge", ".config/vivaldi", ".config/opera", ".config/Signal", ".config/Slack"),
    *(".claude", ".claude.json", ".codex", ".gemini", ".cursor", ".bash_history", ".zsh_history"),
    *(".python_history", ".node_repl_history", ".psql_history", ".mysql_history"),
)
_TMP_BYTES = 1 << 30
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
_STOP_SECONDS = 1.0
_IDLE_SECONDS = 600.0
_FIX = 'Install bubblewrap (`apt install bubblewrap`), or set tools.exec.sandbox to "off" in config.json.'


class View(NamedTuple):
    """What programs of a session see beside the system. `hidden` is within the others and is not seen.

    `home` is the owner's home, seen without what other programs keep secret there; None for a private one.
    """

    writable: Sequence[Path]
    read_only: Sequence[Path] = ()
    hidden: Sequence[Path] = ()
    home: Path | None = None


def bubblewrap(view: View, *, network: bool) -> list[str]:
    """The command line up to the program itself."""
    home = str(view.home or Path.home())
    command = ["bwrap", "--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
    command += ["--die-with-parent", "--new-session", "--clearenv", "--hostname", "nanobot"]
    command += ["--share-net"] if network else []
    for name in _SYSTEM:
        command += ["--ro-bind-try", name, name]
    for link in _LINKED:
        path = Path(link)
        command += ["--symlink", str(path.readlink())] if path.is_symlink() else ["--ro-bind-try", link]
        command.append(link)
    for name in _ETC:
        command += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    command += ["--proc", "/proc", "--dev", "/dev", "--size", str(_TMP_BYTES), "--tmpfs", "/tmp"]
    command += ["--tmpfs", "/run", "--dir", "/var/tmp"]
    command += ["--bind", home, home] if view.home else ["--size", str(_TMP_BYTES), "--tmpfs", home]
    command += ["--ro-bind-try", sys.base_prefix, sys.base_prefix]
    secrets = [view.home / name for name in _SECRETS] if view.home else []
    for path in (*secrets, *view.hidden):
        if path.is_dir():
            command += ["--tmpfs", str(path)]
        elif path.exists():
            command += ["--ro-bind", "/dev/null", str(path)]
    for kind, paths in (("--bind", view.writable), ("--ro-bind", view.read_only)):
        for path in paths:
            command += [kind, str(path), str(path)]
    return [*command, "--remount-ro", "/"]


class Sandbox:
    """Started with its first program, and ended with `aclose` or with nanobot."""

    def __init__(self, view: View, *, network: bool) -> None:
        self._command = bubblewrap(view, network=network)
        self._socket: socket.socket | None = None
        self._bwrap: Process | None = None
        self._begun: dict[int, asyncio.Future[int]] = {}  # process id by request
        self._running: dict[int, _Transport] = {}
        self._count = 0
        self._opening = asyncio.Lock()

    async def start(self, command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> Process:
        """Start a program in it, with these variables only. Raises OSError, and SandboxMissing."""
        async with self._opening:
            if self._socket is None:
                await self._open()
        assert self._socket
        self._count += 1
        number, loop = self._count, asyncio.get_running_loop()
        transport, files = await _Transport.open()
        self._begun[number], self._running[number] = loop.create_future(), transport
        request = {"id": number, "command": [*command], "folder": str(folder), "variables": {**variables}}
        try:
            socket.send_fds(self._socket, [json.dumps(request).encode()], files)
            transport.pid = await self._begun[number]
        except BaseException:
            transport.close()
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
            code = Path(__file__).with_name("sandbox_init.py").read_text("utf-8")
            python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
            first = [python, "-I", "-S", "-c", code, str(theirs.fileno())]
            try:
                self._bwrap = await start([*self._command, "--", *first], pass_fds=[theirs.fileno()])
            except OSError as error:
                ours.close()
                raise SandboxMissing(f"{error}. {_FIX}") from error
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
                waiting.set_exception(SandboxMissing(f"The sandbox does not work here. {_FIX}"))
        for transport in self._running.values():
            transport.ended(-9)
        self._running.clear()


class Sandboxes:
    """The sandbox of each session: made when it is first used, ended when nothing was started for long.

    With `restrict` programs see the workspace alone, else the owner's home as well, without secrets.
    `readable` folders they see read-only, and nothing else of `private`, which holds nanobot's own files.
    """

    def __init__(
        self, workspace: Path, private: Path, readable: Sequence[Path], *, restrict: bool, network: bool
    ) -> None:
        self._workspace = workspace.resolve()
        self._private = private.resolve()
        self._readable = readable
        self._restrict = restrict
        self._network = network
        self._open: dict[str, tuple[View, Sandbox, float]] = {}

    async def of(self, session: str, folder: str) -> Sandbox:
        """The one of a session, whose owner stands in `folder`."""
        now, view = time.monotonic(), self._view(folder)
        for key, (other, sandbox, used) in [*self._open.items()]:
            if (key == session and other != view) or (not sandbox.running and now - used > _IDLE_SECONDS):
                del self._open[key]
                await sandbox.aclose()
        _, sandbox, _ = self._open.get(session) or (view, Sandbox(view, network=self._network), now)
        self._open[session] = view, sandbox, now
        return sandbox

    async def aclose(self) -> None:
        """End them all."""
        await asyncio.gather(*(sandbox.aclose() for _, sandbox, _ in self._open.values()))

    def _view(self, folder: str) -> View:
        own = [self._workspace / "tools", self._workspace / "skills"]  # what steers nanobot itself
        for path in (*own, *self._readable):  # what comes to be later would be another view
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        stands = Path(folder).resolve() if folder else self._workspace
        theirs = [] if self._restrict or not self._may_be_seen(stands) else [stands]
        home = None if self._restrict else Path.home()
        return View([*theirs, self._workspace], [*own, *self._readable], [self._private], home)

    def _may_be_seen(self, folder: Path) -> bool:
        """Whether a folder outside the home may be written to: no system's, and none above nanobot's own."""
        system = any(folder.is_relative_to(path) for path in _NO_PROJECT)
        return folder.is_dir() and not system and not self._private.is_relative_to(folder)


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
