"""The turn: the only agent loop of the program.

`run_turn` calls the model, runs the tools it asks for, and repeats until it answers. It knows no bus,
no channel and no terminal: it takes a `Turn` and gives events. Every message is written to the journal
when it exists, so a turn that dies can be resumed from what was recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from nanobot.agent.compaction import Fit
from nanobot.agent.tool_calls import ToolRunner
from nanobot.agent.tools.base import TurnContext
from nanobot.agent.tools.registry import ToolRegistry
from nanobot.bus.events import (
    Notice,
    ReasoningDelta,
    TextDelta,
    TextDiscarded,
    TurnEvent,
    TurnFinished,
    TurnStarted,
    UsageReported,
)
from nanobot.errors import BrokenStreamError, ContextTooLongError, NanobotError, StorageError
from nanobot.messages import (
    NOT_COUNTED,
    ContextPart,
    ContextUse,
    Message,
    StopReason,
    TextPart,
    ToolCall,
    ToolResult,
    Usage,
    unanswered_calls,
)
from nanobot.providers.base import Completion, ModelRequest, Provider, Retrying, TextChunk

_REPEATED = 3  # identical steps in a row after which the model is told, and then stopped
_LOOP_NOTICE = "[nanobot: the same tool call gave the same result three times. Do something else, or answer.]"


class Journal(Protocol):
    """Where a turn is recorded while it happens."""

    async def append(self, message: Message) -> None: ...

    async def intend(self, call_id: str) -> None:
        """A call that must not run twice is about to run."""


@dataclass(frozen=True)
class TurnLimits:
    """`seconds` is wall time for the whole turn, `max_tokens` the length of one model answer.

    `advice` is said when `max_iterations` are used up.
    """

    max_iterations: int = 40
    advice: str = '(agents.defaults.maxToolIterations). Say "go on" to continue.'
    max_tokens: int = 8192
    temperature: float | None = None
    seconds: float = 1800.0


async def _no_steering() -> Sequence[Message]:
    return ()


async def _no_objection() -> str:
    return ""


@dataclass(frozen=True)
class Turn:
    """Everything one turn needs.

    `messages` end with the newest one; after a crash they may end with unanswered tool calls, of which
    those in `intended` had begun. `fit` says what the model sees of them, `steer` gives messages that
    arrived meanwhile; `objection` is asked before each model call and says why there may be none;
    `current_tools` gives what `tools` have become. A cancelled turn is closed, unless `handed_over`.
    """

    context: TurnContext
    provider: Provider
    model: str
    system: str
    messages: Sequence[Message]
    tools: ToolRegistry
    journal: Journal
    limits: TurnLimits = field(default_factory=TurnLimits)
    intended: frozenset[str] = frozenset()
    fit: Fit | None = None
    steer: Callable[[], Awaitable[Sequence[Message]]] = _no_steering
    objection: Callable[[], Awaitable[str]] = _no_objection
    handed_over: Callable[[], bool] = lambda: False
    current_tools: Callable[[], Awaitable[ToolRegistry]] | None = None


async def run_turn(turn: Turn) -> AsyncGenerator[TurnEvent, None]:
    """Run a turn and yield its events; the last one is a TurnFinished.

    To stop a turn, cancel the task that iterates: what runs is stopped, the history is closed, and the
    iteration ends with `TurnFinished(stop_reason="cancelled")`.
    """
    events: asyncio.Queue[TurnEvent | None] = asyncio.Queue()
    work = asyncio.create_task(_Run(turn, events.put_nowait).run())
    work.add_done_callback(lambda _: events.put_nowait(None))
    try:
        while True:
            try:
                event = await events.get()
            except asyncio.CancelledError:
                work.cancel()
                if turn.handed_over():
                    raise
                _absorb_cancellation()
                continue
            if event is None:
                break
            yield event
        await work
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([work])


def _absorb_cancellation() -> None:
    """The caller asked to stop the turn, not to end its own task."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


class _Run:
    """One running turn."""

    def __init__(self, turn: Turn, emit: Callable[[TurnEvent], None]) -> None:
        self._turn = turn
        self._emit = emit
        self._messages = list(turn.messages)
        self._usage = Usage()
        self._context = NOT_COUNTED
        self._text = ""  # what the model said last
        self._partial = ""  # what it is saying
        self._repeats = _RepeatCounter()
        self._used_ids = {call.id for message in turn.messages for call in message.tool_calls}
        self._tools = ToolRunner(turn.tools, turn.context, self._record, turn.journal.intend, emit)

    async def run(self) -> None:
        self._emit(TurnStarted(self._turn.context.turn_id, self._turn.context.session_key, self._turn.model))
        finished = await self._run_to_the_end()
        self._emit(finished)

    async def _run_to_the_end(self) -> TurnFinished:
        limits = self._turn.limits
        try:
            async with asyncio.timeout(limits.seconds) as clock:
                return await self._steps()
        except TimeoutError:
            if not clock.expired():
                raise
            return await self._stop("limit", f"Stopped after {limits.seconds:.0f} seconds.")
        except asyncio.CancelledError:
            if self._turn.handed_over():
                raise
            return await self._stop("cancelled")
        except StorageError as error:  # whoever goes on with the turn finds what was recorded
            return self._finished("error", error)
        except NanobotError as error:
            return await self._fail(error)

    async def _steps(self) -> TurnFinished:
        if self._is_answered():
            return self._finished("done")
        await self._tools.run(unanswered_calls(self._messages), self._turn.intended)
        for _ in range(self._turn.limits.max_iterations):
            if objection := await self._turn.objection():
                return await self._stop("limit", objection)
            completion = await self._ask_model()
            await self._record(completion.message)
            self._text = completion.message.text
            if not completion.message.tool_calls:
                return self._finish_with(completion)
            results = await self._tools.run(completion.message.tool_calls, self._turn.intended)
            repeats = self._repeats.count(completion.message.tool_calls, results)
            if repeats > _REPEATED:
                return await self._stop("limit", "Stopped: the model kept repeating the same tool call.")
            if repeats == _REPEATED:
                await self._record(Message("user", (ContextPart(_LOOP_NOTICE),)))
            self._messages += await self._turn.steer()
            if self._turn.current_tools:
                self._tools.tools = await self._turn.current_tools()
        return await self._stop(
            "limit",
            f"Stopped after {self._turn.limits.max_iterations} rounds of tool calls "
            + self._turn.limits.advice,
        )

    def _is_answered(self) -> bool:
        """A resumed turn may have died between its last message and its acknowledgement."""
        last = self._messages[-1]
        if last.role != "assistant" or last.tool_calls:
            return False
        self._text = last.text
        return True

    async def _ask_model(self) -> Completion:
        completion = await self._stream_what_fits()
        if not _is_empty(completion):
            return completion
        self._emit(Notice("The model returned an empty answer; asking once more."))
        completion = await self._stream_what_fits()
        if _is_empty(completion):
            raise BrokenStreamError("The model returned an empty answer twice. Try again, or another model.")
        return completion

    async def _stream_what_fits(self) -> Completion:
        """Ask with as much as should fit, and once more with less when the provider says it does not."""
        shown = await self._fit()
        try:
            return await self._stream_model(shown)
        except ContextTooLongError:
            shorter = await self._fit(too_long=True)
            if shorter == shown:
                raise
        if self._partial:
            self._emit(TextDiscarded("The answer broke off."))
        self._emit(Notice("The conversation was too long for the model; asking again with less of it."))
        return await self._stream_model(shorter)

    async def _fit(self, *, too_long: bool = False) -> Sequence[Message]:
        def notify(text: str) -> None:
            self._emit(Notice(text))

        fit = self._turn.fit
        return tuple(await fit(self._messages, too_long=too_long, notify=notify) if fit else self._messages)

    async def _stream_model(self, messages: Sequence[Message]) -> Completion:
        turn = self._turn
        request = ModelRequest(
            model=turn.model,
            system=turn.system,
            messages=messages,
            tools=self._tools.tools.definitions(),
            max_tokens=turn.limits.max_tokens,
            temperature=turn.limits.temperature,
            session_key=turn.context.session_key,
        )
        self._partial = ""
        stream = turn.provider.stream(request)
        async for event in stream:
            if isinstance(event, TextChunk):
                self._partial += event.text
                self._emit(TextDelta(event.text))
            elif isinstance(event, Retrying):
                self._note_retry(event)
            elif isinstance(event, Completion):
                return self._accept(event)
            else:
                self._emit(ReasoningDelta(event.text))
        raise BrokenStreamError(f"{turn.provider.name} ended its answer without finishing it. Try again.")

    def _note_retry(self, retry: Retrying) -> None:
        if retry.discard and self._partial:
            self._partial = ""
            self._emit(TextDiscarded(retry.reason))
        self._emit(Notice(f"{retry.reason} Trying again in {retry.delay:.0f} s."))

    def _accept(self, completion: Completion) -> Completion:
        self._partial = ""
        self._usage += completion.usage
        self._context = ContextUse(completion.usage.input_tokens)
        self._emit(UsageReported(completion.usage))
        runnable = completion.finish_reason in ("stop", "tool_calls")
        parts = tuple(
            self._with_unique_id(part) if isinstance(part, ToolCall) else part
            for part in completion.message.parts
            if runnable or not isinstance(part, ToolCall)
        )
        return dataclasses.replace(completion, message=Message("assistant", parts))

    def _with_unique_id(self, call: ToolCall) -> ToolCall:
        """Results are matched by id, and some models reuse theirs."""
        unique, number = call.id, 1
        while unique in self._used_ids:
            number += 1
            unique = f"{call.id}_{number}"
        self._used_ids.add(unique)
        return call if unique == call.id else dataclasses.replace(call, id=unique)

    async def _record(self, message: Message) -> None:
        await self._turn.journal.append(message)
        self._messages.append(message)

    def _finish_with(self, completion: Completion) -> TurnFinished:
        if completion.finish_reason == "length":
            limit = self._turn.limits.max_tokens
            self._emit(
                Notice(f'The answer was cut at {limit} tokens (agents.defaults.maxTokens). Say "go on".')
            )
        elif completion.finish_reason == "refusal":
            self._emit(Notice("The model declined to go on (content filter)."))
        return self._finished("done")

    async def _stop(self, reason: StopReason, notice: str = "") -> TurnFinished:
        try:
            await self._close_history()
        except NanobotError as error:
            return self._finished("error", error)
        if notice:
            self._emit(Notice(notice))
        return self._finished(reason)

    async def _fail(self, error: NanobotError) -> TurnFinished:
        self._partial = ""  # half an answer from a broken stream is not an answer
        with contextlib.suppress(NanobotError):  # the first error is the one to report
            await self._close_history()
        return self._finished("error", error)

    async def _close_history(self) -> None:
        """Keep what was already said, and give every tool call a result."""
        if self._partial.strip():
            self._text = self._partial
            await self._record(Message("assistant", (TextPart(self._partial),)))
        for call in unanswered_calls(self._messages):
            result = ToolResult(call.id, call.name, "Stopped before it finished.", "cancelled")
            await self._record(Message("tool", (result,)))

    def _finished(self, reason: StopReason, error: NanobotError | None = None) -> TurnFinished:
        return TurnFinished(
            reason,
            self._text if reason != "error" else "",
            self._usage,
            error=str(error) if error else "",
            error_type=type(error).__name__ if error else "",
            context=self._context,
        )


def _is_empty(completion: Completion) -> bool:
    return not completion.message.tool_calls and not completion.message.text.strip()


class _RepeatCounter:
    """Notices a model that makes the same calls with the same results again and again."""

    def __init__(self) -> None:
        self._last: object = None
        self._times = 0

    def count(self, calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> int:
        """How many times in a row this step has now happened."""
        step = (
            [(call.name, repr(call.arguments)) for call in calls],
            [result.content for result in results],
        )
        self._times = self._times + 1 if step == self._last else 1
        self._last = step
        return self._times
