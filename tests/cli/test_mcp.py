"""`nanobot mcp`, and turns that use MCP servers, as their owner sees them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.cli.conftest import Nanobot
from tests.mcp.serving import FAULTS, http_peer


def configure(nanobot: Nanobot, **servers: Any) -> None:
    nanobot.home.mkdir(exist_ok=True)
    (nanobot.home / "config.json").write_text(json.dumps({"tools": {"mcpServers": servers}}))


def faulty(*modes: str, **more: Any) -> dict[str, Any]:
    return {"command": sys.executable, "args": [str(FAULTS), *modes], **more}


def calling(name: str, **arguments: Any) -> list[dict[str, Any]]:
    return [{"tool_calls": [{"name": name, "arguments": arguments}]}, {"text": "done"}]


def test_a_single_message_can_use_a_server(nanobot: Nanobot) -> None:
    configure(nanobot, fault=faulty())
    model = nanobot.script(*calling("mcp_fault_echo", text="hello"))
    done = nanobot.run("agent", "-m", "hi", "--model", model)
    assert (done.returncode, done.stdout) == (0, "done\n")
    [result] = [part for message in nanobot.messages() for part in message["parts"] if "call_id" in part]
    assert result["content"] == "hello"


def test_a_hanging_and_a_broken_server_are_named_and_the_turn_goes_on(nanobot: Nanobot) -> None:
    configure(nanobot, hangs=faulty("hang", startupTimeout=8), exits=faulty("exit"), good=faulty())
    done = nanobot.run("agent", "-m", "hi", "--model", nanobot.script(*calling("mcp_good_echo", text="x")))
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert "Waiting for MCP servers: " in done.stderr
    assert "MCP server hangs: it did not answer in time." in done.stderr
    assert "MCP server exits: the program ended with code 3. Its last words: cannot go on" in done.stderr


def test_list_and_status_name_every_server(nanobot: Nanobot) -> None:
    configure(nanobot, good=faulty(), exits=faulty("exit"), off=faulty(enabled=False), wrong={})
    done = nanobot.run("mcp", "list")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"good: ready at python\S*, 13 tools, connected in \d+ ms", lines[0])
    assert lines[1].startswith("exits: failed (python")
    assert lines[2].startswith("off: off (python")
    assert lines[3] == (
        "wrong: failed (?): tools.mcpServers.wrong has neither command nor url. Give command and args for "
        "a program on this machine, or url for a remote server."
    )
    rows = json.loads(nanobot.run("mcp", "list", "--json").stdout)
    assert next((row["name"], row["state"], row["tools"]) for row in rows) == ("good", "ready", 13)
    status = nanobot.run("status")
    assert "MCP        good, exits, off (off), wrong" in status.stdout
    assert "tools.mcpServers.wrong has neither command nor url" in status.stdout
    assert json.loads(nanobot.run("status", "--json").stdout)["mcp_servers"]["off"]["enabled"] is False


def test_the_list_of_all_tools_has_theirs_and_says_what_is_missing(nanobot: Nanobot) -> None:
    configure(nanobot, good=faulty(enabledTools=["echo"]), exits=faulty("exit"))
    rows = json.loads(nanobot.run("tools", "list", "--json").stdout)
    found = {(row["name"], row["source"]): row["reason"] for row in rows}
    assert found["mcp_good_echo", "mcp good"] == ""
    assert found["look", "mcp good"] == "not in enabledTools"
    assert "cannot go on: no licence" in found[None, "mcp exits"]


def test_without_servers_list_says_what_to_do(nanobot: Nanobot) -> None:
    done = nanobot.run("mcp", "list")
    assert done.stdout == "No MCP servers. Add one to tools.mcpServers in config.json.\n"


def test_one_server_is_shown_with_its_tools(nanobot: Nanobot) -> None:
    configure(nanobot, good=faulty("odd", enabledTools=["echo", "wordy"]), exits=faulty("exit"))
    done = nanobot.run("mcp", "test", "good")
    assert done.returncode == 0
    assert "  mcp_good_echo  Does echo." in done.stdout
    assert "\x1b" not in done.stdout
    assert "  (look: not in enabledTools)" in done.stdout
    report = json.loads(nanobot.run("mcp", "test", "good", "--json").stdout)
    assert report["tools"][0] == {"name": "mcp_good_echo", "description": "Does echo."}
    assert nanobot.run("mcp", "test", "exits").returncode == 1
    missing = nanobot.run("mcp", "test", "nope")
    assert missing.returncode == 2
    assert "There is no MCP server 'nope' in tools.mcpServers. Configured: good, exits." in missing.stderr


def test_the_names_of_a_servers_tools_are_those_they_have_beside_the_others(nanobot: Nanobot) -> None:
    names = {}
    for other in ("b", "a_white"):
        configure(nanobot, a=faulty("odd"), **{other: faulty(enabled=False)})
        report = json.loads(nanobot.run("mcp", "test", "a", "--json").stdout)
        names[other] = {tool["name"] for tool in report["tools"]}
    assert "mcp_a_white_space_slash" in names["b"]
    assert "mcp_a_white_space_slash" not in names["a_white"], "a name for a_white alone"
    assert len(names["b"]) == len(names["a_white"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_no_server_is_left_behind_when_the_turn_is_stopped(
    nanobot: Nanobot, tmp_path: Path, number: signal.Signals
) -> None:
    pid_file = tmp_path / "pid"
    script = 'echo $$ > "$PID_FILE"; exec "$@"'
    words = [sys.executable, str(FAULTS), "stubborn"]
    server = {"command": "sh", "args": ["-c", script, "sh", *words], "env": {"PID_FILE": str(pid_file)}}
    configure(nanobot, stubborn=server)
    process = nanobot.start("agent", "-m", "hi", "--json", "--model", nanobot.script({"hang": True}))
    assert process.stdout is not None
    while "turn_started" not in process.stdout.readline():
        pass
    while not (pid_file.exists() and pid_file.read_text()):
        pass
    pid = int(pid_file.read_text())
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_login_opens_the_page_and_stores_the_tokens(nanobot: Nanobot) -> None:
    async def log_in() -> None:
        async with http_peer("oauth") as port:
            configure(nanobot, remote={"url": f"http://127.0.0.1:{port}/mcp"})
            listed = await asyncio.to_thread(nanobot.run, "mcp", "list")
            assert "needs login: nanobot mcp login remote" in listed.stdout
            process = nanobot.start("mcp", "login", "remote", "--no-browser", "--port", "0")
            await asyncio.to_thread(agree, process)
            tested = await asyncio.to_thread(nanobot.run, "mcp", "test", "remote")
            assert tested.stdout.startswith(f"remote: ready at http://127.0.0.1:{port}, 4 tools")
            gone = await asyncio.to_thread(nanobot.run, "mcp", "logout", "remote")
            assert gone.stdout == "The login at remote is deleted.\n"
            listed = await asyncio.to_thread(nanobot.run, "mcp", "test", "remote")
            assert "needs login" in listed.stdout
            assert listed.returncode == 1

    asyncio.run(log_in())


def agree(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    line = next(line for line in process.stdout if line.startswith("http"))
    httpx2.get(line.strip(), follow_redirects=True)
    rest, errors = process.communicate(timeout=30)
    assert rest.endswith("Logged in. Try it: nanobot mcp test remote\n"), errors
    assert process.returncode == 0


def test_a_tool_that_appears_during_a_turn_can_be_called_in_it(nanobot: Nanobot) -> None:
    configure(nanobot, fault=faulty())
    calls = calling("mcp_fault_grow")[:1] + calling("mcp_fault_grown")
    assert nanobot.run("agent", "-m", "hi", "--model", nanobot.script(*calls)).returncode == 0
    results = [part for message in nanobot.messages() for part in message["parts"] if "call_id" in part]
    assert [result["content"] for result in results] == ["grow done", "grown done"]
