"""exec with real processes: output, exit, timeout, cancellation, environment, guards."""

import asyncio
import contextlib
import os
from pathlib import Path

import pytest

from nanobot.agent.tools import ToolContext, ToolOutput, tool_surroundings
from nanobot.errors import AccessDenied, ToolError
from nanobot.security.files import PathPolicy
from nanobot.tools.shell import BackgroundPrograms, Exec
from tests.talk import turn_in


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "home/workspace/sub").mkdir(parents=True)
    (tmp_path / "home/config.json").write_text("secret")
    return tmp_path / "home/workspace"


def tool(
    workspace: Path, *, timeout: int = 20, restrict: bool = False, env_names: tuple[str, ...] = ()
) -> Exec:
    context = ToolContext(workspace, workspace if restrict else None, str(workspace), timeout, restrict, None)
    paths = PathPolicy(workspace, restrict=restrict, private=(workspace.parent,))
    return Exec(context, paths, env_names, BackgroundPrograms(workspace.parent / "run/exec"))


async def gone(pid_file: Path) -> None:
    """Return when the process named in `pid_file` is no more (or a zombie)."""
    stat = Path(f"/proc/{pid_file.read_text().strip()}/stat")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while stat.read_text().rsplit(")", 1)[1].split()[0] != "Z":  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def appears(path: Path) -> None:
    while not path.exists() or not path.read_text().strip():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("command", "result", "code"),
    [
        ("echo hi", "hi\nExit code: 0", 0),
        ("true", "(no output)\nExit code: 0", 0),
        ("echo a; echo b >&2; exit 3", "a\nSTDERR:\nb\nExit code: 3", 3),
        ("exit 7", "(no output)\nExit code: 7", 7),
        ("cat", "(no output)\nExit code: 0", 0),
        (r"printf 'a\0b'", "a\0b\nExit code: 0", 0),
        (r"printf '\xff\xe2\x82'", "\ufffd\ufffd\nExit code: 0", 0),
        (r"printf '\xe2'; sleep 0.05; printf '\x82\xac'", "€\nExit code: 0", 0),
        ("kill -9 $$", "(no output)\nExit code: -9 (SIGKILL)", -9),
        ("exit 143", "(no output)\nExit code: 143 (SIGTERM)", 143),
        ("exit 255", "(no output)\nExit code: 255", 255),
    ],
)
async def test_results(workspace: Path, command: str, result: str, code: int) -> None:
    assert await tool(workspace).execute(command=command) == ToolOutput(result, exit_code=code)


async def test_runs_in_the_workspace_or_where_told(workspace: Path) -> None:
    assert (await tool(workspace).execute(command="pwd")).text.startswith(f"{workspace}\n")
    inside = await tool(workspace).execute(command="pwd", working_dir="sub")
    assert inside.text.startswith(f"{workspace / 'sub'}\n")
    with pytest.raises(ToolError, match="working_dir nowhere"):
        await tool(workspace).execute(command="pwd", working_dir="nowhere")
    with pytest.raises(AccessDenied):
        await tool(workspace, restrict=True).execute(command="pwd", working_dir="/")
    with pytest.raises(AccessDenied):
        await tool(workspace).execute(command="cat config.json", working_dir="..")


async def test_long_output_is_cut_in_the_middle(workspace: Path) -> None:
    text = (await tool(workspace).execute(command="echo first; seq 1 200000; echo last")).text
    assert len(text) < 10_100
    assert text.startswith("first\n1\n2\n")
    assert text.endswith("199999\n200000\nlast\nExit code: 0")
    assert "1278906 characters left out" in text


async def test_errors_keep_a_share_of_a_long_output(workspace: Path) -> None:
    text = (await tool(workspace).execute(command="seq 1 50000; echo oops >&2; seq 1 50000 >&2; exit 1")).text
    assert len(text) < 10_200
    out, err = text.split("STDERR:\n")
    assert out.startswith("1\n")
    assert err.startswith("oops\n")
    assert err.endswith("50000\nExit code: 1")


async def test_output_is_shown_while_the_command_runs(workspace: Path) -> None:
    shown: list[str] = []

    def watch(text: str) -> None:
        shown.append(text)
        (workspace / "seen").touch()

    with tool_surroundings(turn_in("cli:direct"), "call", watch):
        result = await tool(workspace).execute(
            command="echo begin; until [ -e seen ]; do sleep 0.02; done; echo end"
        )
    assert result.text == "begin\nend\nExit code: 0"
    assert shown[0] == "begin\n"
    assert "".join(shown) == "begin\nend\n"


async def test_b4_commands_see_no_keys(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "NANOBOT_PROVIDERS__OPENAI__API_KEY", "MY_TOKEN"):
        monkeypatch.setenv(name, f"secret of {name}")
    assert "secret of" not in (await tool(workspace).execute(command="env; set")).text
    assert (
        "secret of MY_TOKEN" in (await tool(workspace, env_names=("MY_TOKEN",)).execute(command="env")).text
    )


async def test_b7_timeout_kills_the_whole_group(workspace: Path) -> None:
    child = "(trap '' TERM; sleep 600 & echo $! > child; wait)"
    command = f"echo started; trap '' TERM; {child} & echo $$ > shell; wait"
    with pytest.raises(ToolError, match=r"longer than 1 seconds(.|\n)*started"):
        await tool(workspace, timeout=1).execute(command=command)
    await gone(workspace / "shell")
    await gone(workspace / "child")


async def test_cancelling_kills_the_whole_group(workspace: Path) -> None:
    running = asyncio.create_task(tool(workspace).execute(command="sleep 600 & echo $! > child; wait"))
    await appears(workspace / "child")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await gone(workspace / "child")


async def test_cancelling_twice_leaves_nothing_either(workspace: Path) -> None:
    command = "trap '' TERM; (trap '' TERM; echo $BASHPID > child; while :; do sleep 0.1; done) & wait"
    running = asyncio.create_task(tool(workspace).execute(command=command))
    await appears(workspace / "child")
    running.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await gone(workspace / "child")


async def test_cancelling_at_the_very_start_leaves_nothing(workspace: Path) -> None:
    for steps in range(12):
        running = asyncio.create_task(
            tool(workspace).execute(command=f"echo $$ > pid{steps}; exec sleep 600")
        )
        for _ in range(steps):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    for pid_file in workspace.glob("pid*"):
        if pid_file.read_text():
            await gone(pid_file)


async def test_a_flood_of_output_is_bounded(workspace: Path) -> None:
    shown: list[int] = []
    with tool_surroundings(turn_in("cli:direct"), "call", lambda text: shown.append(len(text))):
        text = (await tool(workspace).execute(command="head -c 50000000 /dev/zero | tr '\\0' x")).text
    assert len(text) < 10_100
    assert max(shown) <= 4_000


@pytest.mark.parametrize("command", ["", "  ", "echo a\0b", "x" * 200_000])
async def test_what_cannot_run_is_an_error_for_the_model(workspace: Path, command: str) -> None:
    with pytest.raises(ToolError):
        await tool(workspace).execute(command=command)


@pytest.mark.parametrize("command", ["rm -rf sub", "cat ../config.json", "pkill nanobot", "kill OWN_PID"])
async def test_refused_commands_do_not_run(workspace: Path, command: str) -> None:
    with pytest.raises(AccessDenied):
        await tool(workspace).execute(command=f"touch ran; {command.replace('OWN_PID', str(os.getpid()))}")
    assert not (workspace / "ran").exists()
    assert (workspace / "sub").exists()


async def test_a_failing_command_is_a_result(workspace: Path) -> None:
    assert "not found" in (await tool(workspace).execute(command="no_such_program_here")).text


def test_exec_is_never_repeated(workspace: Path) -> None:
    assert not tool(workspace).repeatable
    assert not tool(workspace).read_only
