"""`nanobot agent` in a terminal."""

from __future__ import annotations

import re
import signal
import stat
from typing import Any

import pytest

from tests.cli.conftest import Nanobot, Terminal

HELLO = {"text": "# Hi\n\nThere **you** are."}
SLOW = {"when": "slow", "text": "Once upon a time", "hang": True}
SLEEP = {"when": "sleep", "tool_calls": [{"name": "exec", "arguments": {"command": "sleep 60"}}]}
FOOTER = r"[\d.k]+ in, [\d.k]+ out"
RESUME = "nanobot agent -s cli:direct"


def begin(nanobot: Nanobot, *replies: dict[str, Any], arguments: tuple[str, ...] = ()) -> Terminal:
    """Start a conversation and wait for the prompt."""
    model = nanobot.script(*replies, HELLO, loop=True)
    terminal = nanobot.open("agent", "--model", model, *arguments)
    terminal.wait_for_prompt()
    return terminal


def test_conversation(nanobot: Nanobot) -> None:
    evil = {"when": "evil", "text": "A\x1b]0;owned\x07B\x1b[2JC"}
    terminal = begin(nanobot, evil, arguments=("-s", "trip"))
    terminal.send("hello\r")
    terminal.wait_for(FOOTER)
    assert "\nHi\n\nThere you are.\n" in terminal.text
    terminal.send("evil\r")
    terminal.wait_for(FOOTER, 2)
    assert "\nABC\n" in terminal.text
    assert b"owned" not in terminal.raw
    terminal.send("/mdoel x\r")
    terminal.wait_for("There is no command /mdoel. Did you mean /model?")
    terminal.send("/st")
    terminal.wait_for("/stop +Stop the answer")
    terminal.send("atus\r")
    terminal.wait_for("Session +cli:trip, 4 messages")
    terminal.send("first\x1b\rsecond\r")
    terminal.wait_for(FOOTER, 3)
    terminal.send("\x1b[200~third\nfourth\x1b[201~\r")
    terminal.wait_for(FOOTER, 4)
    terminal.send("\x04")
    terminal.wait_for("nanobot agent -s cli:trip")
    assert terminal.leave() == 0
    assert nanobot.texts("user", "trip") == ["hello", "evil", "first\nsecond", "third\nfourth"]
    history = nanobot.home / "history" / "cli_history"
    assert "hello" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


@pytest.mark.parametrize("word", ["quit", "/exit", ":q"])
def test_words_that_leave(nanobot: Nanobot, word: str) -> None:
    terminal = begin(nanobot)
    terminal.send(f"{word}\r")
    terminal.wait_for(RESUME)
    assert terminal.leave() == 0


def test_interrupt_stops_the_answer_and_two_at_the_prompt_leave(nanobot: Nanobot) -> None:
    terminal = begin(nanobot, SLOW)
    terminal.send("slow please\r")
    terminal.wait_for("^Once upon a time")
    terminal.interrupt()
    terminal.wait_for("^Stopped.")
    terminal.wait_for_prompt()
    terminal.send("never mind")
    terminal.wait_for("^> never mind")
    terminal.interrupt()
    terminal.wait_for_prompt()
    terminal.send("hello\r")
    terminal.wait_for(FOOTER)
    terminal.wait_for_prompt()
    terminal.interrupt()
    terminal.wait_for("Press Ctrl-C again")
    terminal.wait_for_prompt()
    terminal.interrupt()
    terminal.wait_for(RESUME)
    assert terminal.leave() == 130
    assert nanobot.texts("user") == ["slow please", "hello"]


def test_interrupt_ends_a_running_command_and_a_second_one_leaves(nanobot: Nanobot) -> None:
    terminal = begin(nanobot, SLEEP)
    terminal.send("sleep\r")
    terminal.wait_for(r'exec\("sleep 60"\)')
    terminal.interrupt()
    terminal.wait_for("^Stopped.")
    terminal.wait_for_prompt()
    terminal.interrupt()
    assert terminal.leave() == 130
    parts = [part for message in nanobot.messages() for part in message["parts"]]
    assert [part["outcome"] for part in parts if part["type"] == "tool_result"] == ["cancelled"]


def test_a_failing_command_is_marked_with_its_exit_code(nanobot: Nanobot) -> None:
    calls = [{"name": "exec", "arguments": {"command": command}} for command in ("exit 3", "true")]
    terminal = begin(nanobot, {"when": "fail", "tool_calls": calls})
    terminal.send("fail\r")
    terminal.wait_for(r'^✗ exec\("exit 3"\) \d+\.\ds  exit code 3$')
    terminal.wait_for(r'^● exec\("true"\) \d+\.\ds$')
    assert b"\x1b[31m\xe2\x9c\x97" in terminal.raw  # red


def test_an_edit_shows_what_it_changes_and_outputs_are_unfolded(nanobot: Nanobot) -> None:
    def call(name: str, **arguments: str) -> dict[str, Any]:
        return {"when": "work", "tool_calls": [{"name": name, "arguments": arguments}]}

    terminal = begin(
        nanobot,
        call("write_file", path="a.txt", content="one\ntwo\nthree\n"),
        call("edit_file", path="a.txt", old_text="two", new_text="2 \x1b[2J"),
        call("exec", command="seq 100 130; exit 4"),
        {"when": "work", "text": "Worked."},
    )
    terminal.send("work\r")
    terminal.wait_for(r"^● write_file.*\n  @@ line 1 @@\n  \+one\n  \+two\n  \+three$")
    terminal.wait_for(r"^● edit_file.*\n  @@ line 2 @@\n  -two\n  \+2$")
    terminal.wait_for(r"^✗ exec.*exit code 4\n  128\n  129\n  130$")
    terminal.wait_for("^Worked.")
    assert b"\x1b[31m  -two" in terminal.raw
    assert b"\x1b[32m  +2" in terminal.raw
    terminal.send("\x0f")
    terminal.wait_for(r"^exec \(ok\):\n100\n101\n(\d+\n)+130\nExit code: 4")
    terminal.send("/output 2\r")
    terminal.wait_for(r"^edit_file \(ok\):\nEdited a.txt:")
    terminal.send("/output 9\r")
    terminal.wait_for("^Error: There are 3 outputs of tools here")


def test_killed_turn_is_offered_again(nanobot: Nanobot) -> None:
    terminal = begin(nanobot, SLOW)
    terminal.send("slow please\r")
    terminal.wait_for("^Once upon a time")
    terminal.kill(signal.SIGKILL)
    assert terminal.leave() == -signal.SIGKILL
    again = nanobot.open("agent", "--model", nanobot.script(HELLO))
    again.wait_for("You had asked: slow please")
    again.wait_for_prompt()
    again.send("y\r")
    again.wait_for(FOOTER)
    again.send("\x04")
    assert again.leave() == 0
    assert nanobot.texts("user")[0] == "slow please"


def test_error_keeps_the_conversation(nanobot: Nanobot) -> None:
    terminal = begin(nanobot, {"when": "fail", "error": "quota", "message": "No credit left."})
    terminal.send("fail\r")
    terminal.wait_for("^Error: No credit left.")
    terminal.send("hello\r")
    terminal.wait_for(FOOTER)


def test_simple_terminal(nanobot: Nanobot) -> None:
    nanobot.env["TERM"] = "dumb"
    terminal = begin(nanobot)
    terminal.send("hello\n")
    terminal.wait_for(r"^There \*\*you\*\* are\.")
    terminal.wait_for_prompt()
    terminal.send("exit\n")
    terminal.wait_for(RESUME)
    assert b"\x1b" not in terminal.raw
    assert terminal.leave() == 0


def test_no_color(nanobot: Nanobot) -> None:
    nanobot.env["NO_COLOR"] = "1"
    code = {"text": "```python\nx = 1\n```\n\n**bold**"}
    terminal = nanobot.open("agent", "-m", "hello", "--model", nanobot.script(code))
    assert terminal.leave() == 0
    assert terminal.text == "x = 1\n\nbold"
    codes = [code for style in re.findall(rb"\x1b\[([0-9;]*)m", terminal.raw) for code in style.split(b";")]
    assert not [code for code in codes if len(code) > 1]


def test_terminated_conversation_shows_the_cursor_again(nanobot: Nanobot) -> None:
    terminal = begin(nanobot, SLOW)
    terminal.send("slow please\r")
    terminal.wait_for("^Once upon a time")
    terminal.kill(signal.SIGTERM)
    assert terminal.leave() == 128 + signal.SIGTERM
    assert b"\x1b[6n" not in terminal.raw  # a terminal that never tells its cursor would delay Ctrl-C
    assert terminal.raw.rindex(b"\x1b[?25h") > terminal.raw.rindex(b"\x1b[?25l")
