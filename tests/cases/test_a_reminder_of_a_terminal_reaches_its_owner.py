"""A reminder that was asked for in a terminal, on a machine without chats: it is shown at the next prompt."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Nanobot


@pytest.fixture
def nanobot(tmp_path: Path) -> Iterator[Nanobot]:
    bot = Nanobot(tmp_path)
    yield bot
    bot.close()


def model_with_reminder(nanobot: Nanobot) -> str:
    call = {"name": "cron", "arguments": {"action": "add", "message": "Drink tea", "every_seconds": 1}}
    replies = (
        {"when": "due now", "text": "Tea time!"},
        {"when": "remind", "tool_calls": [call]},
        {"text": "OK."},
    )
    model = nanobot.script(*replies, loop=True)
    assert nanobot.run("agent", "--model", model, "-m", "remind me").returncode == 0
    nanobot.env |= {"NANOBOT_AGENTS__DEFAULTS__MODEL": model, "NANOBOT_GATEWAY__PORT": "0"}
    return model


def test_it_comes_up_while_the_owner_looks_at_the_prompt(nanobot: Nanobot) -> None:
    terminal = nanobot.open("agent", "--model", model_with_reminder(nanobot))
    terminal.wait_for_prompt()
    terminal.send("half a tho")
    gateway = nanobot.start("gateway")
    terminal.wait_for(r"^Scheduled: Tea time!\n(.*\n)*> half a tho\Z")
    gateway.terminate()
    gateway.communicate(timeout=30)


def test_it_is_shown_when_the_owner_talks_again(nanobot: Nanobot) -> None:
    model = model_with_reminder(nanobot)
    gateway = nanobot.start("gateway")
    deadline = time.monotonic() + 40
    while "Tea time!" not in nanobot.run("outbox", "list").stdout:
        assert time.monotonic() < deadline
    gateway.terminate()
    gateway.communicate(timeout=30)
    terminal = nanobot.open("agent", "--model", model)
    terminal.wait_for("^Scheduled: Tea time!")
    terminal.wait_for_prompt()
    terminal.send("\x04")
    assert terminal.leave() == 0
    assert "Tea time!" not in nanobot.run("outbox", "list").stdout
