"""Running turns in tests: a scripted model, tools that record what they do, a journal in a list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nanobot.agent.loop import Turn, TurnLimits, run_turn
from nanobot.agent.tools.base import Tool, TurnContext
from nanobot.agent.tools.registry import ToolRegistry
from nanobot.bus.events import TurnEvent, TurnFinished
from nanobot.messages import Message, ToolCall
from nanobot.providers.scripted import Reply, ScriptedProvider


class Act(Tool):
    """A tool whose work is a function; effects by default."""

    description = "Does what the test wants."
    parameters = {"type": "object", "properties": {"value": {"type": "string"}}}  # noqa: RUF012

    def __init__(self, name: str, work: Callable[..., Any], *, read: bool = False) -> None:
        self._name = name
        self._work = work
        self.read_only = read
        self.repeatable = read

    @property
    def name(self) -> str:
        return self._name

    async def execute(self, **kwargs: Any) -> Any:
        result = self._work(**kwargs)
        return await result if asyncio.iscoroutine(result) else result


@dataclass
class ListJournal:
    messages: list[Message] = field(default_factory=list)
    intended: list[str] = field(default_factory=list)

    async def append(self, message: Message) -> None:
        self.messages.append(message)

    async def intend(self, call_id: str) -> None:
        self.intended.append(call_id)


@dataclass
class Played:
    """What a finished turn left behind."""

    events: list[TurnEvent]
    journal: ListJournal
    provider: ScriptedProvider

    @property
    def finished(self) -> TurnFinished:
        last = self.events[-1]
        assert isinstance(last, TurnFinished)
        return last

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def results(self) -> list[Any]:
        return [result for message in self.journal.messages for result in message.tool_results]


def call(name: str, call_id: str = "", **arguments: Any) -> ToolCall:
    return ToolCall(call_id or f"{name}-{len(arguments)}", name, arguments)


def make_turn(
    steps: Any, tools: Sequence[Tool] = (), messages: Sequence[Message] = (), **changes: Any
) -> tuple[Turn, ListJournal, ScriptedProvider]:
    provider = steps if isinstance(steps, ScriptedProvider) else ScriptedProvider(steps)
    journal = ListJournal()
    turn = Turn(
        context=TurnContext("1", "cli:direct"),
        provider=provider,
        model="scripted/test",
        system="You are a test.",
        messages=messages or [Message.user("go")],
        tools=ToolRegistry(tools),
        journal=journal,
        **({"limits": TurnLimits(max_iterations=10)} | changes),
    )
    return turn, journal, provider


async def play(
    steps: Any, tools: Sequence[Tool] = (), messages: Sequence[Message] = (), **changes: Any
) -> Played:
    turn, journal, provider = make_turn(steps, tools, messages, **changes)
    return Played([event async for event in run_turn(turn)], journal, provider)


__all__ = ["Act", "ListJournal", "Played", "Reply", "call", "make_turn", "play"]
