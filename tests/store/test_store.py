"""The store: order, lanes, fencing, takeover, delivery. Real files and real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanobot.errors import TurnTakenOver
from nanobot.messages import (
    ContextPart,
    ContextUse,
    ImagePart,
    InboundMessage,
    Message,
    OutboundMessage,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
    message_from_json,
    message_to_json,
)
from nanobot.store.records import Claim, Window
from nanobot.store.store import Store
from tests.store.conftest import Clock, Opener
from tests.talk import claim_next, claim_own, own_message


def inbound(number: int, session: str = "tg:1", channel: str = "tg") -> InboundMessage:
    return InboundMessage(channel, session.split(":")[1], "owner", f"text {number}", f"x{number}", session)


async def begin(store: Store, key: str = "cli:direct") -> Claim:
    claim = await claim_own(store, key)
    assert claim is not None
    return claim


async def test_messages_come_back_in_order_with_their_turn(store: Store) -> None:
    claim = await begin(store)
    call = ToolCall("c1", "read_file", {"path": "a"})
    said = [
        Message.user("hello"),
        Message.assistant("", call),
        Message("tool", (ToolResult("c1", "read_file", "content"),)),
        Message.assistant("done"),
    ]
    for message in said:
        await store.turns.append(claim, message)
    await store.turns.finish(claim, "done")

    stored = await store.sessions.history("cli:direct")
    assert [entry.message for entry in stored] == said
    assert [entry.seq for entry in stored] == [1, 2, 3, 4]
    assert {entry.turn_id for entry in stored} == {claim.turn_id}
    info = await store.sessions.get("cli:direct")
    assert info is not None
    assert (info.title, info.messages) == ("hello", 4)


async def test_one_turn_a_session_at_a_time(store: Store) -> None:
    claim = await begin(store)
    assert await claim_own(store, "cli:direct") is None
    assert await claim_own(store, "cli:other") is not None
    await store.turns.finish(claim, "done")
    assert await claim_own(store, "cli:direct") is not None


async def test_writes_of_concurrent_turns_all_arrive(store: Store) -> None:
    async def talk(number: int) -> None:
        claim = await begin(store, f"cli:{number}")
        for index in range(10):
            await store.turns.append(claim, Message.user(str(index)))
        await store.turns.finish(claim, "done")

    await asyncio.gather(*(talk(number) for number in range(30)))
    for number in range(30):
        stored = await store.sessions.history(f"cli:{number}")
        assert [entry.message.text for entry in stored] == [str(index) for index in range(10)]


async def test_context_begins_after_new_and_nothing_is_deleted(store: Store) -> None:
    claim = await begin(store)
    for text in ("a", "b"):
        await store.turns.append(claim, Message.user(text))
    await store.turns.finish(claim, "done")
    await store.conversations.begin("cli:direct")
    await store.turns.append(await begin(store), Message.user("c"))
    assert [entry.message.text for entry in (await store.sessions.open("cli:direct", 10)).messages] == ["c"]
    assert len(await store.sessions.history("cli:direct")) == 3


async def test_a_window_moves_only_from_where_it_was_read(store: Store) -> None:
    claim = await begin(store)
    for text in "abcd":
        await store.turns.append(claim, Message.user(text))
    before = (await store.sessions.open("cli:direct")).window
    after = before._replace(start=3, shortened=2, summary="abc")
    assert await store.sessions.move_window(before, after)
    assert (await store.sessions.open("cli:direct")).window == after
    assert not await store.sessions.move_window(before, before._replace(start=1, summary="late"))
    assert [entry.message.text for entry in (await store.sessions.open("cli:direct", 10)).messages] == ["d"]
    await store.turns.finish(claim, "done")
    await store.conversations.begin("cli:direct")
    assert (await store.sessions.open("cli:direct")).window == Window(start=4, conversation=2)


async def test_a_cut_turn_still_begins_with_its_question(store: Store) -> None:
    claim = await begin(store)
    for message in (Message.user("why?"), *(Message.assistant(text) for text in "abc")):
        await store.turns.append(claim, message)
    before = (await store.sessions.open("cli:direct")).window
    await store.sessions.move_window(before, before._replace(start=3))
    assert [entry.message.text for entry in (await store.sessions.open("cli:direct", 10)).messages] == [
        "why?",
        "c",
    ]
    assert [entry.message.text for entry in (await store.sessions.open("cli:direct", 1)).messages] == [
        "why?",
        "c",
    ]
    await store.turns.finish(claim, "done", used=ContextUse(1200, 1000))
    assert (await store.sessions.open("cli:direct")).window.used == ContextUse(1200, 1000)
    assert [entry.message.text for entry in (await store.sessions.open("cli:direct", 10)).messages] == ["c"]


async def test_settings_are_kept_per_session(store: Store) -> None:
    await store.sessions.set_setting("cli:a", "model", "x/y")
    await store.sessions.set_setting("cli:a", "queue", "steer")
    assert (await store.sessions.open("cli:a")).settings == {"model": "x/y", "queue": "steer"}
    assert (await store.sessions.open("cli:b")).settings == {}


# -- inbox and lanes


async def test_the_same_external_id_is_accepted_once(store: Store) -> None:
    assert await store.inbox.accept(inbound(1))
    assert not await store.inbox.accept(inbound(1))
    assert await store.inbox.accept(inbound(1, channel="other"))


async def test_what_cannot_be_stored_fails_nobody_else(store: Store) -> None:
    first, broken, last = await asyncio.gather(
        store.inbox.accept(inbound(1)),
        store.inbox.accept(inbound(2, session="tg:\ud800")),
        store.inbox.accept(inbound(3)),
        return_exceptions=True,
    )
    assert isinstance(broken, UnicodeEncodeError)
    assert (first, last) == (True, True)
    turn = await claim_next(store)
    assert turn is not None
    assert turn.inbound.text == "text 1"


async def test_a_session_is_served_in_order_one_at_a_time(store: Store) -> None:
    for number in range(3):
        await store.inbox.accept(inbound(number))
    for number in range(3):
        turn = await claim_next(store)
        assert turn is not None
        assert turn.inbound.text == f"text {number}"
        assert await claim_next(store) is None
        await store.turns.finish(turn.claim, "done")
    assert await claim_next(store) is None


async def test_a_busy_chat_does_not_starve_the_others(store: Store) -> None:
    for number in range(5):
        await store.inbox.accept(inbound(number, "tg:busy"))
    await store.inbox.accept(inbound(10, "tg:late"))
    order = []
    while (turn := await claim_next(store)) is not None:
        order.append(turn.inbound.chat_id)
        await store.turns.finish(turn.claim, "done")
    assert order.index("late") <= 1
    assert len(order) == 6


async def test_a_claim_costs_the_same_however_much_waits(store: Store) -> None:
    """P3, in steps of SQLite's machine."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    costs = []
    for waiting in (range(10), range(10, 3000)):
        await asyncio.gather(*(store.inbox.accept(inbound(number)) for number in waiting))
        await store.database.write(lambda connection: connection.set_progress_handler(count, 10))
        steps = 0
        turn = await claim_next(store)
        costs.append(steps)
        assert turn is not None
        await store.turns.finish(turn.claim, "done")
    assert costs[1] <= 1.1 * costs[0]


async def test_a_terminal_and_the_inbox_share_the_lane(store: Store) -> None:
    await store.inbox.accept(inbound(1))
    claim = await begin(store, "tg:1")
    assert await claim_next(store) is None
    await store.turns.finish(claim, "done")
    turn = await claim_next(store)
    assert turn is not None
    assert await claim_own(store, "tg:1") is None


async def test_finishing_acknowledges_and_queues_the_reply_together(store: Store) -> None:
    await store.inbox.accept(inbound(1))
    turn = await claim_next(store)
    assert turn is not None
    reply = OutboundMessage("t1", "tg", "1", "answer")
    await store.turns.finish(turn.claim, "done", outbound=[reply])
    (delivery,) = await store.outbox.due()
    assert delivery.message == reply
    await store.outbox.delivered(delivery.outbox_id, "42")
    assert await store.outbox.due() == []
    assert await claim_next(store) is None


async def test_steering_moves_waiting_messages_into_the_turn(store: Store) -> None:
    for number in range(3):
        await store.inbox.accept(inbound(number))
    turn = await claim_next(store)
    assert turn is not None
    joining, _ = await store.inbox.waiting("tg:1", "")
    assert joining[1].text == "text 1"
    taken = await store.turns.steer(turn.claim, {joining[0]: Message.user("text 1")})
    assert [entry.message.text for entry in taken] == ["text 1"]
    assert await store.turns.steer(turn.claim, {joining[0]: Message.user("text 1")}) == []  # once
    await store.turns.finish(turn.claim, "done")
    following = await claim_next(store)
    assert following is not None
    assert following.inbound.text == "text 2"


# -- fencing and takeover


async def test_a_worker_without_signs_of_life_loses_its_turn(opener: Opener, clock: Clock) -> None:
    paused, other = opener(), opener()
    await paused.inbox.accept(inbound(1))
    lost = await claim_next(paused)
    assert lost is not None
    await paused.turns.append(lost.claim, Message.user("text 1"))
    assert await claim_next(other) is None
    clock.now += 60
    taken = await claim_next(other)
    assert taken is not None
    assert taken.claim.epoch == 2
    assert taken.inbound == lost.inbound
    for write in (
        paused.turns.append(lost.claim, Message.user("late")),
        paused.turns.record_intent(lost.claim, "c1"),
        paused.turns.finish(lost.claim, "done", outbound=[OutboundMessage("late", "tg", "1", "x")]),
    ):
        with pytest.raises(TurnTakenOver):
            await write
    await other.turns.finish(taken.claim, "done")
    assert await other.outbox.due() == []
    assert [entry.message.text for entry in await other.sessions.history("tg:1")] == ["text 1"]


async def test_a_worker_that_gives_signs_of_life_keeps_its_turn(opener: Opener, clock: Clock) -> None:
    busy, other = opener(), opener()
    await busy.inbox.accept(inbound(1))
    assert await claim_next(busy) is not None
    for _ in range(5):
        clock.now += 10
        busy.workers.enlist()
        assert await claim_next(other) is None


async def test_a_terminal_that_was_stopped_keeps_its_turn(opener: Opener, clock: Clock) -> None:
    """Ctrl-Z, or a debugger: nobody else could go on with what is its own."""
    terminal, gateway = opener(), opener()
    claim = await begin(terminal)
    await gateway.inbox.accept(inbound(1, "cli:direct"))
    clock.now += 3600
    assert await claim_next(gateway) is None
    await terminal.turns.append(claim, Message.user("still here"))
    await terminal.turns.finish(claim, "done")
    assert await claim_next(gateway) is not None


async def test_a_terminal_that_is_gone_waits_for_the_turn_of_a_gateway(opener: Opener) -> None:
    """What it had submitted is closed when its lane is free, and breaks nobody before that."""
    terminal, gateway = opener(), opener()
    await gateway.inbox.accept(inbound(1))
    turn = await claim_next(gateway)
    assert turn is not None
    await terminal.inbox.accept(own_message(terminal, "tg:1", "and me"))
    terminal.workers.release()
    assert await gateway.turns.last_interrupted("tg:1") is None
    await gateway.turns.finish(turn.claim, "done")
    assert await gateway.turns.last_interrupted("tg:1") == "and me"


_DYING_WORKER = """
import asyncio, os, sys
from pathlib import Path
from nanobot.messages import InboundMessage, Message, ToolCall
from nanobot.store.store import Store

async def main():
    store = Store(Path(sys.argv[1]), lambda: 1_000_000.0)
    if sys.argv[2] == "inbox":
        (turn,) = await store.turns.claim()
    else:
        owner, key = store.workers.owner, "cli:direct"
        await store.inbox.accept(InboundMessage("cli", "direct", "me", "do it", "1", key, owner=owner))
        await store.inbox.accept(InboundMessage("cli", "direct", "me", "and that", "2", key, owner=owner))
        (turn,) = await store.turns.claim(owner)
    claim = turn.claim
    await store.turns.append(claim, Message.user("do it"))
    await store.turns.append(claim, Message.assistant("", ToolCall("c1", "exec", {"command": "x"})))
    await store.turns.record_intent(claim, "c1")
    print("ready", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def kill_a_worker(home: Path, kind: str) -> None:
    """A real process claims a turn, gets half-way, and is killed."""
    script = textwrap.dedent(_DYING_WORKER)
    command = [sys.executable, "-c", script, str(home / "nanobot.db"), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, signal.SIGKILL)


async def test_a_killed_worker_is_noticed_at_once(store: Store, tmp_path: Path) -> None:
    await store.inbox.accept(inbound(1))
    await asyncio.to_thread(kill_a_worker, tmp_path, "inbox")
    taken = await claim_next(store)
    assert taken is not None
    assert taken.claim.epoch == 2
    assert not await store.turns.record_intent(taken.claim, "c1")
    assert await store.turns.record_intent(taken.claim, "c2")
    context = (await store.sessions.open("tg:1", 10)).messages
    assert [entry.message.role for entry in context] == ["user", "assistant"]


async def test_a_killed_terminal_leaves_a_valid_history_and_says_what_was_cut(
    store: Store, tmp_path: Path
) -> None:
    await asyncio.to_thread(kill_a_worker, tmp_path, "terminal")
    assert await store.turns.claim("", 9, 9) == []  # no gateway goes on with it
    interrupted = await store.turns.last_interrupted("cli:direct")
    assert interrupted is not None
    assert interrupted == "and that"  # it had not begun
    history = [entry.message for entry in await store.sessions.history("cli:direct")]
    assert [message.text for message in history if message.text] == ["do it", "and that"]
    assert history[2].tool_results[0].outcome == "interrupted"
    for note in (history[3], history[-1]):
        assert "this turn was cut off before it was finished" in str(note.parts)
    await store.turns.finish(await begin(store), "done")
    assert await store.turns.last_interrupted("cli:direct") is None


async def test_a_terminal_does_not_jump_over_a_turn_of_the_gateway(store: Store, tmp_path: Path) -> None:
    await store.inbox.accept(inbound(1))
    await asyncio.to_thread(kill_a_worker, tmp_path, "inbox")
    owner = store.workers.owner
    await store.inbox.accept(own_message(store, "tg:1"))
    assert await store.turns.claim(owner) == []
    blocked = await store.turns.blocked(owner)
    assert blocked is not None
    assert blocked[1]
    assert await store.turns.blocked(owner) is None
    gateway = await claim_next(store)
    assert gateway is not None
    await store.inbox.accept(own_message(store, "tg:1"))
    blocked = await store.turns.blocked(owner)
    assert blocked is not None
    assert blocked[1] is False  # somebody goes on with it
    await store.turns.finish(gateway.claim, "done")
    blocked = await store.turns.blocked(owner)
    assert blocked is not None
    assert blocked[1] is None  # it was over between the claim and this look
    assert len(await store.turns.claim(owner)) == 1


async def test_a_terminal_waits_for_no_message_that_cannot_be_read(store: Store) -> None:
    await store.inbox.accept(inbound(1))
    assert await claim_next(store) is not None
    await store.inbox.accept(own_message(store, "tg:1"))
    with contextlib.closing(sqlite3.connect(store.database.path)) as bad_disk, bad_disk:
        bad_disk.execute("UPDATE inbox SET body = '[]' WHERE state = 'pending'")
    assert await store.turns.blocked(store.workers.owner) is None


# -- outbox


async def test_a_chat_keeps_its_order_while_a_delivery_is_retried(store: Store, clock: Clock) -> None:
    for number, chat in enumerate(["1", "1", "2"]):
        await store.outbox.enqueue(OutboundMessage(f"m{number}", "tg", chat, f"text {number}"))
    first, other = await store.outbox.due()
    assert (first.message.id, other.message.id) == ("m0", "m2")
    await store.outbox.failed(first.outbox_id, "no network", clock.now + 5)
    assert [delivery.message.id for delivery in await store.outbox.due()] == ["m2"]
    clock.now += 5
    retried = (await store.outbox.due())[0]
    assert (retried.message.id, retried.attempts) == ("m0", 1)


async def test_a_clock_that_is_set_back_holds_up_no_delivery(store: Store, clock: Clock) -> None:
    await store.outbox.enqueue(OutboundMessage("m", "tg", "1", "text"))
    (delivery,) = await store.outbox.due()
    await store.outbox.failed(delivery.outbox_id, "no network", clock.now + 300)
    assert await store.outbox.due() == []
    clock.now -= 365 * 86_400
    assert [delivery.message.id for delivery in await store.outbox.due()] == ["m"]


async def test_a_parked_delivery_lets_the_next_pass_and_can_be_retried(store: Store, clock: Clock) -> None:
    for number in range(2):
        await store.outbox.enqueue(OutboundMessage(f"m{number}", "tg", "1", f"text {number}"))
    (first,) = await store.outbox.due()
    await store.outbox.failed(first.outbox_id, "chat not found", None)
    assert [delivery.message.id for delivery in await store.outbox.due()] == ["m1"]
    parked = (await store.outbox.entries())[0]
    assert (parked.state, parked.error) == ("parked", "chat not found")
    assert await store.outbox.retry_parked() == 1
    assert [delivery.message.id for delivery in await store.outbox.due()] == ["m0"]


async def test_an_outbound_id_is_queued_once(store: Store) -> None:
    assert await store.outbox.enqueue(OutboundMessage("m", "tg", "1", "a"))
    assert not await store.outbox.enqueue(OutboundMessage("m", "tg", "1", "b"))


# -- the stored form of messages

_words = st.text(max_size=20)
_parts = st.one_of(
    st.builds(TextPart, _words),
    st.builds(ContextPart, _words),
    st.builds(ImagePart, st.just("image/png"), _words),
    st.builds(ReasoningPart, _words, _words, _words, _words),
    st.builds(
        ToolCall,
        _words,
        _words,
        st.dictionaries(_words, st.integers() | _words),
        _words,
        st.dictionaries(_words, _words),
    ),
    st.builds(
        ToolResult,
        _words,
        _words,
        _words,
        st.sampled_from(["ok", "error"]),
        st.lists(st.builds(ImagePart, _words, _words), max_size=2).map(tuple),
    ),
)


@settings(max_examples=200)
@given(st.builds(Message, st.sampled_from(["user", "assistant", "tool"]), st.lists(_parts).map(tuple)))
def test_a_message_survives_its_stored_form(message: Message) -> None:
    assert message_from_json(message_to_json(message)) == message
