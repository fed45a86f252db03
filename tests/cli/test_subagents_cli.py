"""Subagents in `nanobot agent`: it waits for them, shows how they go, and tells what they report."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

from tests.cli.conftest import Nanobot, Terminal

SPAWN = [
    {"name": "spawn", "arguments": {"task": "find prices", "label": "prices"}},
    {"name": "spawn", "arguments": {"task": "find weather", "label": "weather"}},
]
ASK = [
    {"when": "look", "text": "I delegate.", "tool_calls": SPAWN},
    {"when": "look", "text": "They are on it."},
]
PRICES = [
    {"when": "find prices", "tool_calls": [{"name": "list_dir", "arguments": {"path": "."}}]},
    {"when": "find prices", "text": "5 EUR"},
]
WEATHER = [{"when": "find weather", "text": "sunny"}]
HANG = {"when": "find weather", "text": "Looking", "hang": True}
NEWS = {"when": "[Subagent ", "text": "Now I know."}
FOOTER = r"[\d.k]+ in, [\d.k]+ out"


def events_of(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_one_reply_waits_for_the_subagents(nanobot: Nanobot) -> None:
    model = nanobot.script(*ASK, *PRICES, *WEATHER, NEWS, NEWS)
    done = nanobot.run("agent", "-m", "look", "--model", model)
    assert done.returncode == 0
    assert re.fullmatch(r"They are on it.\n(Now I know.\n){1,2}", done.stdout)
    assert 'Subagent prices: list_dir(".")' in done.stderr
    assert re.search(r"● Subagent prices: done, \d\.\ds, 2 model calls", done.stderr)
    assert re.search(r"● Subagent weather: done, \d\.\ds, 1 model call\n", done.stderr)
    asked = " ".join(nanobot.texts("user"))
    assert "5 EUR\n[end of " in asked
    assert "sunny\n[end of " in asked
    assert nanobot.run("session", "list").stdout.count("subagent:") == 2
    assert "subagent:" not in nanobot.run("agent", "-m", "/sessions").stdout


def test_json_tells_their_events_apart(nanobot: Nanobot) -> None:
    model = nanobot.script(*ASK, *PRICES, *WEATHER, NEWS, NEWS)
    done = nanobot.run("agent", "-m", "look", "--json", "--model", model)
    events = events_of(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert {event["session"] for event in events if event["type"] == "turn_started"} == {"cli:direct"}
    prices = [event for event in events if event["type"] == "subagent" and event["label"] == "prices"]
    states = [event["state"] for event in prices]
    assert (states[0], states[-1], prices[-1]["text"], prices[-1]["calls"]) == ("waiting", "done", "5 EUR", 2)
    assert 'list_dir(".")' in [event["tool"] for event in prices]
    finished = [event for event in events if event["type"] == "turn_finished"]
    assert events[-1] is finished[-1]
    spent = sum(event["usage"]["input_tokens"] for event in events if event["type"] == "usage")
    spent += sum(
        event["usage"]["input_tokens"]
        for event in events
        if event["type"] == "subagent" and event["state"] == "done"
    )
    assert sum(event["usage"]["input_tokens"] for event in finished) == spent


def test_ctrl_c_cancels_them(nanobot: Nanobot) -> None:
    with nanobot.start(
        "agent", "-m", "look", "--json", "--model", nanobot.script(*ASK, *PRICES, HANG)
    ) as process:
        assert process.stdout is not None
        while '"turn_finished"' not in (line := process.stdout.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    events = events_of(rest)
    assert events[-1]["stop_reason"] == "cancelled"
    assert ("weather", "cancelled") in [(e["label"], e["state"]) for e in events if e["type"] == "subagent"]
    assert (process.returncode, errors) == (130, "")
    assert "interrupted" not in nanobot.run("session", "list").stdout


def test_a_failing_subagent_is_told_as_such(nanobot: Nanobot) -> None:
    fail = {"when": "find weather", "error": "auth", "message": "The key is wrong."}
    model = nanobot.script(*ASK, *PRICES, fail, NEWS, NEWS)
    done = nanobot.run("agent", "-m", "look", "--model", model)
    assert done.returncode == 0
    assert "✗ Subagent weather: error" in done.stderr
    assert "failed: The key is wrong." in " ".join(nanobot.texts("user"))


def test_after_a_kill_the_next_start_says_what_was_lost(nanobot: Nanobot) -> None:
    with nanobot.start(
        "agent", "-m", "look", "--json", "--model", nanobot.script(*ASK, *PRICES, HANG)
    ) as process:
        assert process.stdout is not None
        while '"turn_finished"' not in process.stdout.readline():
            pass
        process.kill()
        process.communicate(timeout=30)
    hello = nanobot.script({"text": "hello"}, loop=True)
    again = nanobot.run("agent", "-m", "and?", "--model", hello)
    assert again.stdout == "hello\n"
    (lost,) = re.findall(r"'weather' was cut off. See: nanobot session show (subagent:\w+)", again.stderr)
    assert nanobot.run("session", "show", lost).returncode == 0
    assert nanobot.run("agent", "-m", "and?", "--model", hello).stderr == ""
    assert "weather: interrupted" in nanobot.run("agent", "-m", "/agents", "--model", hello).stdout


def test_status_names_a_broken_profile(nanobot: Nanobot) -> None:
    nanobot.home.mkdir()
    (nanobot.home / "workspace" / "tools").mkdir(parents=True)
    shutil.copy(
        Path(__file__).parents[2] / "examples" / "tools" / "days.py", nanobot.home / "workspace" / "tools"
    )
    profiles = {"coder": {"tools": ["exec", "days_between"]}, "typo": {"tools": ["web_serch"]}}
    config = {"agents": {"subagentProfiles": profiles}, "tools": {"exec": {"enabled": False}}}
    (nanobot.home / "config.json").write_text(json.dumps(config))
    done = nanobot.run("status")
    assert done.returncode == 1
    assert "Error: Subagent profile 'typo' names the tool 'web_serch'" in done.stdout
    assert "Profile 'coder' asks for exec" in done.stdout
    report = json.loads(nanobot.run("status", "--json").stdout)
    assert len(report["subagents"]["errors"]) == 1
    assert not (nanobot.home / "nanobot.db").exists()


def configure(nanobot: Nanobot, config: dict[str, Any]) -> None:
    nanobot.home.mkdir()
    (nanobot.home / "config.json").write_text(json.dumps(config))


def test_a_reply_begins_with_what_is_wrong_with_the_profiles(nanobot: Nanobot) -> None:
    configure(nanobot, {"agents": {"subagentProfiles": {"typo": {"skills": ["wether"]}, "fine": {}}}})
    done = nanobot.run("agent", "-m", "hi", "--model", nanobot.script({"text": "hello"}))
    assert (done.returncode, done.stdout) == (0, "hello\n")
    assert re.fullmatch(r"Subagent profile 'typo' names the skill 'wether',.* Skills: .*\n", done.stderr)


def test_status_names_a_model_that_nothing_serves(nanobot: Nanobot) -> None:
    profiles = {"far": {"model": "deepseek/deepseek-chat"}, "near": {"model": nanobot.script()}}
    configure(nanobot, {"agents": {"subagentProfiles": profiles}})
    done = nanobot.run("status", "--json")
    (note,) = json.loads(done.stdout)["subagents"]["notes"]
    assert done.returncode == 0  # as when nothing serves the model of the conversations
    assert note.startswith("Profile 'far' cannot be used with the model 'deepseek/deepseek-chat': ")


def test_status_starts_no_server_to_check_profiles(nanobot: Nanobot) -> None:
    started = nanobot.home / "started"
    servers = {"files": {"command": "touch", "args": [str(started)]}}
    profiles = {"reader": {"tools": ["mcp_files_read"]}, "typo": {"tools": ["mcp_flies_read"]}}
    configure(nanobot, {"agents": {"subagentProfiles": profiles}, "tools": {"mcpServers": servers}})
    (error,) = json.loads(nanobot.run("status", "--json").stdout)["subagents"]["errors"]
    assert "'mcp_flies_read'" in error
    assert not started.exists()


def test_one_that_was_lost_before_it_began_has_no_session_to_look_at(nanobot: Nanobot) -> None:
    configure(nanobot, {"agents": {"defaults": {"maxConcurrentSubagents": 1}}})
    hang = {"when": "find prices", "text": "Looking", "hang": True}
    with nanobot.start("agent", "-m", "look", "--json", "--model", nanobot.script(*ASK, hang)) as process:
        assert process.stdout is not None
        while '"turn_finished"' not in process.stdout.readline():
            pass
        process.kill()
        process.communicate(timeout=30)
    hello = nanobot.script({"text": "hello"}, loop=True)
    prices, weather = nanobot.run("agent", "-m", "and?", "--model", hello).stderr.splitlines()
    assert "'prices' was cut off. See: nanobot session show subagent:" in prices
    assert weather == "The subagent 'weather' was lost before it had begun."


# -- in a conversation


def begin(nanobot: Nanobot, *replies: dict[str, Any]) -> Terminal:
    terminal = nanobot.open("agent", "--model", nanobot.script(*replies))
    terminal.wait_for_prompt()
    return terminal


def test_a_report_comes_in_while_the_prompt_waits_and_keeps_what_is_typed(nanobot: Nanobot) -> None:
    slow = {"when": "find weather", "text": "sunny", "delay": 1.5}
    terminal = begin(nanobot, *ASK, *PRICES, slow, NEWS, NEWS)
    terminal.send("look\r")
    terminal.wait_for("^They are on it.")
    terminal.wait_for(r"Subagent weather: running [\d.]+s\n>")
    terminal.send("half a thou")
    terminal.wait_for("Now I know.")
    terminal.wait_for(r"● Subagent weather: done")
    terminal.wait_for(rf"{FOOTER}.*\n\n> half a thou\Z")  # no turn is left that Ctrl-C would stop
    terminal.send("ght\x03\x04")
    terminal.wait_for("To go on later")
    assert terminal.leave() == 0


def test_the_last_line_names_those_that_are_stopped(nanobot: Nanobot) -> None:
    terminal = begin(nanobot, *ASK, *PRICES, HANG, NEWS)
    terminal.send("look\r")
    terminal.wait_for("Now I know.")
    terminal.wait_for(r"Subagent weather: running [\d.]+s\n>")
    terminal.send("/agents\r")
    terminal.wait_for(r"weather: running, \d+ s")
    terminal.send("\x04")
    terminal.wait_for("Stopped the subagents that were at work: weather")
    assert terminal.leave() == 0


def test_agents_stop_in_a_terminal(nanobot: Nanobot) -> None:
    terminal = begin(nanobot, *ASK, *PRICES, HANG, NEWS, NEWS)
    terminal.send("look\r")
    terminal.wait_for("Now I know.")
    terminal.send("/agents stop all\r")
    terminal.wait_for("^Stopped ")
    terminal.wait_for("Now I know.", 2)
    terminal.wait_for_prompt()
    terminal.send("\x04")
    assert terminal.leave() == 0
    assert "was stopped by the owner" in " ".join(nanobot.texts("user"))


def test_ctrl_c_stops_the_answer_and_its_subagents(nanobot: Nanobot) -> None:
    slow = {"when": "look", "text": "Waiting", "hang": True}
    terminal = begin(nanobot, ASK[0], slow, *PRICES, HANG)
    terminal.send("look\r")
    terminal.wait_for("^Waiting")
    terminal.wait_for("Subagent weather: running")
    terminal.interrupt()
    terminal.wait_for("^Stopped.")
    terminal.wait_for_prompt()
    terminal.send("/agents\r")
    terminal.wait_for("weather: cancelled")
    terminal.send("\x04")
    assert terminal.leave() == 0


def test_a_simple_terminal_waits_before_it_asks(nanobot: Nanobot) -> None:
    nanobot.env["TERM"] = "dumb"
    slow = {"when": "find weather", "text": "sunny", "delay": 0.5}
    terminal = begin(nanobot, *ASK, *PRICES, slow, NEWS, NEWS)
    terminal.send("look\n")
    terminal.wait_for("● Subagent weather: done")
    terminal.wait_for_prompt()
    terminal.send("exit\n")
    assert terminal.leave() == 0
    assert b"\x1b" not in terminal.raw


def test_what_a_subagent_reported_is_not_what_the_owner_had_asked(nanobot: Nanobot) -> None:
    spawn = {"when": "look", "tool_calls": SPAWN[1:]}
    model = nanobot.script(spawn, ASK[1], *WEATHER, {**NEWS, "hang": True})
    with nanobot.start("agent", "-m", "look", "--json", "--model", model) as process:
        assert process.stdout is not None
        while "Now I know." not in process.stdout.readline():
            pass
        process.kill()
        process.communicate(timeout=30)
    terminal = nanobot.open("agent", "--model", model)
    terminal.wait_for(r"cut off. It told of a subagent's report.\nGo on with it\? \(y/N\)")
    assert "had ended, but its report was not told" in terminal.text
    assert "You had asked" not in terminal.text
