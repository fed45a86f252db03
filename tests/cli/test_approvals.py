"""`tools.policy` in a terminal: a call that is asked about waits for y or anything else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest import Nanobot

CALLS = {
    "tool_calls": [{"name": "exec", "arguments": {"command": f"echo {word} | tee {word}"}} for word in "ab"]
}
DONE = {"text": "Finished."}


def ask_about(nanobot: Nanobot, **policy: str) -> None:
    nanobot.home.mkdir()
    (nanobot.home / "config.json").write_text(json.dumps({"tools": {"policy": policy}}))


def outcomes(nanobot: Nanobot) -> list[Any]:
    parts = [part for message in nanobot.messages() for part in message["parts"]]
    return [part["outcome"] for part in parts if part["type"] == "tool_result"]


def test_each_call_has_an_answer_of_its_own(nanobot: Nanobot) -> None:
    ask_about(nanobot, exec="ask")
    terminal = nanobot.open("agent", "--model", nanobot.script(CALLS, DONE))
    terminal.wait_for_prompt()
    terminal.send("go\r")
    terminal.wait_for(r"command: echo a \| tee a\n.*y and Enter: yes")
    terminal.send("y\r")
    terminal.wait_for(r"command: echo b \| tee b\n.*y and Enter: yes")
    terminal.send("\r")
    terminal.wait_for("^Finished.")
    terminal.wait_for_prompt()
    assert outcomes(nanobot) == ["ok", "error"]


def test_what_was_typed_ahead_answers_no_question(nanobot: Nanobot) -> None:
    ask_about(nanobot, **{"*": "ask"})
    slow = {"text": "", "tool_calls": CALLS["tool_calls"][:1], "delay": 0.5}
    terminal = nanobot.open("agent", "--model", nanobot.script(slow, DONE))
    terminal.wait_for_prompt()
    terminal.send("go\ry\r")
    terminal.wait_for("y and Enter: yes")
    terminal.send("no\r")
    terminal.wait_for("^Finished.")
    assert outcomes(nanobot) == ["error"]


def test_interrupt_ends_the_question(nanobot: Nanobot) -> None:
    ask_about(nanobot, exec="ask")
    terminal = nanobot.open("agent", "--model", nanobot.script(CALLS, DONE, DONE))
    terminal.wait_for_prompt()
    terminal.send("go\r")
    terminal.wait_for("y and Enter: yes")
    terminal.interrupt()
    terminal.wait_for("^Stopped.")
    terminal.wait_for_prompt()
    terminal.send("y\r")  # a message, no answer
    terminal.wait_for("^Finished.")
    assert outcomes(nanobot) == ["cancelled", "cancelled"]


@pytest.mark.parametrize(("policy", "says"), [("ask", "nobody can give it here"), ("deny", "does not allow")])
def test_a_single_reply_asks_nobody(nanobot: Nanobot, policy: str, says: str) -> None:
    ask_about(nanobot, exec=policy, list_dir="allow")
    nanobot.run("agent", "-m", "go", "--model", nanobot.script(CALLS, DONE))
    contents = [part["content"] for m in nanobot.messages() for part in m["parts"] if "content" in part]
    assert len(contents) == 2
    assert all(says in content for content in contents)


def test_a_word_that_is_no_decision_is_refused(nanobot: Nanobot) -> None:
    ask_about(nanobot, exec="maybe")
    done = nanobot.run("agent", "-m", "go", "--model", nanobot.script(DONE))
    assert done.returncode == 1
    assert "tools.policy.exec: expected 'allow' or 'ask' or 'deny'" in done.stderr
