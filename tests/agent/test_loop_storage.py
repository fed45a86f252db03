"""A turn whose journal fails leaves what was recorded as it is: whoever goes on finds the open call."""

from __future__ import annotations

import dataclasses

from nanobot.agent.loop import run_turn
from nanobot.bus.events import TurnEvent, TurnFinished
from nanobot.errors import StorageError
from nanobot.messages import Message
from nanobot.providers.scripted import Reply
from tests.agent.harness import Act, ListJournal, call, make_turn


class _FailsOnce(ListJournal):
    """The first result of a tool cannot be stored; what comes later can."""

    failed = False

    async def append(self, message: Message) -> None:
        if message.tool_results and not self.failed:
            self.failed = True
            raise StorageError("The disk is full.")
        await super().append(message)


async def test_a_result_that_cannot_be_stored_is_not_replaced_by_another_one() -> None:
    done: list[str] = []
    turn, _, _ = make_turn([Reply(tool_calls=[call("act", "a")])], [Act("act", lambda: done.append("it"))])
    journal = _FailsOnce()
    events: list[TurnEvent] = [event async for event in run_turn(dataclasses.replace(turn, journal=journal))]
    last = events[-1]
    assert isinstance(last, TurnFinished)
    assert last.error_type == "StorageError"
    assert done == ["it"]
    assert journal.intended == ["a"]
    assert [result for message in journal.messages for result in message.tool_results] == []
