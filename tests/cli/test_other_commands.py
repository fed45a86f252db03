"""status, session and config as commands; and what each command imports."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Nanobot

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
    assert done.stdout.startswith(f"Not ready: {config}, line 1")
    assert "Sessions   1" in done.stdout
    assert config.read_text() == '{"agents": [}'


def test_a_mistyped_command_of_a_group_is_corrected(nanobot: Nanobot) -> None:
    done = nanobot.run("outbox", "lst")
    assert done.returncode == 2
    assert "No such command 'lst'. Did you mean 'list'?" in done.stderr


def test_config_schema(nanobot: Nanobot) -> None:
    assert "agents" in json.loads(nanobot.run("config", "schema").stdout)["properties"]


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
