"""`nanobot doctor`, and the first line of `nanobot status`: ready, or what to do next."""

from __future__ import annotations

import asyncio
import json
import stat
from typing import Any

import pytest

from tests.cli.conftest import Nanobot
from tests.providers.loopback import Loopback, json_answer


def configure(nanobot: Nanobot, **sections: Any) -> None:
    nanobot.home.mkdir(mode=0o700, exist_ok=True)
    (nanobot.home / "config.json").write_text(json.dumps(sections))
    (nanobot.home / "config.json").chmod(0o600)


def findings(nanobot: Nanobot, *options: str) -> tuple[int, list[dict[str, Any]]]:
    done = nanobot.run("doctor", "--json", *options)
    return done.returncode, json.loads(done.stdout)["findings"]


def test_a_home_that_was_just_set_up_is_healthy(nanobot: Nanobot) -> None:
    assert nanobot.run("agent", "-m", "hi", "--model", nanobot.script({"text": "Hi."})).returncode == 0
    assert stat.S_IMODE(nanobot.home.stat().st_mode) == 0o700
    nanobot.env["GROQ_API_KEY"] = "gsk-secret"
    done = nanobot.run("doctor")
    assert (done.returncode, "Nothing is wrong." in done.stdout, "sqlite 3." in done.stdout) == (
        0,
        True,
        True,
    )
    assert nanobot.run("status").stdout.startswith("Ready: ")


def test_what_cannot_serve_is_said_first_and_by_the_exit_code(nanobot: Nanobot) -> None:
    configure(nanobot, agents={"defaults": {"model": "groq/llama"}})
    status = nanobot.run("status")
    assert status.returncode == 1
    assert status.stdout.startswith("Not ready: groq/llama asks for Groq, which is not configured: run")
    code, found = findings(nanobot)
    assert (code, found[0]["severity"], "onboard" in found[0]["fix"]) == (1, "error", True)


def test_everything_wrong_is_found_with_its_fix(nanobot: Nanobot) -> None:
    channels = {"telegram": {"enabled": True, "token": "1:a", "allowFrom": []}}
    broken = {"wrong": {}, "fine": {"command": "x"}}
    configure(nanobot, channels=channels, tools={"mcpServers": broken}, gateway={"prot": 1})
    nanobot.env["GROQ_API_KEY"] = "gsk-secret"
    nanobot.run("agent", "-m", "hi", "--model", nanobot.script({"text": "Hi."}))
    (nanobot.home / "workspace" / "SOUL.md").unlink()
    (nanobot.home / "config.json").chmod(0o644)
    nanobot.home.chmod(0o755)
    code, found = findings(nanobot)
    assert code == 0, "all of it works, if not as it should"
    texts = "\n".join(it["text"] for it in found)
    for words in (
        "gateway.prot: unknown key, did you mean port?",
        "MCP server wrong: tools.mcpServers.wrong has neither command nor url",
        "Channel telegram answers everyone",
        "No gateway runs, and these need one: telegram.",
        f"look into {nanobot.home} (mode 755)",
        f"look into {nanobot.home}/config.json (mode 644)",
        "workspace lacks SOUL.md",
    ):
        assert words in texts
    assert {it["severity"] for it in found} == {"warning"}
    assert not [it for it in found if it["mended"]]


def test_fix_copies_the_config_and_repairs_files_alone(nanobot: Nanobot) -> None:
    configure(nanobot, memory={"scope": "all"})
    config = nanobot.home / "config.json"
    config.chmod(0o664)
    nanobot.home.chmod(0o755)
    before = config.read_bytes()
    nanobot.env["GROQ_API_KEY"] = "gsk-secret"
    code, found = findings(nanobot, "--fix")
    assert (code, all(it["mended"] for it in found), len(found)) == (0, True, 3)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (nanobot.home, config)] == [0o700, 0o600]
    assert (nanobot.home / "workspace" / "SOUL.md").exists()
    (copy,) = nanobot.home.glob("config.json.bak-*")
    assert (copy.read_bytes(), config.read_bytes()) == (before, before)
    assert findings(nanobot) == (0, [])


def test_a_broken_config_is_an_error_and_stays_as_it_is(nanobot: Nanobot) -> None:
    configure(nanobot)
    config = nanobot.home / "config.json"
    config.write_text('{"a": 1,}')
    code, (error,) = findings(nanobot, "--fix")
    assert (code, "Remove the comma" in error["text"], config.read_text()) == (1, True, '{"a": 1,}')


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (json_answer({"data": [{"id": "m"}]}), 0, ""),
        (json_answer({"error": {"message": "Your key has expired."}}, 401), 1, "Your key has expired"),
    ],
)
async def test_live_asks_whether_the_keys_are_taken(
    nanobot: Nanobot, answer: Any, code: int, words: str
) -> None:
    async with Loopback(answer) as server:
        section = {"apiBase": f"{server.url}/v1", "apiKey": "sk-hunter2-hunter2"}
        configure(nanobot, providers={"custom": section}, agents={"defaults": {"model": "m"}})
        nanobot.run("doctor", "--fix")
        found = await asyncio.to_thread(findings, nanobot, "--live")
    assert found[0] == code
    assert words in "".join(it["text"] for it in found[1])
    assert "hunter2" not in str(found)


def test_findings_are_broken_at_words_below_each_other(nanobot: Nanobot) -> None:
    terminal = nanobot.open("doctor", columns=40)
    terminal.wait_for(r"^ {9}lacks AGENTS.md, HEARTBEAT.md,\n {9}SOUL.md, TOOLS.md, USER.md,\n {9}memory\.$")
    terminal.wait_for(r"^ {9}The next turn creates what is\n {9}missing\.$")


@pytest.mark.parametrize("way", ["bwrap", "landlock", "off"])
def test_what_commands_reach_is_tried(nanobot: Nanobot, way: str) -> None:
    configure(nanobot, tools={"exec": {"sandbox": way, "network": "off"}})
    told = json.loads(nanobot.run("doctor", "--json").stdout)
    if any("No sandbox works" in it["text"] for it in told["findings"]):
        pytest.skip(f"{way} does not work here")
    reached = told["sandbox"]["reached"]
    names = ["read a secret", "write outside", "see other programs", "reach loopback"]
    assert [reached[name] for name in names] == {
        "bwrap": [False] * 4,
        "landlock": [False, False, True, False],
        "off": [True] * 4,
    }[way]
    shown = nanobot.run("doctor").stdout
    assert f"{'FAIL' if way == 'off' else 'pass'}     commands read a secret" in shown


def test_doctor_says_that_no_command_can_run(nanobot: Nanobot) -> None:
    configure(nanobot, tools={"exec": {"sandbox": "bwrap"}})
    done = nanobot.run("doctor", env={"PATH": "/nowhere"})
    assert (done.returncode, "apt install bubblewrap" in done.stdout) == (1, True)
