"""Commands as models write them: servers in the background, progress bars, editors, pagers, questions."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nanobot.agent.tools import ToolContext, TurnContext, tool_surroundings
from nanobot.errors import ToolError
from nanobot.messages import Address, InboundMessage
from nanobot.security.files import PathPolicy
from nanobot.tools.background import FILE_BYTES, OutputFile
from nanobot.tools.filesystem import ReadFile
from nanobot.tools.shell import BackgroundPrograms, Exec


@pytest.fixture
async def programs(tmp_path: Path) -> AsyncIterator[BackgroundPrograms]:
    found = BackgroundPrograms(tmp_path / "home/run/exec")
    yield found
    await found.aclose()


class Shell:
    """exec in a workspace, as the model of a session calls it."""

    def __init__(self, home: Path, programs: BackgroundPrograms, timeout: int = 20) -> None:
        self.workspace = home / "workspace"
        self.workspace.mkdir(parents=True, exist_ok=True)
        self.paths = PathPolicy(self.workspace, restrict=False, private=(home,), readable=(programs.folder,))
        context = ToolContext(self.workspace, None, str(self.workspace), timeout, False, None)
        self.exec = Exec(context, self.paths, (), programs)

    async def run(
        self, command: str = "", session: str = "cli:a", asked_by: str = "", **given: object
    ) -> str:
        inbound = InboundMessage(
            "cli", "a", "me", "go", "1", session, reply_to=Address(asked_by, "cli", "a") if asked_by else None
        )
        with tool_surroundings(TurnContext("1", 1, inbound), "call", lambda _: None):
            return (await self.exec.execute(command, **given)).text  # type: ignore[arg-type]


@pytest.fixture
def shell(tmp_path: Path, programs: BackgroundPrograms) -> Shell:
    return Shell(tmp_path / "home", programs)


def process_of(result: str) -> int:
    found = re.search(r"process (\d+), output in", result)
    assert found, result
    return int(found[1])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(10):
        while alive(pid):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


SERVER = """
import socket, sys
listening = socket.create_server(("127.0.0.1", 0))
open("port", "w").write(str(listening.getsockname()[1]))
while True:
    connection, _ = listening.accept()
    print("somebody came", flush=True)
    print("to stderr too", file=sys.stderr, flush=True)
    connection.sendall(b"hello"); connection.close()
"""


@pytest.mark.parametrize("how", ["python3 server.py &", "nohup python3 server.py &", "(python3 server.py &)"])
async def test_a_server_left_in_the_background_goes_on_answering(shell: Shell, how: str) -> None:
    (shell.workspace / "server.py").write_text(SERVER)
    started = await shell.run(f"{how}\nuntil [ -s port ]; do sleep 0.05; done; echo started")
    assert "started" in started
    number = process_of(started)
    for _ in range(3):
        asked = f"exec 3<>/dev/tcp/127.0.0.1/{(shell.workspace / 'port').read_text()}; cat <&3"
        assert (await shell.run(asked)).startswith("hello")
    shown = await shell.run(process=number)
    assert shown.count("somebody came") == 3
    assert "still runs" in shown
    file = re.search(r"output in (\S+?)\]", shown)
    assert file
    page = await ReadFile(shell.paths).execute(path=file[1])
    assert str(page).count("to stderr too") == 3
    assert "somebody came" in await shell.run(f"tail -n 5 {file[1]}")
    ended = await shell.run(process=number, stop=True)
    assert "has ended" in ended
    assert "somebody came" in ended
    await until_gone(number)


async def test_what_wrote_nothing_to_us_is_known_too(shell: Shell) -> None:
    started = await shell.run("sleep 600 > log 2>&1 & echo $! > pid")
    number, pid = process_of(started), int((shell.workspace / "pid").read_text())
    assert "still runs" in await shell.run(process=number)
    await shell.run(process=number, stop=True)
    await until_gone(pid)


async def test_what_has_ended_in_time_is_not_mentioned(shell: Shell) -> None:
    for command in (
        "sleep 0.1 & wait",
        "(sleep 0.1; echo x) &",
        "yes | head -n 1",
        "sleep 0.05 >/dev/null &",
    ):
        assert "background" not in await shell.run(command)


async def test_the_end_of_a_program_is_noticed(shell: Shell) -> None:
    number = process_of(await shell.run("(sleep 1; echo the last word) &"))
    async with asyncio.timeout(15):
        while "has ended" not in (shown := await shell.run(process=number)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert "the last word" in shown


async def test_nobody_sees_or_stops_the_programs_of_another_session(shell: Shell) -> None:
    number = process_of(await shell.run("sleep 600 &", session="telegram:1"))
    for given in ({"process": number}, {"process": number, "stop": True}):
        with pytest.raises(ToolError, match="In the background: nothing"):
            await shell.run(session="telegram:2", **given)
    with pytest.raises(ToolError, match=rf"no process 1 of yours.*sleep 600 & \(process {number}\)"):
        await shell.run(session="telegram:1", process=1)
    assert alive(number) or "still runs" in await shell.run(session="telegram:1", process=number)


async def test_a_subagents_programs_belong_to_the_session_that_asked(shell: Shell) -> None:
    number = process_of(await shell.run("sleep 600 &", session="subagent:x", asked_by="cli:a"))
    assert "has ended" in await shell.run(session="cli:a", process=number, stop=True)


async def test_programs_end_with_nanobot(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    programs = BackgroundPrograms(tmp_path / "home/run/exec")
    shell = Shell(tmp_path / "home", programs)
    stubborn = "(trap '' TERM; echo $BASHPID > pid; sleep 600) & until [ -s pid ]; do sleep 0.05; done"
    await shell.run(stubborn)
    await programs.aclose()
    await until_gone(int((shell.workspace / "pid").read_text()))
    assert "Ended with nanobot: (trap" in caplog.text


async def test_programs_without_end_are_refused(shell: Shell) -> None:
    for _ in range(20):
        await shell.run("sleep 600 >/dev/null 2>&1 & disown")
    with pytest.raises(ToolError, match="Stop one first"):
        await shell.run("echo one more")


def test_the_output_of_a_chatty_program_is_bounded(tmp_path: Path) -> None:
    file = OutputFile(tmp_path / "1.log")
    for number in range(1200):
        file.write(f"{number:09}\n".encode() * 1000)
    assert (tmp_path / "1.log").stat().st_size <= FILE_BYTES
    assert file.newest().endswith("000001199")
    file.close()


PROGRESS = """
import sys, time
def bar(n):
    for i in range(501):
        sys.stdout.write(f"\\r{n} {i/5:5.1f}% |{'#'*(i//20):25}|"); sys.stdout.flush()
    print()
bar("fetch"); print("\\x1b[33mWARNING\\x1b[0m: checksum differs"); bar("unpack"); print("done")
if len(sys.argv) > 1: time.sleep(600)
"""


async def test_progress_bars_are_shown_in_their_last_state(
    shell: Shell, programs: BackgroundPrograms
) -> None:
    (shell.workspace / "p.py").write_text(PROGRESS)
    full = "#" * 25
    lines = f"fetch 100.0% |{full}|\nWARNING: checksum differs\nunpack 100.0% |{full}|\ndone"
    assert await shell.run("python3 p.py") == f"{lines}\nExit code: 0"
    assert f"STDERR:\n{lines}\nExit code: 4" in await shell.run("python3 p.py >&2; exit 4")
    behind = process_of(await shell.run("python3 p.py on &"))
    async with asyncio.timeout(20):
        while lines not in await shell.run(process=behind):  # noqa: ASYNC110  another process writes it
            await asyncio.sleep(0.05)
    hasty = Shell(shell.workspace.parent, programs, timeout=3)
    with pytest.raises(ToolError, match=r"was stopped[^\x1b\r]*WARNING: checksum differs"):
        await hasty.run("python3 p.py on")


EDITORS = ["vi new.txt", "vim new.txt", "view new.txt", "nano new.txt", "emacs -nw new.txt", "ed new.txt"]
PAGERS = [
    "less a.txt",
    "more a.txt",
    "man ls",
    "git -C repo log",
    "git -C repo diff HEAD",
    "git -C repo branch -a",
]
QUESTIONS = [
    "git -C repo commit --allow-empty",
    "git -C repo rebase -i HEAD",
    "crontab -e",
    "visudo",
    "sudo -k true",
    "su nobody -c true",
    "ssh -o ConnectTimeout=2 nobody@127.0.0.1 true",
    "read answer",
    "python3",
    "python3 -c 'input(1)'",
    "passwd",
    "top",
    "tput cup 1 1",
    "select x in a b; do echo $x; done",
    "cat",
    "cat /dev/tty",
]


@pytest.mark.parametrize("command", EDITORS + PAGERS + QUESTIONS)
async def test_what_waits_for_a_person_ends_at_once(shell: Shell, command: str) -> None:
    if shutil.which(command.split()[0]) is None and command.split()[0] not in ("read", "select"):
        pytest.skip("not installed")
    (shell.workspace / "a.txt").write_text("text of a file\n" * 200)
    who = "-c user.name=a -c user.email=a@b.example"
    await shell.run(f"git init -q repo; git -C repo {who} commit -q --allow-empty -m first")
    result = await shell.run(command)  # one that waits is stopped after 20 seconds, which is an error
    assert re.search(r"Exit code: -?\d+", result)
    assert "\x1b" not in result


@pytest.mark.skipif(shutil.which("vim") is None, reason="not installed")
async def test_vim_does_what_its_command_line_says(shell: Shell) -> None:
    (shell.workspace / "a.txt").write_text("old\n")
    await shell.run("vim -c '%s/old/new/' -c wq a.txt")
    assert (shell.workspace / "a.txt").read_text() == "new\n"


async def test_the_owner_decides_about_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", "my-editor")
    monkeypatch.setenv("PAGER", "less")
    context = ToolContext(tmp_path, None, str(tmp_path), 20, False, None)
    tool = Exec(context, PathPolicy(tmp_path, restrict=False), ["EDITOR"], BackgroundPrograms(tmp_path / "x"))
    assert (await tool.execute("echo $EDITOR $PAGER $TERM")).text.startswith("my-editor cat dumb\n")
    assert os.environ["PAGER"] == "less"


def test_a_reply_that_ends_says_what_ended_with_it(tmp_path: Path) -> None:
    script, seconds = tmp_path / "script.json", f"600.{os.getpid()}"
    call = {"name": "exec", "arguments": {"command": f"sleep {seconds} & true"}}
    script.write_text(json.dumps({"replies": [{"tool_calls": [call]}, {"text": "started"}]}))
    home = tmp_path / "home"
    done = subprocess.run(
        [sys.executable, "-m", "nanobot", "agent", "-m", "go", "--model", f"scripted/{script}"],
        capture_output=True,
        text=True,
        env={**os.environ, "NANOBOT_HOME": str(home)},
        timeout=60,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "started")
    assert f"Ended with nanobot: sleep {seconds} &" in done.stderr
    pattern = seconds.replace(".", "[.]")  # which does not find itself
    found = subprocess.run(["grep", "-ls", pattern, *Path("/proc").glob("[0-9]*/cmdline")], check=False)
    assert found.returncode != 0
