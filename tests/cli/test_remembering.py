"""Memory as its owner sees it: facts after a conversation, the backlog in status, forgetting."""

from __future__ import annotations

import json
import re
import signal
import time
from typing import Any

import pytest

from tests.cli.conftest import Nanobot

REMEMBERED = {
    "when": "Known facts:",
    "text": json.dumps(
        {
            "history": "Anna said where she lives.",
            "operations": [{"op": "add", "text": "Lives in Berlin.", "evidence": [1]}],
        }
    ),
}
ANSWER = {"when": "", "text": "Nice."}


def memory(nanobot: Nanobot) -> str:
    return (nanobot.home / "workspace" / "memory" / "MEMORY.md").read_text()


def history(nanobot: Nanobot) -> str:
    path = nanobot.home / "workspace" / "memory" / "HISTORY.md"
    return path.read_text() if path.exists() else ""


def status(nanobot: Nanobot) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(nanobot.run("status", "--json").stdout)["memory"]
    return report


@pytest.fixture
def waiting(nanobot: Nanobot) -> Nanobot:
    """Its `agent -m` ends when memory is consolidated."""
    nanobot.env["NANOBOT_MEMORY__CONSOLIDATE_AFTER_REPLY"] = "true"
    return nanobot


def test_a_single_reply_leaves_remembering_to_a_process_of_its_own(nanobot: Nanobot) -> None:
    model = nanobot.script(REMEMBERED, ANSWER, loop=True)
    nanobot.run("agent", "--model", model, "-m", "I live in Berlin.")
    assert nanobot.run("agent", "--model", model, "-m", "/new").returncode == 0
    deadline = time.monotonic() + 50
    while status(nanobot)["messages"]:
        assert time.monotonic() < deadline
    assert "- Lives in Berlin. <!-- " in memory(nanobot)


def test_one_reply_processes_remember_after_their_reply_when_told_to(waiting: Nanobot) -> None:
    nanobot = waiting
    model = nanobot.script(REMEMBERED, ANSWER, loop=True)
    first = nanobot.run("agent", "--model", model, "-m", "I live in Berlin.")
    assert first.stdout == "Nice.\n"
    assert "Berlin" not in memory(nanobot)
    done = nanobot.run("agent", "--model", model, "-m", "/new")
    assert done.returncode == 0
    assert "- Lives in Berlin. <!-- " in memory(nanobot)
    assert "Anna said where she lives." in history(nanobot)
    assert status(nanobot)["messages"] == 0


def test_a_full_window_is_remembered_without_asking(waiting: Nanobot) -> None:
    nanobot = waiting
    nanobot.env["NANOBOT_AGENTS__DEFAULTS__MEMORY_WINDOW"] = "4"
    model = nanobot.script(REMEMBERED, ANSWER, loop=True)
    nanobot.run("agent", "--model", model, "-m", "I live in Berlin.")
    nanobot.run("agent", "--model", model, "-m", "And I like it.")
    assert "Lives in Berlin." in memory(nanobot)


def test_an_interactive_conversation_remembers_beside_the_chat(nanobot: Nanobot) -> None:
    terminal = nanobot.open("agent", "--model", nanobot.script(REMEMBERED, ANSWER, loop=True))
    terminal.wait_for_prompt()
    terminal.send("I live in Berlin.\r")
    terminal.wait_for("^Nice")
    terminal.wait_for_prompt()
    terminal.send("/new\r")
    terminal.wait_for("A new conversation begins")
    terminal.wait_for_prompt()
    terminal.send("Hello\r")
    terminal.wait_for("^Nice", times=2)
    terminal.wait_for_prompt()
    terminal.send("\x04")
    assert terminal.leave() == 0
    assert nanobot.run("memory", "consolidate").returncode == 0
    assert "Lives in Berlin." in memory(nanobot)


def test_status_shows_what_waits_and_why(waiting: Nanobot) -> None:
    nanobot = waiting
    failing = {"when": "Known facts:", "error": "overloaded", "message": "Overloaded, says the provider."}
    nanobot.env["NANOBOT_MEMORY__MODEL"] = nanobot.script(failing, ANSWER, loop=True)
    assert nanobot.run("agent", "--model", nanobot.env["NANOBOT_MEMORY__MODEL"], "-m", "Hi.").returncode == 0
    done = nanobot.run("agent", "--model", nanobot.env["NANOBOT_MEMORY__MODEL"], "-m", "/new")
    assert (done.returncode, done.stderr) == (0, "")
    waiting = status(nanobot)
    assert (waiting["messages"], waiting["sessions"], waiting["failures"]) == (2, 1, 1)
    assert waiting["error"] == "Overloaded, says the provider."
    shown = nanobot.run("status").stdout
    line = "2 messages of 1 session wait to be consolidated. Last error: Overloaded, says the provider."
    assert f"Memory     {line}" in shown
    assert nanobot.texts("user", "@1") == ["Hi."]

    again = nanobot.run("memory", "consolidate")
    assert again.returncode == 1
    assert line in again.stdout
    third = nanobot.run("memory", "consolidate")
    assert third.returncode == 0
    assert "(mechanical) 2 messages" in history(nanobot)


def test_what_cannot_be_read_is_named_where_the_owner_looks(nanobot: Nanobot) -> None:
    folder = nanobot.home / "workspace" / "memory"
    folder.mkdir(parents=True)
    (folder / "HISTORY.md").write_text("# History\n[2026-02-30] The harbour is closed.\n")
    problem = "HISTORY.md, line 2: there is no day 2026-02-30."
    assert problem in nanobot.run("status").stdout
    assert status(nanobot)["unreadable"] == [problem]
    found = nanobot.run("memory", "search", "harbour")
    assert "The harbour is closed." in found.stdout
    assert problem in found.stderr
    assert problem in nanobot.run("memory", "consolidate").stderr


@pytest.mark.parametrize("command", [["search", "tea"], ["consolidate"], ["forget", "tea", "--yes"]])
def test_warnings_about_the_configuration_are_shown(nanobot: Nanobot, command: list[str]) -> None:
    nanobot.home.mkdir(parents=True, exist_ok=True)
    (nanobot.home / "config.json").write_text('{"memory": {"promptBites": 5}}')
    assert "promptBites" in nanobot.run("memory", *command).stderr


@pytest.mark.parametrize("text", ["/new", "Hello."])
def test_a_model_that_hangs_is_left_by_ctrl_c_with_nothing_lost(waiting: Nanobot, text: str) -> None:
    nanobot = waiting
    nanobot.env["NANOBOT_AGENTS__DEFAULTS__MEMORY_WINDOW"] = "4"
    hanging = {"when": "Known facts:", "text": "{", "hang": True}
    model = nanobot.script(hanging, ANSWER, loop=True)
    nanobot.run("agent", "--model", model, "-m", "I live in Berlin.")
    terminal = nanobot.open("agent", "--model", model, "-m", text)
    terminal.wait_for("Remembering the conversation")
    terminal.interrupt()
    assert terminal.leave() == 0
    assert status(nanobot)["messages"] == 2
    assert history(nanobot) == ""


def holding(nanobot: Nanobot, word: str) -> list[str]:
    """The files of the home that hold a word."""
    files = (path for path in nanobot.home.rglob("*") if path.is_file())
    return [path.name for path in files if word.encode() in path.read_bytes()]


def test_forgetting_shows_asks_and_removes(waiting: Nanobot) -> None:
    nanobot = waiting
    model = nanobot.script(REMEMBERED, ANSWER, loop=True)
    nanobot.run("agent", "--model", model, "-m", "I live in Berlin.")
    nanobot.run("agent", "--model", model, "-m", "/new")
    declined = nanobot.run("memory", "forget", "berlin")
    assert declined.returncode == 1
    assert re.search(r"^fact [0-9a-f]{8}: Lives in Berlin\.$", declined.stdout, re.MULTILINE)
    assert "message cli:direct#1 user: I live in Berlin." in declined.stdout
    assert "--yes" in declined.stderr
    assert "Lives in Berlin." in memory(nanobot)

    terminal = nanobot.open("memory", "forget", "berlin")
    terminal.wait_for(r"\(y/N\)")
    terminal.send("n\r")
    assert terminal.leave() == 1
    terminal = nanobot.open("memory", "forget", "berlin")
    terminal.wait_for(r"\(y/N\)")
    terminal.send("y\r")
    assert terminal.leave() == 0
    terminal.wait_for("Forgotten: 1 facts, 0 entries of the history, 1 messages")
    assert holding(nanobot, "Berlin") == []
    assert "Anna said where she lives." in history(nanobot)


def test_forgetting_in_a_conversation_removes_the_request_too(nanobot: Nanobot) -> None:
    terminal = nanobot.open("agent", "--model", nanobot.script(ANSWER, loop=True))
    terminal.wait_for_prompt()
    terminal.send("I live in Berlin.\r")
    terminal.wait_for("^Nice")
    terminal.wait_for_prompt()
    terminal.send("/forget yes\r")
    terminal.wait_for("There is nothing to confirm")
    terminal.wait_for_prompt()
    terminal.send("/forget Berlin\r")
    terminal.wait_for("To forget it for good: /forget yes")
    terminal.wait_for_prompt()
    assert holding(nanobot, "Berlin")
    terminal.send("/forget yes\r")
    terminal.wait_for("Forgotten; 1 messages lost their words.")
    assert holding(nanobot, "Berlin") == []
    terminal.send("\x04")
    assert terminal.leave() == 0
    assert nanobot.texts("user") == ["[forgotten]"]


def test_too_little_cannot_be_forgotten(nanobot: Nanobot) -> None:
    refused = nanobot.run("memory", "forget", "a", "--yes")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "too little" in refused.stderr


def test_the_reply_is_there_before_anything_is_remembered(waiting: Nanobot) -> None:
    nanobot = waiting
    nanobot.env["NANOBOT_AGENTS__DEFAULTS__MEMORY_WINDOW"] = "2"
    hanging = {"when": "Known facts:", "text": "{", "hang": True}
    process = nanobot.start("agent", "--model", nanobot.script(hanging, ANSWER, loop=True), "-m", "Hi.")
    assert process.stdout is not None
    assert process.stdout.readline() == "Nice.\n"
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert status(nanobot)["messages"] == 1
