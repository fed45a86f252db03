"""The bundled skills, tried: what they tell a model to do is done here, word by word, and works.

`tmux` and `clawhub` need programs: tests/peers/test_bundled_programs.py.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from nanobot.app import App, open_app
from nanobot.config.schema import Config
from nanobot.messages import ToolCall, ToolResult
from nanobot.providers.scripted import Reply, ScriptedProvider
from nanobot.skills.library import SkillLibrary
from nanobot.skills.skill import load_skill
from tests.cli.conftest import Nanobot
from tests.talk import talk
from tests.tools.loopback import http_server, reply

TEXTS = SkillLibrary(Path("/nowhere"))


@pytest.fixture
def nanobot(tmp_path: Path) -> Nanobot:
    return Nanobot(tmp_path)


@pytest.fixture
async def web() -> AsyncIterator[list[str]]:
    """A loopback site that answers everything; its address, then the targets it was asked for."""
    asked: list[str] = []

    async def answer(head: str, writer: asyncio.StreamWriter) -> None:
        asked.append(head.split(" ")[1])
        body = "A sentence about rivers. " * 2300
        writer.write(reply(body.encode(), Content_Type="text/plain; charset=utf-8"))

    async with http_server(answer) as port:
        asked.append(f"http://127.0.0.1:{port}")
        yield asked


@pytest.fixture
async def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path / "home"))
    config = Config.model_validate({"tools": {"web": {"allowPrivate": ["127.0.0.1"]}}})
    async with open_app(config, model="scripted/agent") as opened:
        yield opened


async def do(app: App, *calls: tuple[str, dict[str, Any]]) -> list[ToolResult]:
    """One turn in which the model makes these calls, one after another; their results."""
    steps = [Reply(tool_calls=[ToolCall("", name, arguments)]) for name, arguments in calls]
    model = ScriptedProvider([*steps, Reply(text="done")])
    app.models.use("scripted/agent", model)
    await talk(app, "go")
    found = [result for message in model.requests[-1].messages for result in message.tool_results]
    return found[-len(calls) :]


async def test_cron_every_call_of_the_table(app: App) -> None:
    calls = [json.loads(text) for text in re.findall(r"`(\{.*?\})` \|", TEXTS.text("cron"))]
    assert [call["action"] for call in calls] == ["add", "add", "add", "list", "remove"]
    *adding, listing, removing = calls
    adding[0]["at"] = "2999-12-01T09:00:00"  # the example's time passes some day
    added = await do(app, *[("cron", call) for call in adding])
    assert [result.outcome for result in added] == ["ok"] * 3
    (found,) = await do(app, ("cron", listing))
    assert found.content.count("\n") == 2
    removing["job_id"] = found.content.split()[0]
    (removed,) = await do(app, ("cron", removing))
    assert removed.content == f"Removed job {removing['job_id']}."


async def test_cron_what_it_says_of_the_tool_is_so(app: App) -> None:
    both = {"action": "add", "message": "x", "every_seconds": 60, "cron_expr": "* * * * *"}
    zone = {"action": "add", "message": "x", "every_seconds": 60, "tz": "Europe/Berlin"}
    sunday = {"action": "add", "message": "x", "cron_expr": "0 9 * * 7"}
    results = await do(app, ("cron", both), ("cron", zone), ("cron", sunday))
    assert [result.outcome for result in results] == ["error", "error", "ok"]


async def test_weather_every_address_arrives_as_it_is_written(app: App, web: list[str]) -> None:
    urls = re.findall(r"`(https://[^`]+)`", TEXTS.text("weather"))
    assert len(urls) == 5
    local = [re.sub(r"https://[^/]+", web[0], url) for url in urls]
    results = await do(app, *[("web_fetch", {"url": url}) for url in local])
    for url, target, result in zip(urls, web[1:], results, strict=True):
        assert result.outcome == "ok"
        assert unquote(target) == unquote(urlsplit(url).path + "?" + urlsplit(url).query)
    forecast = parse_qs(urlsplit(web[-1]).query)
    assert forecast["timezone"] == ["auto"]
    assert "temperature_2m" in forecast["current"][0].split(",")


async def test_summarize_gets_the_whole_of_a_long_page_and_file(app: App, web: list[str]) -> None:
    url = f"{web[0]}/article"
    (cut,) = await do(app, ("web_fetch", {"url": url}))
    page = json.loads(cut.content)
    assert page["truncated"]
    assert "`maxChars` 60000" in TEXTS.text("summarize")
    (whole,) = await do(app, ("web_fetch", {"url": url, "maxChars": 60_000}))
    assert not json.loads(whole.content)["truncated"]
    (app.workspace / "long.txt").write_text("".join(f"line {number}\n" for number in range(5000)))
    (first,) = await do(app, ("read_file", {"path": "long.txt"}))
    offset = int(re.search(r"continue with offset=(\d+)", first.content)[1])  # type: ignore[index]
    (second,) = await do(app, ("read_file", {"path": "long.txt", "offset": offset}))
    assert second.content.startswith(f"line {offset - 1}\n")
    (notes,) = await do(app, ("write_file", {"path": "drafts/notes-river.md", "content": "- p. 1\n"}))
    assert notes.outcome == "ok"


async def test_memory_is_kept_found_and_corrected(app: App) -> None:
    path = "memory/MEMORY.md"
    (before,) = await do(app, ("read_file", {"path": path}))
    fact = "- Dentist: Dr Okafor, since March 2026."
    calls = [
        ("write_file", {"path": path, "content": f"{before.content}\n{fact}\n"}),
        ("memory_search", {"query": "dentist"}),
        ("edit_file", {"path": path, "old_text": "Okafor", "new_text": "Silva"}),
    ]
    results = await do(app, *calls)
    assert [result.outcome for result in results] == ["ok"] * 3
    assert "Okafor" in results[1].content
    app.models.use("scripted/agent", model := ScriptedProvider(["hi"]))
    await talk(app, "hello", "cli:other")
    assert "Dr Silva" in model.requests[0].system


def test_skill_creator_its_example_is_a_skill_the_owner_can_install(nanobot: Nanobot) -> None:
    """The model writes the draft as it is told to, the owner installs it, the next turn knows it."""
    example = re.search(r"```markdown\n(.*?)```", TEXTS.text("skill-creator"), re.DOTALL)
    assert example
    text = re.sub(r"^   ", "", example[1], flags=re.MULTILINE)
    write = {"name": "write_file", "arguments": {"path": "drafts/expense-report/SKILL.md", "content": text}}
    model = nanobot.script({"tool_calls": [write]}, {"text": "Drafted."})
    assert nanobot.run("agent", "-m", "Write a skill", "--model", model).stdout.strip() == "Drafted."
    draft = nanobot.home / "workspace/drafts/expense-report"
    assert load_skill(draft, "workspace").fault == ""
    assert "expense-report" not in nanobot.run("skills", "list").stdout
    assert nanobot.run("skills", "install", str(draft), "--yes").returncode == 0
    state = {item["name"]: item for item in json.loads(nanobot.run("skills", "list", "--json").stdout)}
    assert state["expense-report"]["requires"]["bins"] == ["pdftotext"]


@pytest.mark.parametrize("name", TEXTS.names())
def test_what_the_skills_name_exists(name: str) -> None:
    """Tools, commands and configuration keys that the texts speak of."""
    text = TEXTS.text(name)
    tools = {"read_file", "write_file", "edit_file", "list_dir", "web_fetch", "web_search", "memory_search"}
    assert {*re.findall(r"\b(?:read|write|edit|list|web|memory)_(?:file|dir|fetch|search)\b", text)} <= tools
    for key in re.findall(r"`(tools\.[\w.]+)`", text):
        assert key == "tools.exec.env"
    for command in re.findall(r"`nanobot (\w+)", text):
        assert command in ("skills", "gateway", "memory")
