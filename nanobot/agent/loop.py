"""The turn: the only agent loop of the program.

A `Turn` asks the model, runs the tools it calls, and repeats until it answers. It knows no bus, no channel
and no terminal: it gives events. Every message goes into the conversation when it exists, so a turn that
dies is resumed from what was recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from nanobot.agent.tools import Tool, ToolOutput, tool_surroundings
from nanobot.agent.tools.registry import Toolbox
from nanobot.agent.window import Conversation
from nanobot.bus import events
from nanobot.bus.events import Notice, TurnEvent, TurnFinished, failed
from nanobot.errors import BrokenStreamError, ContextTooLongError, NanobotError, ProviderError, ToolError
from nanobot.messages import (
    INTERRUPTED,
    ContextPart,
    InboundMessage,
    Message,
    Outcome,
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

log = logging.getLogger(__name__)

_REPEATED = 3  # identical steps in a row after which the model is told, and then stopped
_LOOP_NOTICE = "[nanobot: the same tool call gave the same result three times. Do something else, or answer.]"
_RESULT_LIMIT = 64_000  # characters of one result that reach the model
_PREVIEW = 100


@dataclass
class Turn:
    """One turn, ready to run.

    `system` are the named parts of the prompt. The `conversation` ends with what was asked; after a crash
    it may end with calls that have no result. A turn that is cancelled ends, unless another worker goes on
    with it: then `handed_over` is set. `policy` decides which calls may run. `seconds` is wall time for all
    of it, `max_tokens` the length of one model answer, `advice` is said when `max_iterations` are used up.
    Before each model call `objection` says why there may be none. After each step those that wait may join
    the message it `answers`, if any.
    """

    context: TurnContext
    provider: Provider
    model: str
    system: Sequence[tuple[str, str]]
    tools: Toolbox
    conversation: Conversation
    handed_over: asyncio.Event
    policy: Policy
    max_iterations: int = 40
    advice: str = '(agents.defaults.maxToolIterations). Say "go on" to continue.'
    max_tokens: int = 8192
    temperature: float | None = None
    seconds: float = 1800.0
    objection: Callable[[], Awaitable[str]] | None = None
    answers: InboundMessage | None = None

    async def run(self, emit: Callable[[TurnEvent], None]) -> TurnFinished:
        """Take the turn to its end: `emit` is shown what happens. The caller closes it with what is returned.

        To stop it, cancel the task that runs it: what runs is stopped, and the turn has ended as `cancelled`.
        """
        self._emit = emit
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
        reason: StopReason = "cancelled"
        try:
            async with asyncio.timeout(self.seconds) as clock:
                return await self._steps()
        except TimeoutError:
            if not clock.expired():
                raise
            reason = self._stop(f"Stopped after {self.seconds:.0f} seconds.")
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
        messages = self.conversation.messages
        if messages[-1].role == "assistant" and not messages[-1].tool_calls:
            self._text = messages[-1].text  # the turn died between its answer and its end
            return "done"
        if messages[-1].role != "user":  # it died in the middle of a step
            await self._run_calls(unanswered_calls(messages))
        for _ in range(self.max_iterations):
            if reason := await self._step():
                return reason
        return self._stop(f"Stopped after {self.max_iterations} rounds of tool calls {self.advice}")

    async def _step(self) -> StopReason | None:
        """Ask the model and run the tools it calls; gives the reason when the turn ends with that."""
        if self.objection and (objection := await self.objection()):
            return self._stop(objection)
        await self.tools.refresh()
        completion = await self._query()
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
            results = await self._run_calls(message.tool_calls, storing)
        finally:
            await storing
        did = [(it.name, repr(it.arguments)) for it in message.tool_calls], [it.content for it in results]
        self._repeats = self._repeats + 1 if did == self._last_step else 1
        self._last_step = did
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

    async def _query(self) -> Completion:
        """An answer that says or calls something; an empty one that nothing explains is asked for again."""
        for attempt in range(2):
            if attempt:
                self._notify("The model returned an empty answer; asking once more.")
            completion = await self._query_with_what_fits()
            if completion.message.tool_calls or completion.message.text.strip():
                return completion
            if why := self._why_unfinished(completion):
                raise ProviderError(why)
        raise BrokenStreamError("The model returned an empty answer twice. Try again, or another model.")

    async def _query_with_what_fits(self) -> Completion:
        """Ask with as much as should fit, and once more with less when the provider says it does not."""
        shown = await self.conversation.fit(self._notify)
        try:
            return await self._stream(shown)
        except ContextTooLongError:
            shorter = await self.conversation.fit(self._notify, too_long=True)
            if shorter == shown:
                raise
        if self._partial:
            self._emit(events.TextDiscarded("The answer broke off."))
        self._notify("The conversation was too long for the model; asking again with less of it.")
        return await self._stream(shorter)

    async def _stream(self, messages: Sequence[Message]) -> Completion:
        request = ModelRequest(
            model=self.model,
            system="\n\n".join(text for _, text in self.system),
            messages=tuple(messages),
            tools=self.tools.definitions,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            session_key=self.context.session_key,
        )
        self._partial, attempt = "", 1
        async for event in self.provider.stream(request):
            if isinstance(event, TextChunk):
                self._partial += event.text
                self._emit(events.TextDelta(event.text))
            elif isinstance(event, Retrying):
                if event.discard and self._partial:
                    self._partial = ""
                    self._emit(events.TextDiscarded(event.reason))
                attempt += 1
                again = f"{event.reason} Trying again in {event.delay:.0f} s (attempt {attempt})."
                self._emit(Notice(again, attempt))
            elif isinstance(event, Completion):
                return self._accept(event)
            else:
                if event.was_text:
                    self._partial = ""
                    self._emit(events.TextDiscarded("The model was still thinking."))
                self._emit(events.ReasoningDelta(event.text))
        raise BrokenStreamError(f"{self.provider.name} ended its answer without finishing it. Try again.")

    @cached_property
    def _call_ids(self) -> set[str]:
        return {call.id for message in self.conversation.messages for call in message.tool_calls}

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
        limit, used, message = self.max_tokens, completion.usage, completion.message
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

    # -- running tools: reads side by side, effects one by one and in order

    async def _run_calls(
        self, calls: Sequence[ToolCall], storing: asyncio.Task[None] | None = None
    ) -> list[ToolResult]:
        """Run the calls and record their results, in the order of the calls.

        Nothing but reads begins before `storing` is done, which records the message that asks for the calls.
        """
        results: list[ToolResult] = []
        for beside, group in groupby(calls, key=self._may_run_beside_others):
            if not beside:
                for call in group:
                    if storing:
                        await storing
                    results += await self._recorded(await self._run_call(call))
                continue
            async with asyncio.TaskGroup() as reads:
                tasks = [reads.create_task(self._run_call(call)) for call in group]
            if storing:
                await storing
            results += await self._recorded(*(task.result() for task in tasks))
        return results

    def _may_run_beside_others(self, call: ToolCall) -> bool:
        tool = self.tools.by_name.get(call.name)
        return tool is not None and tool.read_only and self.policy.rule(call.name) == "allow"

    async def _recorded(self, *results: ToolResult) -> Sequence[ToolResult]:
        await self.conversation.append(*(Message("tool", (result,)) for result in results))
        return results

    async def _run_call(self, call: ToolCall) -> ToolResult:
        self._emit(events.ToolStarted(call.id, call.name, self.tools.hint(call)))
        started = time.monotonic()
        outcome: Outcome = "cancelled"
        output = ToolOutput("")
        try:
            outcome, output = await self._execute(call)
            content, half = output.text, _RESULT_LIMIT // 2
            if len(content) > _RESULT_LIMIT:
                cut = f"[… {len(content) - 2 * half} characters left out …]"
                content = f"{content[:half]}\n{cut}\n{content[-half:]}"
            return ToolResult(call.id, call.name, content, outcome, output.images, output.origin or "tool")
        finally:
            seconds = round(time.monotonic() - started, 3)
            line = next((line.strip() for line in output.text.splitlines() if line.strip()), "")
            preview = line if len(line) <= _PREVIEW else f"{line[: _PREVIEW - 1]}…"
            told = output.exit_code, output.diff
            self._emit(events.ToolFinished(call.id, call.name, outcome, seconds, preview, *told))

    async def _execute(self, call: ToolCall) -> tuple[Outcome, ToolOutput]:
        def ask(shown: str, code: str) -> None:
            self._emit(events.ApprovalAsked(call.id, call.name, shown, code))

        def report(text: str) -> None:
            self._emit(events.ToolOutputDelta(call.id, text))

        try:
            tool = self.tools.get(call.name)
            if call.malformed:
                raise ToolError(f"The arguments were no JSON object: {call.malformed[:200]}")
            with _errors_of(tool):
                arguments = self.tools.validate(tool, call.arguments)
            if refusal := await self.policy.refusal(self.context.inbound, call, ask):
                raise ToolError(refusal)
            may_repeat = tool.read_only or tool.repeatable
            if not may_repeat and not await self.conversation.intend(call.id):
                return "interrupted", ToolOutput(INTERRUPTED)
            with _errors_of(tool), tool_surroundings(self.context, call.id, report):
                result = await tool.execute(**arguments)
                output = result if isinstance(result, ToolOutput) else ToolOutput(str(result))
        except ToolError as error:
            return "error", ToolOutput(f"Error: {error}")
        is_failure = tool.errors_are_text and output.text.startswith("Error")
        return "error" if is_failure else "ok", output._replace(origin=output.origin or tool.origin)


@contextlib.contextmanager
def _errors_of(tool: Tool) -> Iterator[None]:
    """Whatever a tool raises becomes an error that the model can read."""
    try:
        yield
    except ToolError:
        raise
    except (Exception, SystemExit) as error:
        log.exception("Tool %s failed", tool.name)
        raise ToolError(f"{tool.name} failed: {type(error).__name__}: {error}") from error
