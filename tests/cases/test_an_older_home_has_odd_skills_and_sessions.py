"""Skills and conversations of the older nanobot are there after the upgrade, and what is not is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nanobot.skills.library import SkillLibrary
from tests.cli.conftest import Nanobot

WORDS = "Buy low, sell high."


@pytest.fixture
def nanobot(tmp_path: Path) -> Nanobot:
    nanobot = Nanobot(tmp_path)
    skills = nanobot.home / "workspace/skills"
    texts = {
        "stock_report/SKILL.md": f"---\nname: stock_report\ndescription: Stocks\n---\n{WORDS}",
        "nofm/SKILL.md": f"# Stocks\n{WORDS}",
        "nodesc/SKILL.md": f"---\nname: nodesc\n---\n{WORDS}",
        "long/SKILL.md": f"---\nname: long\ndescription: {'x' * 2000}\n---\n{WORDS}",
        "another/SKILL.md": f"---\nname: else\ndescription: Stocks\n---\n{WORDS}",
        "lower/skill.md": f"---\nname: lower\ndescription: Stocks\n---\n{WORDS}",
        "group/inner/SKILL.md": f"\ufeff---\r\nname: inner\r\ndescription: Stocks\r\n---\r\n{WORDS}",
        "yaml/SKILL.md": f"---\nname: yaml\ndescription: a: [b\n\tc: d\n---\n{WORDS}",
    }
    for name, text in texts.items():
        (skills / name).parent.mkdir(parents=True, exist_ok=True)
        (skills / name).write_text(text, encoding="utf-8", newline="")
    return nanobot


def test_every_skill_is_used_and_what_is_odd_is_said_where_the_owner_looks(nanobot: Nanobot) -> None:
    listed = nanobot.run("skills", "list")
    names = ("stock_report", "nofm", "nodesc", "long", "another", "lower", "inner", "yaml")
    library = SkillLibrary(nanobot.home / "workspace")
    for name in names:
        (line,) = [line for line in listed.stdout.splitlines() if line.startswith(f"{name} ")]
        assert "ready" in line
        assert library.text(name).endswith(WORDS)
    assert "lower: used as it is, but its file is called skill.md" in listed.stdout
    assert (
        "used, but odd: another, long, lower, nodesc, nofm, stock_report, yaml"
        in nanobot.run("status").stdout
    )


def test_a_start_says_it_once(nanobot: Nanobot) -> None:
    (nanobot.home / "answers.json").write_text(json.dumps({"replies": [{"text": "Hi."}], "loop": True}))
    ask = ("agent", "-m", "hi", "--model", f"scripted/{nanobot.home}/answers.json")
    assert "Skills used, but odd" in nanobot.run(*ask).stderr
    assert "Skills" not in nanobot.run(*ask).stderr


def test_a_conversation_with_torn_lines_is_named_until_it_is_mended(nanobot: Nanobot) -> None:
    file = nanobot.home / "workspace/sessions/cli_old.jsonl"
    file.parent.mkdir()
    message = json.dumps({"role": "user", "content": "remember the milk"})
    file.write_text(f"{message}\n{message[:20]}\n")
    assert f"1 line of {file} cannot be read" in nanobot.run("session", "show", "old").stderr
    assert f"1 line of {file}" in nanobot.run("status").stdout
    assert nanobot.run("session", "show", "old").stderr == ""
    assert f"1 line of {file} cannot be read" in nanobot.run("session", "list").stderr
    file.write_text(f"{message}\n{message}\n")
    listed = nanobot.run("session", "list")
    assert "cli:old~2" in listed.stdout
    assert "cannot be read" not in listed.stderr
