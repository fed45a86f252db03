"""Search over real files and a real database, and what happens when the index is hurt."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanobot.errors import StorageError
from nanobot.memory.facts import Evidence, Fact, format_entry, format_fact, superseded
from nanobot.messages import Message, TextPart, ToolCall, ToolResult
from tests.memory.harness import World, open_world
from tests.talk import claim_own


async def test_words_of_a_question_find_what_was_said(world: World) -> None:
    await world.say("cli:direct", "We went to Lisbon in spring", "Sounds lovely!")
    await world.say("cli:direct", "My sister bought a kayak", "Nice.")
    assert (await world.texts("Where did we go in spring?"))[0] == "We went to Lisbon in spring"
    hit = (await world.find("Who buys a kayak?"))[0]
    assert (hit.kind, hit.id, hit.day, hit.time, hit.speaker) == (
        "turn", "cli:direct#3", "2026-11-26", "12:00", "user",
    )  # fmt: skip


async def test_a_neighbour_leads_to_an_answer(world: World) -> None:
    for number in range(30):
        await world.say("cli:direct", f"Filler number {number}", "Right.", at=f"2026-10-{number + 1:02d}")
    await world.say("cli:direct", "Which wine goes with trout?", "Take a Riesling.", at="2026-11-01")
    assert "Take a Riesling." in (await world.texts("trout"))[:2]


async def test_what_is_new_is_found_at_once(world: World) -> None:
    assert await world.find("kayak") == []
    await world.say("cli:direct", "The kayak is red", "Good.")
    assert (await world.texts("kayak"))[0] == "The kayak is red"
    await world.say("cli:direct", "The kayak was sold", "Oh.")
    assert "The kayak was sold" in await world.texts("kayak")


async def test_what_was_forwarded_is_found_again(world: World) -> None:
    claim = await claim_own(world.store, "cli:direct")
    assert claim is not None
    forwarded = Message.user("What is that?", TextPart("\nThe invoice of the locksmith is due.", "forward"))
    await world.store.turns.append(claim, forwarded)
    await world.store.turns.append(claim, Message.assistant("A bill."))
    await world.store.turns.finish(claim, "done")
    assert "locksmith" in (await world.texts("locksmith invoice"))[0]


async def test_a_hand_edit_counts_at_once(world: World) -> None:
    world.remember("# Me", "- Has a cat called Mo.")
    assert await world.texts("cat") == ["Has a cat called Mo."]
    world.remember("# Me", "- Has a dog called Rex.", "- Plays the cello.")
    assert await world.texts("cat") == []
    assert await world.texts("dog") == ["Has a dog called Rex."]
    (world.folder / "MEMORY.md").unlink()
    assert await world.texts("cello") == []


async def test_berlin_or_paris_is_answered_by_date(world: World) -> None:
    old = Fact("Lives in Berlin.", Evidence("2025-01-02", ("cli:direct#1",)))
    world.remember(format_fact(Fact("Lives in Paris.", Evidence("2026-11-20", ("cli:direct#3",)))))
    world.remember(format_entry(superseded(old, "Lives in Paris.", "2026-11-20")), file="HISTORY.md")
    await world.say("cli:direct", "I live in Berlin", "Noted.", at="2025-01-02T10:00")
    await world.say("cli:direct", "I live in Paris now", "Noted.", at="2026-11-20T10:00")
    hits = await world.find("Where do I live?")
    assert (hits[0].kind, hits[0].text, hits[0].day) == ("fact", "Lives in Paris.", "2026-11-20")
    assert hits[0].sources == ("cli:direct#3",)
    past = next(hit for hit in hits if hit.past)
    assert (past.past, past.day) == ("superseded", "2026-11-20")
    assert "Lives in Berlin. (2025-01-02)" in past.text
    said = [hit.text for hit in hits if hit.speaker == "user"]
    assert said.index("I live in Paris now") < said.index("I live in Berlin")


@pytest.mark.parametrize(
    "question", ["Where do I live?", "Do I live in Berlin?", "Which city do I live in now?"]
)
async def test_what_an_outdated_fact_rests_on_comes_after_the_new_one(world: World, question: str) -> None:
    old = Fact("The user lives in Berlin", Evidence("2026-11-20", ("cli:direct#1",)))
    world.remember(format_fact(Fact("The user lives in Paris", Evidence("2026-11-26", ("cli:direct#3",)))))
    for line in (
        "[2026-11-20 10:00] The user said they live in Berlin. <!-- cli:direct#1-2 -->",
        "[2026-11-26 10:00] The user moved from Berlin to Paris. <!-- cli:direct#3-4 -->",
        format_entry(superseded(old, "The user lives in Paris", "2026-11-26")),
    ):
        world.remember(line, file="HISTORY.md")
    await world.say("cli:direct", "I live in Berlin", "Noted.", at="2026-11-20T10:00")
    await world.say("cli:direct", "I moved from Berlin to Paris last week", "Noted.", at="2026-11-26T10:00")
    hits = await world.find(question)
    assert (hits[0].kind, hits[0].text) == ("fact", "The user lives in Paris")


async def test_a_fact_lends_weight_to_its_evidence(world: World) -> None:
    await world.say(
        "cli:direct", "She finally said yes at the lighthouse", "Congratulations!", at="2026-05-01"
    )
    await world.say("cli:direct", "The engaged signal of the phone is loud", "I see.", at="2026-06-01")
    assert "lighthouse" not in (await world.texts("engaged"))[0]
    fact = Fact("Became engaged in spring.", Evidence("2026-05-01", ("cli:direct#1",)))
    world.remember(format_fact(fact))
    texts = await world.texts("When did they become engaged?")
    assert texts[0] == "Became engaged in spring."
    assert "She finally said yes at the lighthouse" in texts


async def test_days_narrow_a_search(world: World) -> None:
    await world.say("cli:direct", "Planned the garden", "Good.", at="2026-05-10T09:00")
    await world.say("cli:direct", "Planned the kitchen", "Good.", at="2026-09-10T09:00")
    await world.say("cli:direct", "Planned the cellar", "Good.", at="2026-11-25T09:00")
    await world.say("cli:direct", "Nothing", "Fine.", at="2026-11-26T09:00")
    assert (await world.texts("What was planned last May?"))[0] == "Planned the garden"
    assert (await world.texts("What was planned in September?"))[0] == "Planned the kitchen"
    assert set(await world.texts("yesterday")) == {"Planned the cellar", "Good."}
    assert set(await world.texts("2026-05-10", limit=2)) == {"Planned the garden", "Good."}
    assert (await world.texts("what was planned two months ago"))[0] == "Planned the kitchen"
    assert await world.texts("three days ago") == []


async def test_a_message_by_its_id_with_tool_results(world: World) -> None:
    claim = await claim_own(world.store, "cli:direct")
    assert claim is not None
    call = ToolCall("c1", "exec", {"command": "date"})
    for message in (
        Message.user("What day is it?"),
        Message.assistant("", call),
        Message("tool", (ToolResult("c1", "exec", "Thursday zebra"),)),
    ):
        await world.store.turns.append(claim, message)
    await world.store.turns.finish(claim, "done")
    (hit,) = await world.find("cli:direct#3")
    assert (hit.kind, hit.id) == ("message", "cli:direct#3")
    assert "Thursday zebra" in hit.text
    assert await world.find("zebra") == []
    assert await world.find("cli:direct#99") == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(st.text() | st.text(st.sampled_from("\"*()-:^{}+NEAR AND OR NOT said#0'\0\ud800猫")))
async def test_any_text_can_be_asked(world: World, text: str) -> None:
    await world.find(text)


DAYS = st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", fullmatch=True) | st.dates().map(str)
TIMES = st.sampled_from(["", " 10:00", "T25:99", "T10:00Z", " 10:00+99:99", "T10:00:00.123456-12:00"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(DAYS, TIMES, DAYS)
async def test_any_day_in_the_files_can_be_searched(world: World, day: str, time: str, told: str) -> None:
    world.remember(f"- The harbour is closed. <!-- {told} cli:direct#1 -->")
    world.remember(f"[{day}{time}] The harbour was closed. <!-- {told} -->", file="HISTORY.md")
    assert len(await world.find("harbour")) == 2


async def test_text_that_looks_like_syntax_is_found(world: World) -> None:
    await world.say("cli:direct", 'He said "NEAR(a b)" AND left: col*', "Yes.")
    assert (await world.texts('"NEAR(" AND col*'))[0].startswith("He said")


# -- the index


async def test_a_lost_index_is_made_anew(world: World) -> None:
    await world.say("cli:direct", "The kayak is red", "Good.")
    assert await world.find("kayak")
    await world.memory.aclose()
    world.index_file.unlink()
    world.memory = world.open_memory()
    assert (await world.texts("kayak"))[0] == "The kayak is red"
    assert "was not there" in world.memory.take_notices()[0]


async def test_an_index_deleted_under_a_running_process(world: World) -> None:
    await world.say("cli:direct", "The kayak is red", "Good.")
    assert await world.find("kayak")
    for file in world.folder.glob("search.db*"):
        file.unlink()
    assert (await world.texts("kayak"))[0] == "The kayak is red"
    assert world.index_file.exists()


@pytest.mark.parametrize("damage", ["garbage", "cut", "zeros", "tables"])
async def test_a_damaged_index_is_made_anew_with_a_notice(world: World, damage: str) -> None:
    for number in range(200):
        await world.say("cli:direct", f"The kayak number {number} is red", "Good.")
    assert await world.find("kayak")
    assert len(world.memory.take_notices()) == 1
    await world.memory.aclose()
    harm(world.index_file, damage)
    world.memory = world.open_memory()
    assert "kayak" in (await world.texts("kayak"))[0]
    (notice,) = world.memory.take_notices()
    assert "made anew" in notice
    assert await world.find("kayak")
    assert world.memory.take_notices() == []


def harm(file: Path, damage: str) -> None:
    content = file.read_bytes()
    if damage == "garbage":
        file.write_bytes(b"no database at all" * 100)
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 3])
    elif damage == "zeros":
        file.write_bytes(content[:4096] + bytes(len(content) - 4096))
    else:
        with sqlite3.connect(file) as connection:
            connection.execute("DROP TABLE turns")
        connection.close()


async def test_an_index_of_another_version_is_made_anew(world: World) -> None:
    await world.say("cli:direct", "The kayak is red", "Good.")
    assert await world.find("kayak")
    await world.memory.aclose()
    with sqlite3.connect(world.index_file) as connection:
        connection.execute("PRAGMA user_version = 999")
        connection.execute("DROP TABLE state")
    connection.close()
    world.memory = world.open_memory()
    assert (await world.texts("kayak"))[0] == "The kayak is red"
    assert len(world.memory.take_notices()) == 1


async def test_another_database_is_read_from_its_beginning(world: World, tmp_path: Path) -> None:
    await world.say("cli:direct", "The kayak is red", "Good.")
    assert await world.find("kayak")
    (tmp_path / "other").mkdir()
    async with open_world(tmp_path / "other") as other:
        await other.say("cli:direct", "A canoe", "Yes.", "Blue", "Yes.", "Wood", at="2026-01-01")
        await world.memory.aclose()
        world.memory = world.open_memory()
        (tmp_path / "other" / "search.db").write_bytes(world.index_file.read_bytes())
        assert await other.find("kayak") == []
        assert (await other.texts("canoe"))[0] == "A canoe"


async def test_an_index_that_cannot_be_written_is_an_error_with_a_fix(world: World) -> None:
    world.index_file.mkdir()
    with pytest.raises(StorageError, match="Check the disk"):
        await world.find("kayak")


async def test_a_message_that_is_committed_late_is_found(world: World) -> None:
    """On a database with several writers an id says nothing about the order of commits."""
    for text in ("The kayak is red", "The canoe is blue", "The ferry is white"):
        await world.say("cli:direct", text, "Good.")
    with sqlite3.connect(world.folder / "nanobot.db") as connection:
        held_back = connection.execute("SELECT * FROM messages WHERE id IN (3, 4)").fetchall()
        connection.execute("DELETE FROM messages WHERE id IN (3, 4)")
    assert await world.texts("canoe") == []
    assert (await world.texts("ferry"))[0] == "The ferry is white"
    with sqlite3.connect(world.folder / "nanobot.db") as connection:
        connection.executemany("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?)", held_back[:1])
    assert (await world.texts("canoe"))[0] == "The canoe is blue"
    with sqlite3.connect(world.folder / "nanobot.db") as connection:
        connection.executemany("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?)", held_back[1:])
    connection.close()
    await world.find("canoe")
    index = sqlite3.connect(world.index_file)
    assert index.execute("SELECT id FROM turns ORDER BY id").fetchall() == [(n,) for n in range(1, 7)]
    assert json.loads(index.execute("SELECT value FROM state WHERE name = 'position'").fetchone()[0])[:2] == [
        6,
        [],
    ]
    index.close()


async def test_processes_that_read_at_once_add_nothing_twice(world: World) -> None:
    for number in range(300):
        await world.say("cli:direct", f"The kayak number {number} is red", "Good.")
    others = [world.open_memory() for _ in range(4)]
    await asyncio.gather(*(memory.refresh() for memory in (world.memory, *others)))
    for memory in others:
        await memory.aclose()
    connection = sqlite3.connect(world.index_file)
    assert connection.execute("SELECT COUNT(*), COUNT(DISTINCT seq) FROM turns").fetchone() == (600, 600)
    assert connection.execute("SELECT COUNT(*) FROM words").fetchone() == (600,)
    connection.execute("INSERT INTO words (words) VALUES ('integrity-check')")
    connection.close()


async def test_a_changed_message_leaves_no_trace(world: World) -> None:
    await world.say("cli:direct", "Hello", "Hi.", "The password is xyzzyplugh, really", "I see.", "And so on")
    await world.say("cli:direct", "More of it", "Right.")
    assert (await world.texts("xyzzyplugh"))[0] == "The password is xyzzyplugh, really"
    with sqlite3.connect(world.folder / "nanobot.db") as connection:
        body = '{"role": "user", "parts": [{"type": "text", "text": "[forgotten]"}]}'
        connection.execute("UPDATE messages SET body = ? WHERE seq = 3", (body,))
    connection.close()
    await world.memory.rebuild()
    assert await world.find("xyzzyplugh") == []
    assert (await world.texts("forgotten"))[0] == "[forgotten]"
    for file in world.folder.glob("search.db*"):
        assert b"xyzzyplugh" not in file.read_bytes()


async def test_a_fact_taken_out_leaves_no_trace(world: World) -> None:
    world.remember("- The code is xyzzyplugh.", "- Likes tea.")
    assert await world.find("xyzzyplugh")
    world.remember("- Likes tea.")
    await world.memory.rebuild()
    for file in world.folder.glob("search.db*"):
        assert b"xyzzyplugh" not in file.read_bytes()
