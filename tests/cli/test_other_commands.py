"""status, session, config and onboard as commands; and what each command imports."""

from __future__ import annotations

import asyncio
import json
import stat

import pytest

from tests.cli.conftest import Nanobot
from tests.providers.loopback import Loopback, chat_stream, json_answer

HELLO = {"text": "Hi there."}


def test_status_of_a_fresh_machine(nanobot: Nanobot) -> None:
    done = nanobot.run("status", "--json", env={"GROQ_API_KEY": "gsk-secret"})
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert not report["config"]["exists"]
    assert (report["model"]["provider"], report["providers"]["groq"], report["providers"]["openai"]) == (
        "groq",
        True,
        False,
    )
    assert report["model"]["steps"]
    assert "gsk-secret" not in done.stdout + nanobot.run("status", env={"GROQ_API_KEY": "gsk-secret"}).stdout
    assert not nanobot.home.exists()


def test_status_with_a_broken_config(nanobot: Nanobot) -> None:
    nanobot.run("agent", "-m", "hello", "--model", nanobot.script(HELLO))
    config = nanobot.home / "config.json"
    config.write_text('{"agents": [}')
    done = nanobot.run("status")
    assert done.returncode == 1
    assert f"Error: {config}" in done.stdout
    assert "Sessions   1" in done.stdout
    assert config.read_text() == '{"agents": [}'


def test_a_mistyped_command_of_a_group_is_corrected(nanobot: Nanobot) -> None:
    done = nanobot.run("outbox", "lst")
    assert done.returncode == 2
    assert "No such command 'lst'. Did you mean 'list'?" in done.stderr


def test_config_schema(nanobot: Nanobot) -> None:
    assert "agents" in json.loads(nanobot.run("config", "schema").stdout)["properties"]


def test_onboard_without_terminal_creates_and_keeps(nanobot: Nanobot) -> None:
    assert nanobot.run("onboard").returncode == 0
    config, soul = nanobot.home / "config.json", nanobot.home / "workspace" / "SOUL.md"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    config.write_text('{"agents": {"defaults": {"model": "groq/x"}}, "extra": 1}')
    soul.write_text("mine")
    assert nanobot.run("onboard").returncode == 0
    assert json.loads(config.read_text())["extra"] == 1
    assert soul.read_text() == "mine"


def test_onboard_with_flags(nanobot: Nanobot) -> None:
    flags = ("onboard", "--non-interactive", "--provider", "groq", "--skip-check")
    missing = nanobot.run(*flags)
    assert (missing.returncode, nanobot.home.exists()) == (2, False)
    assert nanobot.run(*flags, "--api-key-env", "MY_KEY", env={"MY_KEY": "from-env"}).returncode == 0
    config = nanobot.home / "config.json"
    assert json.loads(config.read_text())["providers"]["groq"]["apiKey"] == "from-env"
    assert nanobot.run(*flags, "--api-key", "-", "--model", "groq/m", stdin="from-stdin\n").returncode == 0
    written = json.loads(config.read_text())
    assert written["providers"]["groq"]["apiKey"] == "from-stdin"
    assert written["agents"]["defaults"]["model"] == "groq/m"
    loud = nanobot.run(*flags, "--api-key", "from-argument")
    assert loud.returncode == 0
    assert "from-argument" not in loud.stdout + loud.stderr


async def test_onboard_checks_the_model(nanobot: Nanobot) -> None:
    async with Loopback(chat_stream(text="ready")) as server:
        flags = ("onboard", "--provider", "custom", "--api-base", f"{server.url}/v1", "--model", "tiny")
        done = await asyncio.to_thread(nanobot.run, *flags)
        assert done.returncode == 0, done.stderr
        assert server.requests[0].json()["model"] == "tiny"
    config = (nanobot.home / "config.json").read_text()
    refused = await asyncio.to_thread(nanobot.run, *flags, "--api-key", "-", stdin="another\n")
    assert refused.returncode == 1
    assert (nanobot.home / "config.json").read_text() == config


async def test_onboard_wizard(nanobot: Nanobot) -> None:
    async with Loopback(chat_stream(text="ready"), chat_stream(text="I am nanobot.")) as server:
        base = f"{server.url}/v1"
        await asyncio.to_thread(_answer_the_wizard, nanobot, base)
        assert server.requests[0].headers["authorization"] == "Bearer sk-secret"
    written = json.loads((nanobot.home / "config.json").read_text())
    assert written["providers"]["custom"] == {"apiKey": "sk-secret", "apiBase": base}
    assert written["agents"]["defaults"]["model"] == "tiny"


def _answer_the_wizard(nanobot: Nanobot, base: str) -> None:
    terminal = nanobot.open("onboard")
    terminal.wait_for(r"^Provider \[\w+\]:")
    terminal.send("custom\n")
    terminal.wait_for("^Base URL:")
    terminal.send(f"{base}\n")
    terminal.wait_for("^API key")
    terminal.send("sk-secret\n")
    terminal.wait_for("^Model:")
    terminal.send("tiny\n")
    terminal.wait_for("I am nanobot.")
    assert terminal.leave() == 0
    assert b"sk-secret" not in terminal.raw


async def test_the_wizard_asks_again_only_for_what_was_wrong(nanobot: Nanobot) -> None:
    refused, missing = json_answer({"error": {"message": "no"}}, 401), json_answer({"error": "no model"}, 404)
    answers = (refused, missing, chat_stream(text="ready"), chat_stream(text="I am nanobot."))
    async with Loopback(*answers) as server:
        base = f"{server.url}/v1"
        await asyncio.to_thread(_answer_wrongly_first, nanobot, server.url)
        tried = [
            (request.headers.get("authorization"), request.json()["model"]) for request in server.requests
        ]
    assert tried[:3] == [("Bearer bad", "tin"), ("Bearer good", "tin"), ("Bearer good", "tiny")]
    written = json.loads((nanobot.home / "config.json").read_text())
    assert written["providers"]["custom"] == {"apiKey": "good", "apiBase": base}
    assert written["agents"]["defaults"]["model"] == "tiny"


def _answer_wrongly_first(nanobot: Nanobot, url: str) -> None:
    terminal = nanobot.open("onboard")
    for question, answer in (
        (r"^Provider \[openrouter\]:", "nobody"),
        ("'nobody' is no provider[^$]*^Provider", "custom"),
        ("^Base URL:", f"{url.removeprefix('http://')}/v1"),  # without its scheme
        ("^API key", "bad"),
        ("^Model:", "tin"),
        ("Once more[^$]*Once more[^$]*^API key", "good"),
        (r"^Model \[tin\]:", "tiny"),
    ):
        terminal.wait_for(question)
        terminal.send(f"{answer}\n")
    terminal.wait_for("I am nanobot.")
    terminal.wait_for("nanobot gateway install")
    assert terminal.leave() == 0


@pytest.mark.parametrize(
    ("answer", "provider"),
    [
        *(("claude", "anthropic"), ("Claude-Opus", "anthropic"), ("gpt", "openai"), ("kimi", "moonshot")),
        *(("qwen", "dashscope"), ("glm", "zhipu"), ("Zhipu AI", "zhipu"), ("open-router", "openrouter")),
        *(("2", "anthropic"), ("deep", "deepseek"), ("GROQ", "groq")),
    ],
)
def test_numbers_and_other_names_of_providers_are_taken(nanobot: Nanobot, answer: str, provider: str) -> None:
    terminal = nanobot.open("onboard", "--skip-check", "--model", "m", "--api-key", "k")
    terminal.wait_for("^  2  Anthropic")
    terminal.wait_for("^Provider")
    terminal.send(f"{answer}\n")
    assert terminal.leave() == 0
    assert provider in json.loads((nanobot.home / "config.json").read_text())["providers"]


def test_onboard_interrupted_changes_nothing(nanobot: Nanobot) -> None:
    terminal = nanobot.open("onboard")
    terminal.wait_for("^Provider")
    terminal.interrupt()
    terminal.wait_for("Nothing was changed.")
    assert terminal.leave() == 130
    assert not nanobot.home.exists()


HEAVY = {
    "rich",
    "prompt_toolkit",
    "httpx2",
    "jsonschema",
    "lxml",
    "readability",
    "ddgs",
    "mcp",
    "xllamacpp",
    "pygments",
}


@pytest.mark.parametrize(
    ("arguments", "unneeded"),
    [
        (["--version"], {"typer", "pydantic", "asyncio", "sqlite3", "typing", "logging"}),
        (["--help"], {"pydantic", "asyncio", "sqlite3"} | HEAVY),
        (["config", "schema"], {"sqlite3"} | HEAVY),
        (["session", "list"], HEAVY),
        (["status"], HEAVY),
        (["agent", "-m", "hello", "--model", "SCRIPT"], {"typer", "click", "pydantic"} | HEAVY),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_commands_import_what_they_need(nanobot: Nanobot, arguments: list[str], unneeded: set[str]) -> None:
    words = [nanobot.script(HELLO) if word == "SCRIPT" else word for word in arguments]
    done = nanobot.run(*words, env={"PYTHONPROFILEIMPORTTIME": "1", "GROQ_API_KEY": "x"})
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert done.returncode == 0
    assert "nanobot" in imported
    assert not imported & unneeded


def test_status_shows_no_secret_of_an_address(nanobot: Nanobot) -> None:
    base = "http://user:hunter22@127.0.0.1:9/v1?api-key=hunter22"
    nanobot.home.mkdir()
    section = {"providers": {"custom": {"apiBase": base}}, "agents": {"defaults": {"model": "m"}}}
    (nanobot.home / "config.json").write_text(json.dumps(section))
    for options in ([], ["--json"]):
        done = nanobot.run("status", *options)
        assert "http://127.0.0.1:9/v1" in done.stdout
        assert "hunter22" not in done.stdout + done.stderr
