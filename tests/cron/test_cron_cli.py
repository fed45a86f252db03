"""`nanobot cron` as its owner types it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Nanobot


@pytest.fixture
def nanobot(tmp_path: Path) -> Nanobot:
    return Nanobot(tmp_path)


def jobs(nanobot: Nanobot, *flags: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(nanobot.run("cron", "list", "--json", *flags).stdout)
    return listed


def test_the_commands_of_the_readme(nanobot: Nanobot) -> None:
    assert "cron add" in nanobot.run("cron", "list").stdout
    added = nanobot.run("cron", "add", "--name", "daily", "--message", "Good morning!", "--cron", "0 9 * * *")
    assert added.returncode == 0
    assert "stays in the session cron:" in added.stdout
    nanobot.run("cron", "add", "--name", "hourly", "--message", "Check status", "--every", "3600")
    daily, hourly = jobs(nanobot)
    assert (daily["name"], daily["message"], hourly["schedule"]["seconds"]) == (
        "daily",
        "Good morning!",
        3600,
    )
    listed = nanobot.run("cron", "list")
    table = listed.stdout.splitlines()
    assert [line.split()[0] for line in table] == ["ID", daily["id"], hourly["id"]]
    assert "0 9 * * *" in table[1]
    assert table[1].endswith("Good morning!")
    for done in (listed, added):  # beside what a script reads
        assert "No gateway runs, and jobs need one" in done.stderr
    assert re.search(r"09:00:00[+-]\d\d:\d\d", table[1])  # the next run says its zone
    assert "2 enabled, 0 failed, 0 times missed" in nanobot.run("status").stdout
    assert nanobot.run("cron", "enable", daily["id"], "--disable").returncode == 0
    assert [job["name"] for job in jobs(nanobot)] == ["hourly"]
    assert [job["enabled"] for job in jobs(nanobot, "-a")] == [False, True]
    assert "--all shows" in nanobot.run("cron", "list").stdout
    assert "next run" in nanobot.run("cron", "enable", daily["id"]).stdout
    assert nanobot.run("cron", "remove", daily["id"]).returncode == 0
    assert [job["name"] for job in jobs(nanobot, "-a")] == ["hourly"]


def test_delivery_needs_an_enabled_channel_and_a_chat(nanobot: Nanobot) -> None:
    nanobot.home.mkdir()
    config = {"channels": {"telegram": {"enabled": True, "token": "1:x"}}}
    (nanobot.home / "config.json").write_text(json.dumps(config))
    command = ["cron", "add", "-n", "n", "-m", "m", "-e", "60", "-d"]
    assert "--to CHAT" in nanobot.run(*command).stderr
    assert "enabled: telegram" in nanobot.run(*command, "--channel", "slack", "--to", "42").stderr
    assert nanobot.run(*command, "--channel", "telegram", "--to", "42").returncode == 0
    (job,) = jobs(nanobot)
    assert (job["channel"], job["chat_id"], job["deliver"]) == ("telegram", "42", True)


def test_running_a_job_needs_a_gateway(nanobot: Nanobot) -> None:
    nanobot.run("cron", "add", "-n", "n", "-m", "m", "-e", "60")
    (job,) = jobs(nanobot)
    assert "No gateway is running" in nanobot.run("cron", "run", job["id"], "--force").stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "-n", "n", "-m", "m"], "exactly one"),
        (["add", "-n", "n", "-m", "m"], "--every SECONDS, --cron"),
        (["add", "-n", "n", "-m", "m", "--every", "0"], "--every SECONDS, --cron"),
        (["add", "-n", "n", "-m", "m", "--at", "tomorrow"], "--at 2030-01-31T09:00"),
        (["add", "-n", "n", "-m", "m", "--at", "2020-01-01T09:00"], "has passed"),
        (["add", "-n", "n", "-m", "m", "-c", "0 9 * *"], "five fields"),
        (["remove", "beef"], "no job beef"),
        (["enable", "beef"], "no job beef"),
        (["run", "beef"], "no job beef"),
    ],
)
def test_errors_name_the_fix(nanobot: Nanobot, arguments: list[str], words: str) -> None:
    done = nanobot.run("cron", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
