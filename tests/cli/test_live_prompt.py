"""The prompt stays while an answer is written: what is typed then is seen, waits, joins, or stops it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.cli.conftest import Nanobot, Terminal

SLOW = {"when": "slow", "text": "Once upon a time", "hang": True}
HELLO = {"text": "Hi there."}
UNTIL_GO = {"name": "exec", "arguments": {"command": "until [ -e go ]; do sleep 0.05; done"}}
TABLE = """Intro words.

| Day | Place |
|---|---|
| Wednesday | a place with a long name |
| Thursday | 中文字符 |

Some **bold** words that are long enough to be wrapped on a narrow terminal"""


def begin(nanobot: Nanobot, *replies: dict[str, Any], columns: int = 80) -> Terminal:
    terminal = nanobot.open("agent", "--model", nanobot.script(*replies, HELLO, loop=True), columns=columns)
    terminal.wait_for_prompt()
    return terminal


def turns(nanobot: Nanobot) -> list[int]:
    """The turn of each message of the owner."""
    return [m["turn"] for m in nanobot.messages() if any(part["type"] == "text" for part in m["parts"])
            and m["role"] == "user"]  # fmt: skip


@pytest.mark.parametrize("columns", [40, 80, 140])
def test_what_is_typed_meanwhile_is_seen_and_waits_for_its_turn(nanobot: Nanobot, columns: int) -> None:
    terminal = begin(nanobot, SLOW, columns=columns)
    terminal.send("slow please\r")
    terminal.wait_for("^Once upon a time")
    terminal.send("half a tho")
    terminal.wait_for("^> half a tho")
    terminal.send("ught\r")
    terminal.wait_for(r"^Once upon a time\n(.*thinking.*\n)?waits: half a thought\n\(Up takes it back\)\n>\Z")
    terminal.send("\x1b")
    terminal.wait_for(r"^Stopped.\n\n> half a thought\n\nHi there.\n.* in, \d+ out.*\n\n>\Z")
    assert nanobot.texts("user") == ["slow please", "half a thought"]


def test_up_takes_back_what_waits(nanobot: Nanobot) -> None:
    terminal = begin(nanobot, SLOW)
    terminal.send("slow please\r")
    terminal.wait_for("^Once upon a time")
    terminal.send("one\rtwo\r")
    terminal.wait_for(r"^waits: one\nwaits: two\n\(Up takes")
    terminal.send("\x1b[A")
    terminal.wait_for(r"^waits: one\n.*\n> two\Z")
    terminal.send("!\x03")  # stops the answer; what is typed stays
    terminal.wait_for("^> one\n\nHi there.")
    terminal.wait_for(r"^> two!\Z")
    terminal.send("\r")
    terminal.wait_for("^Hi there.", 2)
    assert nanobot.texts("user") == ["slow please", "one", "two!"]


@pytest.mark.parametrize("mode", ["steer", "queue"])
def test_a_message_joins_the_turn_after_its_tool_call_if_wanted(nanobot: Nanobot, mode: str) -> None:
    both = {"when": "also this", "text": "Both done."}
    terminal = begin(nanobot, {"when": "begin", "tool_calls": [UNTIL_GO]}, {"when": "begin"}, both)
    terminal.send(f"/queue {mode}\r")
    terminal.wait_for(f"^Mode {mode}")
    terminal.send("begin\r")
    terminal.wait_for(r"exec\(.* \d")
    terminal.send("also this\r")
    terminal.wait_for("^> also this" if mode == "steer" else "^waits: also this")
    (nanobot.home / "workspace" / "go").touch()
    terminal.wait_for("^Both done.")
    terminal.wait_for_prompt()
    assert nanobot.texts("user") == ["begin", "also this"]
    assert len(set(turns(nanobot))) == (1 if mode == "steer" else 2)


def test_commands_act_while_an_answer_is_written_unless_they_change_the_conversation(
    nanobot: Nanobot,
) -> None:
    terminal = begin(nanobot, SLOW)
    terminal.send("slow please\r")
    terminal.wait_for("^Once upon a time")
    terminal.send("/new\r/status\r")
    terminal.wait_for(r"^Session +cli:direct(.*\n)+Once upon a time\n(.*thinking.*\n)?waits: /new")
    terminal.send("/stop\r")
    terminal.wait_for("^A new conversation begins")


def test_typing_goes_on_while_a_call_waits_for_a_yes(nanobot: Nanobot) -> None:
    nanobot.home.mkdir()
    (nanobot.home / "config.json").write_text(json.dumps({"tools": {"policy": {"exec": "ask"}}}))
    call = {"name": "exec", "arguments": {"command": "echo yes > asked"}}
    terminal = begin(nanobot, {"when": "go", "tool_calls": [call]}, {"when": "go", "text": "Finished."})
    terminal.send("go\r")
    terminal.wait_for("y and Enter: yes")
    terminal.send("and then rest\r")
    terminal.wait_for("^waits: and then rest")
    terminal.send("yes\r")
    terminal.wait_for("^Finished.")
    terminal.wait_for("^> and then rest\n\nHi there.")
    assert (nanobot.home / "workspace" / "asked").read_text() == "yes\n"


def test_leaving_stops_the_answer(nanobot: Nanobot) -> None:
    terminal = begin(nanobot, SLOW)
    terminal.send("slow please\r")
    terminal.wait_for("^Once upon a time")
    terminal.send("\x04")
    assert terminal.leave() == 0
    assert re.search(r"To go on later: (\S+/)?nanobot agent -s cli:direct$", terminal.text)
    assert "this turn was stopped" in json.dumps(nanobot.messages())


def test_a_resize_in_mid_stream_loses_and_doubles_nothing(nanobot: Nanobot) -> None:
    terminal = begin(nanobot, {"when": "table", "text": TABLE, "hang": True}, columns=70)
    terminal.send("a table please\r")
    terminal.wait_for("wrapped on a narrow")
    terminal.send("and more")
    terminal.wait_for(r"^> and more\Z")
    for columns in (40, 90, 35, 60):
        before = len(terminal.raw)
        terminal.resize(60, columns)
        terminal.wait_for_more(before)  # the screen has wrapped by itself: now it is drawn anew
        terminal.wait_for(r"on\s+a\s+narrow\s+terminal\n(.*thinking.*\n)?> and more\Z")
    terminal.send("\x03")
    terminal.wait_for(r"^Stopped.*\n\n> and more\Z")
    for words in (
        "> a table please",
        "Intro words.",
        "Wednesday",
        "中文字符",
        "Some bold",
        "narrow",
        "> and",
    ):
        assert len(re.findall(words, terminal.text)) == 1, words


@pytest.mark.parametrize("term", ["xterm-256color", "dumb"])
def test_lines_of_nanobot_itself_wrap_at_words(nanobot: Nanobot, term: str) -> None:
    nanobot.env["TERM"] = term
    terminal = nanobot.open("agent", "--model", nanobot.script({"error": "auth"}), columns=40)
    terminal.wait_for_prompt()
    terminal.send("/queue steer\r" if term != "dumb" else "/queue steer\n")
    terminal.wait_for(r"changes\s+it\.")
    terminal.send("fail\r" if term != "dumb" else "fail\n")
    terminal.wait_for("auth")
    words = set(terminal.text.split())
    for line in ("Enter sends, Alt+Enter begins a line, Esc stops, /help lists commands, Ctrl-D leaves.",
                 "Mode steer: a message that comes while an answer is being written joins it.",
                 "Error: The script says: auth."):  # fmt: skip
        assert set(line.split()) <= words


@pytest.mark.parametrize("columns", [40, 80])
def test_help_begins_with_the_daily_commands_and_ends_with_the_way_out(
    nanobot: Nanobot, columns: int
) -> None:
    terminal = begin(nanobot, columns=columns)
    terminal.send("/help\r")
    terminal.wait_for(r"^> /help\n/new: Begin")
    terminal.wait_for(r"To\s+leave:\s+exit,\s+quit,\s+:q,")
    first, more, skills, *_ = terminal.text.partition("> /help\n")[2].split("\n\n")
    assert re.findall("^/[a-z]+", first, re.MULTILINE) == [
        *("/new", "/resume", "/model", "/status", "/stop", "/help"),
    ]
    assert "/compact: " in more
    assert "/weather" in skills
