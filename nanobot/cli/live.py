"""Events of a turn on a capable terminal: streaming Markdown above, what is going on now below."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.text import Text

from nanobot.bus.events import (
    Notice,
    ReasoningDelta,
    TextDelta,
    TextDiscarded,
    ToolFinished,
    ToolOutput,
    ToolStarted,
    TurnEvent,
    TurnFinished,
)
from nanobot.cli.markdown import AnswerText
from nanobot.cli.render import HINT_LIMIT, seconds, tool_line
from nanobot.cli.screen import Screen, can_print, clean, one_line

_TICK = 0.1  # seconds between repaints when nothing arrives
_PATIENCE = 1.0  # seconds of silence before the waiting line appears
_OUTPUT_LINES = 3  # of a running tool
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


@dataclass
class _RunningTool:
    hint: str
    started: float
    output: str = ""


class LiveRenderer:
    """Prints each finished part of the answer once, and repaints only what is going on.

    That is the last block of the text, the running tools, and a waiting line when all is silent.
    """

    def __init__(
        self,
        out: TextIO,
        *,
        markdown: bool,
        leading_blank: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out = out
        self._clock = clock
        self._console = Console(file=out, highlight=False, markup=False, emoji=False, soft_wrap=False)
        self._screen = Screen(out)
        self._answer = AnswerText(self._console, markdown=markdown)
        self._answer.separate = leading_blank
        self._after_answer = leading_blank
        self._tools: dict[str, _RunningTool] = {}
        self._reasoning = ""
        self._reasoning_since = 0.0
        self._last_event = clock()
        self._next_paint = 0.0
        self._ticker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._ticker = asyncio.create_task(self._tick())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ticker:
            self._ticker.cancel()
        self._end_step()
        self._screen.close()

    def show(self, event: TurnEvent) -> None:
        self._last_event = self._clock()
        if not isinstance(event, ReasoningDelta):
            self._end_reasoning()
        match event:
            case TextDelta(text=text):
                self._answer.add(text)
            case ReasoningDelta(text=text):
                self._end_answer()
                self._reasoning_since = self._reasoning_since or self._last_event
                self._reasoning += text
            case TextDiscarded(reason=reason):
                self._answer.discard()
                self._note(f"{one_line(reason, 300)} The answer starts again.", "yellow")
            case Notice(text=text):
                self._end_answer()
                self._note(one_line(text, 600), "dim")
            case ToolStarted() | ToolOutput() | ToolFinished():
                self._end_answer()
                self._show_tool(event)
            case TurnFinished():
                self._end_step()
        if self._last_event >= self._next_paint:
            self.repaint()

    def _show_tool(self, event: ToolStarted | ToolOutput | ToolFinished) -> None:
        if isinstance(event, ToolStarted):
            self._tools[event.call_id] = _RunningTool(one_line(event.hint, HINT_LIMIT), self._last_event)
            return
        tool = self._tools.get(event.call_id)
        if isinstance(event, ToolOutput):
            if tool:
                tool.output = (tool.output + event.text)[-4000:]
            return
        hint = tool.hint if tool else event.name
        self._tools.pop(event.call_id, None)
        line = Text(tool_line(event, hint, self._out))
        line.stylize("green" if event.outcome == "ok" else "red", 0, 1)
        line.stylize("dim", 1)
        self._note(line)

    def _note(self, text: str | Text, style: str = "") -> None:
        """A final line beside the answer, set off from it by a blank one."""
        lines = self._styled(text, style)
        self._screen.paint(["", *lines] if self._after_answer else lines, self._status())
        self._after_answer, self._answer.separate = False, True

    def _end_answer(self) -> None:
        lines = self._answer.finish(self._screen.width)
        if lines:
            self._after_answer = True
        self._screen.paint(lines, self._status())

    def _end_reasoning(self) -> None:
        if not self._reasoning_since:
            return
        spent = seconds(self._clock() - self._reasoning_since)
        self._reasoning, self._reasoning_since = "", 0.0
        self._note(f"thought for {spent}", "dim italic")

    def _end_step(self) -> None:
        self._end_reasoning()
        self._tools.clear()
        self._end_answer()

    def _live(self) -> tuple[list[str], list[str]]:
        status = self._status()
        final, live = self._answer.advance(self._screen.width, self._screen.room - len(status))
        return final, [*live, *status]

    def repaint(self) -> None:
        """Repaint, and rest five times as long as that took: a long block must not eat the processor."""
        before = self._clock()
        final, live = self._live()
        self._after_answer = self._after_answer or bool(final)
        self._screen.paint(final, live)
        after = self._clock()
        self._next_paint = after + max(0.05, 5 * (after - before))

    def _status(self) -> list[str]:
        """What is going on apart from the answer, one line each."""
        now = self._clock()
        spinner = _SPINNER[int(now / _TICK) % len(_SPINNER)] if can_print(_SPINNER, self._out) else "-"
        lines: list[str] = []
        for tool in self._tools.values():
            lines += self._cut(f"{spinner} {tool.hint} {seconds(now - tool.started)}")
            for line in clean(tool.output).rstrip().split("\n")[-_OUTPUT_LINES:]:
                lines += self._cut(f"  {line}") if line.strip() else []
        if self._reasoning_since:
            last = clean(self._reasoning).strip().rsplit("\n", 1)[-1]
            lines += self._cut(f"{spinner} {last or 'thinking…'}")
        elif not self._tools and now - self._last_event > _PATIENCE:
            lines += self._cut(f"{spinner} thinking… {seconds(now - self._last_event)}")
        return lines

    def _cut(self, text: str) -> list[str]:
        return self._styled(text, "dim", cut=True)

    def _styled(self, text: str | Text, style: str, *, cut: bool = False) -> list[str]:
        with self._console.capture() as capture:
            self._console.print(
                text,
                style=style,
                width=self._screen.width,
                no_wrap=cut,
                overflow="ellipsis" if cut else "fold",
            )
        return capture.get().split("\n")[:-1]

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            if self._clock() >= self._next_paint:
                self.repaint()
