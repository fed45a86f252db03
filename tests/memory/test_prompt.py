"""MEMORY.md in the prompt: capped, whole lines, as the file is now."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.errors import StorageError
from nanobot.memory.facts import parse_facts
from nanobot.memory.files import MemoryFiles
from nanobot.memory.operations import Edit, Plan
from nanobot.memory.recall import MemorySection
from nanobot.memory.search import MemorySearch
from nanobot.memory.search_index import SearchIndex
from tests.memory.harness import EVERYTHING, World
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


@pytest.mark.parametrize("what", ["file", "folder"])
async def test_a_link_that_leaves_the_workspace_is_not_followed(world: World, what: str) -> None:
    await world.say("cli:direct", "I bought a bicycle.")
    outside, folder = world.folder / "outside", world.folder / "workspace" / "memory"
    outside.mkdir()
    (outside / "MEMORY.md").write_text("- The key is topsecret.\n")
    (folder.parent if what == "folder" else folder).mkdir(parents=True)
    link, target = (folder, outside) if what == "folder" else (folder / "MEMORY.md", outside / "MEMORY.md")
    link.symlink_to(target)
    memory = MemorySection(folder, 6144)
    assert memory.text(TURN) == memory.text(TURN) == ""
    search = MemorySearch(world.store, folder, index=SearchIndex(world.folder / "other.db"))
    assert await search.search("topsecret key", EVERYTHING, 9) == []
    assert [hit.text for hit in await search.search("bicycle", EVERYTHING, 9)] == ["I bought a bicycle."]
    await search.aclose()
    files = MemoryFiles(folder, outside)
    assert "MEMORY.md is not read" in files.complaints()[0]
    with pytest.raises(StorageError, match="outside the workspace"):
        files.apply(Plan(("[2026-01-01 10:00] x",), (Edit("", "- x y"),)), 1)
    assert [path.name for path in outside.iterdir()] == ["MEMORY.md"]
    assert (outside / "MEMORY.md").read_text() == "- The key is topsecret.\n"


async def test_one_line_of_ten_megabytes_hides_no_other(world: World) -> None:
    world.remember("- " + "yak " * 2_500_000, "- Likes tea.\0", "- Plays chess.")
    assert MemorySection(world.folder, 6144).text(TURN) == "[memory/MEMORY.md]\n- Likes tea.\n- Plays chess."
    assert (await world.texts("chess"))[0] == "Plays chess."
