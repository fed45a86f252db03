"""Plugins seen from the command line: what is listed, what is logged, and that stdout stays clean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Nanobot
from tests.tools.plugin_folder import plain

NOISY = """
import os, subprocess, sys
print("IMPORTED")
subprocess.run(["echo", "IMPORTED BY A CHILD"])
""" + plain(
    "noisy",
    """def execute(self, **kwargs):
    print("PRINTED")
    sys.stdout.write("WRITTEN")
    os.write(1, b"TO THE DESCRIPTOR")
    subprocess.run(["echo", "CHILD"])
    return "quiet" """,
)
CALL = {"tool_calls": [{"name": "noisy", "arguments": {}}]}
DONE = {"text": "Done."}


@pytest.fixture
def tools(nanobot: Nanobot) -> Path:
    folder = nanobot.home / "workspace" / "tools"
    folder.mkdir(parents=True)
    return folder


def test_the_reply_stays_bare(nanobot: Nanobot, tools: Path) -> None:
    (tools / "noisy.py").write_text(NOISY)
    done = nanobot.run("agent", "-m", "go", "--model", nanobot.script(CALL, DONE))
    assert (done.returncode, done.stdout) == (0, "Done.\n")
    for text in ("IMPORTED", "IMPORTED BY A CHILD", "PRINTED", "WRITTEN", "TO THE DESCRIPTOR", "CHILD"):
        assert text in done.stderr


def test_json_stays_json(nanobot: Nanobot, tools: Path) -> None:
    (tools / "noisy.py").write_text(NOISY)
    done = nanobot.run("agent", "-m", "go", "--json", "--model", nanobot.script(CALL, DONE))
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["text"] == "Done."
    assert [event["preview"] for event in events if event["type"] == "tool_finished"] == ["quiet"]


def test_in_a_conversation_what_is_printed_stands_above_the_call(nanobot: Nanobot, tools: Path) -> None:
    printing = """def execute(self, **kwargs):
    import threading
    for number in range(3):
        print("printed", number)
        threading.Event().wait(0.2)  # the live lines are repainted meanwhile
    print("\x1b[2Jend")"""
    (tools / "a.py").write_text(plain("noisy", printing))
    terminal = nanobot.open("agent", "--model", nanobot.script(CALL, DONE))
    terminal.wait_for_prompt()
    terminal.send("go\r")
    terminal.wait_for(r" in, [\d.k]+ out")
    assert "> go\n\nprinted 0\nprinted 1\nprinted 2\nend\n● noisy() " in terminal.text
    terminal.send("\x04")
    assert terminal.leave() == 0


@pytest.mark.parametrize("code", ["import sys; sys.exit(5)", "raise KeyboardInterrupt", "oh no"])
def test_a_broken_plugin_does_not_end_the_process(nanobot: Nanobot, tools: Path, code: str) -> None:
    (tools / "broken.py").write_text(code)
    (tools / "leaving.py").write_text(plain("noisy", "def execute(self, **kwargs): import sys; sys.exit(7)"))
    done = nanobot.run("agent", "-m", "go", "--model", nanobot.script(CALL, DONE))
    assert (done.returncode, done.stdout) == (0, "Done.\n")
    assert done.stderr.startswith("Warning: Failed to load plugin broken.py: ")
    assert done.stderr.count("\n") == 1


def test_in_a_conversation_a_broken_plugin_is_named_once(nanobot: Nanobot, tools: Path) -> None:
    (tools / "broken.py").write_text("oh no")
    terminal = nanobot.open("agent", "--model", nanobot.script(DONE, DONE))
    terminal.wait_for_prompt()
    for times in (1, 2):
        terminal.send("go\r")
        terminal.wait_for(r" in, [\d.k]+ out", times)
    terminal.send("\x04")
    assert terminal.leave() == 0
    assert terminal.text.count("Warning: Failed to load plugin broken.py: SyntaxError: invalid syntax") == 1


def test_a_plugin_that_never_ends_does_not_keep_the_process(nanobot: Nanobot, tools: Path) -> None:
    sleep = "time_limit = 0.5\ndef execute(self, **kwargs):\n    import time\n    time.sleep(3600)"
    (tools / "a.py").write_text(plain("noisy", sleep))
    (tools / "b.py").write_text("import time\ntime.sleep(3600)")
    done = nanobot.run("agent", "-m", "go", "--model", nanobot.script(CALL, DONE))
    assert (done.returncode, done.stdout) == (0, "Done.\n")


def test_logs_tell_how_plugins_were_loaded(nanobot: Nanobot, tools: Path) -> None:
    (tools / "a.py").write_text(plain("mine") + plain("exec"))
    (tools / "broken.py").write_text("import nowhere")
    done = nanobot.run("agent", "-m", "go", "--logs", "--model", nanobot.script(DONE))
    assert done.stdout == "Done.\n"
    assert "Registered plugin tool 'mine'" in done.stderr
    assert "Plugin tool 'exec' skipped — built-in takes priority" in done.stderr
    assert "Failed to load plugin broken.py: ModuleNotFoundError: No module named 'nowhere'" in done.stderr


def test_the_model_cannot_write_a_plugin(nanobot: Nanobot, tools: Path) -> None:
    write = {"name": "write_file", "arguments": {"path": "tools/mine.py", "content": plain("mine")}}
    edit = {"name": "edit_file", "arguments": {"path": "tools/a.py", "old_text": "A test", "new_text": "B"}}
    (tools / "a.py").write_text(plain("noisy"))
    nanobot.run("agent", "-m", "go", "--model", nanobot.script({"tool_calls": [write, edit]}, CALL, DONE))
    results = [
        part for message in nanobot.messages() for part in message["parts"] if part["type"] == "tool_result"
    ]
    assert [result["outcome"] for result in results] == ["error", "error", "ok"]
    assert "only the owner" in results[0]["content"]
    assert [file.name for file in tools.iterdir()] == ["a.py"]
    assert (tools / "a.py").read_text() == plain("noisy")


def test_tools_list(nanobot: Nanobot, tools: Path) -> None:
    (tools / "noisy.py").write_text(NOISY)
    (tools / "x.py").write_text(plain("exec"))
    (tools / "broken.py").write_text("oh no")
    done = nanobot.run("tools", "list")
    lines = [line.split(maxsplit=3) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert ["read_file", "built-in"] in lines
    assert ["noisy", "plugin", "noisy.py"] in lines
    assert ["exec", "plugin", "x.py", "skipped: built-in takes priority"] in lines
    assert ["-", "plugin", "broken.py", "skipped: SyntaxError: invalid syntax (broken.py, line 1)"] in lines
    assert "IMPORTED" in done.stderr


def test_tools_list_for_scripts(nanobot: Nanobot, tools: Path) -> None:
    (tools / "noisy.py").write_text(NOISY)
    (tools / "broken.py").write_text("oh no")
    (nanobot.home / "config.json").write_text('{"tools": {"exec": {"enabled": false}}}')
    rows = json.loads(nanobot.run("tools", "list", "--json").stdout)
    assert {"name": "noisy", "source": "plugin noisy.py", "status": "ok", "reason": ""} in rows
    reasons = {row["name"]: row["reason"] for row in rows if row["status"] == "skipped"}
    assert reasons == {
        None: "SyntaxError: invalid syntax (broken.py, line 1)",
        "exec": "tools.exec.enabled is false",
    }


def test_the_name_of_a_tool_that_is_switched_off_stays_taken(nanobot: Nanobot, tools: Path) -> None:
    (tools / "x.py").write_text(plain("exec"))
    (nanobot.home / "config.json").write_text('{"tools": {"exec": {"enabled": false}}}')
    rows = json.loads(nanobot.run("tools", "list", "--json").stdout)
    found = [row["reason"] for row in rows if row["source"] == "plugin x.py"]
    assert found == ["built-in takes priority"]


def test_tools_list_in_an_empty_home(nanobot: Nanobot) -> None:
    done = nanobot.run("tools", "list")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(line.endswith("built-in") for line in done.stdout.splitlines())
