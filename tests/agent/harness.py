"""Running turns in tests: a scripted model, tools that record what they do, a store on disk."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanobot.agent.loop import Turn
from nanobot.agent.tools import Tool
from nanobot.agent.tools.registry import Toolbox
from nanobot.agent.window import Conversation, Limits
from nanobot.bus.events import TurnEvent, TurnFinished
from nanobot.errors import StorageError
from nanobot.messages import ContextPart, Message, ToolCall, TurnContext
from nanobot.providers.scripted import Reply, ScriptedProvider
from nanobot.security.policy import Policy
from nanobot.store.records import Claim
from nanobot.store.sqlite import Connection
from nanobot.store.store import Store
from nanobot.store.turns import Turns
from tests.talk import claim_own, message_in

KEY = "cli:direct"
LIMITS = Limits(window=100_000, answer=8_192, fixed=0, messages=100)


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
class Played:
    """What a finished turn left behind; `recorded` and `intended` are what it has stored."""

    events: list[TurnEvent]
    recorded: list[Message]
    intended: frozenset[str]
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
        return [result for message in self.recorded for result in message.tool_results]


@dataclass
class OpenTurn:
    """A claimed turn of a session in `store`, ready to run."""

    turn: Turn
    provider: ScriptedProvider
    store: Store
    claim: Claim
    asked: int  # messages that were there before it runs
    events: list[TurnEvent] = field(default_factory=list)

    async def run(self) -> None:
        """Run to the end; cancel the task that does to stop the turn."""
        self.events.append(await self.turn.run(self.events.append))

    async def played(self) -> Played:
        """What is left when the turn is closed, which a turn that the store failed is not."""
        intended = await self.store.database.read(_intents, self.claim.turn_id)
        end = self.events[-1] if self.events else None
        if isinstance(end, TurnFinished) and end.error_type != StorageError.__name__:
            await self.store.turns.finish(self.claim, end.stop_reason, end.error, said=end.said)
        recorded = [entry.message for entry in await self.store.sessions.history(KEY, after=self.asked)]
        return Played(self.events, recorded, intended, self.provider)


def _intents(connection: Connection, turn_id: int) -> frozenset[str]:
    rows = connection.execute("SELECT call_id FROM intents WHERE turn = ?", (turn_id,))
    return frozenset(row["call_id"] for row in rows)


def is_note(message: Message, text: str) -> bool:
    """Whether a message is nanobot's note about a turn that did not come to its end."""
    (part,) = message.parts
    return message.role == "user" and isinstance(part, ContextPart) and text in part.text


def call(name: str, call_id: str = "", **arguments: Any) -> ToolCall:
    return ToolCall(call_id or f"{name}-{len(arguments)}", name, arguments)


@contextlib.asynccontextmanager
async def open_turn(
    steps: Any,
    tools: Sequence[Tool] = (),
    messages: Sequence[Message] = (),
    *,
    earlier: Sequence[Message] = (),
    intended: Sequence[str] = (),
    turns: type[Turns] = Turns,
    **changes: Any,
) -> AsyncIterator[OpenTurn]:
    """A turn that was asked `messages`, after one of the `earlier` ones; `intended` calls have begun."""
    provider = steps if isinstance(steps, ScriptedProvider) else ScriptedProvider(steps)
    with tempfile.TemporaryDirectory() as home:
        async with contextlib.aclosing(Store(Path(home) / "nanobot.db")) as opened:
            opened.turns = turns(opened.database, opened.workers)
            if earlier:
                done = await claim_own(opened, KEY)
                assert done is not None
                await opened.turns.append(done, *earlier)
                await opened.turns.finish(done, "done")
            claim = await claim_own(opened, KEY)
            assert claim is not None
            messages = messages or [Message.user("go")]
            await opened.turns.append(claim, *messages)
            for call_id in intended:
                await opened.turns.record_intent(claim, call_id)
            turn = Turn(
                context=TurnContext(claim.turn_key, claim.turn_id, message_in(KEY)),
                provider=provider,
                model="scripted/test",
                system=[("rules", "You are a test.")],
                tools=Toolbox(tools),
                handed_over=changes.pop("handed_over", asyncio.Event()),
                policy=Policy(),
                conversation=Conversation(opened, claim, LIMITS, None, await opened.sessions.open(KEY, 200)),
                **({"max_iterations": 10} | changes),
            )
            yield OpenTurn(turn, provider, opened, claim, len(earlier) + len(messages))


async def play(
    steps: Any, tools: Sequence[Tool] = (), messages: Sequence[Message] = (), **changes: Any
) -> Played:
    async with open_turn(steps, tools, messages, **changes) as opened:
        await opened.run()
        return await opened.played()


__all__ = ["KEY", "Act", "Played", "Reply", "call", "is_note", "open_turn", "play"]
