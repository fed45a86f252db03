"""What commands see and reach in the sandbox, tried by commands themselves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest

from nanobot.errors import SandboxMissing
from nanobot.security.process import Process, start
from nanobot.security.sandbox import Bubblewrap, Landlock, Sandbox, Sandboxes, fault_of
from nanobot.security.sandbox_view import View

Way = Literal["bwrap", "landlock"]
WAYS: list[Way] = ["bwrap", "landlock"]
VARIABLES = {"PATH": os.environ["PATH"], "MARK": "seen"}


class Place:
    """A machine's owner: a home with secrets, nanobot's own folder in it, a project elsewhere."""

    def __init__(self, folder: Path, way: Way) -> None:
        self.way = way
        self.home = folder / "home"
        self.nanobot = self.home / ".nanobot"
        self.workspace = self.nanobot / "workspace"
        self.project = folder / "project"
        self.below = self.workspace / "below"  # Landlock makes nothing new at the top
        for path in (self.below, self.project, self.home / ".ssh", self.home / "notes"):
            path.mkdir(parents=True)
        for path in (
            self.home / ".ssh/id_rsa",
            self.home / ".netrc",
            self.nanobot / "config.json",
            self.nanobot / "nanobot.db",
        ):
            path.write_text("my-key")
        (self.home / "notes/a.txt").write_text("a note")

    def sandboxes(self, *, restrict: bool = False, network: bool = False) -> Sandboxes:
        return Sandboxes(
            self.way,
            self.workspace,
            self.nanobot,
            [self.nanobot / "media"],
            restrict=restrict,
            network=network,
        )


async def works(way: Way) -> bool:
    box = Bubblewrap(View([]), network=True) if way == "bwrap" else Landlock(View([]), network=True)
    async with contextlib.aclosing(box):
        return not await fault_of(box)


@pytest.fixture(params=WAYS)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    if not asyncio.run(works(request.param)):
        pytest.skip(f"{request.param} does not work here")
    place = Place(tmp_path, request.param)
    monkeypatch.setenv("HOME", str(place.home))
    return place


@asynccontextmanager
async def sandbox(sandboxes: Sandboxes, folder: Path | str = "") -> AsyncIterator[Sandbox]:
    async with contextlib.aclosing(sandboxes):
        yield await sandboxes.of("cli:direct", str(folder))


async def begin(box: Sandbox, command: str, folder: Path) -> Process:
    return await box.start(["/bin/bash", "-c", command], folder, VARIABLES)


async def run(box: Sandbox, command: str, folder: Path) -> tuple[int | None, str]:
    """Exit code, and both outputs."""
    process = await begin(box, command, folder)
    out, err = await asyncio.gather(process.stdout.read(), process.stderr.read())
    assert await process.exits(20)
    process.close()
    return process.code, (out + err).decode()


async def test_what_is_written_in_the_workspace_and_in_the_project_stays(place: Place) -> None:
    async with sandbox(place.sandboxes(), place.project) as box:
        command = f"echo one > a; echo two > {place.project}/b; mv {place.project}/b b; exit 3"
        assert await run(box, command, place.below) == (3, "")
    assert ((place.below / "a").read_text(), (place.below / "b").read_text()) == ("one\n", "two\n")


@pytest.mark.parametrize("restrict", [False, True])
async def test_secrets_and_what_is_nanobots_own_are_not_there(place: Place, restrict: bool) -> None:
    async with sandbox(place.sandboxes(restrict=restrict)) as box:
        for path in (
            *(place.home / ".ssh/id_rsa", place.home / ".netrc"),
            *(place.nanobot / "config.json", place.nanobot / "nanobot.db", "/etc/shadow"),
        ):
            _, text = await run(box, f"cat {path}; cat < {path}", place.workspace)
            assert "my-key" not in text
            assert "root:" not in text
        _, text = await run(box, f"cat {place.home}/notes/a.txt", place.workspace)
        assert ("a note" in text) == (not restrict)
        _, text = await run(box, f"grep -rs my-key {place.home} /proc/[0-9]*/environ; env", place.workspace)
        assert "my-key" not in text
        assert "MARK=seen" in text
        assert "LOGNAME" not in text or place.way == "landlock"


@pytest.mark.parametrize(
    "command",
    [
        "echo x > /etc/motd",
        "echo x > /usr/x",
        "echo x > $W/tools/x.py",
        "mv $W/tools $W/other",
        "mkdir -p $W/skills/x",
        "mount -t tmpfs none /mnt",
        "unshare -Ur true",
        "unshare -m true",
        "chroot / true",
        "ln $W/../config.json $W/x",
        "mknod $W/disk b 8 0",
    ],
)
async def test_what_it_may_not_do_fails(place: Place, command: str) -> None:
    async with sandbox(place.sandboxes()) as box:
        code, _ = await run(box, f"W={place.workspace}; {command}", place.workspace)
    assert code != 0


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.parametrize("network", [False, True])
async def test_the_network_is_there_when_it_is_let(
    place: Place, server: socket.socket, network: bool
) -> None:
    address = f"/dev/tcp/127.0.0.1/{server.getsockname()[1]}"
    async with sandbox(place.sandboxes(network=network)) as box:
        code, _ = await run(box, f"exec 3<>{address}", place.workspace)
    assert (code == 0) == network


async def test_a_server_its_files_and_the_next_command_meet(place: Place) -> None:
    async with sandbox(place.sandboxes(network=place.way == "landlock")) as box:
        server = await begin(
            box,
            "mkdir $TMPDIR/www; echo hello > $TMPDIR/www/a; cd $TMPDIR/www;"
            f" exec {Path(sys.executable).resolve()} -um http.server 0",
            place.workspace,
        )
        port = (await server.stdout.readline()).split()[5].decode()
        fetch = f"exec 3<>/dev/tcp/127.0.0.1/{port}; printf 'GET /a HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
        _, text = await run(box, fetch, place.workspace)
        assert text.endswith("hello\n")
        assert await run(box, "cat $TMPDIR/www/a", place.workspace) == (0, "hello\n")
        assert server.lives()
        assert box.running
        await server.stop(5)
        assert not server.lives()
        server.close()
    assert not Path("/tmp/www").exists()


async def test_bubblewrap_shows_no_other_processes(place: Place) -> None:
    async with sandbox(place.sandboxes()) as box:
        _, text = await run(box, "ls /proc | grep -c '^[0-9]'", place.workspace)
    assert (int(text) < 10) == (place.way == "bwrap")


async def test_no_other_process_is_ended_or_looked_into(place: Place) -> None:
    other = await start(["sleep", "100"], variables={"SECRET": "my-key"})
    async with sandbox(place.sandboxes()) as box:
        command = f"cat /proc/{other.number}/environ; ls /proc/{other.number}/root/; kill -9 {other.number}"
        code, text = await run(box, command, place.workspace)
    assert code != 0
    assert "my-key" not in text
    assert "usr" not in text
    assert other.lives()
    await other.stop(5)
    other.close()


@pytest.mark.parametrize("name", [".bashrc", ".config/autostart/x", ".local/bin/git", ".profile"])
async def test_what_programs_run_at_their_start_is_not_written_to(place: Place, name: str) -> None:
    path = place.home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    async with sandbox(place.sandboxes()) as box:
        for command in (f"echo more >> {path}", f"rm {path}", f"mv {path.parent} {place.home}/notes/moved"):
            await run(box, command, place.workspace)
        assert await run(box, f"cat {path}", place.workspace) == (0, "mine")
    assert path.read_text() == "mine"


async def test_where_the_owner_stands_opens_no_secret_and_a_home_may_be_a_link(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(place.home)
    monkeypatch.setenv("HOME", str(tmp_path / "link"))
    for stands in (place.home / ".ssh", place.home):
        async with sandbox(place.sandboxes(), stands) as box:
            _, text = await run(box, f"grep -rs my-key {tmp_path}/link/ {place.home}/", place.workspace)
            assert "my-key" not in text
            notes = f"echo b > {tmp_path}/link/notes/b; cat {tmp_path}/link/notes/*"
            assert await run(box, notes, place.workspace) == (0, "a noteb\n")


async def test_a_link_planted_in_the_workspace_leads_nowhere(place: Place) -> None:
    async with sandbox(place.sandboxes()) as box:
        planted = f"ln -s {place.nanobot} l; ln -s {place.home}/.ssh m; cat l/config.json m/id_rsa"
        _, text = await run(box, planted, place.below)
        assert "my-key" not in text
        assert "my-key" not in (await run(box, "cat l/config.json m/id_rsa", place.below))[1]


async def test_all_of_it_ends_with_the_sandbox(place: Place) -> None:
    if place.way == "landlock":
        pytest.skip("what has left its process group goes on, as without a sandbox")
    async with sandbox(place.sandboxes()) as box:
        process = await begin(box, "setsid sleep 1000 & echo begun; sleep 1000", place.workspace)
        assert await process.stdout.readline() == b"begun\n"
    assert await process.is_over(5)
    assert process.code == -9
    process.close()


async def test_another_folder_is_another_view_and_another_session_another_sandbox(place: Place) -> None:
    sandboxes = place.sandboxes()
    async with contextlib.aclosing(sandboxes):
        first = await sandboxes.of("a", str(place.project))
        assert await sandboxes.of("a", str(place.project)) is first
        assert await sandboxes.of("b", str(place.project)) is not first
        assert await run(first, "echo x > $TMPDIR/of-a", place.workspace) == (0, "")
        other = await sandboxes.of("b", str(place.project))
        assert "of-a" not in (await run(other, "ls $TMPDIR", place.workspace))[1]
        assert await sandboxes.of("a", "") is not first


@pytest.mark.parametrize("folder", ["/", "/etc", "/usr/local", "/proc/self", ".nanobot", "."])
async def test_no_folder_opens_what_must_stay_closed(place: Place, folder: str) -> None:
    async with sandbox(place.sandboxes(), place.home / folder) as box:
        _, text = await run(box, f"cat {place.nanobot}/config.json; cat /etc/shadow", place.workspace)
    assert "my-key" not in text
    assert "root:" not in text


async def test_a_sandbox_that_does_not_work_says_why_and_what_to_do(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place.way == "landlock":
        pytest.skip("it is there")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SandboxMissing, match=r"bwrap.*Install bubblewrap .* tools.exec.sandbox"):
        await place.sandboxes().of("a", "")


async def test_what_bubblewrap_says_of_its_failure_is_told(place: Place) -> None:
    box = Bubblewrap(View([Path(f"/proc/{os.getpid()}/task")]), network=False)
    async with contextlib.aclosing(box):
        assert "bwrap: " in await fault_of(box)
        assert not box.running


async def test_a_folder_that_is_not_seen_and_a_long_command_are_errors(place: Place) -> None:
    async with sandbox(place.sandboxes(restrict=True)) as box:
        code, text = await run(box, "ls", place.project)
        assert code != 0
        assert "cannot be started in the sandbox" in text or "Permission denied" in text
        with pytest.raises(OSError, match="long"):
            await begin(box, "x" * 5_000_000, place.workspace)
        assert not box.running
        assert await run(box, "echo fine", place.workspace) == (0, "fine\n")


_CALLS = """
import ctypes, errno, platform, sys
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == "x86_64"
for name, number in {
    "add_key": 248 if x86 else 217, "request_key": 249 if x86 else 218, "keyctl": 250 if x86 else 219,
    "io_uring_setup": 425, "bpf": 321 if x86 else 280, "userfaultfd": 323 if x86 else 282,
    "perf_event_open": 298 if x86 else 241,
}.items():
    libc.syscall(number, 0, 0, 0, 0, 0)
    print(name, errno.errorcode.get(ctypes.get_errno()))
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="there is no filter for it")
async def test_what_the_kernel_keeps_is_closed_and_programs_work(place: Place) -> None:
    python = Path(sys.executable).resolve()
    async with sandbox(place.sandboxes(network=True)) as box:
        _, text = await run(box, f"{python} -c '{_CALLS}'", place.workspace)
        assert len(text.splitlines()) == 7
        assert all(line.endswith("EPERM") for line in text.splitlines()), text
        threads = (
            "import threading, subprocess, socket, multiprocessing, asyncio\n"
            "def work(number): return number * 2\n"
            "t = threading.Thread(target=print, args=(1,)); t.start(); t.join()\n"
            'print(subprocess.run(["echo", "2"], capture_output=True).stdout)\n'
            'print(multiprocessing.get_context("fork").Pool(2).map(work, [3]))\n'
            'socket.socketpair(); asyncio.run(asyncio.sleep(0)); socket.getaddrinfo("localhost", 80)\n'
        )
        _, text = await run(box, f"{python} -c '{threads}'; ulimit -c", place.workspace)
        assert text == "1\nb'2\\n'\n[6]\n0\n"


async def test_services_of_the_machine_are_not_reached(place: Place) -> None:
    path = place.project / "service"
    with socket.socket(socket.AF_UNIX) as service, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        service.bind(str(path))
        service.listen()
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        reach = (
            f'import socket\ntry: socket.socket(socket.AF_UNIX).connect("{path}")\n'
            "except OSError as error: print(type(error).__name__)\n"
            f'socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", {udp.getsockname()[1]}))'
        )
        async with sandbox(place.sandboxes()) as box:
            _, text = await run(box, f"{Path(sys.executable).resolve()} -c '{reach}'", place.workspace)
        assert "FileNotFoundError" in text or "PermissionError" in text
        with pytest.raises(BlockingIOError):
            udp.recv(10)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
async def test_git_works_where_the_owner_stands(place: Place) -> None:
    author = "-c user.name=a -c user.email=a@b.c"
    command = f"git init -q . && echo x > f && git add f && git {author} commit -qm x && git status --short"
    async with sandbox(place.sandboxes(), place.project) as box:
        assert await run(box, command, place.project) == (0, "")


async def test_a_virtual_environment_with_pip_can_be_made(place: Place) -> None:
    command = f"{Path(sys.executable).resolve()} -m venv v && v/bin/pip --version"
    async with sandbox(place.sandboxes(), place.project) as box:
        code, text = await run(box, command, place.project)
    assert code == 0, text
    assert text.startswith("pip ")
