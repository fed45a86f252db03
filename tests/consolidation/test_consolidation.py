"""What a conversation leaves in MEMORY.md and HISTORY.md, and what happens when consolidation fails."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3

import pytest

from nanobot import paths
from nanobot.agent.assistant import ModelPool
from nanobot.config.schema import Config
from nanobot.errors import OverloadedError
from nanobot.memory.consolidation_table import _OWING, ConsolidationTable
from nanobot.memory.maintenance import MemoryMaintenance
from nanobot.messages import InboundMessage, Message
from nanobot.providers.base import ModelRequest, ModelTraits
from nanobot.providers.scripted import Reply, ScriptedProvider
from tests.consolidation.world import World, add, expire, reply, supersede
from tests.talk import claim_own

SMALL_TALK = ("Good morning.", "How are you?", "Nice weather.", "What a day.", "Lovely indeed.")


def numbers(request: ModelRequest) -> list[int]:
    """The messages a request shows."""
    return [int(seq) for seq in re.findall(r"^\[(\d+)\]", request.messages[0].text, re.MULTILINE)]


async def test_the_older_half_of_a_full_window_becomes_facts_and_history(world: World) -> None:
    world.use([reply("Anna said where she lives.", add("Lives in Berlin.", 1))])
    await world.say("I live in Berlin.", *SMALL_TALK[:2])
    assert await world.consolidator.run_owed() == 0
    await world.say("And now?")
    assert await world.consolidator.run_owed() == 1
    assert numbers(world.provider.requests[0]) == [1, 2, 3, 4]
    assert world.memory == "- Lives in Berlin. <!-- 2026-09-21 cli:direct#1 -->\n"
    assert re.fullmatch(
        r"\[2026-09-21 \d\d:\d\d\] Anna said where she lives. <!-- cli:direct#1-4 -->\n", world.history
    )
    assert await world.consolidator.run_owed() == 0


async def test_no_question_is_consolidated_without_its_answer() -> None:
    world = World([reply("They talked."), reply("They went on talking.")], window=6)
    await world.say(*SMALL_TALK[:3])
    assert await world.consolidator.run_owed() == 1
    assert numbers(world.provider.requests[0]) == [1, 2, 3, 4]
    await world.new()
    assert await world.consolidator.run_owed() == 1
    assert numbers(world.provider.requests[1]) == [5, 6]
    await world.store.aclose()


async def test_new_is_owed_at_once_and_whole(world: World) -> None:
    world.use([reply("A greeting.")])
    await world.say("Good morning.")
    await world.new()
    await world.say("Next topic.")
    assert await world.consolidator.run_owed() == 1
    assert numbers(world.provider.requests[0]) == [1, 2]
    assert "A greeting." in world.history


async def test_a_running_turn_waits(world: World) -> None:
    await world.say(*SMALL_TALK[:4])
    await world.consolidator.run_owed()
    claim = await claim_own(world.store, "cli:direct")
    assert claim
    for _ in range(20):
        await world.store.turns.append(claim, Message.user("Still talking"))
    world.use([reply("All before the running turn.")])
    await world.consolidator.run_owed(retry_now=True)
    (change,) = await ConsolidationTable(world.store.database).changes_of("cli:direct", 1, 100)
    assert change["last_seq"] <= 8


async def test_what_is_no_longer_true_stays_findable_with_its_dates(world: World) -> None:
    world.use([reply("Anna lives in Berlin.", add("Lives in Berlin.", 1))])
    await world.say("I live in Berlin.")
    await world.new()
    await world.consolidator.run_owed()
    world.clock.now += 40 * 86_400
    old = world.ids()["Lives in Berlin."]
    world.use([reply("Anna moved.", supersede(old, "Lives in Paris.", 3))])
    await world.say("I live in Paris now.")
    await world.new()
    await world.consolidator.run_owed()
    assert world.memory == "- Lives in Paris. <!-- 2026-10-31 cli:direct#3 -->\n"
    past = "- [2026-10-31] superseded: Lives in Berlin. (2026-09-21) → Lives in Paris. <!-- cli:direct#1 -->"
    assert past in world.history.splitlines()

    world.use([reply("Anna travels.", expire(world.ids()["Lives in Paris."], 5))])
    await world.say("I do not live in Paris any more.")
    await world.new()
    await world.consolidator.run_owed()
    assert world.facts() == []
    assert "expired: Lives in Paris. (2026-10-31)" in world.history


async def test_the_owners_lines_and_bytes_stay(world: World) -> None:
    owners = b"# Family\r\n\r\n* Tom is my brother\r\n<!-- note\nto me -->\nLatin-1: caf\xe9\n\n\n1. Last"
    world.files.memory.write_bytes(owners)
    world.use([reply("A word on tea.", add("Likes green tea.", 1))])
    await world.say("I like green tea.")
    await world.new()
    await world.consolidator.run_owed()
    assert world.files.memory.read_bytes() == (
        owners + b"\n- Likes green tea. <!-- 2026-09-21 cli:direct#1 -->\n"
    )
    (backup,) = world.files.backups.iterdir()
    assert backup.read_bytes() == owners


async def test_an_edit_made_while_the_model_thinks_stays_and_its_deletions_count(world: World) -> None:
    world.files.memory.write_text("- Lives in Berlin.\n- Has a cat.\n")
    ids = world.ids()

    def edit(request: ModelRequest) -> str:
        world.files.memory.write_text("- Has a cat.\n- Has a dog.\n")
        return reply(
            "Anna moved.", supersede(ids["Lives in Berlin."], "Lives in Paris.", 1), add("Plays chess.", 1)
        )

    world.use(edit)
    await world.say("I live in Paris now and play chess.")
    await world.new()
    await world.consolidator.run_owed()
    assert world.facts() == ["Has a cat.", "Has a dog.", "Plays chess."]


async def test_odd_characters_in_files_and_answers_do_no_harm(world: World) -> None:
    world.files.memory.write_bytes(b"- Likes caf\xe9 in Berlin.\n")
    world.use([reply("A \ud800 talk.", add("Likes tea \ud800.", 1))])
    await world.say("I like tea.")
    await world.new()
    assert await world.consolidator.run_owed() == 1
    assert world.files.memory.read_bytes().startswith(b"- Likes caf\xe9 in Berlin.\n- Likes tea .")
    assert "A talk." in world.history
    assert "Likes caf in Berlin." in world.provider.requests[0].messages[0].text


async def test_groups_keep_their_facts(world: World) -> None:
    world.files.memory.write_text("- Earns 4,000 a month.\n")
    world.use([reply("Lunch was settled.", add("Lunch is at noon.", 1))])
    inbound = InboundMessage(
        "telegram", "-100", "7", "Lunch is at noon.", "1", "telegram:-100", is_group=True
    )
    await world.chat(inbound, Message.user(inbound.text), Message.assistant("Good."))
    await world.new("telegram:-100")
    await world.consolidator.run_owed()
    assert "- Lunch is at noon. <!-- 2026-09-21 group telegram:-100#1 -->" in world.memory
    assert "<!-- group telegram:-100#1-2 -->" in world.history
    assert "4,000" not in world.provider.requests[0].messages[0].text


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I would rather not.",
        '{"history": "Cut off in the mid',
        '{"history": "No list.", "operations": "none"}',
        '{"operations": []}',
        '{"history": "", "operations": []}',
        '{"history": "[1] user (2026-09-21 12:00): I live in Berlin.", "operations": []}',
        reply("x" * 2_001),
        reply("Too much.", *[add("Lives in Berlin.", 1)] * 31),
        "[" * 100_000 + "{" + '"a":[' * 100_000,
        Reply('{"history": "Long.", "operations": []}', finish_reason="length"),
        Reply("I cannot help with that.", finish_reason="refusal"),
        Reply(error=OverloadedError("Overloaded. \ud800")),
    ],
)
async def test_a_useless_answer_changes_nothing_and_is_tried_again(world: World, answer: Reply | str) -> None:
    world.files.memory.write_text("- Has a cat.\n")
    await world.say("I live in Berlin.")
    await world.new()
    world.use([answer])
    assert await world.consolidator.run_owed() == 0
    assert (world.memory, world.history) == ("- Has a cat.\n", "")
    assert not world.files.backups.exists()
    (waiting,) = await ConsolidationTable(world.store.database).unconsolidated(world.window)
    assert (waiting.consolidated, waiting.failures) == (0, 1)
    assert waiting.error

    world.use([reply("Later it worked.")])
    assert await world.consolidator.run_owed() == 0  # not yet
    world.clock.now += 301
    assert await world.consolidator.run_owed() == 1
    assert "Later it worked." in world.history


async def test_an_echo_of_the_instructions_is_no_summary(world: World) -> None:
    await world.say("I live in Berlin.")
    await world.new()
    world.use(lambda request: request.system)
    assert await world.consolidator.run_owed() == 0
    world.use(lambda request: reply(request.system[:500]))
    assert await world.consolidator.run_owed(retry_now=True) == 0
    assert world.history == ""


async def test_after_three_failures_the_messages_are_summarised_without_a_model(world: World) -> None:
    await world.say("I live in Berlin. Really.", "My key is sk-abcdefghijklmnop1234, keep it!")
    await world.new()
    for minutes in (0, 6, 26):
        world.clock.now += minutes * 60
        world.use([""])
        await world.consolidator.run_owed()
    assert "(mechanical) 4 messages, 2026-09-21 to 2026-09-21. [1] “I live in Berlin.”" in world.history
    assert "<!-- cli:direct#1-4 -->" in world.history
    assert "sk-abc" not in world.history
    assert await ConsolidationTable(world.store.database).unconsolidated(world.window) == []
    assert len(await world.store.sessions.history("cli:direct")) == 4


async def test_a_model_that_hangs_is_given_up(world: World) -> None:
    hanging = World([Reply(wait=asyncio.Event())], timeout=0.05)
    await hanging.say("I live in Berlin.")
    await hanging.new()
    await hanging.consolidator.run_owed()
    (waiting,) = await ConsolidationTable(hanging.store.database).unconsolidated(8)
    assert "did not answer within" in waiting.error
    await hanging.store.aclose()


async def test_a_cancelled_consolidation_changes_nothing(world: World) -> None:
    asked = asyncio.Event()

    def hang(request: ModelRequest) -> Reply:
        asked.set()
        return Reply(wait=asyncio.Event())

    world.use(hang)
    await world.say("I live in Berlin.")
    await world.new()
    running = asyncio.create_task(world.consolidator.run_owed())
    await asyncio.wait_for(asked.wait(), 10)
    running.cancel()
    await asyncio.wait([running])
    (waiting,) = await ConsolidationTable(world.store.database).unconsolidated(world.window)
    assert (waiting.consolidated, waiting.failures) == (0, 0)
    world.use([reply("Now it worked.")])
    assert await world.consolidator.run_owed() == 1


async def test_a_model_that_only_chats_is_not_asked(world: World) -> None:
    world.provider = ScriptedProvider([], traits=ModelTraits(supports_tools=False))
    await world.say("I live in Berlin.")
    await world.new()
    assert await world.consolidator.run_owed() == 1
    assert "(mechanical)" in world.history
    assert world.provider.requests == []


async def test_sessions_in_which_nobody_speaks_are_left_alone(world: World) -> None:
    for key in ("heartbeat", "cron:ab12cd34", "subagent:1"):
        await world.say(*SMALL_TALK, session=key)
        await world.new(key)
    assert await world.consolidator.run_owed() == 0


async def test_a_long_backlog_is_worked_off_in_parts(world: World) -> None:
    await world.say(*(f"Message number {number}." for number in range(250)))
    await world.new()
    world.use(lambda request: reply(f"Messages {numbers(request)[0]} to {numbers(request)[-1]}."))
    assert await world.consolidator.run_owed() == 3
    assert [line.split("] ")[1] for line in world.history.splitlines()] == [
        "Messages 1 to 200. <!-- cli:direct#1-200 -->",
        "Messages 201 to 400. <!-- cli:direct#201-400 -->",
        "Messages 401 to 500. <!-- cli:direct#401-500 -->",
    ]


async def test_ten_thousand_facts_do_not_make_the_request_longer(world: World) -> None:
    world.files.memory.write_text("".join(f"- Fact number {i} is about topic{i}.\n" for i in range(10_000)))
    world.use([reply("A word on topic9876.")])
    await world.say("What do you know about topic9876?")
    await world.new()
    await world.consolidator.run_owed()
    text = world.provider.requests[0].messages[0].text
    assert len(text) < 8_000
    assert "about topic9876." in text


async def test_a_compaction_gets_the_words_for_its_messages_and_waits_for_no_model(world: World) -> None:
    await world.say("I live in Berlin.", "Hello.")
    await world.new()
    world.use([reply("Anna said where she lives.", add("Lives in Berlin.", 1))])
    await world.consolidator.run_owed()
    await world.say("Bye.", "One more.")
    messages = await world.store.sessions.history("cli:direct")
    summarise = MemoryMaintenance(Config(), world.store, ModelPool(Config()), model_of_session).summarise
    first = "[2026-09-21] Anna said where she lives."
    assert await summarise("cli:direct", messages[:4]) == first
    assert await summarise("cli:direct", messages[:6]) == first
    assert await summarise("cli:direct", messages[4:]) == ""
    assert len(world.provider.requests) == 1


async def model_of_session(session_key: str) -> str:
    raise AssertionError("no model is asked")


async def test_looking_for_work_reads_no_whole_table(world: World) -> None:
    await world.say("Hello.")
    with contextlib.closing(sqlite3.connect(paths.database_file())) as database:
        plan = database.execute(f"EXPLAIN QUERY PLAN {_OWING}", (8,)).fetchall()
    steps = [step[3] for step in plan]
    assert [step for step in steps if step.startswith("SCAN")] == ["SCAN sessions USING INDEX left_behind"]
