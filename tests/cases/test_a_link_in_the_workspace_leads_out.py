"""A command may leave links in the workspace: nanobot itself does not follow them to other files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nanobot.agent.context import OWNER_FILES, PromptBuilder
from nanobot.skills.library import SkillLibrary
from tests.talk import message_in


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "secret.md").write_text("the secret")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/secret.md").write_text("the secret")
    (tmp_path / "workspace").mkdir()
    return tmp_path / "workspace"


def prompt_of(workspace: Path) -> str:
    return str(PromptBuilder(workspace).parts(message_in("cli:direct"), with_tools=True))


@pytest.mark.parametrize("name", OWNER_FILES)
@pytest.mark.parametrize("target", ["../secret.md", "{}/../secret.md", "out/secret.md", "hop", "/dev/zero"])
def test_what_is_outside_never_gets_into_the_prompt(
    workspace: Path, name: str, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    (workspace / "out").symlink_to("../folder")
    (workspace / "hop").symlink_to(workspace / "../secret.md")
    (workspace / name).symlink_to(target.format(workspace))
    assert "the secret" not in prompt_of(workspace)
    assert str(workspace) in caplog.text  # the owner reads why


def test_a_second_name_of_a_file_elsewhere_is_none(workspace: Path) -> None:
    os.link(workspace.parent / "secret.md", workspace / "SOUL.md")
    assert "the secret" not in prompt_of(workspace)


def test_a_pipe_holds_up_nothing(workspace: Path) -> None:
    os.mkfifo(workspace / "AGENTS.md")
    assert "[AGENTS.md]" not in prompt_of(workspace)


def test_a_link_within_the_workspace_is_followed(workspace: Path) -> None:
    (workspace / "docs").mkdir()
    (workspace / "docs/agents.md").write_text("Be kind.")
    (workspace / "AGENTS.md").symlink_to("docs/agents.md")
    assert "Be kind." in prompt_of(workspace)


def test_a_workspace_that_is_a_link_itself_works(workspace: Path) -> None:
    (workspace / "SOUL.md").write_text("Be kind.")
    (workspace.parent / "linked").symlink_to(workspace)
    assert "Be kind." in prompt_of(workspace.parent / "linked")


def test_a_link_that_comes_later_is_noticed(workspace: Path) -> None:
    (workspace / "SOUL.md").write_text("Be kind.")
    builder = PromptBuilder(workspace)
    assert "Be kind." in str(builder.parts(message_in("cli:direct"), with_tools=True))
    (workspace / "SOUL.md").unlink()
    (workspace / "SOUL.md").symlink_to("../secret.md")
    assert "the secret" not in str(builder.parts(message_in("cli:direct"), with_tools=True))


def test_a_skill_that_tools_could_change_by_its_real_path_is_off(workspace: Path) -> None:
    """`skills/` is protected, the rest of the workspace is not."""
    for folder in ("skills/group", "drafts/mine", "../elsewhere"):
        (workspace / folder).mkdir(parents=True)
        (workspace / folder / "SKILL.md").write_text("Do so.")
    for name, target in {"a": "../drafts/mine", "b": "../../elsewhere", "c": "group"}.items():
        (workspace / "skills" / name).symlink_to(target)
    (workspace / "skills/more").mkdir()
    (workspace / "skills/more/d").symlink_to("../../drafts/mine")
    library = SkillLibrary(workspace)
    for _ in range(2):  # once read, once remembered
        faults = {skill.name: skill.fault for skill in library.all() if skill.source == "workspace"}
        assert {name for name, fault in faults.items() if "link into the workspace" in fault} == {"a", "d"}
        assert {"b", "c", "group"} <= {*library.names()}
    assert library.complaint().startswith("Skills cannot be used: a, d;")
