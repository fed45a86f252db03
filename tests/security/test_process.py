"""Programs are started in one place: what they see, and that nothing of them is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import pytest

from nanobot.security.process import run_program, start

STUBBORN = "trap '' TERM; (trap '' TERM; sleep 600 & echo $! > child; wait) & wait"


def is_alive(pid_file: Path) -> bool:
    try:
        state = Path(f"/proc/{int(pid_file.read_text())}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


async def gone(pid_file: Path) -> None:
    async with asyncio.timeout(10):
        while is_alive(pid_file):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def filled(path: Path) -> None:
    async with asyncio.timeout(10):
        while not (path.exists() and path.read_text().strip()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_program_sees_only_what_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("WANTED", "yes")
    process = await start(["/usr/bin/env"], inherited=["WANTED"], variables={"OWN": "1"})
    seen = (await process.stdout.read()).decode().splitlines()
    assert await process.exits(10)
    assert {"WANTED=yes", "OWN=1"} <= {*seen}
    assert not [line for line in seen if "sk-secret" in line]
    assert process.stdin is None
    process.close()


async def test_input_output_and_exit_code(tmp_path: Path) -> None:
    process = await start(
        ["/bin/sh", "-c", "pwd; cat; echo no >&2; exit 3"], folder=tmp_path, with_input=True
    )
    assert process.stdin is not None
    process.stdin.write(b"hello\n")
    process.stdin.close()
    assert await process.stdout.read() == f"{tmp_path}\nhello\n".encode()
    assert await process.stderr.read() == b"no\n"
    assert await process.exits(10)
    assert process.code == 3


async def test_stopping_ends_the_whole_group_also_when_it_is_cancelled(tmp_path: Path) -> None:
    process = await start(["/bin/sh", "-c", STUBBORN], folder=tmp_path)
    await filled(tmp_path / "child")
    assert not await process.exits(0)
    stopping = asyncio.create_task(process.stop(600))
    await asyncio.sleep(0)
    stopping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await stopping
    await gone(tmp_path / "child")
    assert process.code == -9
    process.close()


async def test_cancelling_the_start_leaves_nothing(tmp_path: Path) -> None:
    for steps in range(12):
        command = ["/bin/sh", "-c", f"echo $$ > pid{steps}; exec sleep 600"]
        starting = asyncio.create_task(start(command, folder=tmp_path))
        for _ in range(steps):
            await asyncio.sleep(0)
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            process = await starting  # the start was faster
            process.kill()
            process.close()
    for pid_file in tmp_path.glob("pid*"):
        if pid_file.read_text():
            await gone(pid_file)
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    async with asyncio.timeout(10):
        while children.exists() and children.read_text():  # noqa: ASYNC110 (until the loop has noticed)
            await asyncio.sleep(0.01)


async def test_what_is_no_program() -> None:
    with pytest.raises(OSError, match="no-such-program"):
        await start(["/no-such-program"])
    with pytest.raises(ValueError, match="null byte"):
        await start(["/bin/echo", "a\0b"])


def test_a_program_in_the_foreground(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert (
        run_program(["/bin/sh", "-c", "echo $OWN; exit 4"], folder=tmp_path, variables={"OWN": "mine"}) == 4
    )
    assert capfd.readouterr() == ("", "mine\n")
    with pytest.raises(OSError, match="no-such-program"):
        run_program(["/no-such-program"])


def test_one_in_the_foreground_that_takes_too_long_ends_with_all_it_started(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match="it was stopped after"):
        run_program(["/bin/sh", "-c", STUBBORN], folder=tmp_path, seconds=0.5)
    if (tmp_path / "child").exists():  # it had the time to start one
        asyncio.run(gone(tmp_path / "child"))


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
async def test_a_program_cannot_look_into_the_one_that_started_it(tmp_path: Path) -> None:
    script = tmp_path / "start.py"
    script.write_text(
        "import asyncio, ctypes, os, sys\n"
        "from nanobot.security.process import start\n"
        "async def main():\n"
        "    before = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)\n"  # PR_GET_DUMPABLE
        "    process = await start(['/bin/sh', '-c', 'cat /proc/$PPID/environ; env >&2'])\n"
        "    read, own = await process.stdout.read(), await process.stderr.read()\n"
        "    await process.exits(10); process.close()\n"
        "    print(before, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), b'sk-secret' in read, b'PATH=' in own)\n"
        "asyncio.run(main())\n"
    )
    running = await asyncio.create_subprocess_exec(
        sys.executable, script, env={**os.environ, "KEY": "sk-secret"}, stdout=asyncio.subprocess.PIPE
    )
    said = (await running.communicate())[0].decode().split()
    assert said == ["1", "0", str(os.geteuid() == 0), "True"]  # root sees everything
