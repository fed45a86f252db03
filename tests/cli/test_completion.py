"""What a shell is told when its owner presses Tab."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import Nanobot


def completed(nanobot: Nanobot, words: str) -> list[str]:
    asked = {"_NANOBOT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    command = [str(Path(sys.executable).with_name("nanobot"))]
    done = subprocess.run(command, env={**nanobot.env, **asked}, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.split()


def test_names_of_this_home_are_completed(nanobot: Nanobot) -> None:
    assert completed(nanobot, "nanobot session show ") == []
    nanobot.run("agent", "-s", "trip", "-m", "hello", "--model", nanobot.script({"text": "Hi."}))
    nanobot.run("cron", "add", "-n", "tea", "-m", "Drink tea", "-e", "60")
    (job,) = json.loads(nanobot.run("cron", "list", "--json").stdout)
    (nanobot.home / "config.json").write_text('{"agents": {"defaults": {"model": "mine/one"}}}')
    nanobot.env["GROQ_API_KEY"] = "gsk-x"
    assert completed(nanobot, "nanobot agent -s t") == ["trip"]
    assert "@1" in completed(nanobot, "nanobot session export ")
    assert completed(nanobot, "nanobot cron remove ") == [job["id"]]
    assert completed(nanobot, "nanobot skills show we") == ["weather"]
    assert completed(nanobot, "nanobot agent --model ") == ["mine/one", "groq/openai/gpt-oss-120b"]


def test_a_broken_config_is_no_matter_of_the_shell(nanobot: Nanobot) -> None:
    nanobot.home.mkdir()
    (nanobot.home / "config.json").write_text("{")
    assert completed(nanobot, "nanobot agent --model ") == []


def test_a_login_that_is_to_come_says_so(nanobot: Nanobot) -> None:
    done = nanobot.run("provider", "login", "openai-codex")
    assert (done.returncode, "is to come" in done.stderr) == (1, True)
