"""Conversations on the command line: list, show, rename, export, import, choose; what fills the window."""

from __future__ import annotations

import json
import stat

import pytest

from nanobot.agent.window import size_of
from nanobot.commands.context import sizes_by_part
from nanobot.messages import (
    ContextPart,
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from tests.cli.conftest import Nanobot

HELLO = {"text": "Hi there."}
FOOTER = r"context \d+%"


def test_sessions(nanobot: Nanobot) -> None:
    assert nanobot.run("session", "list", "--json").stdout == "[]\n"
    assert not nanobot.home.exists()
    look = {"tool_calls": [{"name": "list_dir", "arguments": {"path": "."}}]}
    nanobot.run("agent", "-m", "show ```me```", "-s", "work", "--model", nanobot.script(look, HELLO))
    listed = json.loads(nanobot.run("session", "list", "--json").stdout)
    assert [(info["key"], info["messages"]) for info in listed] == [("cli:work", 4)]
    last = nanobot.run("session", "show", "work", "-n", "1").stdout
    assert "Hi there." in last
    assert "list_dir" not in last
    file = nanobot.folder / "work.md"
    assert nanobot.run("session", "export", "work", "-o", str(file)).returncode == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for words in ("show ```me```", 'list_dir {"path": "."}', "Result of `list_dir` (ok)", "Hi there."):
        assert words in file.read_text()
    assert "Hi there." in nanobot.run("session", "show", "work").stdout
    (shown,) = nanobot.run("session", "show", "work", "-n", "1", "--json").stdout.splitlines()
    message = json.loads(shown)
    assert (message["session"], message["seq"], message["role"]) == ("cli:work", 4, "assistant")


def test_how_a_turn_ended_is_shown_as_nobodys_words(nanobot: Nanobot) -> None:
    refused = nanobot.script({"error": "auth", "message": "No key."})
    assert nanobot.run("agent", "-m", "hello", "--model", refused).returncode == 1
    shown = nanobot.run("session", "show", "direct").stdout
    assert shown.count("## ") == 1
    assert "_[nanobot: this turn failed before it was finished." in shown


@pytest.mark.parametrize(
    "command",
    [
        ["show", "none"],
        ["export", "none"],
        ["export", "none", "-o", "none.md"],
        ["export", "x", "-f", "pdf"],
        ["rename", "none", "x"],
        ["rename", "none", " "],
        ["rename", "none", "x" * 101],
    ],
)
def test_session_usage_errors(nanobot: Nanobot, command: list[str]) -> None:
    done = nanobot.run("session", *command)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")
    assert list(nanobot.folder.glob("*none*")) == []


def test_a_title_is_shown_and_the_key_stays(nanobot: Nanobot) -> None:
    model = nanobot.script(HELLO, loop=True)
    nanobot.run("agent", "-m", "hello", "-s", "work", "--model", model)
    assert "now called The harbour" in nanobot.run("session", "rename", "work", " The  harbour").stdout
    assert "The harbour" in nanobot.run("session", "list").stdout
    assert nanobot.run("session", "show", "work").stdout.startswith("# The harbour\n\nSession `cli:work`")
    done = nanobot.run("agent", "-m", "/rename Ships", "-s", "work", "--model", model)
    assert done.stdout == "This conversation is now called Ships.\n"
    assert "cli:work, 2 messages (Ships)" in nanobot.run("agent", "-m", "/status", "-s", "work").stdout
    assert nanobot.run("agent", "-m", "/rename x", "-s", "new", "--model", model).returncode == 2


def test_an_export_comes_back_under_a_key_of_its_own(nanobot: Nanobot) -> None:
    look = {"tool_calls": [{"name": "list_dir", "arguments": {"path": "."}}]}
    nanobot.run("agent", "-m", "look", "-s", "work", "--model", nanobot.script(look, HELLO))
    file = nanobot.folder / "work.jsonl"
    nanobot.run("session", "export", "work", "-f", "jsonl", "-o", str(file))
    done = nanobot.run("session", "import", str(file))
    assert done.stdout == f"Imported 4 messages of {file} as cli:work~2.\n"
    kept = ("seq", "created_at", "role", "parts")
    assert [[message[name] for name in kept] for message in nanobot.messages("work~2")] == [
        [message[name] for name in kept] for message in nanobot.messages("work")
    ]
    assert "look (imported)" in nanobot.run("session", "list").stdout
    again = nanobot.run("session", "import", str(file), str(nanobot.folder / "none"))
    assert (again.returncode, again.stdout) == (1, "")
    assert "was imported before" in again.stderr
    assert "No such file" in again.stderr


def test_older_conversations_are_there_at_the_first_start(nanobot: Nanobot) -> None:
    folder = nanobot.home / "workspace" / "sessions"
    folder.mkdir(parents=True)
    (folder / "cli_direct.jsonl").write_text(
        '{"_type": "metadata", "key": "cli:direct"}\n'
        '{"role": "user", "content": "My boat is blue.", "timestamp": "2025-01-02T03:04:05"}\n'
        '{"role": "assistant", "content": "Noted.", "timestamp": "2025-01-02T03:04:06"}\n'
    )
    done = nanobot.run("session", "list")
    assert "cli:direct" in done.stdout
    assert "2025-01-02" in done.stdout
    assert "taken over from" in done.stderr
    done = nanobot.run("agent", "-m", "hello", "--model", nanobot.script(HELLO))
    assert (done.stdout, done.stderr) == ("Hi there.\n", "")
    assert nanobot.texts("user") == ["My boat is blue.", "hello"]


def test_the_agent_takes_them_over_too(nanobot: Nanobot) -> None:
    folder = nanobot.home / "sessions"
    folder.mkdir(parents=True)
    (folder / "x.jsonl").write_text('{"role": "user", "content": "My boat is blue."}\n')
    done = nanobot.run("agent", "-m", "hello", "--model", nanobot.script(HELLO))
    assert done.stdout == "Hi there.\n"
    assert "taken over from" in done.stderr


def test_choosing_and_changing_the_conversation(nanobot: Nanobot) -> None:
    model = nanobot.script(HELLO, loop=True)
    for name in ("one", "two", "three"):
        nanobot.run("agent", "-m", f"about {name}", "-s", name, "--model", model)
    terminal = nanobot.open("agent", "--model", model, "--resume")
    terminal.wait_for(r"^about three  cli:three ")
    terminal.wait_for("user: about three")
    terminal.send("ABOUT one")
    terminal.wait_for("user: about one")
    terminal.send("x")
    terminal.wait_for("Nothing matches")
    terminal.send("\r\x7f\r")
    terminal.wait_for("session cli:one")
    terminal.wait_for_prompt()
    terminal.send("/resume\r")
    terminal.wait_for("user: about three")
    terminal.send("\x1b")
    terminal.wait_for_prompt()
    terminal.send("/resume 1\r")
    terminal.wait_for(r"^Going on with @3 \(about three\), 2 messages")
    terminal.wait_for("user: about three")
    terminal.send("more\r")
    terminal.wait_for(FOOTER)
    terminal.send("/resume two\r")
    terminal.wait_for("^Going on with @2")
    terminal.send("/resume nothing\r")
    terminal.wait_for("There is no conversation 'nothing'")
    terminal.wait_for_prompt()
    terminal.send("\x04")
    terminal.wait_for("nanobot agent -s cli:two")
    assert terminal.leave() == 0
    assert nanobot.texts("user", "three") == ["about three", "more"]


def test_esc_twice_goes_back_to_a_message_which_can_be_changed(nanobot: Nanobot) -> None:
    terminal = nanobot.open("agent", "--model", nanobot.script(HELLO, loop=True))
    for number, text in enumerate(("the red boat", "the blue boat"), 1):
        terminal.wait_for_prompt()
        terminal.send(f"{text}\r")
        terminal.wait_for(FOOTER, number)
    terminal.wait_for_prompt()
    terminal.send("\x1b")
    terminal.send("\x1b")
    terminal.wait_for("Type to search")
    terminal.send("red\r")
    terminal.wait_for("^Back to before: the red boat")
    terminal.wait_for(r"^> the red boat\Z")
    terminal.send(" is mine\r")
    terminal.wait_for(FOOTER, 3)
    terminal.send("/resume\r")
    terminal.wait_for("user: the red boat is mine")
    terminal.send("\x1b[B\r")
    terminal.wait_for(r"^Going on with @1 \(the red boat\), 4 messages")
    terminal.wait_for_prompt()
    terminal.send("\x04")
    assert terminal.leave() == 0


def test_a_terminal_says_which_conversation_goes_on(nanobot: Nanobot) -> None:
    model = nanobot.script(HELLO, loop=True)
    nanobot.run("agent", "-m", "the red boat", "--model", model)
    terminal = nanobot.open("agent", "--model", model, "-s", "@1")
    terminal.wait_for(
        r"^Going on with @1 \(the red boat\), 2 messages.\nuser: the red boat\nassistant: Hi there.$"
    )
    terminal.wait_for_prompt()
    terminal.send("\x04")
    assert terminal.leave() == 0


def test_a_list_is_chosen_from_with_arrows_or_left(nanobot: Nanobot) -> None:
    model = nanobot.script(HELLO, loop=True)
    for number in range(14):
        nanobot.run("agent", "-m", f"topic {number}", "-s", f"n{number}", "--model", model)
    terminal = nanobot.open("agent", "--model", model, "-r", columns=40)
    terminal.wait_for("user: topic 13")
    terminal.send("\x1b[B\x1b[B\x1b[A")
    terminal.wait_for("user: topic 12")
    terminal.send("\x1b[6~\x1b[6~")
    terminal.wait_for("user: topic 0")
    terminal.send("\x1b[5~\x1b[5~\x1b[B\r")
    terminal.wait_for(r"session\s+cli:n12")
    terminal.wait_for_prompt()
    terminal.send("\x04")
    assert terminal.leave() == 0
    terminal = nanobot.open("agent", "--model", model, "-r")
    terminal.wait_for("user: topic 13")
    terminal.send("\x1b")
    terminal.wait_for("No conversation was chosen")
    assert terminal.leave() == 2


def test_each_new_is_a_conversation_that_can_go_on(nanobot: Nanobot) -> None:
    model = nanobot.script(HELLO, loop=True)

    def say(text: str) -> str:
        done = nanobot.run("agent", "-m", text, "--model", model)
        assert done.returncode == 0, done.stderr
        return done.stdout

    for text in ("alpha", "more", "/new", "beta", "/new", "gamma", "/rename Gamma rays"):
        say(text)
    rows = [
        line.split()[:3] + line.split()[6:] for line in nanobot.run("session", "list").stdout.splitlines()
    ]
    assert rows[1:] == [
        ["@3", "cli:direct", "2", "Gamma", "rays"],
        ["@2", "cli:direct", "2", "beta"],
        ["@1", "cli:direct", "4", "alpha"],
    ]
    assert say("/resume alpha").startswith("Going on with @1 (alpha), 4 messages.\nuser: more\n")
    assert "4 messages are shown" in say("/context")
    assert "2. " not in nanobot.run("session", "show", "@2").stdout
    assert "# beta" in nanobot.run("session", "show", "@2").stdout
    done = nanobot.run("agent", "-m", "more beta", "-s", "@2", "--model", model)
    assert done.returncode == 0
    assert "4 messages are shown" in say("/context")
    assert say("/new") == "A new conversation begins. /resume @2 goes back to the earlier one.\n"
    assert nanobot.run("agent", "-m", "x", "-s", "@99", "--model", model).returncode == 2


def test_a_conversation_is_forked_and_rewound(nanobot: Nanobot) -> None:
    model = nanobot.script(HELLO, loop=True)

    def say(text: str) -> str:
        return nanobot.run("agent", "-m", text, "--model", model).stdout

    for text in ("one", "two", "three"):
        say(text)
    assert [line.split()[:2] for line in say("/rewind").splitlines()[:3]] == [
        ["1", "three"],
        ["2", "two"],
        ["3", "one"],
    ]
    assert "Back to before: two" in say("/rewind 2")
    assert "2 messages are shown" in say("/context")
    say("another two")
    assert say("/fork") == "Going on in a copy. /resume @2 goes back to the original.\n"
    say("only here")
    assert say("/resume @1").startswith("Going on with @1 (one), 6 messages.\nuser: three\n")
    exported = nanobot.run("session", "export", "@3").stdout
    assert all(text in exported for text in ("one", "another two", "only here"))
    assert "three" not in exported
    assert "only here" not in nanobot.run("session", "export", "@2").stdout
    assert nanobot.run("agent", "-m", "/rewind 9", "--model", model).returncode == 2


def test_resume_needs_a_terminal_and_excludes_other_choices(nanobot: Nanobot) -> None:
    for options in (("--resume",), ("--resume", "-c"), ("-s", "x", "-c")):
        done = nanobot.run("agent", "-m", "x", *options)
        assert (done.returncode, done.stdout) == (2, "")
    reply = nanobot.run("agent", "-m", "/resume x", "--model", nanobot.script(HELLO))
    assert reply.returncode == 2


def test_context_and_compact(nanobot: Nanobot) -> None:
    model = nanobot.script(HELLO, loop=True)
    empty = nanobot.run("agent", "-m", "/context", "--model", model).stdout
    assert "0 messages are shown" in empty
    assert "nothing to compact" in nanobot.run("agent", "-m", "/compact", "--model", model).stdout
    for number in range(3):
        nanobot.run("agent", "-m", f"question {number} " + "q" * 2_000, "--model", model)
    full = nanobot.run("agent", "-m", "/context", "--model", model).stdout
    for words in (
        "rules",
        "tool definitions",
        "your messages",
        "answers",
        "notes (clock",
        "6 messages are shown",
    ):
        assert words in full
    assert "The provider counted" in full
    done = nanobot.run("agent", "-m", "/compact", "--model", model).stdout
    assert done.startswith("Compacted: about ")
    assert "up to 4; all of them stay stored" in done
    after = nanobot.run("agent", "-m", "/context", "--model", model).stdout
    assert "2 messages are shown to the model; a summary stands for those up to 4." in after
    assert "\n  summary" in after
    assert "nothing to compact" in nanobot.run("agent", "-m", "/compact", "--model", model).stdout
    assert len(nanobot.messages()) == 6


def test_every_kind_of_part_has_its_row() -> None:
    result = ToolResult("c", "read_file", "r" * 400, images=(ImagePart("image/png", "aGk="),))
    parts = (
        (
            Message("user", (ContextPart("[now]\n[From memory, …]\nblue " + "b" * 400), TextPart("q" * 400))),
            3,
        ),
        (Message("user", (ImagePart("image/png", "aGk="),)), 1),
        (Message("assistant", (ReasoningPart("h" * 400), TextPart("a"), ToolCall("c", "read_file", {}))), 3),
        (Message("tool", (result,)), 2),
    )
    for message, rows in parts:
        found = sizes_by_part(message)
        assert len(+found) == rows
        assert abs(sum(found.values()) - size_of([message])) <= 40
    assert sizes_by_part(parts[0][0])["recall"] > 400
