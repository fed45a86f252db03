"""The system prompt: what the owner's files say, as they are now."""

from __future__ import annotations

from pathlib import Path

from nanobot.agent.context import PromptBuilder
from tests.talk import message_in

TURN = message_in("cli:direct")


def said(builder: PromptBuilder) -> dict[str, str]:
    return dict(builder.parts(TURN, with_tools=True))


def test_a_file_of_the_owner_counts_from_the_next_turn_on(tmp_path: Path) -> None:
    builder = PromptBuilder(tmp_path)
    assert [*said(builder)] == ["rules"]
    soul = tmp_path / "SOUL.md"
    soul.write_text("<!-- who are you? -->\nBe brief.")
    assert said(builder)["SOUL.md"] == "[SOUL.md]\nBe brief."
    soul.write_text("Be longer!")
    assert said(builder)["SOUL.md"] == "[SOUL.md]\nBe longer!"
    (tmp_path / "new").write_text("Be other!!")
    (tmp_path / "new").replace(soul)
    assert said(builder)["SOUL.md"] == "[SOUL.md]\nBe other!!"
    soul.unlink()
    assert [*said(builder)] == ["rules"]


def test_what_is_no_text_file_or_says_nothing_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "SOUL.md").mkdir()
    (tmp_path / "USER.md").write_text("# The user\n\n<!-- a name -->\n")
    assert [*said(PromptBuilder(tmp_path))] == ["rules"]


def test_a_long_file_is_cut_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "USER.md").write_text("u" * 20_000)
    text = said(PromptBuilder(tmp_path))["USER.md"]
    assert len(text) < 16_100
    assert text.endswith("read USER.md for the rest …]")
