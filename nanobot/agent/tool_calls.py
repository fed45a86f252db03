"""Running the tool calls of one model answer: reads side by side, effects one by one and in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from nanobot.agent.tools.base import Tool, ToolOutput, TurnContext, tool_surroundings
from nanobot.agent.tools.registry import ToolRegistry
from nanobot.agent.window import Conversation
from nanobot.bus.events import ApprovalAsked, ToolFinished, ToolOutputDelta, ToolStarted, TurnEvent
from nanobot.errors import ToolError
from nanobot.messages import INTERRUPTED, Message, Outcome, ToolCall, ToolResult
from nanobot.security.policy import Policy

log = logging.getLogger(__name__)

_RESULT_LIMIT = 64_000  # characters of one result that reach the model
_PREVIEW = 100


class ToolRunner:
    """Runs calls of one turn and records them in its conversation."""

    def __init__(
        self,
        context: TurnContext,
        conversation: Conversation,
        policy: Policy,
        emit: Callable[[TurnEvent], None],
    ) -> None:
        self._context = context
        self._conversation = conversation
        self._policy = policy
        self._emit = emit

    async def run(
        self, tools: ToolRegistry, calls: Sequence[ToolCall], storing: asyncio.Task[None] | None = None
    ) -> list[ToolResult]:
        """Run the calls and record their results, in the order of the calls.

        Nothing but reads begins before `storing` is done, which records the message that asks for the calls.
        """
        results: list[ToolResult] = []

        def may_run_beside_others(call: ToolCall) -> bool:
            tool = tools.tools.get(call.name)
            return tool is not None and tool.read_only and self._policy.rule(call.name) == "allow"

        for beside, group in groupby(calls, key=may_run_beside_others):
            if not beside:
                for call in group:
                    if storing:
                        await storing
                    results += await self._recorded(await self._run_one(tools, call))
                continue
            async with asyncio.TaskGroup() as reads:
                tasks = [reads.create_task(self._run_one(tools, call)) for call in group]
            if storing:
                await storing
            results += await self._recorded(*(task.result() for task in tasks))
        return results

    async def _recorded(self, *results: ToolResult) -> Sequence[ToolResult]:
        await self._conversation.append(*(Message("tool", (result,)) for result in results))
        return results

    async def _run_one(self, tools: ToolRegistry, call: ToolCall) -> ToolResult:
        self._emit(ToolStarted(call.id, call.name, tools.hint(call)))
        started = time.monotonic()
        outcome: Outcome = "cancelled"
        output = ToolOutput("")
        try:
            outcome, output = await self._execute(tools, call)
            content, origin = _shorten(output.text), output.origin or "tool"
            return ToolResult(call.id, call.name, content, outcome, output.images, origin)
        finally:
            seconds = round(time.monotonic() - started, 3)
            line = next((line.strip() for line in output.text.splitlines() if line.strip()), "")
            preview = line if len(line) <= _PREVIEW else f"{line[: _PREVIEW - 1]}…"
            self._emit(ToolFinished(call.id, call.name, outcome, seconds, preview, output.exit_code))

    async def _execute(self, tools: ToolRegistry, call: ToolCall) -> tuple[Outcome, ToolOutput]:
        try:
            tool = tools.get(call.name)
            if call.malformed:
                raise ToolError(f"The arguments were no JSON object: {call.malformed[:200]}")
            with _errors_of(tool):
                arguments = tools.validate(tool, call.arguments)

            def ask(shown: str, code: str) -> None:
                self._emit(ApprovalAsked(call.id, call.name, shown, code))

            if refusal := await self._policy.refusal(self._context.inbound, call, ask):
                raise ToolError(refusal)
            may_repeat = tool.read_only or tool.repeatable
            if not may_repeat and not await self._conversation.intend(call.id):
                return "interrupted", ToolOutput(INTERRUPTED)

            def report(text: str) -> None:
                self._emit(ToolOutputDelta(call.id, text))

            with _errors_of(tool), tool_surroundings(self._context, call.id, report):
                result = await tool.execute(**arguments)
                output = result if isinstance(result, ToolOutput) else ToolOutput(str(result))
                output = output._replace(origin=output.origin or tool.origin)
        except ToolError as error:
            return "error", ToolOutput(f"Error: {error}")
        failed = tool.errors_are_text and output.text.startswith("Error")
        return "error" if failed else "ok", output


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


def _shorten(text: str) -> str:
    if len(text) <= _RESULT_LIMIT:
        return text
    half = _RESULT_LIMIT // 2
    cut = len(text) - 2 * half
    return f"{text[:half]}\n[… {cut} characters left out …]\n{text[-half:]}"
