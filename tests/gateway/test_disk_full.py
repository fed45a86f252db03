"""A disk that is full, or fails: a clear error, nothing acknowledged that is not stored, and on it goes."""

from __future__ import annotations

import contextlib
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.gateway.conftest import config_for
from tests.gateway.forked import ForkedGateway, check_database, forked_gateway
from tests.peers.loopback_platform import Platform, Shown

QUIET = {"heartbeat": {"enabled": False}, "channels": {"sendProgress": False}}


@dataclass
class Disk:
    """Where the home is, how its disk stops storing and starts again, and what the log says then."""

    home: Path
    says: str
    stop: Callable[[ForkedGateway], None]
    start: Callable[[ForkedGateway], None]


@pytest.fixture(params=["full", "failing"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """A small file system of its own; where none can be mounted both disks fail in the same way."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if request.param == "full" and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        ballast = folder / "ballast"
        says = "The disk is full: nothing more can be stored."
        yield Disk(folder / "home", says, lambda _: _fill(ballast), lambda _: ballast.unlink())
        subprocess.run(["umount", "-l", str(folder)], check=True)
    else:
        yield Disk(
            folder / "home",
            "The nanobot database cannot be used: disk I/O error.",
            _let_writes_fail,
            _let_writes_pass,
        )


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def _let_writes_fail(gateway: ForkedGateway) -> None:
    """The database's log cannot grow any more (EFBIG, which SQLite takes for a failing disk)."""
    size = (gateway.home / "nanobot.db-wal").stat().st_size
    resource.prlimit(gateway.process.pid or 0, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _let_writes_pass(gateway: ForkedGateway) -> None:
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(gateway.process.pid or 0, resource.RLIMIT_FSIZE, unlimited)


async def test_it_waits_for_the_disk_and_answers_everything(
    disk: Disk, tmp_path: Path, platform: Platform
) -> None:
    begun, go, effects = tmp_path / "begun", tmp_path / "go", tmp_path / "effects"
    slow = f"run touch {begun}; until [ -e {go} ]; do sleep 0.05; done; echo done >> {effects}"
    chats = [f"c{number}" for number in range(5)]
    beside = {"exec": {"sandbox": "off"}}  # the command writes to another disk
    config = config_for(platform, tools=beside, **QUIET)
    async with forked_gateway(disk.home, config, log=tmp_path / "log") as gateway:
        platform.user_sends("anna", slow)
        await gateway.until(begun.exists)
        disk.stop(gateway)
        go.touch()
        await gateway.says(f"The turn of loopback:anna waits for the disk: {disk.says}")
        for chat in chats:
            platform.user_sends(chat, "hello")
        await gateway.says("Channel loopback starts again in")
        assert disk.says in gateway.log().split("starts again in")[1]
        assert len(platform.unacknowledged) == len(chats)
        assert platform.shown == []
        assert "Traceback" not in gateway.log()

        disk.start(gateway)
        assert await platform.wait_for("anna", 1) == [f"re {slow} (interrupted)"]
        for chat in chats:
            assert await platform.wait_for(chat, 1) == ["re hello"]
        gateway.send(signal.SIGTERM)
        assert await gateway.ended() == 0
    assert effects.read_text() == "done\n"
    assert len(platform.shown) == 1 + len(chats)
    assert platform.unacknowledged == {}
    check_database(disk.home)


async def test_a_reply_that_was_shown_is_not_sent_again_because_the_disk_is_full(
    disk: Disk, tmp_path: Path, platform: Platform
) -> None:
    async with forked_gateway(disk.home, config_for(platform, **QUIET), log=tmp_path / "log") as gateway:
        platform.user_sends("anna", "one")
        await platform.wait_for("anna", 1)

        def stop_while_it_is_sent(message: Shown) -> None:
            disk.stop(gateway)

        platform.fail = stop_while_it_is_sent
        platform.user_sends("anna", "two")
        await gateway.says(f"The outcome of a delivery cannot be recorded: {disk.says}")
        platform.fail = lambda message: None
        disk.start(gateway)
        platform.user_sends("anna", "three")
        assert await platform.wait_for("anna", 3) == ["re one", "re two", "re three"]
        assert platform.repeated == 0
        gateway.send(signal.SIGTERM)
        assert await gateway.ended() == 0
    check_database(disk.home)
