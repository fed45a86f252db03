"""What is forgotten is gone from every file; everything else stays, and conversations stay valid."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import signal
import sqlite3
from pathlib import Path
from typing import Any, ClassVar

import pytest

from nanobot import paths
from nanobot.cron.jobs import Job, JobTable
from nanobot.errors import UsageError
from nanobot.memory.forget import ForgetScope
from nanobot.memory.redaction import STEP, Redaction
from nanobot.memory.search import MemorySearch
from nanobot.memory.search_index import SearchScope
from nanobot.messages import (
    ContextPart,
    ImagePart,
    InboundMessage,
    Message,
    OutboundMessage,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
    message_to_json,
    unanswered_calls,
)
from nanobot.providers.base import ModelRequest
from nanobot.providers.scripted import Reply
from nanobot.store import sqlite
from tests.consolidation.forked import ended, start_forgetting
from tests.consolidation.world import World, add, reply, supersede

WORD = "Zebrastraße"
SPOKEN = f"I live in {WORD} 4711, do not tell."


def where(word: str = WORD) -> list[str]:
    """The files of the home that hold the word, in any of the ways in which it may be written."""
    needles = [form.encode() for form in (word, word.casefold(), word.upper(), json.dumps(word)[1:-1])]
    return [
        path.relative_to(paths.home()).as_posix()
        for path in sorted(paths.home().rglob("*"))
        if path.is_file() and any(needle in path.read_bytes() for needle in needles)
    ]


async def search(world: World, text: str) -> list[str]:
    opened = MemorySearch(world.store, world.folder)
    try:
        return [hit.text for hit in await opened.search(text, SearchScope(reach="everything"), 20)]
    finally:
        await opened.aclose()


async def forget(world: World, wanted: str, scope: ForgetScope | None = None) -> int:
    scope = scope or ForgetScope()
    return await world.forgetter().forget(await world.forgetter().find(wanted, scope))


async def fill(world: World) -> None:
    """Put the word wherever nanobot may keep one."""
    call = ToolCall("c1", "exec", {"command": f"echo {WORD}", WORD: [{"deep": 1}]})
    await world.turn(
        Message(
            "user", (ContextPart(f"[recalled: {WORD}]"), TextPart(SPOKEN), ImagePart("image/png", "AAAA"))
        ),
        Message("assistant", (ReasoningPart(f"{WORD}?", "sig"), TextPart("Let me see."), call)),
        Message("tool", (ToolResult("c1", "exec", f"{WORD}\n"),)),
        Message.assistant(f"You live in {WORD} 4711."),
    )
    await world.say("I have a cat called Tom.")
    inbound = InboundMessage("telegram", "7", "7", f"Say {WORD.upper()}!", "1", "telegram:7")
    await world.chat(inbound, Message.user(inbound.text), Message.assistant("No."))
    await world.store.outbox.enqueue(OutboundMessage("m1", "telegram", "7", f"Off to {WORD}"))
    await world.store.outbox.enqueue(OutboundMessage("m2", "telegram", "7", "Off to somewhere"))
    await JobTable(world.store).insert(
        [Job("ab12cd34", "walk", f"Walk down {WORD}", {"kind": "every", "seconds": 60})]
    )
    world.files.memory.write_text(f"# About {WORD}\n- Tom is a cat.\n")
    world.use(
        [reply(f"Lives in {WORD} 4711.", add(f"I live in {WORD} 4711.", 1), add("Cat is called Tom.", 5))]
    )
    await world.new()
    await world.consolidator.run_owed()
    old = world.ids()[f"I live in {WORD} 4711."]
    world.use([reply("Moved.", supersede(old, "I live in Paris now.", 7))])
    await world.say("I live in Paris now.")
    await world.new()
    await world.consolidator.run_owed()
    history = paths.make_private_dir(paths.home() / "history") / "cli_history"
    history.write_text(
        f"\n# 2026-11-26 03:00:00\n+first\n\n# 2026-11-26 03:01:00\n+where is\n+{WORD}\n\n# t\n+last\n"
    )
    older = paths.make_private_dir(paths.home() / "workspace" / "sessions") / "cli_old.jsonl"
    older.write_text(
        "\n".join(json.dumps({"role": "user", "content": text}) for text in (f"Hi {WORD}", "Ho")) + "\n"
    )


async def test_a_word_is_gone_from_every_file_and_the_rest_stays(world: World) -> None:
    await fill(world)
    assert len(await search(world, WORD)) > 3
    before = " ".join(where())
    kept = "search.db nanobot.db MEMORY.md HISTORY.md backups/memory/ cli_history cli_old.jsonl"
    for path in kept.split():
        assert path in before
    found = await world.forgetter().find(f"  {WORD.lower()} ", ForgetScope())
    shown = "\n".join(found.lines())
    for expected in (f"message cli:direct#1 user: {SPOKEN}", "superseded: I live in", "job: Walk down"):
        assert expected in shown
    assert await forget(world, f"  {WORD.lower()} ") == 5
    assert where() == []
    assert not [text for text in await search(world, f"{WORD} cat Paris") if WORD in text]

    assert world.memory == (
        "- Tom is a cat.\n- I live in Paris now. <!-- 2026-09-21 cli:direct#7 -->\n"
        "- Cat is called Tom. <!-- 2026-09-21 cli:direct#5 -->\n"
    )
    assert world.history.count("\n") == 1
    assert "Moved." in world.history
    stored = [entry.message for entry in await world.store.sessions.history("cli:direct")]
    assert [message.role for message in stored] == ["user", "assistant", "tool"] + [
        "assistant",
        "user",
    ] * 2 + ["assistant"]
    assert unanswered_calls(stored) == []
    assert stored[0].text == "[forgotten]"
    assert stored[1].tool_calls[0].arguments == {}
    assert stored[4].text == "I have a cat called Tom."
    assert await JobTable(world.store).all() == []
    (waiting,) = await world.store.outbox.entries()
    assert waiting.text == "Off to somewhere"
    assert (
        paths.home() / "history" / "cli_history"
    ).read_text() == "\n# 2026-11-26 03:00:00\n+first\n\n# t\n+last\n"
    (other,) = (paths.home() / "workspace" / "sessions" / "cli_old.jsonl").read_text().splitlines()
    assert json.loads(other)["content"] == "Ho"
    session = await world.store.sessions.get("cli:direct")
    assert session is not None
    assert session.title == ""


async def test_a_fact_takes_the_turn_it_was_said_in_with_it(world: World) -> None:
    await world.turn(
        Message.user("My locker code is zebra-4711."), Message.assistant("Noted: zebra-4711, the locker.")
    )
    await world.say("I like tea.")
    world.use(
        [reply("They told the code of the locker: zebra-4711.", add("The locker code is zebra-4711.", 1))]
    )
    await world.new()
    await world.consolidator.run_owed()
    (kept,) = world.files.facts()
    assert await forget(world, kept.id) == 2
    assert where("zebra-4711") == []
    assert (await world.store.sessions.history("cli:direct"))[2].message.text == "I like tea."


@pytest.mark.parametrize("said", [1, 150, 299])
async def test_a_fact_takes_a_turn_of_any_length_with_it(world: World, said: int) -> None:
    """Also what stands hundreds of messages before and behind the words that the fact rests on."""
    await world.say("I like tea.")
    texts = [f"Step {number} of the way to the hidden cellar." for number in range(600)]
    await world.turn(*map(Message.user, texts))
    await world.say("I like coffee.")
    world.files.memory.write_text(f"- The locker is blue. <!-- 2026-09-21 cli:direct#{said + 2} -->\n")
    (kept,) = world.files.facts()
    assert await forget(world, kept.id) == 600
    assert where("hidden cellar") == []
    left = [entry.message.text for entry in await world.store.sessions.history("cli:direct")]
    assert [text for text in left if text != "[forgotten]"] == [
        "I like tea.",
        "I see.",
        "I like coffee.",
        "I see.",
    ]


async def test_one_message_by_its_id(world: World) -> None:
    await world.say("ok", "My shoe size is 43.", "ok")
    world.use([reply("Shoes.", add("Shoe size is 43.", 3))])
    await world.new()
    await world.consolidator.run_owed()
    assert await forget(world, "cli:direct#3") == 1
    assert world.facts() == []
    texts = [entry.message.text for entry in await world.store.sessions.history("cli:direct")]
    assert texts == ["ok", "I see.", "[forgotten]", "I see.", "ok", "I see."]


async def test_a_note_that_recalls_it_goes_and_the_words_beside_it_stay(world: World) -> None:
    note = ContextPart(f"[From memory] {SPOKEN}")
    await world.turn(Message("user", (note, TextPart("Hello."))), Message.assistant("Hi."))
    assert await forget(world, WORD) == 0
    assert (await world.store.sessions.history("cli:direct"))[0].message == Message.user("Hello.")
    assert where() == []


@pytest.mark.parametrize("word", ["text", "parts", "content", "exec", "tool_call", "channel", "arguments"])
async def test_how_nanobot_writes_things_down_is_nobodys_word(world: World, word: str) -> None:
    """A field of that name is in every row; nobody has said it."""
    inbound = InboundMessage("telegram", "7", "7", "Hello.", "1", "telegram:7")
    call = Message.assistant("Yes?", ToolCall("c1", "exec", {"command": "date"}))
    said = [Message.user("Hello."), call, Message("tool", (ToolResult("c1", "exec", "Thursday"),))]
    await world.chat(inbound, *said)
    assert not await world.forgetter().find(word, ForgetScope())
    assert await forget(world, word) == 0
    stored = await world.store.sessions.history("telegram:7")
    assert [entry.message for entry in stored] == said
    assert where("Hello.")


async def test_what_a_killed_process_left_behind_goes_too(world: World) -> None:
    (world.folder / ".MEMORY.md.new").write_text(SPOKEN)
    (paths.make_private_dir(world.files.backups) / ".MEMORY-1.md.x8f2").write_text(SPOKEN)
    await forget(world, WORD)
    assert where() == []


async def test_too_little_is_refused(world: World) -> None:
    for wanted in ("", "a", " .. "):
        with pytest.raises(UsageError, match="too little"):
            await forget(world, wanted)


async def test_what_was_forgotten_while_a_model_thought_does_not_come_back(world: World) -> None:
    await world.say(SPOKEN, "I have a cat.")
    await world.new()
    asked, go = asyncio.Event(), asyncio.Event()

    def think(request: ModelRequest) -> Reply:
        asked.set()
        return Reply(reply(f"Lives in {WORD}.", add(f"I live in {WORD} 4711.", 1)), wait=go)

    world.use(think)
    running = asyncio.create_task(world.consolidator.run_owed())
    await asyncio.wait_for(asked.wait(), 10)
    await forget(world, WORD)
    go.set()
    assert await running == 0
    assert where() == []
    world.use([reply("They have a cat.")])
    assert await world.consolidator.run_owed() == 1
    assert WORD not in world.provider.requests[0].messages[0].text
    assert "They have a cat." in world.history


async def test_chats_forget_their_own_and_no_more(world: World) -> None:
    for session, is_group in (("telegram:7", False), ("telegram:-9", True)):
        channel, chat = session.split(":")
        inbound = InboundMessage(channel, chat, "7", SPOKEN, session, session, is_group=is_group)
        await world.chat(inbound, Message.user(SPOKEN), Message.assistant("Fine."))
    await world.say(SPOKEN)
    lines = {
        "hand": f"- By hand: {WORD}.",
        "cli": f"- Terminal: {WORD}. <!-- 2026-01-01 cli:direct#1 -->",
        "own": f"- Private: {WORD}. <!-- 2026-01-01 telegram:7#1 -->",
        "group": f"- Group: {WORD}. <!-- 2026-01-01 group telegram:-9#1 -->",
    }
    for scope, gone in (
        (ForgetScope("telegram:7", owner=False), ["own"]),
        (ForgetScope("telegram:7"), ["hand", "cli", "own"]),
        (ForgetScope("telegram:-9", is_group=True, owner=False), ["group"]),
        (ForgetScope("telegram:8", owner=False), []),
    ):
        world.files.memory.write_text("".join(f"{line}\n" for line in lines.values()))
        await forget(world, WORD, scope)
        assert world.memory.splitlines() == [line for name, line in lines.items() if name not in gone]
    said = {
        session: (await world.store.sessions.history(session))[0].message.text
        for session in ("telegram:7", "telegram:-9", "cli:direct")
    }
    assert said == {"telegram:7": "[forgotten]", "telegram:-9": "[forgotten]", "cli:direct": SPOKEN}


class _Counting(sqlite.Connection):
    """Notes how many rows each transaction changes."""

    changed: ClassVar[list[int]] = []

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        if statement.startswith("BEGIN"):
            self._before = self.total_changes
        done = super().execute(statement, *parameters)
        if statement == "COMMIT":
            self.changed.append(self.total_changes - self._before)
        return done


async def test_no_transaction_grows_with_what_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "Connection", _Counting)
    world = World()
    await world.say("Hello.")
    said = message_to_json(Message.user(f"I live in {WORD} 4711."))

    def fill(connection: sqlite.Connection) -> None:
        for seq in range(3, 20_003):
            connection.execute(
                "INSERT INTO messages (session, seq, turn, created_at, body)"
                " VALUES ('cli:direct', ?, ?, 0, ?)",
                (seq, seq // 4, json.dumps(said)),
            )
        for number in range(500):
            connection.execute(
                "INSERT INTO outbox (key, turn, channel, chat_id, created_at, state, body)"
                " VALUES (?, ?, 'telegram', '7', 0, 'sent', ?)",
                (f"turn-{number}", number, json.dumps({"text": "There.", "attachments": []})),
            )
        connection.execute("UPDATE sessions SET last_seq = 20002 WHERE key = 'cli:direct'")

    await world.store.database.write(fill)
    _Counting.changed.clear()
    assert await forget(world, WORD) == 20_000
    assert max(_Counting.changed) <= STEP
    assert len(_Counting.changed) >= 20_500 // STEP
    assert where() == []
    await world.store.aclose()


async def test_forgetting_killed_at_every_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is broken off is finished by whoever comes next, and nothing that was said beside it is gone."""
    world = World()
    await fill(world)
    await search(world, "cat")
    await world.store.aclose()
    died = []
    for number in itertools.count(1, 2):
        home = tmp_path / f"home{number}"
        shutil.copytree(tmp_path / "home", home)
        monkeypatch.setenv("NANOBOT_HOME", str(home))
        died.append(await ended(start_forgetting(home, number, WORD)))
        survivor = World()
        if await Redaction(survivor.store.database).pending():
            await survivor.new()
            survivor.use([reply("They live there.", add(f"I live in {WORD} 4711.", 1))])
            assert await survivor.consolidator.run_owed() == 0  # nothing is learnt of what is being forgotten
        await survivor.forgetter().finish()
        if where():  # it was killed before it had begun
            assert number < 4
            assert len(where()) > 5
        else:
            assert not [text for text in await search(survivor, f"{WORD} 4711 cat") if "4711" in text]
            assert survivor.facts() == ["Tom is a cat.", "I live in Paris now.", "Cat is called Tom."]
        stored = [entry.message for entry in await survivor.store.sessions.history("cli:direct")]
        assert unanswered_calls(stored) == []
        assert stored[4].text == "I have a cat called Tom."
        await survivor.store.aclose()
        shutil.rmtree(home)
        if died[-1] == 0:
            break
    assert set(died[:-1]) == {-signal.SIGKILL}
    assert len(died) > 15  # else the kills were not where they should be


@pytest.mark.parametrize("step", range(1, 12, 3))
async def test_a_fact_s_turn_is_forgotten_though_it_was_broken_off(step: int) -> None:
    world = World()
    await world.turn(
        Message.user("My locker code is zebra-4711."), Message.assistant("The third on the left.")
    )
    world.use([reply("They told the code.", add("The locker code is zebra-4711.", 1))])
    await world.new()
    await world.consolidator.run_owed()
    (kept,) = world.files.facts()
    await search(world, "locker")
    await world.store.aclose()
    assert await ended(start_forgetting(paths.home(), 2 * step, kept.id)) in (0, -signal.SIGKILL)
    survivor = World()
    await survivor.forgetter().finish()
    if await survivor.forgetter().find("zebra", ForgetScope()):  # it was killed before it had begun
        assert await forget(survivor, kept.id) == 2
    assert where("zebra-4711") == []
    assert where("Third on the left") == []
    await survivor.store.aclose()


async def test_a_home_that_kept_deleted_words_is_written_anew() -> None:
    """Before deleted content was overwritten, it stayed in the free parts of the file."""
    world = World()
    await world.say(*(f"{SPOKEN} {number}" for number in range(50)))
    await world.store.aclose()
    with sqlite3.connect(paths.database_file()) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("PRAGMA application_id = 0")
        connection.execute("UPDATE messages SET body = replace(body, 'not tell', '') WHERE seq % 3 = 0")
        connection.execute("DELETE FROM messages WHERE seq > 40")
    connection.close()
    opened = World()
    for _ in range(2):
        await forget(opened, WORD)
        assert where() == []
    await opened.store.aclose()


async def test_two_processes_may_use_the_database_meanwhile(world: World, tmp_path: Path) -> None:
    await world.say(*(f"{SPOKEN} {number}" for number in range(50)))
    other = World()
    await other.say("Hello from elsewhere.", session="cli:other")
    assert await forget(world, WORD) == 50
    assert where() == []
    await other.say("Still here.", session="cli:other")
    assert len(await other.store.sessions.history("cli:other")) == 4
    await other.store.aclose()
