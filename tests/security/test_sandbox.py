"""What commands see and reach in the sandbox, tried by commands themselves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nanobot.errors import SandboxMissing
from nanobot.security.process import Process
from nanobot.security.sandbox import Sandbox, Sandboxes, View

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
VARIABLES = {"PATH": os.environ["PATH"], "MARK": "seen"}


class Place:
    """A machine's owner: a home with secrets, nanobot's own folder in it, a project elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.nanobot = self.home / ".nanobot"
        self.workspace = self.nanobot / "workspace"
        self.project = folder / "project"
        for path in (self.workspace, self.project, self.home / ".ssh", self.home / "notes"):
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
            self.workspace, self.nanobot, [self.nanobot / "media"], restrict=restrict, network=network
        )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path)
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
        assert await run(box, f"echo one > a; echo two > {place.project}/b; exit 3", place.workspace) == (
            3,
            "",
        )
    assert ((place.workspace / "a").read_text(), (place.project / "b").read_text()) == ("one\n", "two\n")


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
        assert "LOGNAME" not in text


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
    async with sandbox(place.sandboxes()) as box:
        server = await begin(
            box,
            "mkdir /tmp/www; echo hello > /tmp/www/a; cd /tmp/www; exec python3 -m http.server 8080",
            place.workspace,
        )
        fetch = (
            "for i in $(seq 100); do exec 3<>/dev/tcp/127.0.0.1/8080 && break; sleep 0.1; done 2>/dev/null"
        )
        _, text = await run(
            box, f"{fetch}; printf 'GET /a HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3", place.workspace
        )
        assert text.endswith("hello\n")
        _, text = await run(box, "ls /proc | grep -c '^[0-9]'", place.workspace)
        assert int(text) < 10
        assert server.lives()
        await server.stop(5)
        assert not server.lives()
        server.close()
    assert not Path("/tmp/www").exists()


async def test_all_of_it_ends_with_the_sandbox(place: Place) -> None:
    async with sandbox(place.sandboxes()) as box:
        process = await begin(box, "setsid sleep 1000 & echo begun; sleep 1000", place.workspace)
        assert await process.stdout.readline() == b"begun\n"
    assert await process.exits(5)
    assert not process.lives()
    assert process.code == -9
    process.close()


async def test_another_folder_is_another_view_and_another_session_another_sandbox(place: Place) -> None:
    sandboxes = place.sandboxes()
    async with contextlib.aclosing(sandboxes):
        first = await sandboxes.of("a", str(place.project))
        assert await sandboxes.of("a", str(place.project)) is first
        assert await sandboxes.of("b", str(place.project)) is not first
        assert await run(first, "echo x > /tmp/of-a", place.workspace) == (0, "")
        other = await sandboxes.of("b", str(place.project))
        assert "of-a" not in (await run(other, "ls /tmp", place.workspace))[1]
        assert await sandboxes.of("a", "") is not first


@pytest.mark.parametrize("folder", ["/", "/etc", "/usr/local", "/proc/self", ".nanobot", "."])
async def test_no_folder_opens_what_must_stay_closed(place: Place, folder: str) -> None:
    async with sandbox(place.sandboxes(), place.home / folder) as box:
        _, text = await run(box, f"cat {place.nanobot}/config.json; cat /etc/shadow", place.workspace)
    assert "my-key" not in text
    assert "root:" not in text


async def test_a_sandbox_that_does_not_work_says_what_to_do(place: Place) -> None:
    missing = Sandbox(View([place.workspace / "none"]), network=False)
    with pytest.raises(SandboxMissing, match=r"Install bubblewrap .* tools.exec.sandbox"):
        await begin(missing, "true", place.workspace)
    await missing.aclose()


async def test_a_folder_that_is_not_seen_and_a_long_command_are_errors(place: Place) -> None:
    async with sandbox(place.sandboxes(restrict=True)) as box:
        code, text = await run(box, "true", place.project)
        assert (code, "cannot be started in the sandbox" in text) == (127, True)
        with pytest.raises(OSError, match="long"):
            await begin(box, "x" * 5_000_000, place.workspace)
        assert await run(box, "echo fine", place.workspace) == (0, "fine\n")
