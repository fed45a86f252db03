"""Running the tool calls of one model answer: reads side by side, effects one by one and in order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby

from nanobot.agent.tools.base import Tool, ToolOutput, TurnContext, tool_surroundings
from nanobot.agent.tools.registry import ToolRegistry
from nanobot.bus.events import ToolFinished, ToolStarted, TurnEvent
from nanobot.bus.events import ToolOutput as ToolOutputEvent
from nanobot.errors import ToolError
from nanobot.messages import INTERRUPTED, Message, Outcome, ToolCall, ToolResult

log = logging.getLogger(__name__)

_RESULT_LIMIT = 64_000  # characters of one result that reach the model
_PREVIEW = 100


class ToolRunner:
    """Runs calls of one turn; `record` stores a message, `intend` notes a call that must not run twice."""

    def __init__(
        self,
        tools: ToolRegistry,
        context: TurnContext,
        record: Callable[[Message], Awaitable[None]],
        intend: Callable[[str], Awaitable[None]],
        emit: Callable[[TurnEvent], None],
    ) -> None:
        self.tools = tools
        self._context = context
        self._record = record
        self._intend = intend
        self._emit = emit

    async def run(self, calls: Sequence[ToolCall], begun: frozenset[str]) -> list[ToolResult]:
        """Run the calls and record each result; calls in `begun` started before a crash."""
        results: list[ToolResult] = []
        for are_reads, group in groupby(calls, key=self._is_read):
            if are_reads:
                async with asyncio.TaskGroup() as reads:
                    tasks = [reads.create_task(self._run_one(call, begun)) for call in group]
                for task in tasks:
                    results.append(await self._recorded(task.result()))
            else:
                for call in group:
                    results.append(await self._recorded(await self._run_one(call, begun)))
        return results

    async def _recorded(self, result: ToolResult) -> ToolResult:
        await self._record(Message("tool", (result,)))
        return result

    def _is_read(self, call: ToolCall) -> bool:
        return call.name in self.tools.names and self.tools.get(call.name).read_only

    async def _run_one(self, call: ToolCall, begun: frozenset[str]) -> ToolResult:
        self._emit(ToolStarted(call.id, call.name, self.tools.hint(call)))
        started = time.monotonic()
        outcome: Outcome = "cancelled"
        content = ""
        try:
            outcome, output = await self._execute(call, begun)
            content = _shorten(output.text)
            return ToolResult(call.id, call.name, content, outcome, output.images)
        finally:
            seconds = round(time.monotonic() - started, 3)
            self._emit(ToolFinished(call.id, call.name, outcome, seconds, _preview(content)))

    async def _execute(self, call: ToolCall, begun: frozenset[str]) -> tuple[Outcome, ToolOutput]:
        try:
            tool = self.tools.get(call.name)
            if call.malformed:
                raise ToolError(f"The arguments were no JSON object: {call.malformed[:200]}")
            if not tool.repeatable:
                if call.id in begun:
                    return "interrupted", ToolOutput(INTERRUPTED)
                await self._intend(call.id)
            with tool_surroundings(self._context, call.id, self._reporter(call)):
                output = await self._execute_safely(tool, call)
            failed = tool.errors_are_text and output.text.startswith("Error")
            return "error" if failed else "ok", output
        except ToolError as error:
            return "error", ToolOutput(f"Error: {error}")

    async def _execute_safely(self, tool: Tool, call: ToolCall) -> ToolOutput:
        """Run the tool; whatever it raises becomes an error the model can read."""
        try:
            output = await tool.execute(**self.tools.validate(tool, call.arguments))
        except ToolError:
            raise
        except (Exception, SystemExit) as error:
            log.exception("Tool %s failed", tool.name)
            raise ToolError(f"{tool.name} failed: {type(error).__name__}: {error}") from error
        return output if isinstance(output, ToolOutput) else ToolOutput(str(output))

    def _reporter(self, call: ToolCall) -> Callable[[str], None]:
        return lambda text: self._emit(ToolOutputEvent(call.id, text))


def _shorten(text: str) -> str:
    if len(text) <= _RESULT_LIMIT:
        return text
    half = _RESULT_LIMIT // 2
    cut = len(text) - 2 * half
    return f"{text[:half]}\n[… {cut} characters left out …]\n{text[-half:]}"


def _preview(content: str) -> str:
    line = next((line.strip() for line in content.splitlines() if line.strip()), "")
    return line if len(line) <= _PREVIEW else line[: _PREVIEW - 1] + "…"
