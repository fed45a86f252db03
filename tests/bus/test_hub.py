"""The one way in and out: what is submitted is accepted once, what is published reaches who subscribes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from nanobot.bus.events import (
    Event,
    SubagentChanged,
    TextDelta,
    ToolOutputDelta,
    ToolStarted,
    TurnFinished,
)
from nanobot.bus.hub import Hub
from nanobot.messages import Address, InboundMessage, Usage
from nanobot.store.store import Store

HI = InboundMessage("tg", "1", "anna", "hi", "a", "tg:1")
END = TurnFinished("done", "all of it", Usage())


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = Store(tmp_path / "nanobot.db")
    yield opened
    await opened.aclose()


@pytest.fixture
def hub(store: Store) -> Hub:
    return Hub(store)


async def test_a_message_is_accepted_once_and_wakes_whoever_works(hub: Hub, store: Store) -> None:
    with hub.changes() as changed:
        changed.clear()
        assert await hub.submit(HI)
        assert changed.is_set()
    assert not await hub.submit(replace(HI, text="again"))
    (turn,) = await store.turns.claim()
    assert turn.inbound == HI


async def test_stop_acts_when_it_is_accepted_and_once(hub: Hub) -> None:
    stop = replace(HI, text="/STOP now", external_id="b")
    assert await hub.submit(stop)
    assert not await hub.submit(stop)
    assert await hub.submit(replace(HI, text="/stop", external_id="c", source="schedule"))  # nobody wrote it
    assert hub.take_urgent() == [stop]
    assert hub.take_urgent() == []


async def test_events_reach_those_who_subscribed_to_their_session(hub: Hub) -> None:
    other = replace(HI, session_key="tg:2")
    with hub.subscribe("tg:1") as mine, hub.subscribe() as everything:
        for inbound in (HI, other):
            hub.publish(inbound, END)
        mine.end()
        everything.end()
        assert [event async for _, event in mine] == [END]
        assert [inbound async for inbound, _ in everything] == [HI, other]
    hub.publish(HI, END)  # nobody listens


async def test_how_a_subagent_goes_is_told_to_the_session_that_asked(hub: Hub) -> None:
    order = replace(HI, session_key="subagent:x", source="order", reply_to=Address("tg:1", "tg", "1"))
    change = SubagentChanged("x", "prices", "", "running")
    with hub.subscribe("tg:1") as events:
        hub.publish(order, END)
        hub.publish(order, change)
        events.end()
        assert [event async for _, event in events] == [change]


async def test_a_slow_subscriber_holds_nobody_up_and_misses_no_word(hub: Hub) -> None:
    with hub.subscribe("tg:1") as events:
        for number in range(5_000):
            hub.publish(HI, TextDelta(f"{number} "))
            hub.publish(HI, ToolOutputDelta("c1", "noise"))
        hub.publish(HI, ToolStarted("c2", "exec", "exec()"))
        hub.publish(HI, TextDelta("more"))
        hub.publish(HI, END)
        events.end()
        seen: list[Event] = [event async for _, event in events]
    assert len(seen) < 200
    text = "".join(event.text for event in seen if isinstance(event, TextDelta))
    assert text == "".join(f"{number} " for number in range(5_000)) + "more"
    assert [event.type for event in seen[-3:]] == ["tool_started", "text_delta", "turn_finished"]
