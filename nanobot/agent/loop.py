"""The turn: the only agent loop of the program.

A `Turn` asks the model, runs the tools it calls, and repeats until it answers. It knows no bus, no channel
and no terminal: it gives events. Every message goes into the conversation when it exists, so a turn that
dies is resumed from what was recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nanobot.agent.tool_calls import ToolRunner
from nanobot.agent.tools.registry import Toolbox, ToolRegistry
from nanobot.agent.window import Conversation
from nanobot.bus import events
from nanobot.bus.events import Notice, TurnEvent, TurnFinished, failed
from nanobot.errors import BrokenStreamError, ContextTooLongError, NanobotError, ProviderError
from nanobot.messages import (
    ContextPart,
    InboundMessage,
    Message,
    ReasoningPart,
    StopReason,
    ToolCall,
    ToolResult,
    TurnContext,
    Usage,
    unanswered_calls,
)
from nanobot.providers.base import Completion, ModelRequest, Provider, Retrying, TextChunk
from nanobot.security.policy import Policy

_REPEATED = 3  # identical steps in a row after which the model is told, and then stopped
_LOOP_NOTICE = "[nanobot: the same tool call gave the same result three times. Do something else, or answer.]"


class TurnLimits(NamedTuple):
    """`seconds` is wall time for the whole turn, `max_tokens` the length of one model answer.

    `advice` is said when `max_iterations` are used up.
    """

    max_iterations: int = 40
    advice: str = '(agents.defaults.maxToolIterations). Say "go on" to continue.'
    max_tokens: int = 8192
    temperature: float | None = None
    seconds: float = 1800.0


@dataclass
class Turn:
    """One turn, ready to run.

    `system` are the named parts of the prompt. The `conversation` ends with what was asked; after a crash
    it may end with calls that have no result. Before each model call `objection` says why there may be
    none. After each step those that wait may join the message it `answers`, if any. A turn that is
    cancelled ends, unless another worker goes on with it: then `handed_over` is set. `policy` decides which
    calls may run.
    """

    context: TurnContext
    provider: Provider
    model: str
    system: Sequence[tuple[str, str]]
    tools: Toolbox
    conversation: Conversation
    handed_over: asyncio.Event
    policy: Policy
    limits: TurnLimits
    objection: Callable[[], Awaitable[str]] | None = None
    answers: InboundMessage | None = None

    async def run(self, emit: Callable[[TurnEvent], None]) -> TurnFinished:
        """Take the turn to its end: `emit` is shown what happens. The caller closes it with what is returned.

        To stop it, cancel the task that runs it: what runs is stopped, and the turn has ended as `cancelled`.
        """
        self._emit = emit
        self._runner = ToolRunner(self.context, self.conversation, self.policy, emit)
        self._call_ids = {call.id for message in self.conversation.messages for call in message.tool_calls}
        self._last_step: object = None
        self._repeats = 0
        self._text = ""  # what the model said last
        self._partial = ""  # what it is saying
        self._said: Message | None = None  # its last message, which is stored with the end of the turn
        self._usage = Usage()
        self._counted = 0  # tokens of the last request, as the provider counted them
        emit(events.TurnStarted(self.context.turn_id, self.context.session_key, self.model))
        try:
            reason = await self._run_in_time()
            finished = TurnFinished(reason, self._text, self._usage, said=self._said)
        except NanobotError as error:  # half an answer from a broken stream is not an answer
            finished = failed(error)._replace(usage=self._usage)
        return finished._replace(context=self.conversation.use(self._counted))

    async def _run_in_time(self) -> StopReason:
        """Take steps until the turn ends; of an answer that is cut off, keep what was said."""
        seconds = self.limits.seconds
        reason: StopReason = "cancelled"
        try:
            async with asyncio.timeout(seconds) as clock:
                return await self._steps()
        except TimeoutError:
            if not clock.expired():
                raise
            reason = self._stop(f"Stopped after {seconds:.0f} seconds.")
        except asyncio.CancelledError:
            if self.handed_over.is_set():
                raise
            task = asyncio.current_task()
            while task and task.uncancel():  # only the turn was to stop, not who runs it
                pass
        if self._partial.strip():
            self._text, self._said = self._partial, Message.assistant(self._partial)
        return reason

    async def _steps(self) -> StopReason:
        limits, messages = self.limits, self.conversation.messages
        if messages[-1].role == "assistant" and not messages[-1].tool_calls:
            self._text = messages[-1].text  # the turn died between its answer and its end
            return "done"
        tools = await self.tools.registry()
        await self._runner.run(tools, unanswered_calls(messages))
        for _ in range(limits.max_iterations):
            if reason := await self._step():
                return reason
        return self._stop(f"Stopped after {limits.max_iterations} rounds of tool calls {limits.advice}")

    async def _step(self) -> StopReason | None:
        """Ask the model and run the tools it calls; gives the reason when the turn ends with that."""
        if self.objection and (objection := await self.objection()):
            return self._stop(objection)
        tools = await self.tools.registry()
        completion = await self._query(tools)
        message = completion.message
        self._text = message.text
        if not message.tool_calls:
            self._said = message
            if completion.note:
                return self._stop(completion.note)
            if why := self._why_unfinished(completion):
                self._notify(why)
            return "done"
        storing = asyncio.create_task(self.conversation.append(message))
        try:
            results = await self._runner.run(tools, message.tool_calls, storing)
        finally:
            await storing
        self._count_repeats(message.tool_calls, results)
        if self._repeats > _REPEATED:
            return self._stop("Stopped: the model kept repeating the same tool call.")
        if self._repeats == _REPEATED:
            await self.conversation.append(Message("user", (ContextPart(_LOOP_NOTICE),)))
        if self.answers:
            await self.conversation.take_waiting(self.answers)
        return None

    def _notify(self, text: str) -> None:
        self._emit(Notice(text))

    def _stop(self, notice: str) -> StopReason:
        self._notify(notice)
        return "limit"

    # -- asking the model

    async def _query(self, tools: ToolRegistry) -> Completion:
        """An answer that says or calls something; an empty one that nothing explains is asked for again."""
        for attempt in range(2):
            if attempt:
                self._notify("The model returned an empty answer; asking once more.")
            completion = await self._query_with_what_fits(tools)
            if completion.message.tool_calls or completion.message.text.strip():
                return completion
            if why := self._why_unfinished(completion):
                raise ProviderError(why)
        raise BrokenStreamError("The model returned an empty answer twice. Try again, or another model.")

    async def _query_with_what_fits(self, tools: ToolRegistry) -> Completion:
        """Ask with as much as should fit, and once more with less when the provider says it does not."""
        shown = await self.conversation.fit(self._notify)
        try:
            return await self._stream(shown, tools)
        except ContextTooLongError:
            shorter = await self.conversation.fit(self._notify, too_long=True)
            if shorter == shown:
                raise
        if self._partial:
            self._emit(events.TextDiscarded("The answer broke off."))
        self._notify("The conversation was too long for the model; asking again with less of it.")
        return await self._stream(shorter, tools)

    async def _stream(self, messages: Sequence[Message], tools: ToolRegistry) -> Completion:
        request = ModelRequest(
            model=self.model,
            system="\n\n".join(text for _, text in self.system),
            messages=tuple(messages),
            tools=tools.definitions,
            max_tokens=self.limits.max_tokens,
            temperature=self.limits.temperature,
            session_key=self.context.session_key,
        )
        self._partial = ""
        async for event in self.provider.stream(request):
            if isinstance(event, TextChunk):
                self._partial += event.text
                self._emit(events.TextDelta(event.text))
            elif isinstance(event, Retrying):
                if event.discard and self._partial:
                    self._partial = ""
                    self._emit(events.TextDiscarded(event.reason))
                self._notify(f"{event.reason} Trying again in {event.delay:.0f} s.")
            elif isinstance(event, Completion):
                return self._accept(event)
            else:
                if event.was_text:
                    self._partial = ""
                    self._emit(events.TextDiscarded("The model was still thinking."))
                self._emit(events.ReasoningDelta(event.text))
        raise BrokenStreamError(f"{self.provider.name} ended its answer without finishing it. Try again.")

    def _accept(self, completion: Completion) -> Completion:
        """Count the answer, and give its calls ids of their own: results are matched by id."""
        self._partial = ""
        self._usage += completion.usage
        self._counted = completion.usage.input_tokens
        self._emit(events.UsageReported(completion.usage))
        parts = list(completion.message.parts)
        for place, part in enumerate(parts):
            if isinstance(part, ToolCall):
                unique, number = part.id, 1
                while not unique or unique in self._call_ids:
                    number += 1
                    unique = f"{part.id or 'call'}_{number}"
                self._call_ids.add(unique)
                parts[place] = part._replace(id=unique)
        return completion._replace(message=Message("assistant", tuple(parts)))

    def _why_unfinished(self, completion: Completion) -> str:
        """What ended an answer before the model had finished, and what helps; "" when nothing did."""
        limit, used, message = self.limits.max_tokens, completion.usage, completion.message
        is_empty = not message.text.strip()
        if completion.finish_reason == "refusal":
            way_out = "answer (content filter). Ask in other words, or another model."
            return f"The model declined to {way_out if is_empty else 'go on (content filter).'}"
        if completion.finish_reason != "length":
            return ""
        if not is_empty:
            return f'The answer was cut at {limit} tokens (agents.defaults.maxTokens). Say "go on".'
        thought = used.reasoning_tokens or any(isinstance(part, ReasoningPart) for part in message.parts)
        what = "Thinking" if thought else "A tool call, or something else unseen,"
        why = f"{what} used up maxTokens ({limit}) without an answer; raise agents.defaults.maxTokens."
        if 0 < used.output_tokens < limit // 2:
            why += f" It ended after {used.output_tokens} tokens: if no more are allowed, /new makes room."
        return why

    def _count_repeats(self, calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> None:
        """Notice a model that makes the same calls with the same results again and again."""
        step = [(call.name, repr(call.arguments)) for call in calls], [result.content for result in results]
        self._repeats = self._repeats + 1 if step == self._last_step else 1
        self._last_step = step
