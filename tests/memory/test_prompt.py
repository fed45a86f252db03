"""MEMORY.md in the prompt: capped, whole lines, as the file is now."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.memory.facts import parse_facts
from nanobot.memory.prompt import MemorySection
from tests.memory.harness import World
from tests.talk import message_in

TURN = message_in("cli:direct")


def section(folder: Path, lines: list[str], most: int = 6144) -> MemorySection:
    (folder / "MEMORY.md").write_text("\n".join(lines), encoding="utf-8")
    return MemorySection(folder, most)


def test_no_file_and_no_facts_take_no_room(tmp_path: Path) -> None:
    assert MemorySection(tmp_path, 6144).text(TURN) == ""
    assert section(tmp_path, ["<!-- Facts go here. -->", "# Me", ""]).text(TURN) == ""


def test_ten_thousand_facts_leave_the_prompt_flat(tmp_path: Path) -> None:
    lines = [
        f"- Fact number {number} of many. <!-- 2026-01-01 cli:direct#{number} -->" for number in range(10_000)
    ]
    many = section(tmp_path, lines)
    text = many.text(TURN)
    assert 5_500 < len(text.encode()) <= 6144
    shown = [line for line in text.splitlines() if line.startswith("- ")]
    assert shown[0] == "- Fact number 0 of many. (2026-01-01)"
    assert f"[{10_000 - len(shown)} more facts: memory_search finds them]" in text
    assert not many.is_complete(TURN)
    assert many.shows(parse_facts(lines[0])[0].id, TURN)
    assert not many.shows(parse_facts(lines[-1])[0].id, TURN)


async def test_what_did_not_fit_is_found(world: World) -> None:
    world.remember(
        *(f"- Item {number} is stored in box {number}." for number in range(10_000)), "- Owns a yak."
    )
    assert "yak" not in MemorySection(world.folder, 6144).text(TURN)
    assert (await world.texts("yak"))[0] == "Owns a yak."


def test_a_new_fact_leaves_the_beginning_of_the_prompt_alone(tmp_path: Path) -> None:
    lines = [f"- Fact number {number}." for number in range(50)]
    before = section(tmp_path, lines).text(TURN)
    assert section(tmp_path, [*lines, "- One more."]).text(TURN).startswith(before)


def test_an_edit_counts_at_once(tmp_path: Path) -> None:
    memory = section(tmp_path, ["- Likes tea."])
    assert "tea" in memory.text(TURN)
    (tmp_path / "MEMORY.md").write_text("- Likes milk.")
    assert memory.text(TURN).endswith("- Likes milk.")


@given(st.lists(st.text(max_size=80), max_size=30), st.integers(0, 700))
def test_the_cap_holds_for_any_file(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], most: int
) -> None:
    folder = tmp_path_factory.mktemp("memory")
    text = section(folder, [line.encode("utf-8", "replace").decode() for line in lines], most).text(TURN)
    assert len(text.encode()) <= most
    for earlier, later in itertools.pairwise(text.splitlines()):
        assert earlier
        assert later
