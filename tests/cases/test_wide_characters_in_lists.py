"""Names in wide characters: every list keeps its columns, and every time in one says its zone."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from nanobot.app import open_app
from nanobot.columns import cells, minute, shortened, table
from nanobot.commands.command_context import CommandContext
from nanobot.commands.table import run_command
from nanobot.config.schema import Config
from nanobot.providers.scripted import ScriptedProvider
from nanobot.terminal.screen import one_line
from tests.cli.conftest import Nanobot
from tests.talk import talk

ZONE = r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)? ?(UTC|[+-]\d\d)"
NEWS = "每日新闻摘要"


def starts(line: str) -> list[int]:
    """The cells at which columns begin: behind two spaces or more."""
    return [0, *(cell_len(line[: gap.end()]) for gap in re.finditer(r" {2,}", line))]


@pytest.fixture
def nanobot(tmp_path: Path) -> Nanobot:
    return Nanobot(tmp_path)


def test_jobs(nanobot: Nanobot) -> None:
    for name in (NEWS, "news"):
        nanobot.run("cron", "add", "-n", name, "-m", "x", "--cron", "0 9 * * *", "--tz", "Asia/Shanghai")
    head, *rows = nanobot.run("cron", "list").stdout.splitlines()
    assert len(rows) == 2
    assert {starts(line)[3] for line in (head, *rows)} == {starts(head)[3]}
    assert all(re.search(ZONE, row) for row in rows)


async def test_conversations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path / "home"))
    async with open_app(Config(), model="scripted/x") as app:
        app.models.use("scripted/x", ScriptedProvider(["ok"] * 3, loop=True))
        for key in (f"cli:{NEWS}", "cli:b", "cli:👩‍👩‍👧é"):
            await talk(app, "hello", key)
        listed = await run_command("/sessions", "cli:b", CommandContext(app))
    assert listed is not None
    lines = listed.splitlines()
    places = [cell_len(line[: match.start()]) for line in lines if (match := re.search(ZONE, line))]
    assert len(lines) == 3
    assert places == [places[0]] * 3


def test_conversations_on_the_command_line(nanobot: Nanobot) -> None:
    model = nanobot.script({"text": "ok"}, loop=True)
    for key in (NEWS, "b"):
        nanobot.run("agent", "--model", model, "-s", key, "-m", "hello")
    head, *rows = nanobot.run("session", "list").stdout.splitlines()
    assert head.split() == ["ID", "KEY", "MESSAGES", "LATEST", "TITLE"]
    assert {starts(row)[-2] for row in rows} == {starts(head)[-2]}
    assert all(re.search(ZONE, row) for row in rows)


def test_skills(nanobot: Nanobot) -> None:
    for name in ("a", "长名字的技能"):
        folder = nanobot.home / "workspace" / "skills" / name
        folder.mkdir(parents=True)
        (folder / "SKILL.md").write_text(f"---\nname: {name}\ndescription: what it does\n---\nDo it.\n")
    head, *rows = nanobot.run("skills", "list").stdout.split("\n\n")[0].splitlines()
    assert any("长名字的技能" in row for row in rows)
    assert {starts(row)[1] for row in rows} == {starts(head)[1]}


TEXT = st.text(st.sampled_from("ab é日本ｶ👍🇩🇪"), max_size=12).map(lambda text: " ".join(text.split()) or "-")


@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=6))
def test_any_table(rows: list[tuple[str, str, str]]) -> None:
    first, second = (max(cell_len(row[column]) for row in rows) for column in (0, 1))
    for row, line in zip(rows, table(rows, right=[1]), strict=True):
        assert line.endswith(row[2])
        assert cell_len(line) == first + 2 + second + 2 + cell_len(row[2])


@given(TEXT, st.integers(1, 20))
def test_any_text_is_cut_to_cells(text: str, width: int) -> None:
    assert cells(shortened(text, width)) <= width
    assert cells(one_line(text, width)) <= width
    assert shortened(text, width) == text or shortened(text, width).endswith("…")
    short = shortened(text, width)
    assert {cells(line) for line in table([(short, "|"), ("", "|")])} == {cell_len(short) + 3}


def test_a_time_says_its_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    for zone, shown in (("UTC", "1970-01-01 00:00 UTC"), ("Asia/Shanghai", "1970-01-01 08:00 CST")):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert minute(0) == shown
    monkeypatch.undo()
    time.tzset()
