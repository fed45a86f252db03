"""What the prompt says about skills, in captured requests and within its budget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nanobot.app import open_app
from nanobot.bus.events import ToolFinished
from nanobot.config.schema import Config
from nanobot.providers.base import ModelRequest
from nanobot.skills.install import remove
from nanobot.skills.library import BUNDLED, SkillLibrary, SkillsSection
from tests.skills.folders import write_skill
from tests.talk import message_in, talk

TURN = message_in("cli:direct")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def section(tmp_path: Path, list_bytes: int = 4096, always_bytes: int = 8192) -> str:
    return SkillsSection(SkillLibrary(tmp_path), list_bytes, always_bytes).text(TURN)


def test_the_bundled_skills_are_thrifty(tmp_path: Path) -> None:
    text = section(tmp_path)
    assert len(text) - len(str(BUNDLED)) <= 1000
    assert text.count("\n- ") == 8
    assert f"{BUNDLED}/NAME/SKILL.md" in text
    assert "*" not in text


def test_skills_of_the_workspace_come_first_and_are_marked(tmp_path: Path) -> None:
    write_skill(tmp_path / "skills", "zebra", "Stripes.")
    text = section(tmp_path)
    assert text.index("- zebra*: Stripes.") < text.index("- clawhub")
    assert "skills/NAME/SKILL.md" in text


def test_unmet_requirements_are_shown(tmp_path: Path) -> None:
    write_skill(
        tmp_path / "skills",
        "greet",
        "Hi.",
        'metadata: {"nanobot": {"requires": {"bins": ["no-such-program"]}}}',
    )
    text = section(tmp_path)
    assert "- greet* [needs no-such-program]: Hi." in text
    assert "`nanobot skills show NAME`" in text


def test_always_is_honoured_when_the_requirements_are_met(tmp_path: Path) -> None:
    write_skill(tmp_path / "skills", "polite", "Be polite.", "always: true", body="Say please.")
    write_skill(
        tmp_path / "skills",
        "lame",
        "Cannot.",
        'metadata: {"nanobot": {"always": true, "requires": {"env": ["NO_SUCH_KEY"]}}}',
        body="Never shown.",
    )
    text = section(tmp_path)
    assert text.endswith(f"\n\n[skill polite, in {tmp_path}/skills/polite]\nSay please.")
    assert "- polite" not in text
    assert "- lame* [needs $NO_SUCH_KEY]: Cannot." in text
    assert "Never shown" not in text


def test_skills_in_full_have_a_budget_of_their_own(tmp_path: Path) -> None:
    write_skill(tmp_path / "skills", "aa", "A.", "always: true", body="ä" * 3000)
    write_skill(tmp_path / "skills", "bb", "B.", "always: true", body="b" * 5000)
    text = section(tmp_path, always_bytes=8000)
    assert text.count("ä") == 3000
    assert text.count("b" * 100) == 20
    assert f"[… cut; read {tmp_path}/skills/bb/SKILL.md for the rest …]" in text
    assert len(section(tmp_path, always_bytes=0)) < 2000


@pytest.mark.parametrize("budget", [900, 1500, 3000, 9000, 60_000])
def test_a_hundred_skills_stay_within_the_budget(tmp_path: Path, budget: int) -> None:
    for number in range(100):
        write_skill(tmp_path / "skills", f"skill-{number:02}", f"Nummer {number} " + "überall " * 40)
    text = section(tmp_path, list_bytes=budget)
    assert len(text.encode()) <= budget
    listed = text.count("\n- ") - ("more: list_dir" in text)
    if listed < 108:
        assert f"- … and {108 - listed} more: list_dir skills" in text
    assert listed == 108 or budget < 9000


@pytest.mark.parametrize("budget", [0, 100, 300])
def test_a_budget_too_small_for_anything_leaves_the_list_out(tmp_path: Path, budget: int) -> None:
    write_skill(tmp_path / "skills", "polite", "Be polite.", "always: true", body="Say please.")
    assert section(tmp_path, list_bytes=budget).startswith("[skill polite, in ")


def test_invisible_characters_of_a_description_are_gone(tmp_path: Path) -> None:
    write_skill(tmp_path / "skills", "sly", "Fine\u202e\u200b\U000e0041.")
    assert "- sly*: Fine.\n" in section(tmp_path)


# -- in a turn


def replies(tmp_path: Path, *entries: dict[str, Any], **more: Any) -> str:
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"replies": entries, **more}))
    return f"scripted/{script}"


async def requests_of(config: Config, model: str, *texts: str) -> tuple[list[ModelRequest], list[Any]]:
    events: list[Any] = []
    async with open_app(config, model=model) as app:
        for text in texts:
            events += await talk(app, text, "cli:direct")
        _, provider = await app.models.get(model)
        return provider.requests, events  # type: ignore[attr-defined]


async def test_a_skill_counts_from_the_next_turn_on_and_is_gone_with_it(tmp_path: Path, home: Path) -> None:
    async with open_app(Config(), model=replies(tmp_path, {"text": "a"}, loop=True)) as app:
        _, provider = await app.models.get(app.assistant.default_model)
        for change in ("", "add", "remove"):
            if change == "add":
                write_skill(
                    home / "workspace/skills", "greet", "Does things.", "always: true", body="Bananas!"
                )
            if change == "remove":
                remove("greet", app.skills)
            await talk(app, "hi", "cli:direct")
        systems = [request.system for request in provider.requests]  # type: ignore[attr-defined]
    assert "Bananas!" in systems[1]
    assert systems[2] == systems[0]


@pytest.mark.parametrize("restrict", [True, False])
async def test_the_text_is_read_on_demand_also_when_restricted(
    tmp_path: Path, home: Path, restrict: bool
) -> None:
    write_skill(home / "workspace/skills", "greet", body="Say hello twice.")
    mine, bundled = "skills/greet/SKILL.md", f"{BUNDLED}/summarize/SKILL.md"
    calls = [
        {"name": "read_file", "arguments": {"path": mine}},
        {"name": "read_file", "arguments": {"path": bundled}},
        {"name": "list_dir", "arguments": {"path": str(BUNDLED)}},
        {"name": "write_file", "arguments": {"path": bundled, "content": "x"}},
        {"name": "edit_file", "arguments": {"path": mine, "old_text": "twice", "new_text": "x"}},
        {"name": "write_file", "arguments": {"path": "skills/evil/SKILL.md", "content": "x"}},
    ]
    model = replies(tmp_path, {"tool_calls": calls}, {"text": "done"})
    config = Config.model_validate({"tools": {"restrictToWorkspace": restrict}})
    requests, events = await requests_of(config, model, "go")
    results = [result.content for message in requests[1].messages for result in message.tool_results]
    assert "Say hello twice." in results[0]
    assert "Keep numbers, names, dates" in results[1]
    assert "tmux/" in results[2]
    assert "can be read, not written" in results[3]
    assert all("only the owner changes skills" in result for result in results[4:])
    outcomes = [event.outcome for event in events if isinstance(event, ToolFinished)]
    assert outcomes == ["ok"] * 3 + ["error"] * 3


async def test_a_model_without_tools_gets_no_skills(tmp_path: Path) -> None:
    model = replies(tmp_path, {"text": "hi"}, traits={"supports_tools": False})
    requests, _ = await requests_of(Config(), model, "hello")
    assert "skill" not in requests[0].system
