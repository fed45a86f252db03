"""`nanobot agent -m`: what reaches stdout, stderr and the exit code."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import COMMAND, Nanobot

HELLO = {"text": "# Hi\n\nThere **you** are."}
LOOK = {"text": "Let me look.", "tool_calls": [{"name": "list_dir", "arguments": {"path": "."}}]}


def test_prints_the_reply_alone(nanobot: Nanobot) -> None:
    done = nanobot.run("agent", "-m", "hello", "--model", nanobot.script(LOOK, HELLO))
    assert (done.returncode, done.stdout, done.stderr) == (0, "# Hi\n\nThere **you** are.\n", "")


def test_logs_put_tool_lines_on_stderr(nanobot: Nanobot) -> None:
    done = nanobot.run("agent", "-m", "hello", "--logs", "--model", nanobot.script(LOOK, HELLO))
    assert done.stdout == "# Hi\n\nThere **you** are.\n"
    assert "● list_dir" in done.stderr


def test_stdin_is_the_message(nanobot: Nanobot) -> None:
    done = nanobot.run("agent", "--model", nanobot.script(HELLO), stdin="piped words\n")
    assert done.returncode == 0
    assert nanobot.texts("user") == ["piped words"]


def test_stdin_follows_the_message(nanobot: Nanobot) -> None:
    nanobot.run("agent", "-m", "summarise", "--model", nanobot.script(HELLO), stdin="piped words\n")
    assert nanobot.texts("user") == ["summarise\n\npiped words"]


def test_invalid_utf8_is_replaced(nanobot: Nanobot) -> None:
    arguments: list[str | bytes] = [*COMMAND, "agent", "-m", b"caf\xe9", "--model", nanobot.script(HELLO)]
    done = subprocess.run(arguments, input=b"\xff tail", capture_output=True, env=nanobot.env, check=False)
    assert done.returncode == 0
    assert nanobot.texts("user") == ["caf\ufffd\n\n\ufffd tail"]


def test_json_is_one_event_per_line(nanobot: Nanobot) -> None:
    done = nanobot.run("agent", "-m", "hello", "--json", "--model", nanobot.script(LOOK, HELLO))
    events: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [event["type"] for event in events]
    assert (kinds[0], kinds[-1]) == ("turn_started", "turn_finished")
    assert {"text_delta", "tool_started", "tool_finished", "usage"} <= set(kinds)
    assert events[-1]["stop_reason"] == "done"
    assert (done.returncode, done.stderr) == (0, "")


def test_one_reply_imports_only_what_it_needs(nanobot: Nanobot) -> None:
    nanobot.run("agent", "-m", "hello", "--model", nanobot.script(HELLO))
    command = [sys.executable, "-X", "importtime", "-m", "nanobot", "agent", "-m", "hello"]
    command += ["--model", nanobot.script(HELLO)]
    done = subprocess.run(command, env=nanobot.env, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()}
    assert "nanobot.agent.loop" in imported
    unneeded = (
        r"(typer|pydantic|difflib|html|mcp|yaml|jsonschema|lxml|httpx2?|rich|prompt_toolkit|markdown_it|bs4|telegram|cronsim)\b"
        r"|nanobot\.(mcp\.|plugins\.(files|threads)|commands|legacy|gateway|heartbeat|channels)"
        r"|nanobot\.memory\.(search\w*|ranking|facts|consolidation$|forget|redaction|operations)"
        r"|nanobot\.(skills\.(install|sources|preview)|tools\.web_(html|page)|terminal\.(interactive|live))"
    )
    assert [name for name in sorted(imported) if re.match(unneeded, name)] == []


@pytest.mark.parametrize("json_flag", [[], ["--json"]])
def test_failed_turn(nanobot: Nanobot, json_flag: list[str]) -> None:
    model = nanobot.script({"error": "auth", "message": "The key is wrong. \x1b]0;x\x07Change it."})
    done = nanobot.run("agent", "-m", "hello", "--model", model, *json_flag)
    assert done.returncode == 1
    if json_flag:
        event = json.loads(done.stdout.splitlines()[-1])
        assert (event["type"], event["stop_reason"]) == ("turn_finished", "error")
        assert (event["error_type"], done.stderr) == ("AuthError", "")
    else:
        assert (done.stdout, done.stderr) == ("", "Error: The key is wrong. Change it.\n")


def test_json_reports_errors_before_the_turn(nanobot: Nanobot) -> None:
    nanobot.home.mkdir()
    (nanobot.home / "config.json").write_text("{broken")
    done = nanobot.run("agent", "-m", "hello", "--json")
    event = json.loads(done.stdout)
    assert (event["stop_reason"], event["error_type"], done.returncode) == ("error", "ConfigError", 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["agent"],
        ["agent", "-m", " "],
        ["agent", "-m", "x", "-c", "-s", "y"],
        ["agent", "--nonsense"],
        ["nonsense"],
    ],
)
def test_usage_errors(nanobot: Nanobot, arguments: list[str]) -> None:
    done = nanobot.run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "rror" in done.stderr
    assert "Traceback" not in done.stderr


def test_continue_takes_the_latest_terminal_session(nanobot: Nanobot) -> None:
    model = nanobot.script(HELLO, loop=True)
    nanobot.run("agent", "-m", "one", "-s", "first", "--model", model)
    nanobot.run("agent", "-m", "two", "-s", "second", "--model", model)
    nanobot.run("agent", "-m", "three", "-s", "telegram:7", "--model", model)
    nanobot.run("agent", "-m", "four", "-c", "--model", model)
    assert nanobot.texts("user", "cli:second") == ["two", "four"]
    assert nanobot.texts("user", "telegram:7") == ["three"]


def test_slash_commands(nanobot: Nanobot) -> None:
    model = nanobot.script(HELLO, loop=True)
    nanobot.run("agent", "-m", "one", "--model", model)
    assert "cli:direct, 2 messages" in nanobot.run("agent", "-m", "/status", "--model", model).stdout
    event = json.loads(nanobot.run("agent", "-m", "/status", "--json", "--model", model).stdout)
    assert (event["type"], event["stop_reason"]) == ("turn_finished", "done")
    assert "cli:direct, 2 messages" in event["text"]
    unknown = nanobot.run("agent", "-m", "/stauts", "--model", model)
    assert unknown.returncode == 2
    assert "Did you mean /status?" in unknown.stderr
    nanobot.run("agent", "-m", "/etc/hosts is what?", "--model", model)
    assert nanobot.texts("user") == ["one", "/etc/hosts is what?"]


def test_interrupt_stops_the_turn_and_keeps_the_history_valid(nanobot: Nanobot) -> None:
    model = nanobot.script({"text": "Once upon", "hang": True})
    with nanobot.start("agent", "-m", "tell", "--json", "--model", model) as process:
        assert process.stdout is not None
        while "text_delta" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    assert json.loads(rest.splitlines()[-1])["stop_reason"] == "cancelled"
    assert (process.returncode, errors) == (130, "")
    assert nanobot.run("agent", "-m", "again", "--model", nanobot.script(HELLO)).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_nanobot_ends_its_commands(nanobot: Nanobot, number: int) -> None:
    call = {"name": "exec", "arguments": {"command": "trap 'touch ended' EXIT; echo begun; sleep 60"}}
    with nanobot.start(
        "agent", "-m", "go", "--json", "--model", nanobot.script({"tool_calls": [call]})
    ) as process:
        assert process.stdout is not None
        while "tool_output" not in process.stdout.readline():
            pass
        process.send_signal(number)
        rest, errors = process.communicate(timeout=30)
    assert json.loads(rest.splitlines()[-1])["stop_reason"] == "cancelled"
    assert (process.returncode, errors) == (130, "")
    assert (nanobot.home / "workspace" / "ended").exists()


def test_notices_are_told_when_nobody_watches(nanobot: Nanobot) -> None:
    cut = {"text": "Half", "finish_reason": "length"}
    done = nanobot.run("agent", "-m", "hello", "--model", nanobot.script(cut))
    assert (done.returncode, done.stdout) == (0, "Half\n")
    assert done.stderr.startswith("The answer was cut at 8192 tokens")


@pytest.mark.parametrize("command", [["agent", "-m", "hi", "--model"], ["status"], ["--help"]])
def test_output_on_a_full_disk(nanobot: Nanobot, command: list[str]) -> None:
    model = [nanobot.script(HELLO)] if command[-1] == "--model" else []
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, *command, *model],
            stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, env=nanobot.env, check=False,
        )  # fmt: skip
    error = b"Error: The output cannot be written: No space left on device.\n"
    assert (done.returncode, done.stderr) == (1, error)


def test_broken_pipe_is_quiet(nanobot: Nanobot) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, "agent", "-m", "hello", "--model", nanobot.script({"text": "x" * 200_000})],
        stdin=subprocess.DEVNULL, stdout=writing, stderr=subprocess.PIPE, env=nanobot.env, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_locale_that_cannot_show_the_reply(nanobot: Nanobot) -> None:
    env = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    done = nanobot.run("agent", "-m", "hello", "--model", nanobot.script({"text": "你好 ok"}), env=env)
    assert (done.returncode, done.stdout) == (0, "?? ok\n")


def test_warnings_go_to_stderr(nanobot: Nanobot) -> None:
    nanobot.home.mkdir()
    (nanobot.home / "config.json").write_text('{"agents": {"default": {}}}')
    done = nanobot.run("agent", "-m", "hello", "--model", nanobot.script({"text": "ok"}))
    assert (done.returncode, done.stdout) == (0, "ok\n")
    assert "defaults" in done.stderr


def test_knows_the_folder_the_owner_stands_in(nanobot: Nanobot, tmp_path: Path) -> None:
    (folder := tmp_path / "my project").mkdir()
    (folder / "AGENTS.md").write_text("Only say what tests prove.\n")
    command = [*COMMAND, "agent", "--model", nanobot.script(LOOK, HELLO, HELLO), "-m"]
    for question in ("What is in this folder?", "And now?"):
        subprocess.run(
            [*command, question], cwd=folder, env=nanobot.env, check=True, stdin=subprocess.DEVNULL
        )
    first, second = (m["parts"][0]["text"] for m in nanobot.messages() if m["role"] == "user")
    assert repr(str(folder)) in first
    assert repr(str(folder)) in second
    assert [note.count("Only say what tests prove.") for note in (first, second)] == [1, 0]


def test_a_folder_that_links_its_instructions_elsewhere_has_none(nanobot: Nanobot, tmp_path: Path) -> None:
    (secret := tmp_path / "secret").write_text("The word is swordfish.\n")
    (folder := tmp_path / "folder").mkdir()
    (folder / "AGENTS.md").symlink_to(secret)
    command = [*COMMAND, "agent", "--model", nanobot.script(HELLO), "-m", "hello"]
    subprocess.run(command, cwd=folder, env=nanobot.env, check=True, stdin=subprocess.DEVNULL)
    assert "swordfish" not in json.dumps(nanobot.messages())


def test_a_folder_that_is_gone_stops_no_reply(nanobot: Nanobot, tmp_path: Path) -> None:
    (folder := tmp_path / "gone").mkdir()
    command = f'cd "{folder}"; rmdir "{folder}"; exec "$@"'
    arguments = ["sh", "-c", command, "-", *COMMAND, "agent", "--model", nanobot.script(HELLO), "-m", "hello"]
    env = {**nanobot.env, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(arguments, env=env, check=False, stdin=subprocess.DEVNULL, capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"# Hi\n\nThere **you** are.\n")
